"""The paper's figures: one short script each, drawn from `results/`, or from closed forms where no study is needed.

`python -m figures.theory_shifts`: three kinds of shift. `python -m figures.knobs`: what each knob of the worlds
does. A study's own map is drawn by `python -m simlab.sweep`.
"""
