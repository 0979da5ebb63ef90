"""The limits of a world, and the list of its knobs, as text that a person reads. Imports no array module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from simlab.environments.knobs import GAUSSIAN_KNOBS
from simlab.environments.presets import PRESETS

_COLUMNS = (("full", "both views"), ("image", "image"), ("clinical", "clinical"), ("cross_modal", "cross-modal"))
_METHODS = (("supervised", "supervised (OLS/LDA)"), ("supervised_tuned", "supervised (tuned)"),
            ("cross_modal", "cross-modal (frozen)"), ("cross_modal_finetuned", "cross-modal (fine-tuned)"))
_STAGES = {"source": "The source hospital's data", "labels": "The label", "target": "The target hospital"}


def render(result: Mapping[str, Any], title: str) -> str:
    """The whole table for one result of `limits`; `title` names the world."""
    parts = [title, _limits(result), _finite(result), _readouts(result)]
    if result["notes"]:
        parts.append("\n".join(f"Note: {note}." for note in result["notes"]))
    return "\n\n".join(part for part in parts if part)


def title(knobs: Mapping[str, Any], preset: str | None, what: str = "Best possible AUC") -> str:
    """One line that says which world this is: the preset and the knobs set, by symbol."""
    shown = ", ".join(f"{key} = {_plain(value)}" for key, value in knobs.items())
    base = f"preset {preset}" if preset else "default world"
    return f"{what}, Gaussian-liability world: {base}{', ' + shown if shown else ''}"


def _limits(result: Mapping[str, Any]) -> str:
    """The four oracles inside and outside, with the two population terms of the external loss."""
    rows = [("", [name for _, name in _COLUMNS])]
    for label, place in (("limit inside (source)", "internal"), ("limit outside (target)", "external"),
                         ("source's best rule, outside", "source_bayes_external")):
        rows.append((label, [_number(result[place][key]) for key, _ in _COLUMNS]))
    for label, term in (("  lost: the limit moved", "irreducible"), ("  lost: the rule did not", "transfer")):
        rows.append((label, [_number(result["decomposition"][key][term], signed=True) for key, _ in _COLUMNS]))
    lines = [_grid(rows)]
    low, high = result["cross_modal_range"]["internal"]
    if low is not None and high - low > 1e-9:
        error = result["standard_error"]
        lines.append(f"cross-modal keeps {_count(result['k'], 'pair')}, some among tied ones: mean over all choices; "
                     f"inside {low:.4f} to {high:.4f}" + (f"; standard error {error:.1g}" if error else ""))
    else:
        lines.append(f"cross-modal: the first {_count(result['k'], 'canonical pair')} of the views, "
                     f"{_count(2 * result['k'], 'number')} a record")
    return "\n".join(lines)


def _finite(result: Mapping[str, Any]) -> str:
    """Predictions by number of labels, then the crossovers."""
    finite, lines = result["finite"], []
    if finite["n_labelled"]:
        rows = [("AUC inside with n labels", [str(n) for n in finite["n_labelled"]])]
        rows += [(label, [_number(v) for v in finite[key]]) for key, label in _METHODS]
        lines = [_grid(rows), ""]
    lines.append("Where two methods change places, in labels")
    for pair, n in result["crossover_n"].items():
        lines.append(f"  {_worded(pair.replace('|', ' against ')).ljust(50)}  {'none' if n is None else str(n):>6}  "
                     f"{_worded(result['crossover_reading'][pair].partition(':')[0])}")
    return "\n".join(lines)


def _worded(text: str) -> str:
    """A text with the methods' keys put in words."""
    names = dict(_METHODS)
    return re.sub("|".join(sorted(names, key=len, reverse=True)), lambda hit: names[hit.group()], text)


