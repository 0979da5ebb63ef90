"""docs/rendered.md says what the code does: knob tables, limits; and the worlds answer on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simlab.cohort import load
from simlab.environments.__main__ import main
from simlab.environments.blob_knobs import BLOB_KNOBS
from simlab.environments.blob_knobs import spec as blob_spec
from simlab.environments.docs import knob_table
from simlab.environments.ehr_knobs import EHR_KNOBS, EHR_OWN
from simlab.environments.hospital_knobs import HOSPITAL_KNOBS, HOSPITAL_OWN
from simlab.environments.nodule_knobs import NODULE_KNOBS, NODULE_OWN
from simlab.environments.visit_knobs import LONGITUDINAL_KNOBS
from simlab.errors import command
from simlab.limits.blobs import bayes

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "rendered.md").read_text(encoding="utf-8")


def test_the_tables_of_knobs_are_those_of_the_code():
    for knobs in (BLOB_KNOBS, EHR_OWN, NODULE_OWN, HOSPITAL_OWN):
        assert knob_table(knobs) in DOCS
    known = {k.symbol: k.default for k in LONGITUDINAL_KNOBS}
    for knobs in (EHR_KNOBS, NODULE_KNOBS, HOSPITAL_KNOBS):
        changed = {k.symbol: k.default for k in knobs if k.symbol in known and k.default != known[k.symbol]}
        for symbol, value in changed.items():
            assert f"{symbol} = {value:g}" in DOCS.replace("\n", " ") if isinstance(value, (int, float)) else True
        names = [n for k in knobs for n in {k.name, k.symbol}]
        assert len(names) == len(set(names))
    assert (ROOT / "docs" / "pictures" / "rendered_worlds.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_of_blob_limits_is_right():
    for version, views in (("size", (".783", ".699", ".500")), ("time", (".862", ".500", ".765")),
                           ("count", (".562", ".562", ".500"))):
        assert f"| {version} | {' | '.join(views)} |" in DOCS
        for view, said in zip(("full", "image", "clinical"), views, strict=True):
            assert bayes(blob_spec(version=version), "source", view)[0] == pytest.approx(float(said), abs=6e-4)


@pytest.mark.parametrize(("world", "knobs"), [("blobs", ["version=count"]), ("ehr", ["p_lab=0.4", "b_code=1"]),
                                              ("nodules", ["side=16", "noise=40"])])
def test_worlds_are_sampled_from_the_command_line(world, knobs, tmp_path, capsys):
    settings = [word for knob in knobs for word in ("--set", knob)]
    for which in ("test", "external", "pretraining"):
        file = tmp_path / f"{which}.cohort"
        assert main(["--sample", world, "--out", str(file), "--records", "6", "--cohort", which, *settings]) == 0
        cohort = load(file)
        assert len(cohort) == 6 and (cohort.events is not None) == (world == "ehr")
        assert bool(cohort.tasks) == (which != "pretraining")
    capsys.readouterr()
    assert command(main, ["--sample", world, "--out", str(file), "--set", "nosie=1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "unknown knob 'nosie'" in err


def test_worlds_are_described_with_their_limits(capsys):
    for world, knobs in (("blobs", ["--set", "version=count"]), ("nodules", ["--set", "times=regular"])):
        assert main(["--describe", world, "--json", *knobs]) == 0
        found = json.loads(capsys.readouterr().out)
        assert 0.5 < found["limits"]["internal"]["full"] < 1 and found["limits"]["notes"]


@pytest.mark.proof
def test_the_picture_is_drawn(tmp_path):
    from figures.rendered_worlds import main as draw

    assert draw(["--out", str(tmp_path)]) == 0
    assert (tmp_path / "rendered_worlds.png").stat().st_size > 20_000
