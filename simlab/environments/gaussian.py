"""The Gaussian-liability world: its two-step sampler. Equations and knobs: docs/environments.md.

    causes     c, u, v, g_I, g_C, site e    (`sample_factors`)
    liability  l = sqrt(h2) (sqrt(w_c) b'c + delta_u sqrt(w_u) b'u + delta_v sqrt(w_v) b'v + sqrt(w_x) u_1 v_1)
                   + rho e + noise,  b = 1/sqrt(d)
    label      y = 1[l > t]
    measured   z_I = [c + e; u + e; g_I; n; a],  z_C = [c_C + e; v + e; g_C; n; a]      (`measure`)
    features   x_I = G_I(A_I z_I),  x_C = G_C(A_C z_C), A: the target's acquisition     (`observe`)

Random numbers: each group of variables has its own child of the generator that is passed in, filled record by record.
So no knob but a dimension changes a standard normal draw, no group's size moves another group's draws, and the first n
records of a longer draw are the same records, bit for bit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from simlab.cohort import Cohort, Stream, Task
from simlab.environments.knobs import GaussianSpec
from simlab.environments.liability import DOMAINS, Liability, levels, liability
from simlab.environments.maps import ObservationMap, by_rows, observation_map
from simlab.errors import unknown
from simlab.limits.gaussian import acquired, moments, posterior, site_effects, solve
from simlab.limits.joint import joint, reader
from simlab.limits.latent import latent, shaped

__all__ = ["DOMAINS", "Factors", "Liability", "liability", "limit", "limits", "maps", "measure", "observe", "risk",
           "sample_factors"]

TASK = Task(name="outcome", kind="binary", positive="the liability exceeds the threshold")

# Children of the generator, in this order for ever: append only.
_FACTOR_GROUPS = ("c", "u", "v", "c_own", "g_image", "g_own", "liability")
_MORE_FACTOR_GROUPS = ("site", "shortcut")  # drawn only where a knob asks for them
_MEASURE_GROUPS = ("image_c", "image_u", "image_noise", "clinical_c", "clinical_v", "clinical_noise")


@dataclass(frozen=True, eq=False)
class Factors:
    """The true latents of n records, float32 except the liability (float64, of variance 1 in the source)."""

    c: Float[np.ndarray, "n d_c"]
    u: Float[np.ndarray, "n d_u"]
    v: Float[np.ndarray, "n d_v"]
    c_clinical: Float[np.ndarray, "n d_c"]  # the clinical record's copy of c
    g_image: Float[np.ndarray, "n d_g"]
    g_clinical: Float[np.ndarray, "n d_g"]
    liability: Float[np.ndarray, " n"]
    label: Bool[np.ndarray, " n"]
    site: Int[np.ndarray, " n"]  # which hospital of the domain, from 0
    shortcut: Float[np.ndarray, "n a"]  # a = 1 column where a view shows it, else none

    def __len__(self) -> int:
        return len(self.liability)


def sample_factors(n: int, spec: GaussianSpec, domain: str, rng: np.random.Generator) -> Factors:
    """The true latents of n records of one domain, "source" or "external". Raises UnknownName for another domain."""
    law = liability(spec, domain)
    outside = domain == "external"
    kappa, nu = (spec.kappa_e, spec.nu_e) if outside else (spec.kappa_s, spec.nu)
    draw = _draws(n, rng, _FACTOR_GROUPS, (spec.d_c, spec.d_u, spec.d_v, spec.d_c, spec.d_g, spec.d_g, 1))
    effects, more = site_effects(spec, domain), {}
    if len(effects) > 1 or spec.shortcut != "none":
        more = _draws(n, rng, _MORE_FACTOR_GROUPS, (1, 1))
    site = np.zeros(n, np.int64)
    if len(effects) > 1:
        site = np.minimum(ndtr(more["site"][:, 0].astype(np.float64)) * len(effects), len(effects) - 1).astype(np.int64)
    for name in ("c", "u", "v"):
        draw[name] = shaped(draw[name], spec.alpha_lat)
    noise = law.noise * draw["liability"][:, 0].astype(np.float64)
    level, (c, u, v) = levels([draw["c"], draw["u"], draw["v"]], law, noise, effects[site])
    shortcut = np.zeros((n, 0), np.float32)
    if spec.shortcut != "none":
        shortcut = _blend(level.astype(np.float32)[:, None], more["shortcut"],
                          spec.lambda_e if outside else spec.lambda_s)
    return Factors(
        c, u, v,
        c_clinical=_blend(c, draw["c_own"], kappa),
        g_image=_loaded(draw["g_image"], spec.omega_s, effects[site]),
        g_clinical=_loaded(_blend(draw["g_image"], draw["g_own"], nu), spec.omega_s, effects[site]),
        liability=level,
        label=level > law.threshold,
        site=site,
        shortcut=shortcut,
    )


def measure(
    factors: Factors, spec: GaussianSpec, rng: np.random.Generator, domain: str = "source"
) -> tuple[Float[np.ndarray, "n p_i"], Float[np.ndarray, "n p_c"]]:
    """Measured coordinates (z_I, z_C), float32: shared causes, own causes, nuisance, noise, shortcut, site, in turn.

    Each part holds all tokens that show it (`token_columns` says which token has what). Measurement noise of a factor
    of reliability rel has variance 1/rel - 1. In the target its acquisition is applied.
    """
    n, outside = len(factors), domain == "external"
    (c, u, _, noise_image, shown_image, site_image), (_, v, _, noise_clinical, shown_clinical, site_clinical) = map(
        spec.widths, ("image", "clinical"))
    effect = site_effects(spec, domain)[factors.site].astype(np.float32)[:, None]
    widths = (c, u, noise_image, c, v, noise_clinical)
    error = _draws(n, rng, _MEASURE_GROUPS, widths)
    shared = spec.eta_e if outside else spec.eta_s
    if shared:
        error["clinical_c"] = _blend(error["image_c"], error["clinical_c"], shared)

    z_image = (
        _tokens(factors.c, spec.carriers("c")) + _noise_sd(spec.rel_ci) * error["image_c"],
        _tokens(factors.u, spec.carriers("u")) + _noise_sd(spec.rel_u) * error["image_u"],
        np.float32(spec.alpha_g) * _tokens(factors.g_image, spec.carriers("g")),
        np.float32(spec.alpha_n) * error["image_noise"],
        _tokens(factors.shortcut, shown_image),
        np.tile(effect, (1, site_image)),
    )
    z_clinical = (
        _tokens(factors.c_clinical, spec.carriers("c")) + _noise_sd(spec.rel_cc) * error["clinical_c"],
        _tokens(factors.v, spec.carriers("v")) + _noise_sd(spec.rel_v) * error["clinical_v"],
        np.float32(spec.alpha_g) * _tokens(factors.g_clinical, spec.carriers("g")),
        np.float32(spec.alpha_n) * error["clinical_noise"],
        _tokens(factors.shortcut, shown_clinical),
        np.tile(effect, (1, site_clinical)),
    )
    z = np.concatenate([*z_image, *z_clinical], axis=1)
    if outside and spec.acquires:
        z = acquired(spec, z)
    return z[:, :spec.p_image], z[:, spec.p_image:]


def _tokens(x: Float[np.ndarray, "n d"], times: int) -> Float[np.ndarray, "n _"]:
    """A factor as so many tokens show it, before their errors."""
    return x if times == 1 else np.tile(x, (1, times))


def token_columns(spec: GaussianSpec, view: str) -> Int[np.ndarray, "tokens width"]:
    """Which measured coordinates of a view make up each of its tokens, in the order shared causes, own causes,
    nuisance, noise, shortcut, site; noise stands in where a token does not show a factor.

    The first tokens show c and g, the last ones u or v.
    """
    own, d_own, d_noise = ("u", spec.d_u, spec.d_ni) if view == "image" else ("v", spec.d_v, spec.d_nc)
    ends = np.cumsum((0, *spec.widths(view))).tolist()
    pool = iter(range(ends[3], ends[4]))
    first_own = spec.n_tok - spec.carriers(own)
    rows = []
    for t in range(spec.n_tok):
        row: list[int] = []
        for start, d, place, shown in ((ends[0], spec.d_c, t, t < spec.carriers("c")),
                                       (ends[1], d_own, t - first_own, t >= first_own),
                                       (ends[2], spec.d_g, t, t < spec.carriers("g"))):
            row += range(start + place * d, start + (place + 1) * d) if shown else (next(pool) for _ in range(d))
        row += [next(pool) for _ in range(d_noise)]
        rows.append(row + [ends[4] + t] * spec.shows_shortcut(view) + [ends[5] + t] * spec.shows_site(view))
    found = np.array(rows, np.int64)
    return found.reshape(-1, 1) if spec.by_coordinate(view) else found


def maps(spec: GaussianSpec) -> tuple[ObservationMap, ObservationMap]:
    """The observation maps (G_I, G_C) of a specification, of one token each; a map seed of None counts as 0."""
    fixed = (spec.condition, spec.map_seed or 0)
    widths = (1 if spec.by_coordinate(view) else spec.token_width(view) for view in ("image", "clinical"))
    return tuple(observation_map(spec.map, width, *fixed, view)  # type: ignore[return-value]
                 for width, view in zip(widths, ("image", "clinical"), strict=True))


def observe(
    factors: Factors,
    spec: GaussianSpec,
    domain: str,
    rng: np.random.Generator,
    *,
    first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these factors: streams "image" and "clinical", one visit each, everything observed.

    `risk` is P(y = 1 | both views); the observation maps, being invertible, do not change it. Records are numbered
    from `first_record`. Without `labelled` the cohort holds nothing that a label knob could touch: no task, label,
    risk or liability; and a share `pi_mis` of its records shows another patient's clinical record. Raises UnknownName
    for a domain that does not exist.
    """
    law = liability(spec, domain)
    z_image, z_clinical = measure(factors, spec, rng, domain)
    if not labelled and spec.pi_mis:
        factors, z_clinical = _mismatched(factors, z_clinical, spec, domain, rng)
    g_image, g_clinical = maps(spec)
    n, hospitals = len(factors), spec.n_sites_e if domain == "external" else spec.n_sites
    record = np.arange(first_record, first_record + n, dtype=np.int64)
    latents = {k: v for k, v in vars(factors).items() if k not in ("liability", "label", "site", "shortcut")}
    if labelled and spec.shortcut != "none":
        latents["shortcut"] = factors.shortcut
    provenance: dict[str, object] = {"world": "gaussian", "domain": domain, "knobs": spec.stage("source")}
    answers: dict[str, object] = {}
    if labelled:
        latents["liability"] = factors.liability
        provenance["knobs"] = asdict(spec)
        provenance["risk_given"] = ["image", "clinical"]
        if spec.site_shown != "none":
            provenance["risk_given"] = ["image", "clinical", "site"]
        elif hospitals > 1:
            provenance["risk_over"] = ["site"]  # marginalised
        provenance["prevalence"] = law.prevalence if law.target is None else law.target
        answers = {
            "tasks": {TASK.name: TASK},
            "labels": {TASK.name: factors.label.astype(np.float64)},
            "risk": {TASK.name: risk(z_image, z_clinical, spec, domain)},
        }
    return Cohort(
        streams={"image": _stream("image", g_image, z_image, spec), "clinical": _stream("clinical", g_clinical,
                                                                                       z_clinical, spec)},
        length=np.ones(n, np.int64),
        record=record,
        subject=record.copy(),
        site=np.full(n, domain) if hospitals == 1 else np.char.add(f"{domain}-", factors.site.astype(str)),
        factors=latents,
        provenance=provenance,
        **answers,
    )


