"""simlab: a wind tunnel for multimodal JEPA.

Worlds whose best possible answer is known exactly (`simlab.environments`, `simlab.limits`), the trainers that run in
them and on real cohorts alike (`simlab.training`, `simlab.methods`), and sweeps that chart where JEPA helps and where
it hurts (`simlab.sweep`). The contract between all of them is `simlab.cohort`.
"""

__version__ = "0.1.0"
