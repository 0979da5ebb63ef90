"""`limits`: every exact answer about one world, as one object of plain numbers that JSON can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from simlab.environments.knobs import GaussianSpec
from simlab.errors import OutOfDomain
from simlab.limits import atoms, finite, readouts, tokens
from simlab.limits.gaussian import Moments, moments
from simlab.limits.oracles import VIEWS, Oracle, decompose
from simlab.limits.places import oracles_of, own_pairs
from simlab.limits.subspace import Span, cca, cross_prediction, pca, pca_joint

PLACES = ("internal", "external", "source_bayes_external")
MOST_FEATURES = 4096  # dense linear algebra above this takes minutes and gigabytes
ATOMS = {"redundancy": "pid_redundancy", "unique_image": "pid_unique_image", "unique_clinical": "pid_unique_clinical",
         "synergy": "pid_synergy", "interaction": "interaction"}
SPANS: dict[str, Callable[[Moments, int], Span]] = {
    "pca": pca, "pca_joint": pca_joint, "cross_prediction": cross_prediction}


def limits(spec: GaussianSpec, k: int | None = None, n_labelled: Sequence[int] = ()) -> dict[str, object]:
    """All limits of a world; docs/theory.md, 8, says what each key means. Numbers are AUCs unless the key says else.

    `k` is the number of canonical pairs that `cross_modal` keeps (default: d_c, which is oracle knowledge; no trained
    arm is told it). `n_labelled` are the label counts of `finite`. Pure: no file, no global state, the same numbers
    every time. Raises OutOfDomain for k outside 1..min(features of a view), for a label count below 2, for k without
    meaning, and for more than 4096 features.
    """
    k = spec.d_c if k is None else k
    counts = check_counts(n_labelled)
    _check(spec, k)
    source, target = moments(spec, "source"), moments(spec, "external")
    cuts = {"cross_modal": cca(source, k), **{name: span(source, k) for name, span in SPANS.items()}}
    found = oracles_of(spec, source, target, cuts)
    oracles = {name: found[name] for name in (*VIEWS, "cross_modal")}
    spans = {name: found[name] for name in SPANS}
    out: dict[str, object] = {place: {name: getattr(o, place, None) for name, o in oracles.items()} for place in PLACES}
    out["external"]["cross_modal_own"] = own_pairs(spec, target, k)  # type: ignore[index]
    out |= _finite(spec, source, k, counts)
    known = readouts.informations(source)
    inside = spec.gaussian_in("source")
    apart = spec.alpha_lat == 2 and (spec.gaussian or spec.n_sites == spec.n_sites_e == 1)  # whether z is Gaussian
    information = known if inside else dict.fromkeys(known)
    out |= {
        "canonical_correlations": readouts.canonical_correlations(source),
        "canonical_correlations_external": readouts.canonical_correlations(target),
        "canonical_correlations_unlabelled": [
            (1 - spec.pi_mis) * rho for rho in readouts.canonical_correlations(source)],
        "standard_error": max(oracle.standard_error for oracle in oracles.values() if oracle),
        "cross_modal_range": _ranges(oracles["cross_modal"]),
        **{name: _span_entry(oracle) for name, oracle in spans.items()},
        "decomposition": {name: _terms(oracle) for name, oracle in oracles.items()},
        "prevalence": source.prevalence,
        "prevalence_external": target.prevalence,
        "domain_auc": {view: readouts.domain_auc(source, target, view) if apart else None for view in VIEWS},
        "jeffreys": {view: readouts.jeffreys(source, target, view) if apart else None for view in VIEWS},
        "mutual_information": information,
        "atoms": {name: information[key] for name, key in ATOMS.items()},
        "dependence": atoms.dependence(source),
        "separation": atoms.separation(source),
        "masks": _masks(spec, k),
        "k": k,
        "notes": _notes(spec, target),
        "spec": asdict(spec),
    }
    return out


def check_counts(n_labelled: Sequence[int]) -> tuple[int, ...]:
    """Label counts as whole numbers. Raises OutOfDomain."""
    for n in n_labelled:
        if n != int(n) or not 2 <= n <= 10_000_000:
            raise OutOfDomain(f"n_labelled = {n} is outside its domain: whole numbers in [2, 1e+07].")
    return tuple(int(n) for n in n_labelled)


def _check(spec: GaussianSpec, k: int) -> None:
    most = min(spec.p_image, spec.p_clinical)
    if not 1 <= k <= most:
        raise OutOfDomain(f"k = {k} is outside its domain: whole numbers in [1, {most}] (the smaller view's features).")
    if spec.p_image + spec.p_clinical > MOST_FEATURES:
        raise OutOfDomain(f"the views have {spec.p_image + spec.p_clinical} features; limits are computed for up to "
                          f"{MOST_FEATURES} (lower d_ni and d_nc).")


def _finite(spec: GaussianSpec, source: Moments, k: int, counts: tuple[int, ...]) -> dict[str, object]:
    """The keys `finite`, `crossover_n` and `crossover_reading`."""
    predictions = finite.methods(spec, source, k)
    crossings = finite.crossovers(predictions, finite.untuned_reason(spec))
    return {
        "finite": {"n_labelled": list(counts), **finite.predict(predictions, counts)},
        "crossover_n": {pair: None if c.n is None else round(c.n) for pair, c in crossings.items()},
        "crossover_reading": {pair: c.reading for pair, c in crossings.items()},
    }


def _masks(spec: GaussianSpec, k: int) -> dict[str, object]:
    """What masks inside a visit keep, in k numbers a view; empty without tokens, or where there is no closed form."""
    if not tokens.has_tokens(spec) or tokens.why_not(spec) is not None:
        return {}
    found = {mask: tokens.kept(spec, mask, k) for mask in tokens.MASKS}
    return {mask: {**asdict(one), "auc": list(one.auc)} for mask, one in found.items()}


def _terms(oracle: Oracle | None) -> dict[str, float | None]:
    """The population terms of the external loss."""
    if oracle is None:
        return {"irreducible": None, "transfer": None}
    terms = decompose(oracle.internal, oracle.external, oracle.source_bayes_external)
    return {"irreducible": terms.irreducible, "transfer": terms.transfer}


def _ranges(oracle: Oracle | None) -> dict[str, list[float | None]]:
    pairs = ((None, None),) * 3 if oracle is None else oracle.ranges
    return {place: list(pair) for place, pair in zip(PLACES, pairs, strict=True)}


def _span_entry(oracle: Oracle | None) -> dict[str, object]:
    return {**{place: getattr(oracle, place, None) for place in PLACES}, "range": _ranges(oracle),
            "standard_error": getattr(oracle, "standard_error", None)}


def _notes(spec: GaussianSpec, target: Moments) -> list[str]:
    """What a reader must know about these numbers that the numbers do not say."""
    notes = []
    undefined, reason = finite.undefined_reason(spec), finite.untuned_reason(spec)
    if undefined:
        notes.append(f"all predictions with n labels and the informations are null: {undefined}")
    elif reason:
        notes.append(f"supervised_tuned and cross_modal_finetuned are null: {reason}")
    if spec.map == "mlp":
        notes.append("an MLP map moves no limit of all features or one view; cross_modal, pca, cross_prediction and "
                     "finite describe linear learners that are given the measured coordinates")
    elif spec.map == "linear" and spec.condition > 1:
        notes.append("pca and cross_prediction hold in measured coordinates, before the map of condition number "
                     f"{spec.condition:g} stretches them")
    if tokens.has_tokens(spec) and (why := tokens.why_not(spec)) is not None:
        notes.append(f"masks is empty: {why}")
    if spec.alpha_lat != 2:
        notes.append("AUC limits are means of the exact risk over 80,000 sampled records, with standard_error; spans "
                     "are those of the covariances, and null where they mix causes with anything else")
    elif not spec.gaussian:
        notes.append("AUC limits are integrals of the exact risk by randomised quasi-Monte Carlo, with standard_error; "
                     "spans are those of the covariances")
    if spec.site_shown == "none" and (spec.n_sites > 1 or spec.n_sites_e > 1):
        notes.append("the hospital is no input: the risk and every limit marginalise over it")
    elif spec.site_shown not in ("none", "both"):
        notes.append(f"the hospital is an input, shown by the {spec.site_shown} view: the other view's limits "
                     "marginalise over it")
    if spec.alpha_lat != 2 or (not spec.gaussian and spec.n_sites + spec.n_sites_e > 2):
        notes.append("domain_auc and jeffreys are null: they are for Gaussian laws")
    if target.prevalence != target.prevalence_law:
        notes.append("classes are resampled in the target: its AUCs are those without it; jeffreys leaves it out")
    return notes
