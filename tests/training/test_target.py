"""Arms that use unlabelled records of the target: what they are shown, what they train on, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simlab.environments.knobs import spec
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain
from simlab.methods import METHODS
from simlab.sweep import job as jobs
from simlab.sweep import plan, progress, study
from simlab.training.data import Bench, Labelled
from simlab.training.loop import Diverged
from simlab.training.pretrain import Encoders, Settings, pretrain, random_encoders
from simlab.training.run import run_arm
from simlab.training.target import coral, trained

ROLES = ("image", "clinical")
SETTINGS = Settings(width=2, steps=6, batch=16)


def views(rng: np.random.Generator, n: int, gain: float = 1.0) -> dict[str, np.ndarray]:
    c = rng.standard_normal((n, 1))
    shown = {role: np.hstack([c + rng.standard_normal((n, 1)), rng.standard_normal((n, 2))]) for role in ROLES}
    return {role: (x * (gain if role == "image" else 1.0)).astype(np.float32) for role, x in shown.items()}


def test_aligned_records_have_the_targets_moments(rng: np.random.Generator) -> None:
    """By the definition of CORAL; and for coordinates that do not covary the map is the ratio of their deviations."""
    x, y = (rng.standard_normal((400, 3)) @ rng.standard_normal((3, 3)) + rng.standard_normal(3) for _ in range(2))
    moved = coral(x, y, shrink=0.0)(x)
    np.testing.assert_allclose(moved.mean(axis=0), y.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(np.cov(moved, rowvar=False), np.cov(y, rowvar=False), atol=1e-10)
    apart = np.linalg.qr(x - x.mean(axis=0))[0]
    np.testing.assert_allclose(coral(apart, apart * [1, 2, 5], 0.0).turn, np.diag([1.0, 2.0, 5.0]), atol=1e-9)


def bench(rng: np.random.Generator, gain: float, n: int = 300) -> tuple[Bench, dict[str, np.ndarray], np.ndarray]:
    labelled = views(rng, n)
    y = (labelled["image"][:, 0] + labelled["clinical"][:, 0] + rng.standard_normal(n) > 0).astype(float)
    encoders = random_encoders(dict.fromkeys(ROLES, 3), Settings(width=3), [1])[0]
    made = Bench(Labelled(labelled, y, np.arange(n)), views(rng, 20_000), encoders, Settings(width=3), 3,
                 target=views(rng, 20_000, gain))
    held = views(rng, 2000)
    return made, held, held["image"][:, 0] + held["clinical"][:, 0]


def power(cov: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(cov)
    return vectors * values**exponent @ vectors.T


@pytest.mark.parametrize("name", ["coral-ridge", "vicreg-coral-finetuned", "vicreg-coral-frozen"])
def test_alignment_of_a_view_with_another_gain(name: str, rng: np.random.Generator) -> None:
    """The target's image is five times as loud. Closed form of CORAL on the two coordinates that count, of covariance
    [[2, 1], [1, 2]]: the score correlates .984 with the index it was fitted to, .933 without (a symmetric root
    is not the gain itself, so not 1). Representations are other coordinates, and have a number of their own."""
    made, held, truth = bench(rng, gain=5.0, n=4000)
    outside = {**held, "image": held["image"] * np.float32(5)}
    aligned, plain = (np.corrcoef(run_arm(METHODS[arm], made).score(outside), truth)[0, 1]
                      for arm in (name, "supervised-unregularised"))
    cov, gain = np.array([[2.0, 1], [1, 2]]), np.diag([5.0, 1])
    goal = gain @ cov @ gain
    weights = power(goal, -0.5) @ power(cov, -0.5) @ cov @ np.ones(2)
    one, two = (w @ gain @ cov.sum(axis=1) / np.sqrt(w @ goal @ w * cov.sum()) for w in (weights, np.ones(2)))
    assert (round(one, 3), round(two, 3)) == (0.984, 0.933)
    assert abs(plain - two) < 0.015  # 2,000 records: a standard error of .003, and the fit's own
    assert abs(aligned - one) < 0.015 if name != "vicreg-coral-frozen" else aligned > plain + 0.02


def test_arms_that_need_the_target_say_so(rng: np.random.Generator) -> None:
    made, _, _ = bench(rng, 1.0, n=40)
    for name in ("coral-ridge", "jepa-continued-finetuned"):
        with pytest.raises(OutOfDomain, match="needs unlabelled records of the target"):
            run_arm(METHODS[name], replace(made, target=None))
    with pytest.raises(OutOfDomain, match="linear encoders"):
        run_arm(METHODS["vicreg-coral-finetuned"], replace(made, settings=Settings(encoder="mlp")))
    with pytest.raises(OutOfDomain, match="outside = 'continued'"):
        replace(METHODS["visit-jepa-frozen"], name="mine", outside="continued")
    with pytest.raises(OutOfDomain, match="outside = 'everywhere'"):
        replace(METHODS["vicreg-frozen"], name="mine", outside="everywhere")


@pytest.mark.parametrize("width", [1, 2])
def test_continued_pretraining_begins_where_pretraining_ended(width: int, rng: np.random.Generator) -> None:
    """At a learning rate of nothing it stays there; a member's bits are those that it has alone."""
    settings, arm = replace(SETTINGS, width=width), METHODS["vicreg-continued-frozen"]
    records = [views(rng, 40), views(rng, 40)]
    data = {role: np.stack([own[role] for own in records]) for role in ROLES}
    begun = pretrain(data, arm, settings, [(1, 2), (3, 4)])
    still = trained(arm, replace(settings, learning_rate=1e-12, weight_decay=0.0), records, [], begun, [(5, 6), (7, 8)])
    for one, two in zip(begun, still, strict=True):
        assert all(np.allclose(v, two.parameters[k], atol=1e-9) for k, v in one.parameters.items())
    both = trained(arm, settings, records, [], begun, [(5, 6), (7, 8)])
    (alone,) = trained(arm, settings, records[1:], [], begun[1:], [(7, 8)])
    assert all((v == alone.parameters[k]).all() for k, v in both[1].parameters.items())
    assert any((v != begun[1].parameters[k]).any() for k, v in both[1].parameters.items())


