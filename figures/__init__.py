"""The paper's figures: one short script each, drawn from `results/`, none of them computing anything.

None is here yet: a study's own map is drawn by `python -m simlab.sweep`.
"""
