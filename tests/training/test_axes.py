"""The axes curriculum, streams and width: what a phase changes and when, what an arm of one stream may not feel."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from token_records import LAYOUT, SETTINGS, run, same, shown

from simlab.errors import DamagedFile, OutOfDomain
from simlab.methods import METHODS, WAYS, Method, Phase, listed
from simlab.training import token_encoders, token_pretrain
from simlab.training.data import Bench, Labelled
from simlab.training.pretrain import Encoders, Settings, pretrain, random_encoders
from simlab.training.run import run_arm
from simlab.training.scores import pack, unpack

TOKEN = METHODS["ijepa-frozen"]


def with_phases(*phases: Phase, method: Method = TOKEN) -> Method:
    return replace(method, name="mine", curriculum=phases)


def draws(method: Method, steps: int = 40) -> token_pretrain.Draws:
    settings = replace(SETTINGS, steps=steps, batch=400)
    encoder, _ = token_encoders.shape(LAYOUT, method, settings)
    data = shown(1, 400)
    task = token_pretrain.Task(method, encoder, settings)
    g = [torch.Generator().manual_seed(0)]
    return token_pretrain.Draws(task, *(torch.as_tensor(data[k]) for k in ("tokens", "times")), g, torch.device("cpu"))


def test_phases_begin_and_end_where_their_shares_say() -> None:
    method = with_phases(Phase(0.25), Phase(0.5, masked=(0.2, 0.8)), Phase(0.25, view="visit"))
    found = [method.phase(step, 8) for step in range(8)]
    assert [method.curriculum.index(phase) for phase, _ in found] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert [round(done, 3) for _, done in found] == [0, 1, 0, 0.333, 0.667, 1, 0, 1]
    masks = [phase.masks(done, 0.5) for phase, done in found]
    np.testing.assert_allclose(masks, [0.5, 0.5, 0.2, 0.4, 0.6, 0.8, 0.5, 0.5])
    assert TOKEN.phase(3, 8)[0] == Phase(1.0)


def test_a_ramp_masks_more_and_more() -> None:
    """Of each record's tokens: the share of that step, to a whole number, at least one and never all."""
    source = draws(with_phases(Phase(1.0, masked=(0.2, 0.8))))
    for step, share in ((0, 0.2), (13, 0.4), (39, 0.8)):
        batch = source.batch(step)
        n = (batch.target | batch.context)[0].sum(dim=1)
        expected = (share * n).round().clamp_min(1).minimum(n - 1)
        assert torch.equal(batch.target[0].sum(dim=1), expected.long()) and n.float().std() > 0


def test_a_staged_curriculum_changes_the_view_and_a_curriculum_of_nothing_changes_nothing() -> None:
    source = draws(METHODS["staged-jepa-frozen"])
    places = source.task.places
    for step, one_role in ((0, False), (19, False), (20, True), (39, True)):
        target = source.batch(step).target[0]
        roles = [(target & (places.role == i)).any(dim=1) for i in (0, 1)]
        assert bool((roles[0] ^ roles[1]).all()) == one_role
    plain = run(TOKEN, shown())
    for phases in ((Phase(1.0, masked=0.5),), (Phase(0.5), Phase(0.5, view="token"))):
        assert all(same(a, b) for a, b in zip(plain, run(with_phases(*phases), shown()), strict=True))


def test_what_a_phase_holds_does_not_move() -> None:
    """Encoders held to the end are those of the start, bit for bit, weight decay and all; held for half, they move."""
    settings = Settings(encoder="linear", width=3, steps=20, batch=32, weight_decay=0.1)
    views = {role: np.random.default_rng(i).standard_normal((1, 100, 5)).astype(np.float32)
             for i, role in enumerate(("image", "clinical"))}
    start = random_encoders({"image": 5, "clinical": 5}, settings, [1])[0].parameters
    both = ("image", "clinical")
    for phases, moved in (((Phase(1.0, held=both),), False), ((Phase(0.5, held=both), Phase(0.5)), True)):
        method = with_phases(*phases, method=METHODS["vicreg-frozen"])
        made = pretrain(views, method, settings, [(1, 2)])[0].parameters
        assert all(torch.equal(v, made[k]) != moved for k, v in start.items() if k.endswith("weight"))


@pytest.mark.parametrize(
    ("phases", "words"),
    [((Phase(0.5),), "add up to 1"), ((Phase(1.0, view="sideways"),), "sideways"), ((Phase(1.0, masked=1.5),), "1.5"),
     ((Phase(1.0, masked=(0.5, 0.0)),), "between 0 and 1")],
)  # fmt: skip
def test_curricula_that_mean_nothing_are_refused(phases: tuple[Phase, ...], words: str) -> None:
    with pytest.raises(OutOfDomain, match=words):
        with_phases(*phases)
    with pytest.raises(OutOfDomain, match="reads = 'tokens'"):
        with_phases(Phase(1.0, masked=0.3), method=METHODS["jepa-frozen"])
    with pytest.raises(OutOfDomain, match="none"):
        with_phases(Phase(1.0), method=METHODS["ridge"])
    with pytest.raises(OutOfDomain, match="holds 'decoder'; its networks are encoder, predict"):
        run(with_phases(Phase(1.0, held=("decoder",))), shown(1))


@pytest.mark.parametrize(("stream", "ways"), [("image", ("frozen-ridge", "frozen-mlp", "partial")),
                                              ("clinical", ("frozen", "finetuned"))])  # fmt: skip
