"""The paper's figures: one short script each, drawn from `results/`, or from closed forms where no study is needed.

`python -m figures --list` names them, `python -m figures NAME` draws one, `python -m figures --check` tells which are
stale (docs/figures.md).
"""
