"""Registers the world of one mechanism at a time (`simlab.environments.mechanisms`): a plug-in of li2025 studies."""

import simlab
from simlab.environments.mechanisms import WORLD

simlab.register(WORLD)
