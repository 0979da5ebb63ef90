"""Ranks of inputs whose rank is known, and the verdict on planted cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simlab.evaluation import spectrum
from simlab.evaluation.collapse import rankme
from simlab.evaluation.verdict import existing, readability, report, verdict


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_ranks_of_equal_directions_are_their_number(rank: int) -> None:
    values = np.r_[np.full(rank, 2.5), np.zeros(8 - rank)]
    assert float(spectrum.effective_rank(values)) == pytest.approx(rank, abs=1e-4)
    assert float(spectrum.participation(values)) == pytest.approx(rank)


def test_rankme_here_and_there_agree(rng: np.random.Generator) -> None:
    """From eigenvalues of the covariance, and from singular values of the centred matrix."""
    z = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 6)) + 5
    assert float(spectrum.effective_rank(spectrum.eigenvalues(z))) == pytest.approx(rankme(z), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_is_the_exponent_of_a_power_law(alpha: float) -> None:
    assert spectrum.alpha_req(np.arange(1, 50) ** -alpha) == pytest.approx(alpha)
    assert np.isnan(spectrum.alpha_req(np.array([1.0, 0.5])))


@pytest.mark.parametrize("rank", [1, 4, 10])
def test_lidar_of_rank_r_between_isotropic_within_is_r(rank: int, rng: np.random.Generator) -> None:
    """Group means exactly isotropic of rank r; within-noise isotropic and small against them: 1 % of r."""
    groups, views, width = 600, 8, 10
    means = np.zeros((groups, width))
    q = rng.standard_normal((groups, rank))
    means[:, :rank] = np.linalg.qr(q - q.mean(axis=0))[0] * 100
    z = (means[:, None] + 0.1 * rng.standard_normal((groups, views, width))).reshape(-1, width)
    order = rng.permutation(len(z))  # by group, never by order
    found = spectrum.lidar(z[order], np.repeat(np.arange(groups), views)[order])
    assert found == pytest.approx(rank, rel=0.01)


def test_lidar_leaves_single_rows_out_and_needs_two_groups(rng: np.random.Generator) -> None:
    z = rng.standard_normal((6, 2))
    assert np.isnan(spectrum.lidar(z, np.arange(6)))
    assert np.isnan(spectrum.lidar(z, np.array([0, 0, 0, 1, 2, 3])))
    with_singles = spectrum.lidar(z, np.array([0, 0, 1, 1, 2, 3]))
    assert with_singles == pytest.approx(spectrum.lidar(z[:4], np.array([0, 0, 1, 1])))


def test_the_summary_of_a_fleet_is_that_of_its_members(rng: np.random.Generator) -> None:
    z = rng.standard_normal((2, 300, 4)) * np.array([1.0, 0.5, 2.0, 0.1]) + 3
    found = spectrum.summary(torch.as_tensor(z))
    for m in range(2):
        values = spectrum.eigenvalues(z[m])
        assert float(found["rankme"][m]) == pytest.approx(float(spectrum.effective_rank(values)))
        assert float(found["participation"][m]) == pytest.approx(float(spectrum.participation(values)))
        assert float(found["sd-min"][m]) == pytest.approx(z[m].std(axis=0, ddof=1).min())
        assert float(found["norm"][m]) == pytest.approx(np.sqrt((z[m] ** 2).sum(axis=1).mean()))


def test_what_is_followed_along_a_training_is_what_is_reported_after_it(rng: np.random.Generator) -> None:
    """LiDAR by subject and alpha-ReQ of a fleet, each member's own subjects, some records without a view."""
    subjects = rng.integers(0, 40, (2, 120))
    views = {role: rng.standard_normal((2, 120, 4)) * np.array([2.0, 1.0, 0.5, 0.2]) + subjects[..., None] / 9
             for role in ("image", "clinical")}
    there = {"image": rng.random((2, 120)) < 0.8, "clinical": np.ones((2, 120), dtype=bool)}
    tensors = [{k: torch.as_tensor(v) for k, v in x.items()} for x in (views, there)]
    found = spectrum.along(tensors[0], torch.as_tensor(subjects), tensors[1])
    for m in range(2):
        own = {role: z[m] for role, z in views.items()}
        _, expected = report(own, subjects[m], exists={role: x[m] for role, x in there.items()})
        assert float(found["lidar"][m]) == pytest.approx(expected["lidar"], rel=1e-9)
        for name in ("alpha-req", "rankme", "norm"):
            assert float(found[f"{name}-image"][m]) == pytest.approx(expected[f"{name}/image"], rel=1e-6)
    by_record = spectrum.along(tensors[0])["lidar"]  # by sums, without a table of groups
    for m in range(2):
        expected = report({role: z[m] for role, z in views.items()})[1]["lidar"]
        assert float(by_record[m]) == pytest.approx(expected, rel=1e-9)
        assert abs(float(found["lidar"][m]) - expected) > 1e-3


