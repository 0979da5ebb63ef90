"""Verdicts by simulation: how often they are false where they must not be, and how often they are found.

Seed noise of standard deviation .012 (paired differences of `quick`: .009 to .024), margin .01. Besides normal noise:
heavy tails (Student t with 5 degrees of freedom, excess kurtosis 6) and skewed (gamma of skewness .8; exponential, 2):
the contrasts of `quick` have a skewness of .4 to -2.7 and an excess kurtosis of -.3 to 5.5, over their cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from simlab.sweep import multiplicity, power
from simlab.sweep import verdicts as v

ROPE, SD = 0.01, 0.012
LOOKS = [(12,), (8, 16, 32)]
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: (rng.gamma(6.25, size=shape) - 6.25) / 2.5,
    "heavy": lambda rng, shape: rng.standard_t(5, shape) / np.sqrt(5 / 3),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}


@pytest.fixture(autouse=True)
def no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """`needed` has tests of its own, and takes most of a verdict's time."""
    monkeypatch.setattr(v, "seeds_needed", lambda *_: None)


def rates(data: np.ndarray, looks: tuple[int, ...], spending: str = "pocock", rope: float = ROPE) -> dict[str, float]:
    found = Counter(v.verdict(row, looks, rope, spending=spending).verdict for row in data)
    return {word: found[word] / len(data) for word in ("helps", "hurts", "equivalent", "undecided")}


def error(rate: float, trials: int) -> float:
    """The Monte-Carlo standard error of a rate."""
    return float(np.sqrt(rate * (1 - rate) / trials))


def false_rates(rng: np.random.Generator, noise: str, looks: tuple[int, ...], trials: int,
                spending: str = "pocock") -> Iterator[tuple[float, str, float, float]]:
    """(true difference, false words, rate, nominal rate) at both margins, and at zero (there with a margin of zero too,
    where "helps" and "hurts" are as near as they come)."""
    for truth in (-ROPE, 0.0, ROPE):
        data = truth + SD * NOISES[noise](rng, (trials, looks[-1]))
        found = rates(data, looks, spending)
        if truth == 0:
            yield truth, "helps or hurts", found["helps"] + found["hurts"], v.ALPHA
            found = rates(data, looks, spending, rope=0.0)
            yield truth, "differs", found["helps"] + found["hurts"], v.ALPHA
            continue
        yield truth, "helps" if truth > 0 else "hurts", found["helps" if truth > 0 else "hurts"], v.ALPHA / 2
        yield truth, "equivalent", found["equivalent"], v.ALPHA / 2


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_false_verdicts_are_no_more_than_nominal(rng: np.random.Generator, noise: str, looks: tuple[int, ...]) -> None:
    """600 cells a truth; an observed rate may pass the nominal one by four Monte-Carlo standard errors."""
    trials = 600
    for truth, words, rate, nominal in false_rates(rng, noise, looks, trials):
        assert rate <= nominal + 4 * error(nominal, trials), (truth, words)


def test_the_two_spending_functions_hold_and_differ_as_they_should(rng: np.random.Generator) -> None:
    data = ROPE + SD * rng.standard_normal((500, 32))
    for spending in ("pocock", "obrien-fleming"):
        assert rates(data, (8, 16, 32), spending)["helps"] <= 0.025 + 4 * error(0.025, 500)
    found = rates(data[:300] + SD, (8, 16, 32))["helps"], rates(data[:300] + SD, (32,))["helps"]
    assert found[0] <= found[1]  # looks are paid for in power at the end


def test_power_is_what_the_noncentral_t_says(rng: np.random.Generator) -> None:
    """"helps" at 12 seeds against `power.decides`, which is exact there; at zero it is a lower bound."""
    trials = 1000
    for excess in (0.5, 1.0):
        said = power.decides(12, ROPE + excess * SD, SD, ROPE)
        rate = rates(ROPE + excess * SD + SD * rng.standard_normal((trials, 12)), (12,))["helps"]
        assert abs(rate - said) < 4 * error(said, trials)
    said = power.decides(20, 0.0, SD, ROPE)
    rate = rates(SD * rng.standard_normal((trials, 20)), (20,))["equivalent"]
    assert said - 4 * error(said, trials) < rate < said + 0.05


def family(rng: np.random.Generator, cells: int, shared: float) -> np.ndarray:
    """(cells, 12): a map whose cells lie at both margins, at zero and beyond, its seeds shared by the cells."""
    truths = np.resize([-ROPE, 0.0, ROPE, ROPE + 2.5 * SD], cells)
    common, own = rng.standard_normal(12), rng.standard_normal((cells, 12))
    return truths[:, None] + SD * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)


