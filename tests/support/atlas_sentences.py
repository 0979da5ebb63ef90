"""The sentences of docs/atlas.md that hold numbers of results, each computed from the published tables.

`python tests/support/atlas_sentences.py` prints them; tests/sweep/test_headline.py finds each in the page.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from atlas_tables import ROOT, auc, boundary, crossing, differences, interval, scores

from simlab.limits.liability import auc as liability_auc


def counts(study: str, first: str, second: str) -> dict[str, int]:
    """Cells by verdict."""
    found = differences(study, first, second)["verdict"].value_counts()
    return {word: int(found.get(word, 0)) for word in ("helps", "hurts", "equivalent", "undecided")}


def signed(value: float) -> str:
    """+.062, -.012."""
    return f"{value:+.3f}".replace("0.", ".", 1)


def plain(value: float) -> str:
    """.765."""
    return f"{value:.3f}".replace("0.", ".", 1)


def span(values: pd.Series) -> str:
    """From the least to the largest of some differences."""
    low, high = signed(values.min()), signed(values.max())
    return low if low == high else f"{low} to {high}"


def gaps(study: str, first: str, second: str, row: float) -> pd.Series:
    """Mean differences along a row."""
    return differences(study, first, second).loc[row, "mean"]


def with_interval(study: str, first: str, second: str, row: float, column: float) -> str:
    """-.012 [-.020, -.004]."""
    found = differences(study, first, second).loc[(row, column)]
    return f"{signed(found['mean'])} [{signed(found['low'])}, {signed(found['high'])}]"


def auc_text(study: str, arm: str, row: float, column: float) -> str:
    """.785 [.780, .790]."""
    mean, low, high = auc(study, arm, row, column)
    return f"{plain(mean)} [{plain(low)}, {plain(high)}]"


def rank(study: str, arm: str) -> float:
    """RankMe of the image's representation, mean over seeds."""
    table = pd.read_parquet(ROOT / "results" / study / "results.parquet",
                            columns=["method", "metric", "value", "seed", "cell"])
    kept = table[(table["method"] == arm) & (table["metric"] == "diag/rankme/image")]
    return float(kept["value"].mean())


