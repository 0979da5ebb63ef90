"""The arms: identities between them, canonical maps, and what they may not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc
from simlab.methods import METHODS
from simlab.training import finetune
from simlab.training.arms import FINETUNE_PENALTIES, TAUS, directions, stretch
from simlab.training.baselines import CANDIDATES, TREE_COUNTS, TREE_SHAPES, canonical_maps
from simlab.training.data import Bench, Labelled
from simlab.training.finetune import fold_masks
from simlab.training.pretrain import Settings, pretrain, random_encoders
from simlab.training.ridge import PENALTIES
from simlab.training.run import run_arm

SETTINGS = Settings(width=3, hidden=8, finetune_steps=30)


@pytest.fixture
def bench(rng: np.random.Generator) -> Bench:
    n = 160
    c = rng.standard_normal((n, 2))
    views = {
        role: np.concatenate([c + 0.5 * rng.standard_normal((n, 2)), rng.standard_normal((n, 4))], 1).astype(np.float32)
        for role in ("image", "clinical")
    }
    y = (c[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(float)
    encoders = random_encoders({"image": 6, "clinical": 6}, SETTINGS, [3])[0]
    return Bench(Labelled(views, y, np.arange(n)), views, encoders, SETTINGS, 11)


def test_a_frozen_identity_is_ridge_is_linear_supervision(bench: Bench) -> None:
    """Three routes through the code to one estimator."""
    views = bench.train.views
    scores = [run_arm(METHODS[name], bench).score(views) for name in ("raw-probe", "ridge", "supervised")]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-10)


def test_unregularised_supervision_is_lda(bench: Bench) -> None:
    views = bench.train.views
    a, b = (run_arm(METHODS[n], bench).score(views) for n in ("supervised-unregularised", "lda"))
    np.testing.assert_allclose(a, b, rtol=1e-10)


def test_the_stretch_is_the_penalised_problem(bench: Bench, rng: np.random.Generator) -> None:
    """min |y - Xw|^2 + lambda (|a|^2/tau^2 + |b|^2) over w = P a + b equals ridge on X (I + tau^2 PP')^(1/2)."""
    x = rng.standard_normal((50, 12))
    y, basis, tau, penalty = rng.standard_normal(50), directions(bench.encoders), 2.0, 3.0
    both = np.concatenate([x @ basis * tau, x], axis=1)  # columns for a/tau and b
    joint = np.linalg.solve(both.T @ both + penalty * np.eye(both.shape[1]), both.T @ y)
    stretched = stretch(x, basis, tau)
    alone = np.linalg.solve(stretched.T @ stretched + penalty * np.eye(12), stretched.T @ y)
    np.testing.assert_allclose(both @ joint, stretched @ alone, rtol=1e-8)


def test_directions_are_an_orthonormal_basis_of_what_the_encoders_read(bench: Bench) -> None:
    basis = directions(bench.encoders)
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-10)
    weight = bench.encoders.parameters["image.0.weight"][0].double().numpy()
    padded = np.concatenate([weight, np.zeros((6, 3))])
    np.testing.assert_allclose(basis @ (basis.T @ padded), padded, atol=1e-8)


TRAIN, HELD_OUT, UNLABELLED = 200, 2000, 3000
HELD = slice(TRAIN, TRAIN + HELD_OUT)