def test_pretraining_of_one_stream_does_not_feel_the_other(stream: str, ways: tuple[str, ...]) -> None:
    """Bits of the encoder, of what it represents and of every adaptation's scores, with other values in the other."""
    method = replace(METHODS["visit-jepa-frozen"], name="mine", streams=stream)
    data = shown(1)
    other = LAYOUT.places().role.numpy() == int(stream == "image")
    changed = {**data, "tokens": np.where(other[:, None], 7.0, data["tokens"]).astype(np.float32)}
    made = [run(method, d)[0] for d in (data, changed)]
    assert same(*made) and set(made[0].represent({k: v[0] for k, v in data.items()})) == {stream}
    y = (data["tokens"][0, :, ~other].reshape(-1, 40).T[:, 0] > 0).astype(float)
    y[:4] = [0, 0, 1, 1]
    settings = replace(SETTINGS, finetune_steps=9)
    for way in ways:
        arm = replace(METHODS[f"visit-jepa-{way}"], name="mine", streams=stream)
        scores = []
        for d in (data, changed):
            views = {k: v[0] for k, v in d.items()}
            bench = Bench(Labelled(views, y, np.arange(40)), views, made[0], settings, 3)
            scores.append(run_arm(arm, bench).score(views))
        np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", ["pca-ridge", "factor-ridge", "unlabelled-lda", "self-training", "random-encoder",
                                  "raw-probe", "ridge", "logistic"])  # fmt: skip
def test_comparators_of_one_stream_do_not_feel_the_other(name: str, rng: np.random.Generator) -> None:
    """And their scores come back from the cache's arrays with the same values."""
    views = {role: rng.standard_normal((80, 6)) for role in ("image", "clinical")}
    y = (views["image"][:, 0] + 0.3 * rng.standard_normal(80) > 0).astype(float)
    arm = replace(METHODS[name], name="mine", streams="image")
    settings = Settings(width=3)
    encoders = random_encoders({"image": 6, "clinical": 6}, settings, [1])[0]
    scores = []
    for other in (views["clinical"], 9 * views["clinical"]):
        seen = {**views, "clinical": other}
        fit = run_arm(arm, Bench(Labelled(seen, y, np.arange(80)), seen, encoders, settings, 3))
        scores.append(fit.score(seen))
        packed = pack(fit.score)
        assert packed is not None
        np.testing.assert_array_equal(unpack(packed)(seen), scores[-1])
    np.testing.assert_array_equal(*scores)
    assert np.corrcoef(scores[0], y)[0, 1] > 0.3


@pytest.mark.parametrize(
    ("name", "words"),
    [("vicreg-frozen", "two views of features"), ("modality-jepa-frozen", "cross-modal"), ("gru", "of all streams"),
     ("multimodal-jepa-frozen", "cross-modal"), ("staged-jepa-frozen", "cross-modal"), ("cca-lda", "need two")],
)  # fmt: skip
def test_arms_of_one_stream_that_need_both_are_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(OutOfDomain, match=words) as error:
        arm = replace(METHODS[name], name="mine", streams="image")
        views = {role: np.zeros((8, 2)) for role in ("image", "clinical")}
        run_arm(arm, Bench(Labelled(views, np.arange(8) % 2.0, np.arange(8)), views, Encoders("none", {}), SETTINGS, 1))
    assert "\n" not in str(error.value)


def test_every_method_has_its_page() -> None:
    """A page of docs/methods that names it and has its formula, its metrics explained, a command and numbers."""
    folder = Path(__file__).parents[2] / "docs" / "methods"
    pages = [page.read_text() for page in sorted(folder.glob("*.md"))]
    whole = [text for text in pages if all(f"\n## {part}" in text for part in ("Formula", "Metrics", "Command"))]
    bases = {name.removesuffix(f"-{way}") for name, _ in listed() for way in ("WAY", *WAYS) if name.endswith(f"-{way}")}
    bases |= {name for name in METHODS if not any(name.startswith(f"{base}-") for base in bases)}
    stays = {name: one.trajectory.removesuffix("-cold") for name, one in METHODS.items()
             if one.trajectory}
    bases = (bases | set(stays.values())) - (set(stays) - {"clin-jepa"})  # whole stays: named by the curriculum
    missing = [base for base in sorted(bases)
               if not any(re.search(rf"`{base}(-\*|-frozen|)`", text) for text in whole)]
    assert missing == []


def test_a_width_of_its_own_is_that_width() -> None:
    """The same bits as with the setting; arms of other widths share no encoder."""
    own = replace(TOKEN, name="mine", width=3)
    assert same(run(own, shown(1))[0], run(TOKEN, shown(1), replace(SETTINGS, width=3))[0])
    assert own.recipe != TOKEN.recipe and SETTINGS.of(own).width == 3 and SETTINGS.of(TOKEN) is SETTINGS
    with pytest.raises(OutOfDomain, match="width = 0"):
        replace(TOKEN, width=0)


def test_a_member_that_cannot_be_split_fails_alone() -> None:
    """Its records hold one visit each: it is returned as its error, its neighbour with the bits that it has alone."""
    data = shown()
    later = LAYOUT.places().visit.numpy() > 0
    for x in data.values():
        x[0][:, later] = np.nan
    method = METHODS["visit-jepa-frozen"]
    found = run(method, data)
    assert isinstance(found[0], OutOfDomain) and "two visits" in str(found[0])
    assert same(found[1], run(method, {k: v[1:] for k, v in data.items()}, first=1)[0])


def test_a_checkpoint_of_another_layout_is_refused(tmp_path: Path) -> None:
    """The same arrays, another unit of time: other numbers, so another run."""
    file, data = tmp_path / "c.pt", shown(1)
    run(TOKEN, data, checkpoint=file)
    with pytest.raises(DamagedFile, match="layout is"):
        token_pretrain.pretrain(data, replace(LAYOUT, follow_up=2.0), TOKEN, SETTINGS, [(0, 20)], checkpoint=file)
