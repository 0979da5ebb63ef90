"""Points on the axes, and the arms that each makes: one list of points over features, one over tokens, and what is made
of them (adaptations, archives, target records, curricula of whole stays). Imports no array module."""

from __future__ import annotations

from dataclasses import replace

from simlab.training import curricula
from simlab.training.method import Method, Phase

ENCODER = "simlab.training.arms:"
COLD = "-cold"  # of a curriculum: without its phase 0
EXACT = "simlab.training.token_ridge:"
JEPA = Method(
    "jepa-frozen",
    "cross-modal JEPA (EMA target, predictor); encoders frozen, linear discriminant on top",
    ENCODER + "frozen_probe",
    tuning="none",
    view="cross-modal",
    target="ema",
    predictor="mlp",
    theory="cross_modal",
)
VICREG = Method(
    "vicreg-frozen",
    "cross-modal JEPA with a VICReg target; encoders frozen, linear discriminant on top",
    ENCODER + "frozen_probe",
    tuning="none",
    view="cross-modal",
    target="online",
    against_collapse="vicreg",
    theory="cross_modal",
)
SUPERVISED = Method(
    "supervised",
    "both modalities from labels alone, regularisation tuned inside the labels",
    ENCODER + "supervised",
    adaptation="scratch",
    theory="supervised_tuned",
)

# Points on the pretraining axes, each with the adaptations NAME-frozen, -frozen-ridge, -frozen-mlp, -partial,
# -finetuned. docs/methods/ has a page for each. `theory`: CCA, where what keeps the embedding apart whitens it.
POINTS = (
    ("lejepa", "LeJEPA: the two views' embeddings together, SIGReg", "online", "sigreg", "none", "cross_modal"),
    ("barlow", "Barlow Twins between the two views", "online", "barlow", "none", "cross_modal"),
    ("clip", "CLIP (InfoNCE) between the two views", "online", "contrastive", "none", None),
    ("clip-learned", "CLIP with a learned temperature, as published", "online", "contrastive-learned", "none", None),
    ("mae", "cross-modal MAE: each view reconstructs the other's features", "input", "none", "linear",
     "cross_prediction"),
    ("jepa-stopgrad", "cross-modal JEPA, stop-gradient target (no EMA)", "stop-gradient", "none", "mlp", None),
    ("unguarded", "online target with nothing against collapse (it collapses: a planted failure)", "online", "none",
     "none", None),
)


# Points over tokens, one a (stream, visit): name, meaning, view, target, against collapse, predictor.
TOKEN_POINTS = (
    ("multimodal-jepa", "multimodal JEPA over tokens, a modality or visits masked", "both", "ema", "none",
     "transformer"),
    ("modality-jepa", "JEPA over tokens, a modality masked", "cross-modal", "ema", "none", "transformer"),
    ("visit-jepa", "JEPA over tokens, visits masked", "visit", "ema", "none", "transformer"),
    ("ijepa", "I-JEPA-style: tokens masked, EMA target", "token", "ema", "none", "transformer"),
    ("coordinate-jepa", "JEPA over blocks of coordinates", "coordinate", "ema", "none", "transformer"),
    ("next-jepa", "the next visit's embedding predicted from the earlier ones", "next-step", "ema", "none",
     "transformer"),
    ("data2vec", "data2vec-style: tokens masked, EMA target, no predictor but a linear map", "token", "ema", "none",
     "linear"),
    ("data2vec-modality", "as data2vec, a modality masked", "cross-modal", "ema", "none", "linear"),
    ("data2vec-visit", "as data2vec, visits masked", "visit", "ema", "none", "linear"),
    ("data2vec-both", "as data2vec, a modality or (over one visit) tokens masked", "both", "ema", "none", "linear"),
    ("token-mae", "MAE over tokens: what the masked ones hold is reconstructed", "token", "input", "none",
     "transformer"),
    ("cpc", "contrastive predictive: the next visit among other records'", "next-step", "online", "contrastive",
     "linear"),
    ("visit-vicreg", "VICReg between a record's visits", "visit", "online", "vicreg", "none"),
    ("modality-vicreg", "VICReg between a record's modalities", "cross-modal", "online", "vicreg", "none"),
    ("visit-barlow", "Barlow Twins between a record's visits", "visit", "online", "barlow", "none"),
    ("token-lejepa", "LeJEPA between halves of a record's tokens (SIGReg)", "token", "online", "sigreg", "none"),
    ("sigreg-jepa", "latent prediction with SIGReg: online target, no EMA", "both", "online", "sigreg", "transformer"),
    ("ramp-jepa", "multimodal JEPA, a quarter of the visits masked at first and three quarters at last", "both", "ema",
     "none", "transformer"),
    ("staged-jepa", "multimodal JEPA, visits masked first, then a modality", "both", "ema", "none", "transformer"),
    ("li2025", "multimodal JEPA for scans and clinical signatures, after Li et al. 2025", "both", "ema", "none",
     "transformer"),
)
CURRICULA = {
    "ramp-jepa": (Phase(1.0, masked=(0.25, 0.75)),),
    "staged-jepa": (Phase(0.5, view="visit"), Phase(0.5, view="cross-modal")),
}

# What a point over tokens has besides: docs/methods/li2025.md.
_OWN = {"li2025": {"vectors": "mlp", "encoder_rate": 0.3}}


