"""How the paper's figures look: widths of common venues in inches, colours that are told apart by everyone and in grey.

No array module is imported here.
"""

from __future__ import annotations

COLUMN, TEXT, WIDE = 3.25, 5.5, 6.75  # ICML's column; NeurIPS's, ICLR's text; ICML's both columns
STYLE = {
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so every machine draws the same
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5, "ytick.major.width": 0.5, "xtick.major.size": 2, "ytick.major.size": 2,
    "hatch.linewidth": 0.4,
    "lines.linewidth": 1.1,
}
DIVERGING = "PuOr"  # violet: the first arm is ahead; orange: behind; light at zero, and as dark at either end
MEASURED, PREDICTED = "#111111", "#0072B2"
# Okabe and Ito (2008), each with a dash and a mark of its own, so that lines are told apart without colour.
LINES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"),
         ("#E69F00", (0, (5, 1)), "v"), ("#56B4E9", (0, (3, 1, 1, 1)), "P"), ("#444444", (0, (1, 1)), "X"),
         ("#999933", "-", "<"))
CEILING = {"color": "#222222", "linewidth": 1.6, "linestyle": (0, (1, 0.8))}
WORDS = {"helps": "helps", "hurts": "hurts", "equivalent": "equal", "undecided": "?"}
SIGNS = {"helps": "+", "hurts": "−", "equivalent": "=", "undecided": "?"}
