"""Severity of shifts: the scales against closed forms and sampling, matches against both, refusals, the command."""

import json

import numpy as np
import pytest
from equations import records
from gaussian_world import label_auc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from simlab.environments.knobs import spec
from simlab.environments.presets import from_preset
from simlab.errors import OutOfDomain, UnknownName, command
from simlab.limits import limits, severity
from simlab.limits.__main__ import main
from simlab.limits.distances import _Density, _resampling, distance
from simlab.limits.gaussian import moments, posterior
from simlab.limits.joint import joint
from simlab.limits.liability import auc
from simlab.limits.places import oracles_of
from simlab.limits.severity import KINDS, compare, match, match_all, no_shift, paths, shifted

SMALL = ["--set", "d_ni=2", "--set", "d_nc=2"]
SMALL_WORLD = {"d_c": 2, "d_u": 1, "d_v": 1, "d_g": 2, "d_ni": 0, "d_nc": 0}
WORLD = {"w_c": 0.6, "w_u": 0.3, "w_v": 0.1, "rel_ci": 0.4, "rel_cc": 0.9}


def test_a_mean_shift_matches_its_closed_forms():
    """Jeffreys is the squared distance q mu^2, the domain AUC Phi(mu sqrt(q/2)); q by hand, one direction a cause."""
    a, b = 1 / 0.4 - 1, 1 / 0.9 - 1
    q = np.ones(2) @ np.linalg.solve([[1 + a, 1], [1, 1 + b]], np.ones(2)) + 0.8 + 0.8
    world = spec(WORLD)
    assert match("mu_e", 1.3, world, "jeffreys", "high").value == pytest.approx(np.sqrt(1.3 / q), abs=1e-6)
    found = match("mu_e", 0.8, world, "domain_auc", "low")
    assert found.value == pytest.approx(-np.sqrt(2 / q) * norm.ppf(0.8), abs=1e-6)
    assert found.severity.jeffreys == pytest.approx(2 * norm.ppf(0.8) ** 2, abs=1e-5)


@pytest.mark.parametrize(("kind", "part"), [("delta_u_e", 0.3 * 0.8), ("delta_v_e", 0.1 * 0.8)])
def test_a_concept_shift_matches_its_closed_form(kind, part):
    """R^2 = S + D, D the moved cause's: the rule's r is (S + d D)/sqrt(S + D), the limit's sqrt(S + d^2 D)."""
    rho = 1 - 1 / (1 + 0.4 / 0.6 + 0.9 / 0.1)
    d2, rest = 0.7 * part, 0.7 * (0.6 * rho + 0.4 * 0.8 - part)

    def lost(d):
        return auc(np.sqrt(rest + d * d * d2), 0.3) - auc((rest + d * d2) / np.sqrt(rest + d2), 0.3)
    level = lost(-0.9)
    assert match(kind, level, spec(WORLD)).value == pytest.approx(brentq(lambda d: lost(d) - level, -1, 0.9), abs=1e-5)


def test_proxy_decoupling_at_the_published_transfer_loss():
    """Known: limit .809 and fused rule .745 at kappa_e = .4; cross-modal .687 of its .795 at .6."""
    assert match("kappa_e", 0.809 - 0.745, spec(WORLD)).value == pytest.approx(0.4, abs=0.01)
    out = limits(spec(WORLD, kappa_e=0.6))
    found = match("kappa_e", out["decomposition"]["cross_modal"]["transfer"], spec(WORLD), "transfer_cross_modal")
    assert found.value == pytest.approx(0.6, abs=1e-4)


def test_severity_is_what_the_limits_say():
    """For a target moved in everything at once, every number is that of `limits`."""
    world = spec(WORLD, kappa_e=0.3, delta_u_e=0.5, tau_e=1.3, nu_e=0.4, mu_e=0.2)
    here, out = severity.severity(world), limits(world)
    assert here.jeffreys == out["jeffreys"]["full"] and here.domain_auc == out["domain_auc"]["full"]
    for key, terms in out["decomposition"].items():
        assert here.transfer[key] == pytest.approx(terms["transfer"], abs=1e-12)
        assert here.irreducible[key] == pytest.approx(terms["irreducible"], abs=1e-12)