def shared_signal() -> list[str]:
    """Section 1."""
    s, told = "shared-signal", []
    rows = boundary(s)
    rows = rows[(rows["first"] == "cca-lda") & rows["predicted"].notna()]
    off = [100 * (crossing(s, "cca-lda", "lda", r["p_w_c"]) / r["predicted"] - 1) for r in rows.to_dict("records")]
    inside = int(((rows["low"] <= rows["predicted"]) & (rows["predicted"] <= rows["high"])).sum())
    told.append(f"The measured boundaries lie {min(off):+.0f} % to {max(off):+.0f} % from n*, and {inside} of "
                f"{len(off)} intervals hold it.")
    tuned = boundary(s)
    tuned = tuned[(tuned["first"] == "vicreg-frozen") & (tuned["second"] == "supervised") & tuned["predicted"].notna()]
    ratio = [crossing(s, "vicreg-frozen", "supervised", r["p_w_c"]) / r["predicted"] for r in tuned.to_dict("records")]
    told.append("The boundary against tuned labels lies at " + " / ".join(f"{r:.1f}" for r in ratio)
                + " times the closed form of the best penalty at w_c = .8 / .9 / .95.")
    found = counts(s, "vicreg-finetuned", "supervised")
    lowest = with_interval(s, "vicreg-finetuned", "supervised", 0.2, 75)
    told.append(f"Of 36 cells {found['helps']} help, {found['equivalent']} are equal, {found['undecided']} undecided, "
                f"{found['hurts']} hurt; the lowest is {lowest}, at w_c = .2 with 75 labels.")
    rows = [gaps(s, "vicreg-finetuned", "supervised", w_c) for w_c in (0.95, 0.9, 0.8)]
    few, some = (" / ".join(signed(row[n]) for row in rows) for n in (75, 300))
    told.append(f"At w_c = .95 / .9 / .8 fine-tuning gains {few} with 75 labels and {some} with 300.")
    found = counts(s, "mae-frozen", "vicreg-frozen")
    told.append(f"MAE is equal to VICReg in {found['equivalent']} of 36 cells.")
    found = differences(s, "jepa-frozen", "vicreg-frozen").loc[0.8:]
    told.append(f"With an EMA target the frozen encoder trails VICReg in {int((found['verdict'] == 'hurts').sum())} of "
                f"{len(found)} cells at w_c >= .8, by {span(found['mean'])}.")
    told.append(f"Its RankMe is {rank(s, 'jepa-frozen'):.2f} of 4 (VICReg {rank(s, 'vicreg-frozen'):.2f}).")
    found = counts(s, "jepa-frozen", "supervised")
    moved = counts(s, "jepa-finetuned", "supervised")
    told.append(f"Frozen, it helps against tuned labels in {found['helps']} cells ({found['hurts']} hurt, "
                f"{found['undecided']} undecided); fine-tuned it helps in {moved['helps']} and hurts in "
                f"{moved['hurts']}.")
    one, two = "data2vec-frozen-ridge", "data2vec-modality-frozen-ridge"
    told.append(f"The token mask lies {span(gaps(s, one, two, 0.2))} from the modality mask at w_c = .2 and "
                f"{span(gaps(s, one, two, 0.95))} at w_c = .95, from 75 labels to 2400.")
    told.append(f"RankMe is {rank(s, one):.2f} of 4 under the token mask, {rank(s, two):.2f} under the modality mask.")
    found = differences(s, "vicreg-finetuned", "self-training")
    behind, ahead = (found[found["verdict"] == word].index for word in ("hurts", "helps"))
    told.append(f"Against self-training fine-tuned JEPA helps in {len(ahead)} cells, all at w_c >= {min(ahead)[0]:g}, "
                f"and hurts in {len(behind)}, all at w_c <= {max(behind)[0]:g}.")
    found = differences(s, "vicreg-frozen", "supervised")
    ahead = found[found["verdict"] == "helps"].index
    told.append(f"(decided in {len(ahead)} cells, all at w_c >= {min(ahead)[0]:g})")
    gain = differences(s, "self-training", "supervised").xs(75, level=1)["mean"]
    told.append(f"Self-training itself gains {span(gain)} over tuned labels with 75 labels, at every share.")
    whole, part = ([auc_of(0.7 * w_c * 8 / 9 * kept) for w_c in (0.8, 0.95)] for kept in (1.0, 0.75))
    cost = [plain(a - b) for a, b in zip(whole, part, strict=True)]  # h2 w_c rho, all of it or three quarters
    told.append(f"One shared direction lost of four would cost {cost[0]} at w_c = .8 and {cost[1]} at .95.")
    return told


def auc_of(share: float) -> float:
    """AUC of a score that explains this share of the liability, at the default prevalence."""
    return float(liability_auc(share**0.5, 0.3))


def wide() -> list[str]:
    """Section 2."""
    s, told = "shared-signal-wide", []
    for w_c, limit in ((0.2, ".666"), (0.4, ".737")):
        told.append(f"At w_c = {w_c:g} with 2400 labels jepa-frozen reaches {auc_text(s, 'jepa-frozen', w_c, 2400)} "
                    f"and vicreg-frozen {auc_text(s, 'vicreg-frozen', w_c, 2400)}, where the views share {limit}.")
    told.append(f"At w_c = .8 with 150 labels jepa-frozen has {auc_text(s, 'jepa-frozen', 0.8, 150)} and vicreg-frozen "
                f"{auc_text(s, 'vicreg-frozen', 0.8, 150)}, below the .817 of four canonical pairs.")
    found = {arm: counts(s, arm, "ridge") for arm in ("jepa-frozen-ridge", "vicreg-frozen-ridge")}
    told.append("Against ridge on all features jepa-frozen-ridge hurts in {} of 12 cells and helps in {}, "
                "vicreg-frozen-ridge in {} and {}.".format(*(found[a][w] for a in found for w in ("hurts", "helps"))))
    one, two = "data2vec-frozen-ridge", "data2vec-modality-frozen-ridge"
    told.append(f"The token mask is ahead of the modality mask by {span(gaps(s, one, two, 0.2))} at w_c = .2 and lies "
                f"{span(gaps(s, one, two, 0.8))} from it at w_c = .8.")
    return told