# Points that linear token encoders can also be fine-tuned at exactly, NAME-exact, and those pretrained on images alone.
_EXACTLY = ("data2vec", "data2vec-modality", "data2vec-visit", "data2vec-both", "visit-vicreg", "modality-vicreg")
_IMAGES = ("visit-jepa", "data2vec-visit", "visit-vicreg")


def archives(known: dict[str, Method]) -> dict[str, Method]:
    """The points fine-tuned exactly, and those whose archive is of images alone: what labels bring is new to them."""
    exact = [replace(known[f"{name}-finetuned"], name=f"{name}-exact", trainer=EXACT + "finetuned",
                     meaning=known[f"{name}-finetuned"].meaning + ", solved exactly (linear token encoders)")
             for name in _EXACTLY]
    made = {method.name: method for method in exact}
    for name in _IMAGES:
        for one in (known[f"{name}-finetuned"], *filter(None, [made.get(f"{name}-exact")])):
            images = replace(one, name=f"image-{one.name}", meaning=f"{one.meaning}; images alone", archive="image")
            made[images.name] = images
    return made


def adaptations(frozen: Method, theory: str | None = None) -> tuple[Method, ...]:
    """The ways of adapting one pretrained encoder to labels; `theory` predicts the fine-tuned one."""
    name, meaning = frozen.name.removesuffix("-frozen"), frozen.meaning.partition(";")[0]
    tuned = {"tuning": "cross-validated", "theory": None}
    moved = {**tuned, "trainer": ENCODER + "finetuned"}
    ways = (
        ("frozen-ridge", "frozen, ridge probe, penalty tuned", "frozen", tuned),
        ("frozen-mlp", "frozen, an MLP head, tuned", "frozen-mlp", moved),
        ("partial", "the last block and a head adapted to the labels", "partial", moved),
        ("finetuned", "fine-tuned on the labels", "finetuned", {**moved, "theory": theory}),
    )
    return (frozen, *(
        replace(frozen, name=f"{name}-{way}", meaning=f"{meaning}; {what}", adaptation=adaptation, **changed)
        for way, what, adaptation, changed in ways
    ))


def point(
    name: str, meaning: str, target: str, against: str, predictor: str, theory: str | None
) -> tuple[Method, ...]:
    return adaptations(replace(JEPA, name=f"{name}-frozen", target=target, against_collapse=against,
                                meaning=f"{meaning}; encoders frozen, linear discriminant on top", predictor=predictor,
                                theory=theory))


def token_point(
    name: str, meaning: str, view: str, target: str, against: str, predictor: str
) -> tuple[Method, ...]:
    return adaptations(replace(JEPA, name=f"{name}-frozen", view=view, target=target, against_collapse=against,
                                meaning=f"{meaning}; encoder frozen, linear discriminant on top", predictor=predictor,
                                theory=None, reads="tokens", curriculum=CURRICULA.get(name, ()),
                                **_OWN.get(name, {})))


def trajectories() -> tuple[Method, ...]:
    """An arm a curriculum of trajectory training: clin-jepa, clin-jepa-NAME for its ablations; each that begins with
    phase 0 also as -cold, without it."""
    found = []
    for name, one in curricula.CURRICULA.items():
        if name == "no-phase0":  # clin-jepa-cold
            continue
        arm = "clin-jepa" if name == "clin-jepa" else f"clin-jepa-{name}"
        whole = Method(arm, f"trajectories of whole stays: {one.meaning}; frozen", "simlab.trajectories.arms:train",
                       view="next-step", target="ema", predictor="transformer", encoder="mlp", reads="stays",
                       search=(), trajectory=name)
        found.append(whole)
        if len(one.stages) > 1 and one.stages[0].objective == "phase0":
            found.append(replace(whole, name=f"{arm}-cold", trajectory=f"{name}{COLD}", meaning=f"as {arm}, from a "
                                 "random encoder (no phase 0)"))
    return tuple(found)


def outside(frozen: Method) -> tuple[Method, ...]:
    """A point's arms that use unlabelled records of the target (docs/methods/target.md)."""
    name, meaning = frozen.name.removesuffix("-frozen"), frozen.meaning.partition(";")[0]
    told = {"continued": "pretraining continued on the target's records",
            "pooled": "pretrained on source and target together"}
    made = []
    for way in adaptations(frozen)[::4]:  # frozen and fine-tuned
        end = way.name.removeprefix(f"{name}-")
        made += [replace(way, name=f"{name}-{what}-{end}", outside=what, theory=None,
                         meaning=f"{meaning}; {words}, {end}") for what, words in told.items()]
        trainer = "simlab.training.target:" + ("coral_probe" if end == "frozen" else "coral_finetuned")
        made.append(replace(way, name=f"{name}-coral-{end}", outside="shown", theory=None, trainer=trainer,
                            meaning=f"{meaning}; aligned with target records (CORAL), {end}"))
    return tuple(made)


def curriculum(method: Method) -> curricula.Curriculum:
    """That of an arm that reads whole stays; NAME-cold is NAME without phase 0. Raises UnknownName."""
    name = method.trajectory.removesuffix(COLD)
    found = curricula.find(name)
    return replace(found.without("phase0"), name=method.trajectory) if name != method.trajectory else found