def test_jeffreys_of_resampled_classes_by_sampling():
    """E over target records minus E over source records of the log density ratio, 4.5 standard errors."""
    world = shifted("prevalence_e_reweight", 0.05, spec(w_c=0.6))
    source, target = moments(world), moments(world, "external")
    z = np.random.default_rng(0).multivariate_normal(source.mean, source.cov, 200_000, method="cholesky")
    p = posterior(source, z)
    w = p * 0.05 / 0.3 + (1 - p) * 0.95 / 0.7
    seen = (w - 1) * np.log(w)
    exact = severity.severity(world).jeffreys
    assert target.prevalence == 0.05
    assert abs(seen.mean() - exact) < 4.5 * seen.std() / np.sqrt(len(seen))


@pytest.mark.parametrize("knobs", [{"mu_e": 0.5}, {"kappa_e": 0.6, "rel_ci": 0.6}, {"nu_e": 0.7},
                                   {"prevalence_e": 0.05}])
def test_monte_carlo_distances_meet_the_closed_forms(knobs):
    """Where both roads go: Jeffreys divergence and domain AUC within their stated errors."""
    world = spec({"d_ni": 1, "d_nc": 1, **knobs})
    found, known = distance(world), severity.severity(world)
    assert abs(found.jeffreys - known.jeffreys) < 4.5 * found.jeffreys_error
    assert abs(found.domain_auc - known.domain_auc) < 4.5 * found.domain_auc_error


def test_resampling_beside_another_shift_by_importance_and_by_rejection():
    """Its severity is Monte Carlo; the second sampler, which drops records of a class, gives the same domain AUC."""
    world = spec(SMALL_WORLD, prevalence_e=0.1, mu_e=0.6)
    found = severity.severity(world)
    assert found.jeffreys > 0 and found.domain_auc_error > 0
    rng = np.random.default_rng(3)
    inside, outside = (records(world, out, 12_000, rng)[0] for out in (False, True))
    here, there = (_Density(joint(world, d)) for d in ("source", "external"))
    weigh = _resampling(joint(world, "external"))
    ratio = [there.log(z) + np.log(weigh(z)) - here.log(z) for z in (inside, outside)]
    seen, se = label_auc(np.concatenate(ratio), np.repeat([False, True], [len(r) for r in ratio]))
    assert abs(seen - found.domain_auc) < 4.5 * np.hypot(se, found.domain_auc_error)


HOSPITALS = {**SMALL_WORLD, "n_sites": 3, "omega_s": 0.6, "rho_s": 0.3, "h2": 0.6}


def test_target_hospitals_on_the_common_scale():
    """Their severity is that of the limits, and of the classifier that sampled records allow; matches hold."""
    world = spec(HOSPITALS, mu_site_e=1.0, rho_s_e=-0.3, n_sites_e=2)
    found = severity.severity(world)
    known = oracles_of(world, moments(world), moments(world, "external"), {})
    for view, o in known.items():
        assert found.transfer[view] == o.external - o.source_bayes_external
    assert found.transfer["full"] > 0.005 and 0 < found.transfer_error < 1e-3
    rng = np.random.default_rng(5)
    inside, outside = (records(world, out, 12_000, rng)[0] for out in (False, True))
    here, there = (_Density(joint(world, d)) for d in ("source", "external"))
    ratio = np.concatenate([there.log(z) - here.log(z) for z in (inside, outside)])
    seen, se = label_auc(ratio, np.repeat([False, True], 12_000))
    assert abs(seen - found.domain_auc) < 4.5 * np.hypot(se, found.domain_auc_error)


@pytest.mark.proof
def test_target_hospitals_are_matched():
    one = match("mu_site_e", 0.7, spec(HOSPITALS), "domain_auc", "high")
    assert one.severity.domain_auc == pytest.approx(0.7, abs=1e-3) and 0 < one.value < 2
    for level in (0.503, 0.519):  # nearer to the number below, which does not reach it
        many = match("n_sites_e", level, spec(HOSPITALS), "domain_auc", "high")
        before = severity.severity(shifted("n_sites_e", many.value - 1, spec(HOSPITALS)))
        assert before.domain_auc < level <= many.severity.domain_auc and many.value > 3
    lost = match("rho_s_e", 0.004, spec(HOSPITALS), toward="low")
    assert lost.value < 0.3 and lost.severity.transfer["full"] == pytest.approx(0.004, abs=1e-3)


