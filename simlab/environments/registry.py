"""The worlds that a study can name. Imports no array module, so that knobs can be listed at once.

A world's samplers live in a module that is imported when first used. A plug-in adds its own world with
`register_world`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from simlab.environments import (
    archive_knobs,
    blob_knobs,
    ehr_knobs,
    hospital_knobs,
    icu_knobs,
    nodule_knobs,
    visit_knobs,
)
from simlab.environments import knobs as gaussian_knobs
from simlab.environments.knobs import Knob
from simlab.errors import OutOfDomain, unknown


@dataclass(frozen=True)
class World:
    """A world with known answers: its knobs, and (in `module`) how it is sampled and what is best possible in it.

    `module` is a module's name, or any object, that has `sample_factors`, `observe`, `limits` and the tuple `DOMAINS`,
    "source" first, and where limits are known `limit(spec, domain, view)`. The generator is always passed in: nothing
    is drawn from a global state.
    """

    name: str
    knobs: tuple[Knob, ...]
    spec: Callable[..., Any]  # spec(**knobs), by name or symbol, to the world's complete specification
    module: str | Any
    cohorts: tuple[str, ...] = ("test", "external")  # what is measured: the source's test records, then each target's
    tasks: tuple[str, ...] = ("outcome",)

    @property
    def domains(self) -> tuple[str, ...]:
        """The hospitals that can be sampled, the source first."""
        return self._module().DOMAINS

    def sample_factors(self, n: int, spec: Any, domain: str, rng: Any) -> Any:
        """The true latents of n records of a domain, drawn with `rng`, a `numpy.random.Generator`."""
        return self._module().sample_factors(n, spec, domain, rng)

    def observe(self, factors: Any, spec: Any, domain: str, rng: Any, **options: Any) -> Any:
        """The `simlab.cohort.Cohort` that shows these latents.

        Options of every world: `first_record` (the first record's number) and `labelled` (False: no task, label, risk
        or anything else that a label knob could touch).
        """
        return self._module().observe(factors, spec, domain, rng, **options)

    def limits(self, spec: Any) -> Any:
        """What is best possible in this world, or None where nobody knows."""
        return self._module().limits(spec)

    def limit(self, spec: Any, domain: str, view: str) -> float | None:
        """The Bayes limit (an AUC) in a domain of all that a view shows: "full", "image" or "clinical".

        None for a world whose module has no `limit(spec, domain, view)`: nobody knows.
        """
        known = getattr(self._module(), "limit", None)
        return None if known is None else known(spec, domain, view)

    def areas(self, spec: Any, domain: str, share: float = 1.0) -> Mapping[str, float]:
        """The best AUROC of each task in a domain, by simulation, in a world of many tasks whose module has
        `areas(spec, domain, share)`; a task that is not there has none that is known.

        `share`: of the records that it takes, below 1 where only the time is asked for.
        """
        known = getattr(self._module(), "areas", None)
        if known is None:
            return {}
        return known(spec, domain) if share == 1 else known(spec, domain, share)

    def _module(self) -> Any:
        return import_module(self.module) if isinstance(self.module, str) else self.module


WORLDS: dict[str, World] = {}


def register_world(world: World) -> World:
    """Add a world under its name. Raises OutOfDomain when another world has the name."""
    if WORLDS.get(world.name, world) != world:
        raise OutOfDomain(f"a world named '{world.name}' exists already; give the new one another name.")
    WORLDS[world.name] = world
    return world


def find_world(name: str) -> World:
    """The world of this name. Raises UnknownName with the nearest names."""
    if name not in WORLDS:
        raise unknown("world", name, sorted(WORLDS))
    return WORLDS[name]


register_world(
    World("gaussian", gaussian_knobs.GAUSSIAN_KNOBS, gaussian_knobs.spec, module="simlab.environments.gaussian")
)
register_world(World("longitudinal", visit_knobs.LONGITUDINAL_KNOBS, visit_knobs.spec, "simlab.environments.visits"))
register_world(World("blobs", blob_knobs.BLOB_KNOBS, blob_knobs.spec, "simlab.environments.blobs"))
register_world(World("ehr", ehr_knobs.EHR_KNOBS, ehr_knobs.spec, "simlab.environments.ehr"))
register_world(World("nodules", nodule_knobs.NODULE_KNOBS, nodule_knobs.spec, "simlab.environments.nodules"))
register_world(World("hospital", hospital_knobs.HOSPITAL_KNOBS, hospital_knobs.spec, "simlab.environments.hospital"))
register_world(World("icu", icu_knobs.ICU_KNOBS, icu_knobs.spec, "simlab.environments.icu",
                     tasks=icu_knobs.STAY_TASKS))  # fmt: skip
register_world(World("archive", archive_knobs.ARCHIVE_KNOBS, archive_knobs.spec, "simlab.environments.archive"))
