"""Severity of missingness and of other shifts over visits: closed forms, refusals, matches."""

import json

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import binom

from simlab.environments.visit_knobs import spec
from simlab.errors import OutOfDomain, UnknownName, command
from simlab.limits import visit_severity
from simlab.limits.__main__ import main
from simlab.limits.simulated import bayes, draw, source_rule
from simlab.limits.visit_severity import distance, log_gaps, match, severity, shifted
from simlab.limits.visits import VIEWS, law_of, of_liability, selections


def known(p, q, visits):
    """Jeffreys divergence and domain AUC of counts of gaps at random: binomials."""
    k = np.arange(visits + 1)
    one, two = binom.pmf(k, visits, p), binom.pmf(k, visits, q)
    above = two @ (np.cumsum(one) - one / 2)
    return visits * (q - p) * (np.log(q / (1 - q)) - np.log(p / (1 - p))), max(above, 1 - above)


def test_gaps_at_random_are_binomial():
    far = distance(spec(p_miss=0.2, p_miss_e=0.5, n_visits=3))
    jeffreys, auc = known(0.2, 0.5, 3)
    assert abs(far.jeffreys - jeffreys) < 4.5 * far.jeffreys_error
    assert abs(far.domain_auc - auc) < 4.5 * far.domain_auc_error


@pytest.mark.parametrize("gammas", [{"gamma_3": 1.5}, {"gamma_1": 1.0, "gamma_2": -1.5}])
def test_one_gap_given_the_values_is_a_normal_probability(gammas):
    """P(missing | values) = Phi((a + E w)/sqrt(1 + Var w)), by hand."""
    s = spec(n_visits=1, p_miss=0.3, **gammas).along()
    law, shown = law_of(s, "source"), draw(s, "source", 300)
    chosen = selections(law)["clinical"]
    mean, cov = of_liability(law, shown)
    w, var = mean @ chosen.direction, np.einsum("i,nij,j->n", chosen.direction, cov, chosen.direction)
    x = (chosen.intercept + w) / np.sqrt(1 + var)
    np.testing.assert_allclose(log_gaps(law, shown), log_ndtr(np.where(shown.clinical[:, 0], -x, x)), atol=1e-6)


def test_gaps_in_one_hospital_alone_and_in_neither():
    alone = distance(spec(p_miss_e=0.4, n_visits=2), 2_000)
    assert alone.jeffreys is None and abs(alone.domain_auc - (1 + 1 - 0.6**2) / 2) < 4.5 * alone.domain_auc_error
    still = severity(spec(p_miss=0.4, n_visits=2), 2_000)
    assert (still.jeffreys, still.domain_auc) == (0.0, 0.5) and set(still.transfer.values()) == {0.0}


def test_what_severity_costs_is_what_limits_say():
    s = spec(p_miss=0.1, p_miss_e=0.6, gamma_3=1.0, n_visits=2)
    found = severity(s, 3_000)
    for view in VIEWS:
        assert found.transfer[view] == bayes(s, "external", view, 3_000).value - source_rule(s, view, 3_000).value
    assert found.irreducible["full"] > 0.01 > found.transfer["full"] and found.domain_auc > 0.7
    other = severity(spec(kappa_e=0.2, n_visits=2), 3_000)
    assert other.jeffreys is None and other.domain_auc is None and other.transfer["full"] > 0.005


@pytest.mark.proof
def test_matches():
    world = spec(p_miss=0.2, n_visits=3, p_miss_e=0.9)
    found = match("p_miss_e", 0.7, world, "domain_auc", 4_000)
    off = 4.5 * found.severity.domain_auc_error  # of the domain AUC; over its slope, of the knob
    q = brentq(lambda q: known(0.2, q, 3)[1] - 0.7, 0.21, 0.9)
    slope = (known(0.2, q + 1e-3, 3)[1] - known(0.2, q - 1e-3, 3)[1]) / 2e-3
    assert abs(found.value - q) < off / slope and abs(known(0.2, found.value, 3)[1] - 0.7) < off
    assert abs(found.severity.domain_auc - 0.7) <= visit_severity.MET  # by the draws of the match
    lost = match("kappa_e", 0.03, spec(n_visits=2), records=3_000)
    assert 0 < lost.value < 1 and abs(lost.severity.transfer["full"] - 0.03) <= visit_severity.MET
    assert shifted("p_miss_e", 0.5, spec(kappa_e=0.1, p_miss=0.2)).kappa_e == 1.0  # one shift and no other


def test_a_level_that_is_jumped_past_is_no_match(monkeypatch):
    """Draws that count in steps: .5 below kappa_e = .5 and .8 from there on, never .7."""
    monkeypatch.setattr(visit_severity, "severity_on", lambda s, scale, records: 0.5 if s.kappa_e > 0.5 else 0.8)
    with pytest.raises(OutOfDomain, match=r"jumps past transfer = 0\.7"):
        match("kappa_e", 0.7, spec(), records=200)


def test_refusals():
    with pytest.raises(OutOfDomain, match="p_miss_e alone moves"):
        match("kappa_e", 0.7, spec(), "domain_auc", 200)
    with pytest.raises(OutOfDomain, match="does not reach transfer"):
        match("p_miss_e", 0.3, spec(n_visits=1, p_miss=0.1), records=200)
    with pytest.raises(UnknownName, match="p_miss_e"):
        match("p_mis_e", 0.1, spec())
    with pytest.raises(UnknownName, match="transfer_image"):
        match("p_miss_e", 0.1, spec(), "transfer_cross_modal")


def test_command(capsys, monkeypatch):
    monkeypatch.setattr(visit_severity, "KINDS", ("p_miss_e", "kappa_e", "lambda_e"))
    monkeypatch.setattr(visit_severity.compare, "__defaults__", (400,))
    argv = ["--severity", "--world", "longitudinal", "--set", "p_miss=0.2", "--set", "n_visits=2"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "longitudinal world" in text and "p_miss_e" in text and "lambda_e does not apply" in text
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))["shifts"]
    assert [row["kind"] for row in rows] == ["p_miss_e", "p_miss_e", "kappa_e", "lambda_e"]
    for bad, said in ((["--world", "longitudinal"], "--describe longitudinal"),
                      ([*argv, "--preset", "li2025-shared"], "no --preset"),
                      (["--world", "longitudinl", "--severity"], "longitudinal"),
                      (["--severity", "--world", "longitudinal", "--set", "w_x=.1"], "unknown knob")):
        assert command(main, bad) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err