def test_hospitals_that_are_shown_and_unknown_lie_infinitely_far():
    far = severity.severity(spec(HOSPITALS, site_shown="both", mu_site_e=0.5))
    assert far.jeffreys is None and far.domain_auc == pytest.approx(1.0)
    same = severity.severity(spec(HOSPITALS, site_shown="both", rho_s_e=-0.2))
    assert same.jeffreys == 0.0 and same.domain_auc == 0.5 and same.transfer["full"] > 0


@settings(max_examples=6, deadline=None, derandomize=True)
@given(kind=st.sampled_from(["kappa_e", "delta_u_e", "delta_v_e", "tau_e", "delta_clin_e", "mu_e"]),
       scale=st.sampled_from(["transfer", "jeffreys", "transfer_clinical"]), share=st.floats(0.05, 0.95),
       w_c=st.floats(0.05, 0.9), rel=st.floats(0.2, 0.95), h2=st.floats(0.2, 0.9))
def test_a_match_is_there_and_nothing_smaller_is(kind, scale, share, w_c, rel, h2):
    """A level taken from somewhere on the way is matched there or earlier, and shifts before the match are milder."""
    world = spec(w_c=w_c, rel_ci=rel, h2=h2, d_ni=1, d_nc=1, d_g=1)
    end, way = sorted(paths(kind, world).items())[0]

    def on(value):
        here = severity.severity(shifted(kind, value, world))
        return here.jeffreys if scale == "jeffreys" else here.transfer["full" if scale == "transfer" else "clinical"]
    level = on(way(share))
    if level < 1e-5:
        with pytest.raises(OutOfDomain):
            match(kind, 0.9, world, scale if scale != "jeffreys" else "transfer", end)
        return
    found = match(kind, level, world, scale, end)
    start = no_shift(kind, world)
    assert abs(on(found.value) - level) < 1e-6 * max(1, level)
    assert abs(found.value - start) <= abs(way(share) - start) + 1e-6
    for part in (0.25, 0.5, 0.75, 0.97):
        assert on(start + part * (found.value - start)) <= level + 1e-9


def test_kinds_start_from_no_shift_and_end_at_the_sweep_range():
    world = spec(WORLD, kappa_s=0.7, nu=0.3, kappa_e=-1.0, mu_e=1.0)
    assert no_shift("kappa_e", world) == 0.7 and no_shift("prevalence_e", world) == 0.3
    ends = {end: way(1.0) for end, way in paths("kappa_e", world).items()}
    assert ends == {"low": -1.0, "high": 1.0} and paths("tau_e", world)["low"](0.5) == pytest.approx(np.sqrt(0.5))
    one = shifted("kappa_e", 0.1, world)
    assert (one.kappa_e, one.mu_e, one.nu_e) == (0.1, 0.0, 0.3)  # one shift and no other
    with pytest.raises(OutOfDomain, match=r"kappa_s = 0\.7"):
        no_shift("delta_clin_e", world)
    for kind in set(KINDS) - {"delta_clin_e"}:
        still = severity.severity(shifted(kind, no_shift(kind, world), world))
        assert still.jeffreys == pytest.approx(0, abs=1e-9) and still.domain_auc == 0.5
        assert max(abs(v) for v in (*still.transfer.values(), *still.irreducible.values())) < 1e-9


@pytest.mark.parametrize(("kind", "level", "scale", "said"), [
    ("nu_e", 0.05, "transfer", "stays at 0"), ("tau_e", 0.05, "transfer", "the largest is 0.00"),
    ("delta_u_e", 0.7, "domain_auc", "stays at 0.5"), ("kappa_e", 0.0, "transfer", r"\[1e-06, 1\)"),
    ("kappa_e", 1.0, "transfer", r"\[1e-06, 1\)"), ("kappa_e", 0.3, "domain_auc", r"\[0.500001, 1\)"),
    ("kappa_e", float("nan"), "transfer", "outside its domain")])
def test_out_of_reach_is_refused_with_what_is_reachable(kind, level, scale, said):
    with pytest.raises(OutOfDomain, match=said):
        match(kind, level, spec(w_c=0.6), scale)