def _mismatched(
    factors: Factors, z_clinical: Float[np.ndarray, "n p_c"], spec: GaussianSpec, domain: str, rng: np.random.Generator
) -> tuple[Factors, Float[np.ndarray, "n p_c"]]:
    """Factors and clinical coordinates where a share pi_mis of records has the clinical record of a fresh patient.

    A fresh patient, not one of these: the first n records of a longer draw stay the same.
    """
    which, who, how = rng.spawn(3)
    wrong = which.random(len(factors)) < spec.pi_mis
    other = sample_factors(len(factors), spec, domain, who)
    shown = measure(other, spec, how, domain)[1]
    clinical = {name: np.where(wrong[:, None], getattr(other, name), getattr(factors, name))
                for name in ("v", "c_clinical", "g_clinical")}
    return replace(factors, **clinical), np.where(wrong[:, None], shown, z_clinical)


def risk(
    z_image: Float[np.ndarray, "n p_i"], z_clinical: Float[np.ndarray, "n p_c"], spec: GaussianSpec, domain: str
) -> Float[np.ndarray, " n"]:
    """P(y = 1 | z_I, z_C) in a domain, float64; the hospital, where no view shows it, is marginalised over."""
    if spec.alpha_lat != 2:
        full = latent(spec, domain)
        z = np.concatenate([z_image, z_clinical], axis=1)
        return by_rows(lambda block: full.risk(block.astype(np.float64)), z, np.empty(len(z)))
    if not spec.gaussian_in(domain):
        full = reader(joint(spec, domain))
        z = np.concatenate([z_image, z_clinical], axis=1)
        stats = by_rows(lambda block: full.stats(block.astype(np.float64)), z, np.empty((len(z), 4)))
        return full.risk(stats)
    law = moments(spec, domain)
    # One number, the best linear score, says all that z says about l: the weights are solved for once, not per block.
    weights = solve(law.cov, law.cov_liability)
    z = np.concatenate([z_image, z_clinical], axis=1)
    score = by_rows(lambda block: block.astype(np.float64) @ weights, z, np.empty(len(z)))
    explained = law.cov_liability @ weights
    of_score = replace(
        law, mean=np.array([law.mean @ weights]), cov=np.array([[explained]]), cov_liability=np.array([explained])
    )
    return posterior(of_score, score[:, None])


