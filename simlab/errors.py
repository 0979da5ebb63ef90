"""Typed errors, and the one way a command reports them: one clear line, exit status 2.

Every error of ours says what is wrong (file, key or knob), what was expected and what to do. Command-line modules wrap
their `main` in `command`, so that a user never meets a traceback for bad input.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Sequence


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
    """The error for a name that does not exist: the nearest names, or all of them when none is near.

    `hint` ends the line with what to do (for example, which command lists the names).
    """
    near = nearest(name, known)
    text = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}."
    return UnknownName(f"unknown {kind} '{name}': {text}{' ' + hint if hint else ''}")


def command(main: Callable[[list[str] | None], int], argv: list[str] | None = None) -> int:
    """Run a command's `main`, turning our own errors into one line on stderr and exit status 2 (130 if interrupted)."""
    try:
        return main(argv)
    except SimlabError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