def test_other_refusals():
    with pytest.raises(UnknownName, match="kappa_e"):
        match("kapa_e", 0.1, spec())
    with pytest.raises(UnknownName, match="domain_auc"):
        match("kappa_e", 0.1, spec(), "domain")
    with pytest.raises(UnknownName, match="low"):
        match("kappa_e", 0.1, spec(), toward="lo")
    with pytest.raises(OutOfDomain, match="no way to go"):
        match("kappa_e", 0.1, spec(), toward="high")
    with pytest.raises(OutOfDomain, match="jumps past"):  # both views show the cause without error: told apart at once
        match("kappa_e", 1.0, spec(rel_ci=1.0, rel_cc=1.0), "jeffreys")


def test_every_other_kind_moves_on_its_own_terms():
    """A turned slope keeps the records, an offset changes no ranking, a gain one view's; a shortcut needs its view."""
    turned = severity.severity(shifted("theta_e", np.pi / 2, spec(w_c=0.6)))
    assert turned.jeffreys == pytest.approx(0, abs=1e-9) and turned.transfer["full"] == pytest.approx(
        limits(spec(w_c=0.6))["internal"]["full"] - 0.5, abs=1e-9)
    moved = severity.severity(shifted("offset_e", 1.0, spec(w_c=0.6)))
    assert moved.domain_auc > 0.9 and max(map(abs, moved.transfer.values())) < 1e-12
    louder = severity.severity(shifted("gain_e", 3.0, spec(w_c=0.6)))
    assert louder.transfer["full"] > 0.01 > abs(louder.transfer["image"]) < 1e-12
    with pytest.raises(OutOfDomain, match="needs a view"):
        match("lambda_e", 0.05, spec(w_c=0.6))
    shown = spec(w_c=0.6, shortcut="image", lambda_s=0.5)
    assert match("lambda_e", 0.05, shown).value < 0.5
    with pytest.raises(OutOfDomain, match="alpha_lat = 2, not 1"):
        compare(spec(alpha_lat=1.0))
    product = severity.severity(shifted("kappa_e", 0.3, spec(SMALL_WORLD, w_x=0.3)))
    plain = severity.severity(shifted("kappa_e", 0.3, spec(SMALL_WORLD)))
    assert product.jeffreys == pytest.approx(plain.jeffreys, rel=0.1) and product.transfer_error > 0


def test_tables_hold_every_kind(monkeypatch):
    monkeypatch.setattr(severity, "STEPS", 12)
    world = from_preset("li2025-shared", kappa_e=0.2, d_c=2, d_u=2, d_v=2, d_ni=1, d_nc=1)
    ends, level = compare(world), match_all(0.05, world)
    assert [row["kind"] for row in level] == list(KINDS) == list(dict.fromkeys(row["kind"] for row in ends))
    assert next(row for row in level if row["kind"] == "kappa_e")["transfer"]["full"] == pytest.approx(0.05, abs=1e-6)
    json.dumps([ends, level], allow_nan=False)


def test_command(capsys, monkeypatch):
    monkeypatch.setattr(severity, "STEPS", 12)
    monkeypatch.setattr(severity, "KINDS", {kind: KINDS[kind] for kind in ("kappa_e", "delta_clin_e", "tau_e", "mu_e")})
    assert main(["--severity", "--set", "w_c=0.6", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "kappa_e" in text and "0.1698" in text and max(map(len, text.splitlines())) <= 160
    assert main(["--match", "transfer=0.05", "--set", "w_c=0.6", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "0.1622" in text and "tau_e does not reach" in text
    assert main(["--match", "transfer_image=0.1", "--json", *SMALL]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["scale"] == "transfer_image" and out["level"] == 0.1 and len(out["shifts"]) == 4
    assert main(["--severity", "--json", "--set", "kappa_s=0.5", *SMALL]) == 0
    assert "kappa_s = 0.5" in capsys.readouterr().out


@pytest.mark.parametrize(("argv", "said"), [
    (["--match", "transfer"], "SCALE=LEVEL"), (["--match", "transfer=x"], "SCALE=LEVEL"), (["--match", ""], "SCALE="),
    (["--match", "transfr=1"], "did you mean transfer"), (["--match", "jeffreys=inf"], "outside its domain"),
    (["--match", "transfer=.1", "--severity"], "not allowed with")])
def test_bad_input(argv, said, capsys):
    assert command(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err