def limits(spec: GaussianSpec) -> Any:
    """What is best possible in this world (`simlab.limits.limits`)."""
    from simlab.limits import limits as exact

    return exact(spec)


def limit(spec: GaussianSpec, domain: str, view: str) -> float:
    """The Bayes limit (an AUC) of a view, "full", "image" or "clinical", in a domain. Raises UnknownName."""
    from simlab.limits import latent_areas
    from simlab.limits.areas import view_limit
    from simlab.limits.oracles import view_oracle

    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    if spec.alpha_lat != 2:
        return latent_areas.view_limit(spec, domain, view)[0]
    if not spec.gaussian_in(domain):
        return view_limit(joint(spec, domain), view)[0]
    oracle = view_oracle(moments(spec, "source"), moments(spec, "external"), view)
    return oracle.external if domain == "external" else oracle.internal


def _draws(
    n: int, rng: np.random.Generator, groups: tuple[str, ...], widths: tuple[int, ...]
) -> dict[str, Float[np.ndarray, "n _"]]:
    """Standard normal draws (n, width) of each group, float32, each from its own child of the generator."""
    children = rng.spawn(len(groups))
    return {
        name: child.standard_normal((n, width), dtype=np.float32)
        for name, width, child in zip(groups, widths, children, strict=True)
    }


