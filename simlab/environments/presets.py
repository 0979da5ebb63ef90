"""Named choices of knobs for the Gaussian-liability world, as data. Imports no array module.

The three `li2025-*` presets are worlds whose limits come near the AUCs reported for a lung-nodule study with images and
health records (arXiv 2509.15470): imaging alone about .73, both views about .91. They differ in where the label's
signal lies, which is what the study leaves open. They were calibrated on exact *limits*; cohort sizes are free. The
target is the source until a shift is set (kappa_e for the shared preset, delta_v_e for the independent one).
The study's own numbers came from trained models, though: the second set, `li2025-trained-*`, is calibrated so that
*trained* comparators meet them inside the hospital (`python -m simlab.train.calibrate` finds these knobs and checks
them): imaging alone .73, both views without regularisation .88. What JEPA reaches there, and what a shift does, was not
tuned: it is a result.

The four `kamai-*` presets are the regimes of arXiv 2606.11190: whether aligning the views, and whether predicting one
from the other in its own units, finds the shared causes before correlated nuisance. With errors of reliability rel and
nuisance of amplitude alpha_g and correlation nu, alignment does where sqrt(rel_ci rel_cc) > nu, prediction where
sqrt(rel) > nu alpha_g.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simlab.environments.knobs import GaussianSpec, find, spec
from simlab.errors import unknown


@dataclass(frozen=True)
class Preset:
    """A named choice of knobs (by symbol) and what it stands for. Knobs that it does not name take their defaults."""

    name: str
    knobs: dict[str, float]
    meaning: str


WEIGHTS = ("w_c", "w_u", "w_v")
_LI2025 = {"prevalence": 0.4, "rel_cc": 0.9, "rel_u": 0.8, "rel_v": 0.9, "h2": 0.85, "rel_ci": 0.35}

# Worlds calibrated on trained arms rather than on limits: `simlab.train.calibrate` says how, with which seeds.
TRAINED: tuple[Preset, ...] = (
    Preset("li2025-trained-shared",
           {**_LI2025, "h2": 0.836, "w_c": 0.9, "w_u": 0.05, "w_v": 0.05, "rel_ci": 0.354, "rel_cc": 0.93, "d_ni": 60,
            "d_nc": 60, "n_lab": 800},
           "as li2025-shared, but it is arms trained on 800 labels that meet the published AUCs"),
    Preset("li2025-trained-mixed",
           {**_LI2025, "h2": 0.876, "w_c": 0.6, "w_u": 0.1, "w_v": 0.3, "rel_ci": 0.473, "n_lab": 300},
           "as li2025-mixed, but it is arms trained on 300 labels that meet the published AUCs"),
    Preset("li2025-trained-independent",
           {**_LI2025, "h2": 0.914, "w_c": 0.05, "w_u": 0.435, "w_v": 0.515, "n_lab": 300},
           "as li2025-independent, but it is arms trained on 300 labels that meet the published AUCs"),
)

_KAMAI = (("both", 0.3, 1.0, "alignment and prediction both find the shared causes"),
          ("alignment", 0.5, 3.0, "alignment alone finds them: the nuisance is loud, but less correlated"),
          ("prediction", 0.95, 0.5, "prediction alone finds them: the nuisance is faint, but more correlated"),
          ("neither", 0.95, 2.0, "neither finds them: the nuisance is louder and more correlated"))

PRESETS: tuple[Preset, ...] = (
    Preset("default", {}, "every knob at its default: the label drawn equally from shared, image and clinical causes"),
    Preset("li2025-shared",
           {"prevalence": 0.4, "h2": 0.8, "w_c": 0.9, "w_u": 0.05, "w_v": 0.05, "rel_ci": 0.3, "rel_cc": 0.93,
            "rel_u": 0.8, "rel_v": 0.9, "d_ni": 60, "d_nc": 60},
           "nearly all signal is shared, but the image reads it poorly; the reversal comes from proxy decoupling"),
    Preset("li2025-mixed", {**_LI2025, "w_c": 0.6, "w_u": 0.1, "w_v": 0.3},
           "most signal is shared, some is the clinical record's own"),
    Preset("li2025-independent", {**_LI2025, "w_c": 0.05, "w_u": 0.3, "w_v": 0.65},
           "image and record carry separate signal; cross-modal prediction has next to nothing to learn"),
    *TRAINED,
    *(Preset(f"kamai-{name}", {"w_c": 1.0, "d_g": 4, "nu": nu, "alpha_g": loud}, meaning)
      for name, nu, loud, meaning in _KAMAI),
)


def preset(name: str) -> Preset:
    """The preset of this name. Raises UnknownName with the nearest names."""
    for one in PRESETS:
        if one.name == name:
            return one
    raise unknown("preset", name, [p.name for p in PRESETS], "python -m simlab.limits --list shows all.")


def from_preset(name: str, /, **knobs: object) -> GaussianSpec:
    """The specification of a preset, with knobs (by name or symbol) that override it.

    A weight that is given displaces those of the preset: the weights that are not given share what it leaves, as ever.
    Raises UnknownName and OutOfDomain as `spec` does.
    """
    given = {find(key).symbol: value for key, value in knobs.items()}
    if len(given) < len(knobs):
        return spec(knobs)  # a knob given by name and by symbol: refused there, with its line
    return spec({**beside(preset(name), given), **given})


def beside(chosen: Preset, given: Iterable[str]) -> dict[str, float]:
    """A preset's knobs beside others that are given (symbols), which take their place: one weight that of all three."""
    away = set(given)
    if away & set(WEIGHTS):
        away |= set(WEIGHTS)
    return {key: value for key, value in chosen.knobs.items() if key not in away}
