"""The leak guard must be silent without a leak, at the rate that it states, and trip on a planted one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from simlab.errors import LeakDetected
from simlab.evaluation import leak


def case(rng: np.random.Generator, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rng.standard_normal(n)
    p = ndtr((0.75 * x - 0.5) / np.sqrt(1 - 0.75**2))
    return x, p, (rng.random(n) < p).astype(float)


def test_without_a_leak_z_is_standard_normal() -> None:
    """400 draws: the mean of z is known to 0.05, its standard deviation to 0.035; four of those."""
    rng = np.random.default_rng(3)
    z = []
    for _ in range(400):
        x, p, y = case(rng)
        z.append(leak.leak(x + rng.standard_normal(len(x)), y, p).z)  # an imperfect score
    assert abs(np.mean(z)) < 4 * 0.05
    assert abs(np.std(z) - 1) < 4 * 0.035


def test_a_score_that_saw_the_labels_trips(rng: np.random.Generator) -> None:
    x, p, y = case(rng, 20_000)
    found = leak.leak(x + 0.3 * y, y, p)
    assert found.excess > 0.01
    with pytest.raises(LeakDetected, match="planted"):
        leak.check([0.3, found.z, -1.0], ["a", "planted", "b"])


def test_the_bayes_rule_itself_is_no_leak(rng: np.random.Generator) -> None:
    _, p, y = case(rng, 20_000)
    leak.check([leak.leak(p, y, p).z], ["bayes"])


def test_family_wise_rate() -> None:
    """2000 families of 50 null z-values: trips 1 % (Bonferroni: at most); the count's standard deviation is 4.5."""
    rng = np.random.default_rng(1)
    z = np.abs(rng.standard_normal((2000, 50))).max(axis=1)
    assert abs((z > leak.threshold(50)).sum() - 20) < 4 * 4.5


def test_labels_of_another_law_are_refused_too(rng: np.random.Generator) -> None:
    x, p, y = case(rng, 20_000)
    with pytest.raises(LeakDetected, match="contradicts"):
        leak.check([leak.leak(x, rng.permutation(y), p).z], ["shuffled"])


def family(rng: np.random.Generator, rows: int, n: int, dependent: bool, planted: float = 0.0) -> list[float]:
    """The z-values of a run's rows: each of test records of its own, or all scores (arms) of the same records. The
    first row's score has seen the labels, as much as `planted` says."""
    found: list[float] = []
    while len(found) < rows:
        x, p, y = case(rng, n)
        for _ in range(rows if dependent else 1):
            score = x + rng.uniform(0.2, 2.0) * rng.standard_normal(n) + (planted * y if not found else 0.0)
            found.append(leak.leak(score, y, p).z)
    return found


def trips(z: list[float]) -> bool:
    try:
        leak.check(z, [str(i) for i in range(len(z))])
    except LeakDetected:
        return True
    return False


def trip_rate(families: int, rows: int, n: int, dependent: bool) -> float:
    rng = np.random.default_rng(5)
    return float(np.mean([trips(family(rng, rows, n, dependent)) for _ in range(families)]))


@pytest.mark.parametrize("dependent", [False, True])
def test_runs_without_a_leak_trip_in_at_most_one_of_a_hundred(dependent: bool) -> None:
    """200 runs of 5 rows on 400 records each; four Monte-Carlo errors (.7 % each)."""
    assert trip_rate(200, 5, 400, dependent) <= 0.01 + 4 * 0.007


def test_the_power_on_planted_leaks_is_the_normal_one() -> None:
    """A leak whose z has mean m is found with probability Phi(m - limit): 200 runs whose limit is that of 100 rows."""
    rng = np.random.default_rng(6)
    for planted in (0.3, 0.5):
        z = np.array([family(rng, 1, 1000, True, planted)[0] for _ in range(200)])
        said = float(ndtr(z.mean() - leak.threshold(100)))
        assert 0.02 < said < 0.999
        assert abs(np.mean(z > leak.threshold(100)) - said) < 4 * np.sqrt(said * (1 - said) / 200) + 0.02


@pytest.mark.proof
@pytest.mark.parametrize("dependent", [False, True])
def test_the_family_wise_rate_at_length(dependent: bool) -> None:
    """2,000 runs of 10 rows on 1,000 records: a Monte-Carlo error of .22 %."""
    rate = trip_rate(2000, 10, 1000, dependent)
    print(f"{'dependent' if dependent else 'independent'} rows: {rate:.4f} (s.e. .0022)")
    assert rate <= 0.01 + 4 * 0.0022


@pytest.mark.proof
def test_power_in_a_run_like_quick() -> None:
    """2,100 rows on 20,000 records, as `quick` has: how large a leak is found. Prints the table of docs/log.md."""
    rng, limit = np.random.default_rng(7), leak.threshold(2100)
    for planted in (0.05, 0.1, 0.2, 0.3):
        rows = []
        for _ in range(100):
            x, p, y = case(rng, 20_000)
            rows.append(leak.leak(x + rng.standard_normal(len(x)) + planted * y, y, p))
        rate, excess = np.mean([r.z > limit for r in rows]), np.mean([r.excess for r in rows])
        print(f"planted {planted}: excess AUC {excess:.4f}, found in {rate:.2f} of 100")
        assert rate > 0.99 or planted < 0.2