def false_words(word: str, cell: int) -> bool:
    """Whether a word is false in a cell of `family`; at a margin "equivalent" is as false as "helps" beyond it."""
    return word in ((("hurts", "equivalent"), ("helps", "hurts"), ("helps", "equivalent"), ("hurts", "equivalent"))
                    [cell % 4])


def family_errors(rng: np.random.Generator, families: int, cells: int, shared: float) -> tuple[float, float, float]:
    """How often a family holds a false word by itself and after Holm, and the mean share of false words after BH."""
    plain = holm = 0
    shares = []
    for _ in range(families):
        found = [v.verdict(row, (12,), ROPE) for row in family(rng, cells, shared)]
        level = np.array([f.level for f in found])
        stands = {kind: multiplicity.adjusted(level, kind) <= v.ALPHA for kind in ("confirmatory", "exploratory")}
        wrong = np.array([false_words(f.verdict, i) for i, f in enumerate(found)])
        plain += wrong.any()
        holm += (wrong & stands["confirmatory"]).any()
        shares.append((wrong & stands["exploratory"]).sum() / max(1, stands["exploratory"].sum()))
    return plain / families, holm / families, float(np.mean(shares))


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_families_hold_no_more_false_words_than_promised(rng: np.random.Generator, shared: float) -> None:
    """80 maps of 20 cells, three quarters of them where some word is false: Holm in at most 5 % of maps, BH at most
    5 % of the words that stand, with four Monte-Carlo errors; single cells are false somewhere in far more."""
    plain, holm, share = family_errors(rng, 80, 20, shared)
    assert plain > 0.1 and holm <= 0.05 + 4 * error(0.05, 80) and share <= 0.05 + 4 * error(0.05, 80)


@pytest.mark.proof
@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("noise", list(NOISES))
def test_calibration_at_length(noise: str, looks: tuple[int, ...]) -> None:
    """5,000 cells a truth. Normal and heavy-tailed noise: nominal. Skewed noise passes it on one side, as Student t
    does where mean and standard deviation are correlated, and stays below it on the other: held here to .055 where
    .025 is nominal at a skewness of .8, .125 at 2 (a shortfall: docs/sweeps.md says so). Prints docs/log.md's table.
    """
    rng, trials = np.random.default_rng(20261122), 5000
    allowed = {"skewed": 0.030, "exponential": 0.100}.get(noise, 0.0)
    for truth, words, rate, nominal in false_rates(rng, noise, looks, trials):
        print(f"{noise:<12} looks {looks!s:<12} truth {truth:+.2f}: {words:<15} {rate:.4f} (s.e. "
              f"{error(rate, trials):.4f}, nominal {nominal})")
        assert rate <= nominal + allowed + 4 * error(nominal, trials), (truth, words)


@pytest.mark.proof
def test_power_at_stated_effects() -> None:
    """How often the right word is found; prints the table of docs/log.md. Looks lose no more than .1 to one at 32."""
    rng, trials = np.random.default_rng(20261122), 3000
    for word, truth in (("equivalent", 0.0), *(("helps", ROPE + excess * SD) for excess in (0.5, 1, 2))):
        found = []
        for looks, spending in (((12,), "pocock"), ((32,), "pocock"), ((8, 16, 32), "pocock"),
                                ((8, 16, 32), "obrien-fleming")):
            data = truth + SD * rng.standard_normal((trials, looks[-1]))
            found.append(rates(data, looks, spending)[word])
            print(f"{word:<11} at {truth:.3f}, looks {looks!s:<12} {spending:<15} {found[-1]:.3f} "
                  f"(s.e. {error(found[-1], trials):.3f})")
        assert found[1] - 0.1 <= found[2] <= found[1] + 0.03 and found[1] - 0.03 <= found[3]


@pytest.mark.proof
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_families_at_length(shared: float) -> None:
    found = family_errors(np.random.default_rng(20261122), 1000, 40, shared)
    print(f"correlation {shared}: some false word in {found[0]:.3f} of maps, after Holm {found[1]:.4f}, "
          f"share of false words after BH {found[2]:.4f} (1,000 maps of 40 cells)")
    assert found[1] <= 0.05 + 4 * error(0.05, 1000) and found[2] <= 0.05 + 4 * error(0.05, 1000)
