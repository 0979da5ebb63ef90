"""How every figure of a sweep looks, and what its words call a study's parts."""

from __future__ import annotations

from simlab.sweep.schema import Axis, Study

WIDTH = 7.5  # inches: a text width of common journals and readable on a screen
COLOURS = "PuOr"
STYLE = {
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "hatch.linewidth": 0.5,
    "hatch.color": "#888888",
    "axes.linewidth": 0.6,
}
PLAIN = {"w_c": "signal that both views share (w_c)", "n_lab": "labels (n_labelled)", "h2": "signal fraction (h2)",
          "kappa_e": "coupling in the target (kappa_e)", "delta_v_e": "clinical slope in the target (delta_v_e)",
          "nu": "nuisance correlation (nu)", "n_unlab": "unlabelled records (n_unlabelled)"}


def headline(study: Study, standing: str) -> str:
    """A map's title in plain words, with what its results may claim (`simlab.sweep.standing`)."""
    return f"Where the first arm helps (violet) and hurts (orange): study {study.name} ({standing})"


def metric(study: Study) -> str:
    """The study's metric as a figure names it."""
    return "AUC" if study.metric.startswith("auc") else study.metric


def label(axis: Axis) -> str:
    """An axis in plain words where we have them, else the knob's name."""
    return PLAIN.get(axis.symbol, axis.name.replace("_", " "))