def _readouts(result: Mapping[str, Any]) -> str:
    """Canonical correlations, prevalence, distance of the domains, information, and the other pretrainers."""
    lines = ["Read-outs"]
    for label, key in (("inside", "canonical_correlations"), ("outside", "canonical_correlations_external")):
        lines.append(f"  canonical correlations {label}: {_repeated(result[key]) or 'none'}")
    lines.append(f"  prevalence inside {result['prevalence']:.4f}, outside {result['prevalence_external']:.4f}")
    domain = result["domain_auc"]
    lines.append("  telling the two hospitals apart (AUC): " + ", ".join(
        f"{name} {_number(domain[key])}" for key, name in _COLUMNS[:3]))
    info = result["mutual_information"]
    lines.append("  information (nats): " + ", ".join(f"{label} {_number(info[key])}" for label, key in (
        ("between views", "views"), ("about the label: both", "label_full"), ("image", "label_image"),
        ("clinical", "label_clinical"))))
    lines += _structure(result)
    for label, key in (("PCA of each view", "pca"), ("PCA of both views stacked", "pca_joint"),
                       ("cross-prediction", "cross_prediction")):
        entry = result[key]
        error = f" (standard error {entry['standard_error']:.1g})" if entry["standard_error"] else ""
        lines.append(f"  {label}, k = {result['k']}: inside {_number(entry['internal'])}, outside "
                     f"{_number(entry['external'])}, source's rule outside {_number(entry['source_bayes_external'])}"
                     f"{error}")
    return "\n".join(lines)


def _structure(result: Mapping[str, Any]) -> list[str]:
    """Atoms of information, distances from conditional independence, separation ratios: one line each."""
    atoms, far, ratio = result["atoms"], result["dependence"], result["separation"]
    regimes = ", ".join(dict.fromkeys((ratio["regime_image"], ratio["regime_clinical"])))
    return [
        "  atoms about the liability (nats): " + ", ".join(
            f"{name.replace('_', ' ')} {_number(atoms[name])}" for name in atoms),
        f"  epsilon: conditional independence squared {_number(far['epsilon_ci_squared'])}, image "
        f"{_number(far['epsilon_image'])}, clinical {_number(far['epsilon_clinical'])}",
        "  separation of shared causes from nuisance: " + ", ".join(
            f"{name} {_number(ratio[key]) if ratio[key] is not None else 'infinite'}" for name, key in (
                ("alignment", "delta_ca"), ("prediction by the image", "delta_cp_image"),
                ("by the record", "delta_cp_clinical"))) + f"; recovered by {regimes}",
    ]


def severity(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Shifts by kind (rows of `simlab.limits.severity`) on every scale; what does not reach the level is said below."""
    reached, not_reached = ([row for row in rows if ("reason" in row) == missing] for missing in (False, True))
    cells = [("shift", ["knob at", "Jeffreys", "domain AUC", *(name for _, name in _COLUMNS)])]
    for row in reached:
        known = row["domain_auc"] is not None
        far = _number(row["jeffreys"]) if row["jeffreys"] is not None else "infinite" if known else "-"
        terms = [row["transfer"].get(key) for key, _ in _COLUMNS]  # over visits there is no cross-modal one
        lost = [_number(abs(term) if term is not None and abs(term) < 5e-5 else term) for term in terms]
        cells.append((row["kind"], [_plain(row["value"]), far, _number(row["domain_auc"]), *lost]))
    foot = ["Last four columns: AUC lost outside by the best rule of the source because it is not that of the target"]
    return "\n\n".join([title, _grid(cells), "\n".join([*foot, *(f"Note: {row['reason']}" for row in not_reached)])])


def knobs() -> str:
    """Every knob by stage (symbol, name, default, domain, meaning), then the presets."""
    parts = []
    for stage, group in groupby(sorted(GAUSSIAN_KNOBS, key=lambda k: list(_STAGES).index(k.stage)),
                                key=lambda k: k.stage):
        rows = [("symbol", "name", "default", "domain", "meaning")]
        rows += [(k.symbol, k.name, "-" if k.default is None else _plain(k.default), str(k.domain), k.meaning)
                 for k in group]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]) for row in rows]
        parts.append(f"{_STAGES[stage]}\n" + "\n".join(f"  {line}" for line in lines))
    width = max(len(p.name) for p in PRESETS)
    parts.append("Presets (--preset NAME)\n" + "\n".join(f"  {p.name.ljust(width)}  {p.meaning}" for p in PRESETS))
    return "\n\n".join(parts) + "\n\nA name and its symbol mean the same. '-' means: follows from other knobs."


def _grid(rows: list[tuple[str, list[str]]]) -> str:
    """Rows of a label and right-aligned cells; the first row is a heading, underlined."""
    left = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [label.ljust(left) + "".join("  " + cell.rjust(width) for cell in cells) for label, cells in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value + 0.0:+.4f}".replace("-0.0000", "+0.0000") if signed else f"{value:.4f}"


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _repeated(values: list[float]) -> str:
    """0.8 x 4, 0.5 x 2: equal values together."""
    return ", ".join(f"{key} x {sum(1 for _ in group)}" for key, group in groupby(f"{v:.4f}" for v in values))
