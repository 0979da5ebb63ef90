"""What `python -m simlab.environments` says of worlds and presets. Imports no array module until it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simlab.environments.knob import parse
from simlab.environments.knobs import find
from simlab.environments.persistence import PERSISTENCE
from simlab.environments.presets import PRESETS, Preset
from simlab.environments.presets import from_preset as from_gaussian_preset
from simlab.environments.registry import WORLDS, World, find_world
from simlab.errors import OutOfDomain, unknown

COHORTS = ("pretraining", "training", "validation", "test", "external")
VIEWS = ("full", "image", "clinical")
_PLACES = {"internal": "limit inside (source)", "external": "limit outside (target)",
           "source_bayes_external": "source's best rule, outside"}


@dataclass(frozen=True)
class Chosen:
    """A world with its knobs resolved: what NAME and --set mean."""

    name: str
    world: World
    spec: Any
    meaning: str


def presets() -> dict[str, tuple[str, Preset]]:
    """Every preset by name: its world's name and itself."""
    return {**{p.name: ("gaussian", p) for p in PRESETS}, **{p.name: ("longitudinal", p) for p in PERSISTENCE}}


def resolve(name: str, settings: Sequence[str]) -> Chosen:
    """The world or preset of this name with KNOB=VALUE settings. Raises UnknownName and OutOfDomain."""
    known = presets()
    if name not in known and name not in WORLDS:
        raise unknown("world or preset", name, [*WORLDS, *known], "python -m simlab.environments --list shows all.")
    world = find_world(known[name][0] if name in known else name)
    knobs: dict[str, Any] = {}
    for pair in settings:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not key or not text:
            raise OutOfDomain(f"--set takes KNOB=VALUE, for example --set w_c=0.6, not {pair!r}.")
        knob = find(key, world.knobs)
        if knob.symbol in knobs:
            raise OutOfDomain(f"--set names knob {knob.symbol} ({knob.name}) twice; give it once.")
        knobs[knob.symbol] = parse(knob, text)
    if name not in known:
        return Chosen(name, world, world.spec(**knobs), "every knob at its default")
    preset = known[name][1]
    if world.name == "gaussian":
        return Chosen(name, world, from_gaussian_preset(name, **knobs), preset.meaning)
    return Chosen(name, world, world.spec(**{**preset.knobs, **knobs}), preset.meaning)


def listing() -> dict[str, Any]:
    """Worlds with their knobs, and presets with their world, knobs and meaning."""
    return {
        "worlds": [{"name": w.name, "knobs": [k.symbol for k in w.knobs]} for w in WORLDS.values()],
        "presets": [{"name": name, "world": world, "knobs": p.knobs, "meaning": p.meaning}
                    for name, (world, p) in presets().items()],
    }


def listing_text(found: Mapping[str, Any]) -> str:
    """The same for a person."""
    lines = ["Worlds", *(f"  {w['name']}  ({len(w['knobs'])} knobs)" for w in found["worlds"]), "", "Presets"]
    width = max(len(p["name"]) for p in found["presets"])
    lines += [f"  {p['name'].ljust(width)}  {p['world']}: {p['meaning']}" for p in found["presets"]]
    return "\n".join([*lines, "", "--describe NAME shows factors, knobs and limits of one."])


def description(chosen: Chosen) -> dict[str, Any]:
    """Streams, factors, knobs and limits of one world, as plain numbers and strings."""
    from simlab.environments.scenario import sample_cohort

    two = sample_cohort(chosen.spec, "test-data", 2, 0, 0, world=chosen.world.name)
    knobs = [{"symbol": k.symbol, "name": k.name, "value": getattr(chosen.spec, k.symbol, None), "default": k.default,
              "domain": str(k.domain), "stage": k.stage, "meaning": k.meaning} for k in chosen.world.knobs]
    return {
        "name": chosen.name,
        "world": chosen.world.name,
        "meaning": chosen.meaning,
        "streams": {name: list(s.values.shape[1:]) for name, s in two.streams.items()},
        "factors": {name: list(x.shape[1:]) for name, x in two.factors.items()},
        "risk_given": two.provenance.get("risk_given"),
        "knobs": knobs,
        "limits": chosen.world.limits(chosen.spec),
    }


