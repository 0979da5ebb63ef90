"""Which picture each knob has: two values to compare, what of the data they are seen in, and what else must be set.

Data views: "scatter" of two readings, "hist" of one, "profile" (how every measured coordinate correlates with the
liability), "spread" (its standard deviation), "spectrum" (eigenvalues of the image's features), "tokens" (how each
token correlates with a factor), "records" (how many there are), "path" (a reading over visits), "raster" (when visits
are), "gaps" (share missing by liability). Imports no array module.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """Of one knob: its values `low` and `high`, the view of the data, and the knobs set beside it."""

    symbol: str
    low: float | int | str
    high: float | int | str
    view: str
    args: tuple[str, ...] = ()
    beside: dict[str, object] = field(default_factory=dict)
    stage: str = "test-data"
    masks: bool = False  # whether the limit panel shows what a token mask keeps


_SITES: dict[str, object] = {"n_sites": 4, "omega_s": 0.6, "rho_s": 0.3, "h2": 0.6}
_SHORT: dict[str, object] = {"shortcut": "image", "lambda_s": 0.5}
_TOKENS: dict[str, object] = {"n_tok": 8, "d_ni": 2, "d_nc": 2, "d_c": 2, "d_u": 2, "d_v": 2, "rel_ci": 0.4,
                              "rel_cc": 0.4, "rel_u": 0.4, "rel_v": 0.4, "r_tok_c": 0.25, "r_tok_u": 0.25,
                              "r_tok_v": 0.25, "r_tok_g": 0.25}
_POISSON: dict[str, object] = {"times": "poisson", "n_visits": 12, "d_ni": 1, "d_nc": 1}
_PATHS: dict[str, object] = {"n_visits": 12, "d_ni": 1, "d_nc": 1}
_GAPS: dict[str, object] = {"n_visits": 2, "p_miss": 0.4, "d_ni": 1, "d_nc": 1}


def _pictures(*rows: tuple[object, ...], **common: object) -> tuple[Picture, ...]:
    """Rows of (symbol, low, high, view, args, beside...)."""
    return tuple(Picture(*row, **common) for row in rows)  # type: ignore[arg-type]


# Sheets by file name: world, title, pictures.
SHEETS: dict[str, tuple[str, str, tuple[Picture, ...]]] = {
    "dimensions": ("gaussian", "How many of each", _pictures(
        ("d_c", 1, 8, "profile"), ("d_u", 1, 8, "profile"), ("d_v", 1, 8, "profile"), ("d_g", 0, 8, "profile"),
        ("d_ni", 0, 40, "profile"), ("d_nc", 0, 40, "profile"))),
    "measurement": ("gaussian", "How well the views show their causes", _pictures(
        ("rel_ci", 0.2, 0.95, "scatter", ("c", "c in image")), ("rel_cc", 0.2, 0.95, "scatter", ("c", "c in record")),
        ("rel_u", 0.2, 0.95, "scatter", ("u", "u in image")), ("rel_v", 0.2, 0.95, "scatter", ("v", "v in record")),
        ("kappa_s", 0.2, 1.0, "scatter", ("c in image", "c in record")),
        ("eta_s", 0.0, 0.9, "scatter", ("error in image", "error in record")))),
    "nuisance": ("gaussian", "What else the views show, and how", _pictures(
        ("nu", 0.0, 0.9, "scatter", ("g in image", "g in record")), ("alpha_g", 0.3, 4.0, "spread"),
        ("alpha_n", 0.3, 4.0, "spread"), ("map", "identity", "mlp", "scatter", ("feature 1", "feature 2")),
        ("condition", 1.0, 100.0, "spectrum"), ("map_seed", 1, 2, "scatter", ("c", "feature 1")))),
    "tokens": ("gaussian", "Tokens", tuple(Picture(*row, masks=True) for row in (  # type: ignore[arg-type]
        ("n_tok", 2, 8, "tokens", ("c",), {**_TOKENS, "r_tok_c": 0.5}), ("r_tok_c", 0.125, 1.0, "tokens", ("c",),
                                                                         _TOKENS),
        ("r_tok_u", 0.125, 1.0, "tokens", ("u",), _TOKENS), ("r_tok_v", 0.125, 1.0, "tokens", ("v",), _TOKENS),
        ("r_tok_g", 0.125, 1.0, "tokens", ("g",), _TOKENS),
        ("record_tokens", "blocks", "coordinates", "tokens", ("v",), {**_TOKENS, "r_tok_v": 0.25})))),
    "hospitals": ("gaussian", "Shortcuts and hospitals", _pictures(
        ("shortcut", "none", "image", "profile", (), {"lambda_s": 0.5}),
        ("lambda_s", 0.0, 0.8, "scatter", ("liability", "shortcut"), _SHORT),
        ("n_sites", 2, 8, "scatter", ("site effect", "g in image"), _SITES),
        ("omega_s", 0.0, 0.9, "scatter", ("site effect", "g in image"), _SITES),
        ("rho_s", 0.0, 0.5, "scatter", ("site effect", "liability"), _SITES),
        ("site_shown", "none", "image", "scatter", ("site effect", "last of image"), _SITES))),
    "label": ("gaussian", "What the label is made of", _pictures(
        ("h2", 0.2, 0.9, "profile"), ("prevalence", 0.1, 0.5, "labels"), ("w_c", 0.1, 0.9, "profile"),
        ("w_u", 0.1, 0.9, "profile"), ("w_v", 0.1, 0.9, "profile"),
        ("w_x", 0.0, 0.8, "scatter", ("product u1 v1", "liability")))),
    "records": ("gaussian", "The law of the causes, and the records at hand", (
        Picture("alpha_lat", 0.7, 8.0, "hist", ("first of c",)), Picture("n_unlab", 500, 20000, "records"),
        Picture("pi_mis", 0.0, 0.5, "scatter", ("c in image", "c in record"), {}, "pretraining-data"),
        Picture("n_lab", 50, 1000, "records"), Picture("flip", 0.0, 0.3, "labels", (), {}, "training-data"))),
    "target-relations": ("gaussian", "Outside: relations that change", _pictures(
        ("kappa_e", 1.0, 0.2, "scatter", ("c in image", "c in record")),
        ("delta_u_e", 1.0, -0.5, "scatter", ("u", "liability"), {"w_u": 0.6}),
        ("delta_v_e", 1.0, -0.5, "scatter", ("v", "liability"), {"w_v": 0.6}),
        ("delta_clin_e", 1.0, 0.2, "scatter", ("c in record", "liability"), {"w_c": 0.6}),
        ("theta_e", 0.0, 1.2, "profile"), ("eta_e", 0.0, 0.9, "scatter", ("error in image", "error in record")))),
    "target-population": ("gaussian", "Outside: another population", _pictures(
        ("mu_e", 0.0, 1.2, "hist", ("c",)), ("tau_e", 1.0, 2.0, "hist", ("c",)), ("prevalence_e", 0.3, 0.05, "labels"),
        ("prevalence_kind", "reweight", "threshold", "labels", (), {"prevalence_e": 0.05}),
        ("nu_e", 0.0, 0.9, "scatter", ("g in image", "g in record")),
        ("lambda_e", 0.5, -0.5, "scatter", ("liability", "shortcut"), _SHORT))),
    "target-hospitals": ("gaussian", "Outside: other hospitals, another acquisition", _pictures(
        ("n_sites_e", 1, 6, "scatter", ("site effect", "g in image"), _SITES),
        ("mu_site_e", 0.0, 2.0, "scatter", ("site effect", "g in image"), _SITES),
        ("rho_s_e", 0.3, -0.4, "scatter", ("site effect", "liability"), _SITES),
        ("acquired", "image", "clinical", "spread", (), {"gain_e": 2.5}),
        ("gain_e", 1.0, 3.0, "hist", ("c in image",)), ("offset_e", 0.0, 3.0, "hist", ("c in image",)),
        ("mix_e", 0.0, 1.0, "profile"))),
    "visits-drift": ("longitudinal", "Visits: how causes and nuisance move", _pictures(
        ("theta_c", 0.05, 2.0, "path", ("c",), _PATHS), ("theta_u", 0.05, 2.0, "path", ("u",), _PATHS),
        ("theta_v", 0.05, 2.0, "path", ("v",), _PATHS), ("theta_g", 0.0, 2.0, "path", ("g_image",), _PATHS),
        ("n_visits", 2, 12, "path", ("c",), {**_PATHS, "rel_ci": 0.4, "rel_cc": 0.4}),
        ("shortcut_kind", "static", "per_visit", "path", ("shortcut",), {**_PATHS, **_SHORT}))),
    "visits-times": ("longitudinal", "Visits: when patients come", _pictures(
        ("times", "poisson", "hawkes", "raster", (), {**_POISSON, "window": 5.0}),
        ("r_v", 0.5, 6.0, "raster", (), _POISSON), ("window", 1.0, 5.0, "raster", (), _POISSON),
        ("b_h", 0.0, 0.8, "raster", (), {**_POISSON, "times": "hawkes"}),
        ("omega_h", 1.0, 50.0, "raster", (), {**_POISSON, "times": "hawkes", "b_h": 0.7}),
        ("gamma_obs", 0.0, 1.0, "raster", (), _POISSON))),
    "visits-gaps": ("longitudinal", "Visits: what is missing", _pictures(
        ("p_miss", 0.1, 0.8, "gaps", ("clinical",), _GAPS), ("missing_in", "clinical", "image", "gaps", ("clinical",),
                                                             _GAPS),
        ("gamma_1", 0.0, 1.5, "gaps", ("clinical",), _GAPS), ("gamma_2", 0.0, 1.5, "gaps", ("clinical",), _GAPS),
        ("gamma_3", 0.0, 1.5, "gaps", ("clinical",), _GAPS),
        ("gaps", "masked", "zero_filled", "shown", ("clinical",), _GAPS),
        ("p_miss_e", 0.1, 0.8, "gaps", ("clinical",), _GAPS))),
}
