"""Every answer about one longitudinal world, as one object of plain numbers that JSON can hold."""

from __future__ import annotations

from dataclasses import asdict

from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.limits.persistence import MASKS, STREAMS, kept, of_shortcut
from simlab.limits.simulated import RECORDS, bayes, source_rule
from simlab.limits.visits import VIEWS, law_of


def limits(spec: LongitudinalSpec, k: int | None = None, records: int = RECORDS) -> dict[str, object]:
    """Bayes limits inside and outside, the source's rule outside, each with its Monte-Carlo standard error (0: exact),
    and what each kind of mask keeps in k numbers a view (default: d_c plus the view's own causes; oracle knowledge),
    or, where there is a shortcut, how well each predicts that.

    Pure: the same numbers every time. `masks` are those that the world has (one visit: modality alone).
    """
    k = spec.d_c + max(spec.d_u, spec.d_v) if k is None else k
    found = {
        "internal": {view: bayes(spec, "source", view, records) for view in VIEWS},
        "external": {view: bayes(spec, "external", view, records) for view in VIEWS},
        "source_bayes_external": {view: source_rule(spec, view, records) for view in VIEWS},
    }
    has = [mask for mask in MASKS if mask == "modality" or spec.n_visits > 1]
    tied = spec.shortcut != "none" and spec.lambda_s != 0
    masks = {} if tied else {mask: kept(spec, mask, k) for mask in has}
    shown = [view for view in STREAMS if tied and spec.shows_shortcut(view)]
    return {
        **{place: {view: e.value for view, e in row.items()} for place, row in found.items()},
        "standard_error": {place: {view: e.se for view, e in row.items()} for place, row in found.items()},
        "masks": {mask: {**asdict(one), "auc": list(one.auc)} for mask, one in masks.items()},
        "shortcut": {mask: {view: of_shortcut(spec, mask, view) for view in shown} for mask in has} if shown else {},
        "k": k,
        "prevalence": law_of(spec, "source").along.prevalence,
        "prevalence_external": law_of(spec, "external").along.prevalence,
        "notes": _notes(spec),
        "spec": asdict(spec),
    }


def _notes(spec: LongitudinalSpec) -> list[str]:
    """What a reader must know about these numbers that the numbers do not say."""
    notes = ["source_bayes_external under a shift is always by Monte Carlo; masks hold for linear predictors at "
             "regular times, nothing missing, with unlimited unlabelled records"]
    if spec.shortcut != "none" and spec.lambda_s != 0:
        notes.append("masks is empty, since a shortcut ties the families together; shortcut says how well it is "
                     "predicted itself")
    if spec.gamma_obs != 0:
        notes.append("the limits know how visit times depend on the liability (gamma_obs): times alone carry risk")
    if spec.gappy:
        notes.append("the limits know why measurements are missing: a gap carries risk unless it is ignorable")
    return notes
