"""Invariants of curricula: what is frozen does not move by a bit, the target follows by tau, a kill changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from stays import stays
from torch import Tensor

from simlab.errors import DamagedFile, InvalidCohort, OutOfDomain, UnknownName
from simlab.models.windows import Windows, windows
from simlab.training import loop
from simlab.training.curricula import CURRICULA, Stage
from simlab.training.trajectory import Settings, build, find, train
from simlab.training.trajectory_run import Run, predictor

SETTINGS = Settings(width=6, hidden=8, inner=8, inside=16, depth=1, steps=20, batch=8, max_hours=20, tau=0.9)
CLIN = CURRICULA["clin-jepa"]
Look = Callable[[int, Run], None]


@pytest.fixture(scope="module")
def data() -> tuple[Windows, Windows]:
    training = windows(stays())
    return training, windows(stays(n=12, seed=1), training.presentation)


def course(data: tuple[Windows, Windows], curriculum: object, settings: Settings = SETTINGS, look: Look | None = None,
           checkpoint: Path | None = None) -> Run:
    """A whole training, looked at after every step (the target has then followed, and the next stage is entered)."""
    encoder = build(data[0], settings)
    run = Run(encoder, predictor(settings, encoder.width), curriculum, settings, 0, *data)
    plain = run.job.after_step

    def after(step: int) -> None:
        plain(step)
        if look:
            look(step, run)

    run.job.after_step = after
    loop.train(run.job, checkpoint=checkpoint)
    return run


def copied(x: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in x.items() if k.startswith(start)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def distance(run: Run) -> float:
    return sum(float((run.parameters[k].detach() - v).double().square().sum()) for k, v in run.target.items()) ** 0.5


def test_in_each_stage_exactly_what_it_trains_moves_and_the_target_only_with_ema(data) -> None:
    seen: list[tuple[str, dict[str, dict[str, Tensor]]]] = []

    def look(step: int, run: Run) -> None:
        nets = {n: copied(run.parameters, n) for n in ("encoder", "predictor", "warm")}
        seen.append((CLIN.stages[run.place(step)].name, nets | {"target": copied(run.target, "")}))

    course(data, CLIN, look=look)
    moves = {"phase0": {"encoder", "warm"}, "warm-up": {"predictor"}, "joint": {"encoder", "predictor", "target"},
             "alignment": {"predictor", "target"}, "finalisation": {"predictor"}}
    checked = set()
    for (before_name, before), (name, after) in pairwise(seen):
        if before_name == name and seen[-1][1] is not after:  # a stage's last step may copy the target
            moved = {n for n in after if not same(before[n], after[n])}
            last = after is [x for s, x in seen if s == name][-1]
            assert moved - ({"target"} if last else set()) == moves[name] - ({"target"} if last else set()), name
            checked.add(name)
    assert checked == set(moves)


def test_once_the_encoder_is_frozen_the_gap_shrinks_by_tau_each_step_and_a_sync_makes_it_zero(data) -> None:
    settings = replace(SETTINGS, steps=40)
    gaps: dict[str, list[float]] = {}
    course(data, CLIN, settings,
           lambda s, run: gaps.setdefault(CLIN.stages[run.place(s)].name, []).append(distance(run)))
    apart = [gaps["joint"][-1], *gaps["alignment"][:-1]]
    np.testing.assert_allclose(np.array(apart[1:]) / apart[:-1], 0.9, rtol=1e-4)  # float32 parameters
    assert len(apart) == 6 and gaps["alignment"][-1] == 0 and set(gaps["finalisation"]) == {0.0}
    kept: dict[str, list[float]] = {}
    curriculum = CURRICULA["no-sync"]
    course(data, curriculum, settings,
           lambda s, run: kept.setdefault(curriculum.stages[run.place(s)].name, []).append(distance(run)))
    np.testing.assert_allclose(kept["alignment"][-1] / apart[-1], 0.9, rtol=1e-4)
    assert set(kept["finalisation"]) == {kept["alignment"][-1]} != {0.0}


def test_the_target_starts_as_a_copy_where_it_is_first_used(data) -> None:
    gaps: list[tuple[str, float]] = []
    course(data, CLIN, replace(SETTINGS, tau=1.0),
           lambda s, run: gaps.append((CLIN.stages[run.place(s)].name, distance(run))))
    apart = [gap for name, gap in gaps if name == "warm-up"]
    assert apart[0] > 0 and apart[-1] == 0  # far after phase 0, a copy when the joint stage is entered


@pytest.mark.parametrize(("name", "stage"), [
    ("clin-jepa", "joint"), ("clin-jepa", "alignment"), ("frozen-encoder", "masked"), ("deploy-ema", "finalisation"),
    ("mixed-space", "finalisation")])
def test_no_gradient_reaches_the_target(name: str, stage: str, data) -> None:
    """Though its tensors ask for one: predicted, followed or read, it is a constant."""
    encoder, curriculum = build(data[0], SETTINGS), CURRICULA[name]
    run = Run(encoder, predictor(SETTINGS, 6), curriculum, replace(SETTINGS, cache=0), 0, *data)
    for x in (*run.parameters.values(), *run.target.values()):
        x.requires_grad_()
    first = next(first for s, (first, _) in zip(curriculum.stages, run.spans, strict=True) if s.name == stage)
    run.loss(run.parameters, run.draw(first), first)[0].sum().backward()
    assert any(x.grad is not None for x in run.parameters.values())
    assert all(x.grad is None for x in run.target.values())


def test_the_released_code_s_sync_changes_nothing_that_is_used_later(data) -> None:
    """The last phase reads the online encoder alone: with and without sync the same backbone, bit for bit. Where the
    target is what is used (deploy-ema), the sync is another encoder."""
    backbones = {name: train(*data, name, SETTINGS) for name in
                 ("clin-jepa", "no-sync", "deploy-ema", "deploy-ema-sync", "deploy-ema-no-alignment")}
    p = {name: b.parameters for name, b in backbones.items()}
    assert same(p["clin-jepa"], p["no-sync"])
    assert same(p["clin-jepa"], p["deploy-ema-sync"])
    assert not same(p["clin-jepa"], p["deploy-ema"])
    lag = [sum(float((p["clin-jepa"][k] - q[k]).abs().sum()) for k in q if k.startswith("encoder"))
           for q in (p["deploy-ema"], p["deploy-ema-no-alignment"])]
    assert 0 < lag[0] < lag[1]


def test_the_optimiser_passes_over_what_is_frozen(data, tmp_path: Path) -> None:
    """Counts of steps are those in which a network was trained; in frozen stages no moment moves."""
    file = tmp_path / "c.pt"
    run = course(data, CLIN, checkpoint=file)
    saved = torch.load(file, weights_only=True)["optimiser"]["state"]
    lengths = dict(zip((s.name for s in CLIN.stages), (end - first for first, end in run.spans), strict=True))
    counts = [int(saved[i]["step"]) for i in range(3)]  # encoder, predictor, warm start's head
    predicting = sum(lengths.values()) - lengths["phase0"]
    assert counts == [lengths["phase0"] + lengths["joint"], predicting, lengths["phase0"]]
    short = replace(CLIN, stages=CLIN.stages[:3])  # the same first three stages, under the same schedule
    other = course(data, replace(short, stages=(*short.stages, Stage("rest", steps=8, train_predictor=False))),
                   checkpoint=tmp_path / "d.pt")
    assert other.steps == run.steps
    moments = torch.load(tmp_path / "d.pt", weights_only=True)["optimiser"]["state"][0]
    assert torch.equal(moments["exp_avg"], saved[0]["exp_avg"])
    assert torch.equal(moments["exp_avg_sq"], saved[0]["exp_avg_sq"])


def test_what_is_kept_of_a_frozen_encoder_is_what_it_says_now(data) -> None:
    """Kept or computed anew, the latents are the same: those of a target that is read while it follows, too."""
    read = CLIN.edit({"alignment": {"context": "ema"}, "finalisation": {"context": "ema", "target": "ema"}})
    for curriculum in (CLIN, read):
        kept, fresh = (train(*data, curriculum, replace(SETTINGS, cache=cache)) for cache in (2e9, 0))
        rolled = [b.rollout(b.encode(data[1]), 3, 4) for b in (kept, fresh)]
        np.testing.assert_allclose(*rolled, rtol=0, atol=2e-6)


class Killed(Exception):
    pass


@pytest.mark.parametrize(("name", "stop"), [
    ("clin-jepa", 3), ("clin-jepa", 6), ("clin-jepa", 9), ("clin-jepa", 22),  # in phase 0, at stages' ends, in the last
    ("frozen-encoder", 10), ("sigreg", 13), ("deploy-ema", 21)])
def test_a_kill_and_a_resume_give_the_same_bits(name: str, stop: int, data, tmp_path: Path) -> None:
    settings = replace(SETTINGS, dropout=0.1, per_sample_k=True)
    whole = train(*data, name, settings)
    file = tmp_path / "c.pt"

    def kill(step: int, parts: dict[str, float]) -> None:
        if step > stop:
            raise Killed

    with pytest.raises(Killed):
        train(*data, name, settings, report=kill, checkpoint=file, every=stop)
    resumed = train(*data, name, settings, checkpoint=file)
    assert same(whole.parameters, resumed.parameters) and same(whole.target, resumed.target)
    assert whole.curve == resumed.curve and repr(whole.diagnostics) == repr(resumed.diagnostics)


def test_a_checkpoint_of_another_curriculum_seed_or_cohort_is_refused(data, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    train(*data, "no-phase0", SETTINGS, checkpoint=file)
    for words, case in (("job", (*data, "no-warmup")), ("seed", (*data, "no-phase0", SETTINGS, 1)),
                        ("steps", (*data, "no-phase0", replace(SETTINGS, steps=21))),
                        ("data", (data[0].take(np.arange(30)), data[1], "no-phase0", SETTINGS)),
                        ("curriculum", (*data, find("no-phase0").edit({"joint": {"rollout": "none"}}), SETTINGS))):
        with pytest.raises(DamagedFile, match=words):
            train(*case, checkpoint=file)


@pytest.mark.parametrize("name", CURRICULA)
def test_every_curriculum_trains_and_says_what_it_did(name: str, data) -> None:
    """One row a stage; latents finite; curricula of one seed start alike."""
    backbone = train(*data, name, SETTINGS)
    curriculum = CURRICULA[name]
    assert [row["stage"] for row in backbone.diagnostics] == [s.name for s in curriculum.stages]
    assert all(np.isfinite([row[k] for k in ("validation", "z_std", "norm", "rank", "gap")]).all()
               for row in backbone.diagnostics)
    z = backbone.encode(data[1])
    assert all(np.isfinite(x).all() for x in z) and z.state.shape == (*data[1].state.shape[:2], 6)
    assert not z.state[~data[1].valid].any() and not z.action[~data[1].valid].any()
    assert (z.action == 0).all() == (curriculum.actions == "zero")
    if curriculum.predicts:
        assert backbone.rollout(z, 3, 4).shape == (len(data[1]), 4, 6)
    else:
        with pytest.raises(OutOfDomain, match="no predictor"):
            backbone.rollout(z, 3, 4)


def test_a_random_encoder_is_the_one_that_pretraining_starts_from(data) -> None:
    fresh = build(data[0], SETTINGS)
    run = Run(fresh, predictor(SETTINGS, 6), CLIN, SETTINGS, 0, *data)
    kept = train(*data, "random-encoder", SETTINGS).parameters
    assert all(torch.equal(run.parameters[k][0], v) for k, v in kept.items() if k.startswith("encoder"))


def test_edits_and_their_refusals(data) -> None:
    assert [s.name for s in CLIN.without("phase0", "alignment").stages] == ["warm-up", "joint", "finalisation"]
    assert CLIN.spans(100) == ((0, 30), (30, 45), (45, 90), (90, 105), (105, 130))
    assert CURRICULA["no-alignment"].spans(100)[-1] == (90, 115)  # the others keep their steps
    assert CURRICULA["no-alignment"].lengthened(1.3).spans(100)[-1][1] == pytest.approx(130, abs=1)
    with pytest.raises(UnknownName, match="joint"):
        CLIN.edit({"jont": {"ema": False}})
    with pytest.raises(UnknownName, match="clin-jepa"):
        find("clin-jpea")
    with pytest.raises(OutOfDomain, match="rollout = 'free'"):
        Stage("x", 1.0, rollout="free")
    with pytest.raises(OutOfDomain, match="has no step"):
        train(*data, replace(CLIN, stages=(Stage("none"),)), SETTINGS)
    with pytest.raises(OutOfDomain, match="windows of 14 h: max_hours is 10"):
        train(*data, CLIN, replace(SETTINGS, max_hours=10))
    with pytest.raises(InvalidCohort, match="scaled otherwise"):
        train(data[0], windows(stays(n=9)), CLIN, SETTINGS)
    with pytest.raises(OutOfDomain, match="latent_norm"):
        Settings(latent_norm="batch")