def test_a_member_that_diverged_takes_no_rank_from_the_others(rng: np.random.Generator) -> None:
    z = torch.as_tensor(rng.standard_normal((3, 100, 4)))
    whole = spectrum.summary(z)
    z[1, 5, 2] = torch.nan
    found = spectrum.summary(z)
    assert float(found["rankme"][1]) == float(found["participation"][1]) == 0
    assert all(torch.equal(found[name][[0, 2]], whole[name][[0, 2]]) for name in whole)


def planted(case: str, rng: np.random.Generator) -> np.ndarray:
    z = rng.standard_normal((1000, 8))
    if case == "constant with noise":  # full rank once centred: ranks alone call this healthy
        return 5 + 1e-3 * z
    if case == "shrunk":
        return 1e-3 * z
    if case == "two directions":
        return z[:, :2] @ rng.standard_normal((2, 8))
    if case == "dead dimension":
        return z * np.r_[np.ones(7), 1e-4]
    if case == "not finite":
        return np.where(np.arange(8) == 3, np.nan, z)
    return z * np.linspace(0.3, 1, 8) + 2  # uneven and shifted, but alive


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ("constant with noise", "full collapse"),
        ("shrunk", "full collapse"),
        ("two directions", "dimensional collapse"),
        ("dead dimension", "dimensional collapse"),
        ("not finite", "diverged"),
        ("alive", "healthy"),
    ],
)
def test_the_verdict_on_planted_cases(case: str, word: str, rng: np.random.Generator) -> None:
    assert verdict(planted(case, rng)) == word
    views = {"image": rng.standard_normal((1000, 8)), "clinical": planted(case, rng)}
    assert report(views)[0] == word  # the worst view decides


def test_the_uncentred_trap(rng: np.random.Generator) -> None:
    """A constant plus 1e-3 noise has nearly full centred rank; the deviation beside the norm shows the collapse."""
    z = planted("constant with noise", rng)
    assert rankme(z) > 7.5 and verdict(z) == "full collapse"


def test_a_wide_encoder_of_few_features_is_not_blamed_for_them(rng: np.random.Generator) -> None:
    z = rng.standard_normal((1000, 3)) @ rng.standard_normal((3, 16))
    assert verdict(z) == "dimensional collapse" and verdict(z, features=3) == "healthy"


def test_readability_of_known_factors(rng: np.random.Generator) -> None:
    """Held out: a factor seen with noise of its own size reads .5, one that is not there about 0."""
    c, other = rng.standard_normal((2, 20_000, 2))
    z = np.concatenate([c + rng.standard_normal((20_000, 2)), rng.standard_normal((20_000, 3))], axis=1)
    found = readability(z, {"c": c, "u": other, "none": np.zeros((20_000, 0))})
    assert found["c"] == pytest.approx(0.5, abs=0.02) and abs(found["u"]) < 0.01 and "none" not in found


def test_padding_would_hide_a_collapse_and_is_left_out(rng: np.random.Generator) -> None:
    """Nine tokens of ten are padding, whose rows differ: with them a dead encoder looks alive."""
    z = rng.standard_normal((100, 10, 4))
    exists = np.arange(10)[None] < np.ones((100, 1))
    z[:, 0] = 3 + 1e-4 * rng.standard_normal((100, 4))
    assert verdict(z.reshape(-1, 4)) == "healthy"
    assert existing(z, exists).shape == (100, 4) and verdict(existing(z, exists)) == "full collapse"


def test_records_without_a_view_do_not_hide_its_collapse(rng: np.random.Generator) -> None:
    """A dead encoder of tokens, whose representation is 0 where a record has none: two values look like a spread."""
    there = rng.random(400) < 0.7
    alive = rng.standard_normal((400, 4))
    dead = np.where(there[:, None], 3 + 1e-4 * rng.standard_normal((400, 4)), 0.0)
    assert report({"image": alive, "clinical": dead})[0] == "dimensional collapse"
    word, found = report({"image": alive, "clinical": dead}, exists={"clinical": there})
    assert word == "full collapse" and found["sd-max/clinical"] < 2e-4
    assert found["rankme/image"] == report({"image": alive})[1]["rankme/image"]


def test_which_site_a_record_is_of_can_be_read(rng: np.random.Generator) -> None:
    """Two sites four deviations apart in one dimension: R2 = 4/5 (variance between 4, within 1)."""
    from simlab.train.health import _site

    site = rng.permutation(np.repeat(["a", "b"], 5000))
    z = rng.standard_normal((10_000, 2)) + np.where(site == "a", 2.0, -2.0)[:, None] * np.array([1.0, 0.0])
    columns = _site(site)["site"]
    found = readability(z[: len(columns)], {"site": columns[: len(z)]})
    assert found["site"] == pytest.approx(0.8, abs=0.02) and _site(np.full(9, "a")) == {}