def world(labels: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Six features a view, two of them showing shared causes; labels by a cause, or by a coin."""
    draw, n = np.random.default_rng(1), TRAIN + HELD_OUT + UNLABELLED
    c = draw.standard_normal((n, 2))
    views = {}
    for role in ("image", "clinical"):
        shown = [c + 0.5 * draw.standard_normal((n, 2)), draw.standard_normal((n, 4))]
        views[role] = np.concatenate(shown, axis=1).astype(np.float32)
    signal = c[:, 0] if labels == "cause" else np.zeros(n)
    return views, (signal + 0.5 * draw.standard_normal(n) > 0).astype(float)


ARMS = [
    (name, e)
    for name, m in sorted(METHODS.items())
    for e in ("linear", "mlp")
    if m.reads == "features" and (e == "linear" or m.encoder != "identity")  # others: test_sequence.py
    # the gradient adaptations of the other points are the same code (test_adaptations)
    and (m.adaptation not in ("frozen-mlp", "partial") or name.startswith("vicreg"))
    and not m.moves_outside  # encoders of stages that pretrain on target records: test_target.py
    and (e == "linear" or not m.trainer.endswith("coral_finetuned"))  # of linear encoders alone
]


@pytest.mark.parametrize(("name", "encoder"), ARMS)
def test_every_method_learns_what_holds_elsewhere_and_nothing_from_coins(name: str, encoder: str) -> None:
    """200 records to train, 2,000 others to score, 3,000 others for pretraining: the cause is found (the Bayes rule's
    AUC is about .93), and coin labels leave the score at 1/2 within four standard deviations (.0129 each).
    """
    method = METHODS[name]
    settings = replace(SETTINGS, encoder=encoder, steps=200, batch=100, learning_rate=0.01)
    areas = {}
    for labels in ("cause", "coin"):
        views, y = world(labels)
        early, late = ({k: v[part] for k, v in views.items()} for part in (slice(0, TRAIN), HELD))
        unlabelled = {k: v[TRAIN + HELD_OUT :] for k, v in views.items()}
        if method.pretrained:
            made = pretrain({k: v[None] for k, v in unlabelled.items()}, method, settings, [(3, 4)])[0]
        else:
            made = random_encoders({"image": 6, "clinical": 6}, settings, [3])[0]
        bench = Bench(Labelled(early, y[:TRAIN], np.arange(TRAIN)), unlabelled, made, settings, 11, target=unlabelled)
        areas[labels] = label_auc(run_arm(method, bench).score(late), y[HELD]).value
    assert areas["cause"] > (0.6 if name == "random-encoder" else 0.75)
    assert abs(areas["coin"] - 0.5) < 4 * 0.0129


def test_arms_that_see_one_view_do_not_change_with_the_other(bench: Bench) -> None:
    other = {**bench.train.views, "clinical": np.zeros_like(bench.train.views["clinical"])}
    for encoder in ("linear", "mlp"):
        settings = replace(SETTINGS, encoder=encoder)
        encoders = random_encoders({"image": 6, "clinical": 6}, settings, [3])[0]
        full = replace(bench, settings=settings, encoders=encoders)
        blind = replace(full, train=replace(bench.train, views=other))
        scores = [run_arm(METHODS["image-only"], b).score(bench.train.views) for b in (full, blind)]
        np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize("name", ["vicreg-frozen", "vicreg-frozen-ridge", "vicreg-finetuned"])
def test_an_arm_of_one_stream_that_would_read_both_is_refused(name: str, bench: Bench) -> None:
    with pytest.raises(OutOfDomain, match="streams = 'image'"):
        run_arm(replace(METHODS[name], name="mine", streams="image"), bench)


def test_canonical_maps_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    c = rng.standard_normal((2000, 2))
    a = np.concatenate([c + 0.3 * rng.standard_normal((2000, 2)), rng.standard_normal((2000, 3))], 1)
    b = np.concatenate([c * [1, 0.5] + 0.4 * rng.standard_normal((2000, 2)), rng.standard_normal((2000, 2))], 1)
    ours = canonical_maps(a, b, 2)
    x, y = CCA(n_components=2, max_iter=5000, tol=1e-12).fit_transform(a, b)
    for k in range(2):
        mine = abs(np.corrcoef(a @ ours["image"][:, k], b @ ours["clinical"][:, k])[0, 1])
        assert mine == pytest.approx(abs(np.corrcoef(x[:, k], y[:, k])[0, 1]), abs=1e-6)


def test_tuned_arms_have_equal_budgets() -> None:
    """Thirty-five or thirty-six candidates each; stopping times and numbers of trees count as candidates."""
    linear = {len(PENALTIES), len(TAUS) * len(FINETUNE_PENALTIES), CANDIDATES, len(TREE_SHAPES) * len(TREE_COUNTS)}
    assert linear == {35} and len(finetune.PENALTIES) * finetune.LOOKS == 36


def test_too_few_subjects_for_the_folds_are_refused(bench: Bench) -> None:
    y = np.zeros(160)
    y[:4] = 1
    few = replace(bench, train=Labelled(bench.train.views, y, np.arange(160)))
    for name in ("logistic", "lightgbm"):
        with pytest.raises(OutOfDomain, match="there are 4"):
            run_arm(METHODS[name], few)


def test_folds_leave_whole_subjects_out(rng: np.random.Generator) -> None:
    subjects, y = rng.integers(0, 40, 150), (rng.random(150) < 0.4).astype(float)
    masks = fold_masks(y, subjects, 1)
    assert (~masks).sum(axis=0).tolist() == [1] * 150
    for mask in masks:
        assert not set(subjects[mask]) & set(subjects[~mask])


def test_too_few_of_a_class_are_refused(bench: Bench) -> None:
    with pytest.raises(OutOfDomain, match="1 positive"):
        Labelled(bench.train.views, np.r_[1.0, np.zeros(159)], np.arange(160))


def test_a_trainer_that_does_not_exist_is_named(bench: Bench) -> None:
    with pytest.raises(UnknownName, match="arms:nothing"):
        run_arm(replace(METHODS["lda"], trainer="simlab.training.arms:nothing"), bench)


def test_every_diagnostic_is_a_metric_when_asked_for(bench: Bench) -> None:
    """`diagnostics = "full"` adds the verdict, LiDAR, skill and the EMA's lag to the columns that are always there."""
    settings = replace(SETTINGS, encoder="linear", steps=60, batch=64)
    stacked = {role: x[None] for role, x in bench.pretraining.items()}
    made = pretrain(stacked, METHODS["jepa-frozen"], settings, [(1, 2)])
    few, all_of_them = (
        run_arm(METHODS["jepa-frozen"], replace(bench, encoders=made[0], settings=replace(settings, diagnostics=word)))
        .diagnostics for word in ("summary", "full")
    )  # fmt: skip
    assert few.items() <= all_of_them.items()
    asked = {"diag/verdict", "diag/lidar", "diag/skill/image", "diag/lag/clinical", "diag/participation/image",
             "diag/norm/clinical", "diag/alpha-req/image"}  # fmt: skip
    assert asked <= set(all_of_them) - set(few)
    assert all_of_them["diag/skill/image"] == made[0].curve[-1]["skill-image"]
    assert all_of_them["diag/verdict"] in (2.0, 3.0)
