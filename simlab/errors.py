"""Typed errors, and the one way a command reports them: one clear line, exit status 2.

Every error of ours says what is wrong (file, key or knob), what was expected and what to do. Command-line modules read
their words with `Parser` and wrap their `main` in `command`, so that a user never meets a traceback for bad input.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn


class SimlabError(Exception):
    """Base of all errors that simlab raises on purpose; a command turns it into one line and exit status 2."""


class UnknownName(SimlabError):
    """A knob, method, world, study or key that does not exist; names the nearest ones."""


class OutOfDomain(SimlabError):
    """A value outside its knob's domain, or knobs that contradict each other; states the condition that fails."""


class InvalidCohort(SimlabError):
    """A cohort or scenario that breaks the contract of `simlab.cohort`."""


class DamagedFile(SimlabError):
    """A file that is truncated, altered or not what it claims to be; names the member that is."""


class InvalidStudy(SimlabError):
    """A study file that cannot be run, or that differs from the one its results were made with."""


class InvalidData(SimlabError):
    """Real data that an adapter cannot read: a missing table or column, and where it was looked for."""


class NotConverged(SimlabError):
    """An iteration that found no fixed point (`simlab.signatures`, decoders); says what to change."""


class LeakDetected(SimlabError):
    """A score knows more about the test labels than the inputs allow (`simlab.evaluation.leak`)."""


class MissingExtra(SimlabError):
    """An optional package that this command needs is not installed; says which extra brings it."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names most like `name`, best first (case-insensitive; at most n)."""
    by_lower: dict[str, str] = {}
    for item in known:
        by_lower.setdefault(item.lower(), item)
    hits = difflib.get_close_matches(name.lower(), by_lower, n=n, cutoff=0.5)
    return [by_lower[h] for h in hits]


def unknown(kind: str, name: str, known: Sequence[str], hint: str = "") -> UnknownName:
    """The error for a name that does not exist: the nearest names, or all (fifty at most) when none is near.

    `hint` ends the line with what to do (for example, which command lists the names).
    """
    near = nearest(name, known)
    all_of_them = f"known: {', '.join(sorted(known))}." if len(known) <= 50 else f"none of {len(known)} names is near."
    text = f"did you mean {' or '.join(near)}?" if near else all_of_them
    return UnknownName(f"unknown {kind} '{name}': {text}{' ' + hint if hint else ''}")


class Parser(argparse.ArgumentParser):
    """A command's parser (its sub-commands' too) whose complaints are one line, like all of ours.

    An option that does not exist is told first, with the nearest ones: `--devcie` for `--device` may also be why
    something else is missing.
    """

    words: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = self._long_options()
        for word in self.words[: self.words.index("--")] if "--" in self.words else self.words:
            name = word.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                near = nearest(name[2:], [option[2:] for option in known], n=1)
                said = f"did you mean --{near[0]}?" if near else f"known: {', '.join(sorted(known))}."
                raise UnknownName(f"unknown option {name}: {said} {self.prog} --help shows the usage.")
        raise SimlabError(f"{message} ({self.prog} --help shows the usage).")

    def _long_options(self) -> list[str]:
        """The options of this parser and of its sub-commands that begin with two hyphens."""
        found = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [option for below in action.choices.values() for option in below._long_options()]
        return list(dict.fromkeys(found))


def command(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Run a command's `main`: our own errors are one line on stderr and exit status 2; an interrupt is status 130.

    A main that keeps what it finished says so by raising KeyboardInterrupt again with a sentence.
    """
    try:
        return main(argv)
    except SimlabError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"interrupted{f': {stop}' if str(stop) else ''}.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