def tokens() -> list[str]:
    """Section 3."""
    s, told, masks = "shared-signal-tokens", [], ("data2vec-modality", "data2vec", "data2vec-both")
    gained = " / ".join(signed(gaps(s, f"{mask}-finetuned", f"{mask}-frozen-ridge", 0.2)[600]) for mask in masks)
    told.append(f"With 600 labels at w_c = .2 fine-tuning adds {gained} (modality / token / either masked).")
    for way in ("frozen-ridge", "finetuned"):
        shown = []
        for w_c in (0.2, 0.95):
            means = [auc(s, f"{mask}-{way}", w_c, 600)[0] for mask in masks]
            shown.append(plain(max(means) - min(means)))
        told.append(f"{'Frozen' if way == 'frozen-ridge' else 'Fine-tuned'}, the three masks lie within {shown[0]} of "
                    f"each other at w_c = .2 and {shown[1]} at .95, with 600 labels.")
    found = [counts(s, f"{mask}-finetuned", "supervised") for mask in masks]
    told.append(f"Against tuned labels they help in {sum(f['helps'] for f in found)} of 12 cells and hurt in "
                f"{sum(f['hurts'] for f in found)}.")
    return told


def align() -> list[str]:
    """Section 4."""
    s, told = "align-or-predict", []
    rows = boundary(s)
    for arm in ("cca-lda", "vicreg-frozen", "mae-frozen"):
        mine = rows[(rows["first"] == arm) & (rows["second"] == "lda")]
        at = [crossing(s, arm, "lda", r) for r in mine["p_alpha_g"]]
        shown = " / ".join("none" if a is None else f"{a:.3f}".lstrip("0") for a in at)
        told.append(f"{arm} falls behind lda at nu = {shown} for alpha_g = .5 / 1 / 2 / 4.")
    table = scores(s)
    kept = interval(table["cca-lda"].loc[0.5, 0.1].to_numpy())[0]
    told.append(f"Where recovered, cca-lda reaches {plain(kept)} (closed form .765), lda {plain(table['lda'].mean())} "
                "(.692).")
    early, late = (with_interval(s, "vicreg-frozen", "mae-frozen", 2.0, nu) for nu in (0.25, 0.65))
    told.append(f"At alpha_g = 2 aligning lies {early} from predicting at nu = .25, where both recover, and {late} "
                "at nu = .65, where neither does.")
    gap = differences(s, "jepa-frozen", "vicreg-frozen")["mean"]
    alpha, nu = (gap.index.get_level_values(i) for i in (0, 1))
    aligns, predicts = nu < 0.5, nu * alpha < 0.5**0.5
    told.append(f"Against vicreg-frozen, jepa-frozen lies {span(gap[aligns & predicts])} where both recover, "
                f"{span(gap[predicts & ~aligns])} where only predicting does, {span(gap[aligns & ~predicts])} "
                "where only aligning does.")
    gap = differences(s, "jepa-frozen", "mae-frozen")["mean"]
    told.append(f"Against mae-frozen it lies {span(gap)} in all 24 cells.")
    gap = gaps(s, "pca-ridge", "supervised", 1.0)
    told.append(f"Predicting a view from itself (pca-ridge) lies {span(gap)} from tuned labels at alpha_g = 1, and "
                f"{span(gaps(s, 'pca-ridge', 'supervised', 2.0))} at alpha_g = 2.")
    found = counts(s, "vicreg-finetuned", "supervised")
    told.append(f"Fine-tuned, aligning helps in {found['helps']} of 24 cells and hurts in {found['hurts']}, beyond its "
                "threshold included.")
    near = [gaps(s, "mae-frozen", "supervised", alpha_g)[nu] for alpha_g, nu in ((2, 0.1), (2, 0.25), (4, 0.1))]
    told.append("It lies {} / {} (nu = .1 / .25) and {} (nu = .1) from them, all undecided.".format(*map(signed, near)))
    found = counts(s, "mae-finetuned", "supervised")
    told.append(f"Predicting, fine-tuned, helps in {found['helps']} and hurts in {found['hurts']}.")
    return told


def sentences() -> list[str]:
    """All of them."""
    return [*shared_signal(), *wide(), *tokens(), *align()]


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    print("\n".join(sentences()))