def description_text(answer: Mapping[str, Any]) -> str:
    """The same for a person: knobs that differ from their default are marked by *."""
    parts = [f"{answer['name']} ({answer['world']} world): {answer['meaning']}"]
    parts.append("Streams (visits, channels or features)\n" + "\n".join(
        f"  {name}: {' x '.join(map(str, shape))}" for name, shape in answer["streams"].items()))
    parts.append("True factors of a record\n" + "\n".join(
        f"  {name}: {' x '.join(map(str, shape)) or '1 number'}" for name, shape in answer["factors"].items()))
    parts.append("Knobs (* set to other than the default)\n" + "\n".join(_knob(k) for k in answer["knobs"]))
    if answer["limits"] is None:
        return "\n\n".join([*parts, "Limits: nobody knows them."])
    if "internal" not in answer["limits"]:  # a world of trajectories
        from simlab.limits.icu_text import lines as told

        return "\n\n".join([*parts, "\n".join(told(answer["limits"]))])
    shown = [view for view in (*VIEWS, "cross_modal") if view in answer["limits"]["internal"]]
    heads = {"full": "both views", "cross_modal": "cross-modal"}
    lines = [f"{'Best possible AUC':30s}" + "".join(f"{heads.get(view, view):>12}" for view in shown)]
    for place, label in _PLACES.items():
        row = answer["limits"].get(place, {})
        lines.append(f"  {label:28s}" + "".join(
            f"{'-' if row.get(view) is None else format(row[view], '.4f'):>12}" for view in shown))
    lines.append(f"  prevalence inside {answer['limits']['prevalence']:.4f}, outside "
                 f"{answer['limits']['prevalence_external']:.4f}")
    notes = [f"Note: {note}." for note in answer["limits"].get("notes", ())]
    return "\n\n".join([*parts, "\n".join(lines), *(["\n".join(notes)] if notes else [])])


def _knob(knob: Mapping[str, Any]) -> str:
    value, default = knob["value"], knob["default"]
    shown = "follows" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    mark = "*" if default is not None and value != default else " "
    return f" {mark}{knob['symbol']:15s} {shown:>10s}  {knob['meaning']}; {knob['domain']}"


def sample(chosen: Chosen, out: str | None, records: int, seed: int, cohort: str) -> dict[str, Any]:
    """Draw a cohort and write it to `out`; what was written. Raises UnknownName, OutOfDomain and SimlabError."""
    if out is None or not out.endswith(".cohort"):
        raise OutOfDomain(f"--sample needs --out FILE, a name that ends in .cohort, not {out!r}.")
    if cohort not in COHORTS:
        raise unknown("cohort", cohort, COHORTS)
    from simlab.cohort import save
    from simlab.environments.scenario import sample_cohort

    domain = "external" if cohort == "external" else "source"
    drawn = sample_cohort(chosen.spec, f"{cohort}-data", records, seed, 0, domain, world=chosen.world.name)
    save(drawn, out)
    return {"file": str(Path(out)), "world": chosen.world.name, "name": chosen.name, "cohort": cohort, "seed": seed,
            "records": len(drawn), "positives": {task: int((y == 1).sum()) for task, y in drawn.labels.items()},
            "streams": {name: list(s.values.shape) for name, s in drawn.streams.items()}}


def sample_text(answer: Mapping[str, Any]) -> str:
    """One line on what was written."""
    streams = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in answer["streams"].items())
    positives = "".join(f", {n} positive ({task})" for task, n in answer["positives"].items())
    return f"{answer['file']}: {answer['records']} records{positives}; {streams}"
