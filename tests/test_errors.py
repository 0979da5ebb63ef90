"""Every command answers a mistyped option in one line with the nearest one, and an interrupt with status 130."""

from __future__ import annotations

import importlib

import pytest

from simlab.errors import Parser, command

MISTYPED = {
    "simlab.limits.__main__": (["--prest", "default"], "--preset"),
    "simlab.sweep.__main__": (["quick", "--devcie", "cuda"], "--device"),
    "simlab.train.__main__": (["jepa-frozen", "--devcie=cuda"], "--device"),
    "real_data.hourly": (["prepare", "DIR", "--cutof-at", "3", "--out", "FILE"], "--cutoff"),
    "real_data.mimic_iv.__main__": (["prepare", "DIR", "--first-say", "--out", "FILE"], "--first-stay"),
}


@pytest.mark.parametrize("module", MISTYPED)
def test_a_mistyped_option_is_one_line_with_the_nearest(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, meant = MISTYPED[module]
    assert command(importlib.import_module(module).main, words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: unknown option --") and f"did you mean {meant}?" in err and "--help" in err


def test_what_follows_two_hyphens_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="p")
    parser.add_argument("name", nargs="?")
    assert parser.parse_args(["--", "--devcie"]).name == "--devcie"
    assert command(lambda _: parser.parse_args(["--", "a", "--devcie"])) == 2
    assert "error: unrecognized arguments: --devcie" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [((), "interrupted.\n"), (("1 of 2 kept",), "interrupted: 1 of 2 kept.\n")])
def test_an_interrupt_promises_only_what_the_command_says(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str] | None) -> int:
        raise KeyboardInterrupt(*words)

    assert command(main) == 130
    assert capsys.readouterr().err == said
