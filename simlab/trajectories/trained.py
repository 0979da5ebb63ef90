"""A trained backbone as the evaluation uses it: stays from their first hour on, one window each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab.cohort import Cohort
from simlab.errors import InvalidCohort
from simlab.models import windows
from simlab.training.trajectory import Backbone, Latents

WHOLE = 10**9  # a stride that no stay reaches: one window a stay


@dataclass(frozen=True, eq=False)
class Trained:
    """A backbone with the presentation of its training records."""

    backbone: Backbone
    presentation: windows.Presentation

    @property
    def hours(self) -> int:
        return self.backbone.settings.max_hours

    def windows(self, cohort: Cohort) -> windows.Windows:
        """The first hours of every stay. Raises InvalidCohort for a stay without an hour."""
        made = windows.windows(cohort, self.presentation, self.hours, WHOLE, 1)
        if len(made) != len(cohort):
            raise InvalidCohort(f"{len(cohort) - len(made)} of {len(cohort)} stays have no hour; leave them out.")
        return made

    def encode(self, cohort: Cohort) -> Latents:
        return self.backbone.encode(self.windows(cohort))

    def rollout(
        self, latents: Latents, context: int, horizons: int, actions: str, rng: np.random.Generator
    ) -> Float[np.ndarray, "stays horizons width"]:
        """As far as the hours go that there are (an action is read for every hour but the last forecast one)."""
        most = min(horizons, latents.action.shape[1] - context + 1)
        return self.backbone.rollout(latents, context, most, actions, rng)


def there(cohort: Cohort, least: int = 6) -> Cohort:
    """The stays of at least so many hours (the paper's windows have six)."""
    kept = cohort.length >= least
    return cohort if kept.all() else cohort.take(kept)
