"""The demands of an issue and what shows each: `python tests/acceptance/print_note.py N` prints them for its note.

A ledger `issue_N.toml` holds `issue`, `title` and one `[[demand]]` a line: `demand` (what was asked), and `tests` (ids)
or `command` (what to run), or both.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
KEYS = {"demand", "tests", "command"}


def ledgers() -> list[Path]:
    """All ledgers, by number."""
    return sorted(FOLDER.glob("issue_*.toml"), key=lambda path: int(path.stem.split("_")[1]))


def read(path: Path) -> dict[str, Any]:
    """A ledger, its form checked. Raises ValueError that names the file and the demand."""
    ledger = tomllib.loads(path.read_text(encoding="utf-8"))
    if set(ledger) != {"issue", "title", "demand"} or path.stem != f"issue_{ledger['issue']}":
        raise ValueError(f"{path.name}: keys must be issue (the number of the file's name), title and [[demand]]")
    for number, entry in enumerate(ledger["demand"], start=1):
        if not set(entry) <= KEYS or not entry.get("demand") or not (entry.get("tests") or entry.get("command")):
            raise ValueError(f"{path.name}, demand {number}: needs demand, and tests or command; nothing else")
    return ledger


def note(ledger: dict[str, Any]) -> str:
    """The ledger as a markdown list."""
    lines = [f"Issue {ledger['issue']}: {ledger['title']}", ""]
    for entry in ledger["demand"]:
        shown = [*entry.get("tests", []), *([entry["command"]] if "command" in entry else [])]
        lines.append(f"- {entry['demand']}: {', '.join(f'`{item}`' for item in shown)}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    if len(argv) != 1 or not (path := FOLDER / f"issue_{argv[0]}.toml").is_file():
        known = ", ".join(path.stem.split("_")[1] for path in ledgers()) or "none yet"
        print(f"error: give the number of an issue with a ledger ({known})", file=sys.stderr)
        return 2
    print(note(read(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