def test_pooled_pretraining_is_pretraining_on_both_and_a_lost_member_stays_lost(rng: np.random.Generator) -> None:
    near, far = views(rng, 30), views(rng, 50)
    (made,) = trained(METHODS["vicreg-pooled-frozen"], SETTINGS, [far], [near], [None], [(1, 2)])
    data = {role: np.concatenate([far[role], near[role]])[None] for role in ROLES}
    (direct,) = pretrain(data, METHODS["vicreg-frozen"], SETTINGS, [(1, 2)])
    assert all((v == direct.parameters[k]).all() for k, v in made.parameters.items())
    lost = Diverged("its loss is not a number")
    found = trained(METHODS["vicreg-continued-frozen"], SETTINGS, [far, far], [], [lost, made], [(1, 2), (3, 4)])
    assert found[0] is lost and isinstance(found[1], Encoders)
    assert trained(METHODS["vicreg-continued-frozen"], SETTINGS, [far], [], [lost], [(1, 2)]) == [lost]


def test_target_records_are_unlabelled_and_nobody_elses() -> None:
    world = spec(n_unlab=50, d_ni=1, d_nc=1, kappa_e=0.2)
    shown = sample_cohort(world, "target-data", 50, 1, 0, "external")
    test = sample_cohort(world, "external-data", 50, 1, 0, "external")
    assert not shown.labels and not shown.risk and not set(shown.subject) & set(test.subject)
    assert not np.array_equal(shown.streams["image"].values, test.streams["image"].values)
    more = sample_cohort(world, "target-data", 80, 1, 0, "external")
    np.testing.assert_array_equal(more.streams["image"].values[:50], shown.streams["image"].values)


def small(arms: list[str]) -> study.Study:
    return study.build({
        "study": {"name": "small", "seed": 4},
        "world": {"knobs": {"n_unlab": 60, "d_ni": 1, "d_nc": 1}},
        "axes": {"kappa_e": [0.9, 0.2], "n_lab": [40, 60]},
        "compare": {"arms": arms, "contrast": arms[:2], "cohort": "external"},
        "seeds": {"looks": [2]},
        "train": {"width": 2, "steps": 5, "batch": 16, "fleet": 2, "n_test": 200},
    })


def test_a_target_knob_retrains_these_arms_and_leaves_the_others_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    monkeypatch.setattr(progress, "count", lambda what, n=1: counts.update({what: counts.get(what, 0) + n}))
    alone = small(["vicreg-frozen", "supervised"])
    plain = [row for job in plan.jobs(alone) for row in jobs.run_job(alone, job)]
    assert counts["pretraining"] == 2 == plan.trainings(alone) and counts["adaptation"] == 2 * 2 * 2
    counts.clear()
    asked = small(["vicreg-frozen", "supervised", "vicreg-continued-frozen", "vicreg-pooled-finetuned", "coral-ridge"])
    rows = [row for job in plan.jobs(asked) for row in jobs.run_job(asked, job)]
    assert {row["status"] for row in rows} == {"ok"}
    assert [row for row in rows if row["method"] in alone.arms] == plain
    # one pretraining a seed; the target's two settings train both ways of moving it, labels neither
    assert counts["pretraining"] == 2 and counts["target-pretraining"] == 2 * 2 * 2
    assert plan.trainings(asked) == 2 + 2 * 2 * 2
    assert counts["adaptation"] == 2 * 2 * (2 + 3 * 2)  # seeds x labels x (arms of the source, arms of each target)
