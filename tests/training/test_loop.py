"""The loop: resuming is exact, members are clipped on their own, and what cannot be resumed is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from simlab.errors import DamagedFile
from simlab.methods import METHODS
from simlab.training import loop
from simlab.training.pretrain import Settings, pretrain

SETTINGS = Settings(encoder="mlp", width=3, hidden=8, steps=30, batch=16)


RECIPES = {m.recipe: m.name for m in METHODS.values() if m.pretrained and m.reads == "features"}.values()


class Killed(Exception):
    pass


def views(members: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((members, 200, 3))
    return {
        role: np.concatenate([shared, rng.standard_normal((members, 200, 3))], 2).astype(np.float32)
        for role in ("image", "clinical")
    }


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [1, 10, 29])
def test_k_steps_a_kill_and_a_resume_give_the_same_bits(name: str, stop: int, tmp_path: Path) -> None:
    """Weights, optimiser, schedule, EMA target, batch order, slices, curve: all continue, for every objective."""
    seeds = [(1, 2), (3, 4)]
    whole = pretrain(views(), METHODS[name], SETTINGS, seeds)
    file = tmp_path / "checkpoint.pt"
    taken = 0

    def kill(step: int, parts: dict[str, float]) -> None:
        nonlocal taken
        taken = step
        if step > stop:
            raise Killed

    with pytest.raises(Killed):
        pretrain(views(), METHODS[name], SETTINGS, seeds, report=kill, checkpoint=file, every=stop)
    assert 0 < taken <= SETTINGS.steps and file.exists()
    resumed = pretrain(views(), METHODS[name], SETTINGS, seeds, checkpoint=file)
    for a, b in zip(whole, resumed, strict=True):
        assert a.curve == b.curve
        for key, value in a.parameters.items():
            assert torch.equal(value, b.parameters[key]), key


def test_a_finished_checkpoint_trains_no_more(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    first = pretrain(views(), METHODS["vicreg-frozen"], SETTINGS, [(1, 2), (3, 4)], checkpoint=file)
    steps: list[int] = []
    again = pretrain(
        views(),
        METHODS["vicreg-frozen"],
        SETTINGS,
        [(1, 2), (3, 4)],
        report=lambda s, p: steps.append(s),
        checkpoint=file,
    )
    assert steps == []
    assert torch.equal(first[0].parameters["image.0.weight"], again[0].parameters["image.0.weight"])


@pytest.mark.parametrize("harm", ["truncated", "noise", "another file of torch", "an older form"])
def test_checkpoints_that_cannot_be_read_are_named(harm: str, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    pretrain(views(), METHODS["vicreg-frozen"], SETTINGS, [(1, 2), (3, 4)], checkpoint=file)
    content = file.read_bytes()
    if harm == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "noise":
        file.write_bytes(b"not a checkpoint")
    elif harm == "another file of torch":
        torch.save({"weights": torch.zeros(3)}, file)
    else:
        torch.save({**torch.load(file, weights_only=True), "format": 1}, file)
    with pytest.raises(DamagedFile, match=r"c\.pt"):
        pretrain(views(), METHODS["vicreg-frozen"], SETTINGS, [(1, 2), (3, 4)], checkpoint=file)


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    """Another method, seed, rate, length, or other records: going on from it would give numbers of neither run."""
    file, seeds, method = tmp_path / "c.pt", [(1, 2), (3, 4)], METHODS["vicreg-frozen"]
    pretrain(views(), method, SETTINGS, seeds, checkpoint=file)
    other = {role: x + np.float32(1e-3) for role, x in views().items()}
    for words, case in (
        ("job", (views(), METHODS["jepa-frozen"], SETTINGS, seeds)),
        ("steps is 30 there and 40 here", (views(), method, replace(SETTINGS, steps=40), seeds)),
        ("learning_rate", (views(), method, replace(SETTINGS, learning_rate=0.1), seeds)),
        ("seeds", (views(), method, SETTINGS, [(1, 2), (3, 5)])),
        ("data", (other, method, SETTINGS, seeds)),
    ):
        with pytest.raises(DamagedFile, match=words):
            pretrain(*case, checkpoint=file)


def test_the_best_so_far_is_the_least_loss_of_all_steps_and_survives_a_kill(tmp_path: Path) -> None:
    """A loss that falls until step 7 and rises after it, different for each member; 120 steps, 31 curve points."""
    def job() -> loop.Job:
        p = {"w": torch.ones(2, 1)}
        start = torch.tensor([1.0, 2.0])

        def loss(q: dict[str, torch.Tensor], batch: object, s: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return q["w"].flatten() * 0 + start * abs(s - 7) + (float("nan") if s == 3 else 0.0), {}

        return loop.Job(p, loss, lambda s: None, 120)

    whole = loop.train(job())
    assert whole[-1]["best-loss"] == [0.0, 0.0] and whole[-1]["best-step"] == [7.0, 7.0]
    assert whole[1]["step"] == [4.0] and whole[1]["best-loss"] == [3.0, 6.0]  # at 4; step 3 was no number

    def kill(step: int, parts: dict[str, float]) -> None:
        if step > 20:
            raise Killed

    with pytest.raises(Killed):
        loop.train(job(), kill, tmp_path / "c.pt", every=10)
    assert loop.train(job(), checkpoint=tmp_path / "c.pt") == whole


def test_a_save_that_is_interrupted_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill comes half-way through the second save's bytes; the run goes on from the first."""
    file, seeds, method = tmp_path / "c.pt", [(1, 2), (3, 4)], METHODS["vicreg-frozen"]
    whole = pretrain(views(), method, SETTINGS, seeds)
    real, saves = torch.save, []

    def torn(content: object, out: BinaryIO) -> None:
        saves.append(content)
        if len(saves) == 2:
            out.write(b"half of a check")
            raise Killed
        real(content, out)

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Killed):
        pretrain(views(), method, SETTINGS, seeds, checkpoint=file, every=10)
    assert torch.load(file, weights_only=True)["step"] == 10
    resumed = pretrain(views(), method, SETTINGS, seeds, checkpoint=file, every=10)
    assert all(a.curve == b.curve for a, b in zip(whole, resumed, strict=True))


