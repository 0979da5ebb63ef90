"""The audit of a cohort: who is in it, what was dropped and why, what is missing, whether anything leaks, from where.

Made from the finished cohort and the adapter's account; printed, and saved as one JSON file beside the cohort.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from real_data import leakage, splits
from real_data.account import Account
from simlab.cohort import Cohort

CHUNK = 1 << 20


def of(cohort: Cohort, account: Account) -> dict[str, object]:
    """The audit as one object that JSON can hold; an adapter's own checks (in the account) follow the common ones."""
    own = account.sides
    found = [*leakage.all_of(cohort, splits.by_subject(cohort.subject) if own is None else own), *account.checks]
    if own is None:  # a function of the subject: said, so that "none" is not read as a finding
        found[0] = replace(found[0], detail="by the subject's hash, so never; the data bring no split of their own")
    return {
        "records": len(cohort),
        "subjects": len(set(cohort.subject.tolist())),
        "attrition": account.attrition,
        "items": items(account),
        "facts": account.facts,
        "missingness": missingness(cohort),
        "leakage": [asdict(check) for check in found],
        "sources": cohort.provenance.get("files", cohort.provenance.get("sha256", {})),
        "licence": cohort.provenance.get("licence", "not known: ask where the files came from"),
    }


def items(account: Account) -> list[dict[str, object]]:
    """By table and item: rows used, rows dropped by reason; of those, how many for their unit and for their range."""
    keys = sorted({*account.used, *((t, i) for t, i, _ in account.counts)})
    rows = []
    for table, item in keys:
        reasons = {r: n for (t, i, r), n in sorted(account.counts.items()) if (t, i) == (table, item)}
        rows.append(
            {
                "table": table,
                "item": item,
                "used": account.used[table, item],
                "unknown_unit": sum(n for r, n in reasons.items() if r.startswith("unknown unit")),
                "out_of_range": sum(n for r, n in reasons.items() if r.startswith("outside ") and " to " in r),
                "dropped": reasons,
            }
        )
    return rows


def missingness(cohort: Cohort) -> list[dict[str, object]]:
    """By channel: the share of existing visits in which it is observed, and of records in which it ever is."""
    rows = []
    for stream, s in cohort.streams.items():
        visits = int(cohort.length.sum()) if s.visits > 1 else len(cohort)
        for n, channel in enumerate(s.channels):
            seen = s.observed[:, :, n]
            rows.append(
                {
                    "stream": stream,
                    "channel": channel,
                    "visits": float(seen.sum() / max(1, visits)),
                    "records": float(seen.any(axis=1).mean()) if len(cohort) else 0.0,
                }
            )
    return rows


def as_text(audit: dict[str, object]) -> str:
    """What a person reads after the summary: missingness, leakage, sources, licence."""
    channels = sorted(audit["missingness"], key=lambda m: (-m["visits"], m["channel"]))
    shown = [f"{m['channel']} {m['visits']:.0%}" for m in channels if 0 < m["visits"] < 1]
    never = [m["channel"] for m in channels if not m["visits"]]
    found = [leakage.Check(**check) for check in audit["leakage"]]
    units = sum(i["unknown_unit"] for i in audit["items"])
    outliers = sum(i["out_of_range"] for i in audit["items"])
    lines = [
        f"audit: {units} values in unknown units, {outliers} out of range (item by item in the saved audit)",
        *(f"  {what}: {n}" for what, n in audit["facts"].items()),
        "observed, share of visits: " + ", ".join(shown),
        *(["never observed: " + ", ".join(never)] if never else []),
        "leakage",
        *(f"  {check.line()}" for check in found),
        f"licence: {audit['licence']}",
    ]
    return "\n".join(lines)


def save(audit: dict[str, object], path: Path) -> None:
    """Write the audit aside, then put it in place."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(audit, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def sha256(path: Path) -> str:
    """The sha256 of a file of any size, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
