"""simlab: a wind tunnel for multimodal JEPA.

Worlds whose best possible answer is known exactly (`simlab.environments`, `simlab.limits`), the trainers that run in
them and on real cohorts alike (`simlab.training`, `simlab.methods`), and sweeps that chart where JEPA helps and where
it hurts (`simlab.sweep`). The contract between all of them is `simlab.cohort`.
"""

__version__ = "0.1.0"


def register(thing: object) -> None:
    """Add a method (`simlab.methods.Method`) or a world (`simlab.environments.registry.World`); plug-ins call this.

    Raises OutOfDomain for anything else, and for a name that is taken.
    """
    from simlab import methods
    from simlab.environments.registry import World, register_world
    from simlab.errors import OutOfDomain

    if isinstance(thing, methods.Method):
        methods.add(thing)
    elif isinstance(thing, World):
        register_world(thing)
    else:
        raise OutOfDomain(f"simlab.register takes a Method or a World, not {type(thing).__name__}.")