def test_each_member_is_clipped_by_its_own_norm() -> None:
    gradient = torch.tensor([[3.0, 0, 0, 4.0], [0.3, 0, 0, 0.4]])
    loop.clip_members(gradient, 1.0)
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0, 0, 0.8], [0.3, 0, 0, 0.4]]))


def test_a_bound_is_kept_after_each_step_and_holds_nothing_fast() -> None:
    """From 9, pulled upwards it stays at its bound of 1; pulled to one half it gets there: no gradient dies (CLIP's
    scale; a clamp inside the loss would hold it at 9 for good)."""
    for pull, end in ((3.0, 1.0), (0.5, 0.5)):
        p = {"scale": torch.full((1, 1), 9.0)}
        job = loop.Job(p, lambda q, b, s, to=pull: ((q["scale"].flatten() - to).square(), {}), lambda s: None, 200,
                       loop.Optimiser(0.05, 0.0), at_most={"scale": 1.0})
        loop.train(job)
        assert float(p["scale"]) == pytest.approx(end, abs=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    p = {"w": torch.ones(1, 1)}
    job = loop.Job(p, lambda q, b, s: ((q["w"] * float("nan")).flatten(), {}), lambda s: None, 3, name="planted")
    with pytest.raises(loop.Diverged, match="planted diverged by step 0"):
        loop.train(job)


def test_a_divergence_between_curve_points_does_not_pass() -> None:
    """The last step is always a point of the curve, so a loss that turned NaN anywhere is seen."""
    p = {"w": torch.ones(1, 1)}
    job = loop.Job(
        p, lambda q, b, s: ((q["w"] * (float("nan") if s == 61 else 1.0)).flatten(), {}), lambda s: None, 120
    )
    with pytest.raises(loop.Diverged):
        loop.train(job)


def test_the_schedule_warms_up_and_ends_at_its_last_share() -> None:
    o = loop.Optimiser(learning_rate=1.0, warm_up=0.1, final=0.2)
    rates = [o.rate(s, 100) for s in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.2) and max(rates) == pytest.approx(1.0)