def _loaded(g: Float[np.ndarray, "n d"], loading: float, effect: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """Nuisance with this loading on the site effect."""
    if not loading:
        return g
    return np.float32(np.sqrt(1 - loading**2)) * g + (loading * effect).astype(np.float32)[:, None]


def _blend(first: np.ndarray, own: np.ndarray, correlation: float) -> np.ndarray:
    """A copy of `first` with this correlation, the rest from `own`."""
    return np.float32(correlation) * first + np.float32(np.sqrt(1 - correlation**2)) * own


def _noise_sd(reliability: float) -> np.float32:
    return np.float32(np.sqrt(1 / reliability - 1))


def _stream(name: str, g: ObservationMap, z: Float[np.ndarray, "n p"], spec: GaussianSpec) -> Stream:
    """A view as features: one channel a feature, or, of several tokens, one channel a token with its features."""
    n, p = z.shape
    if spec.n_tok == 1 and not spec.by_coordinate(name):
        return Stream(
            values=g(z)[:, None, :],
            observed=np.ones((n, 1, p), bool),
            channels=tuple(f"{name}-{i}" for i in range(p)),
            units=("1",) * p,
        )
    columns = token_columns(spec, name)
    count, width = columns.shape
    return Stream(
        values=g(z[:, columns].reshape(n * count, width)).reshape(n, 1, count, width),
        observed=np.ones((n, 1, count), bool),
        channels=tuple(f"{name}-token-{i}" for i in range(count)),
        units=("1",) * count,
    )
