"""The named arms of a comparison, each a point on the axes. Imports no array module: a method is strings and numbers.

A method is a frozen dataclass; the function that trains it is named as `module:function` and imported only when it
runs. A new method is one line here, or `simlab.register(Method(...))` in a plug-in. docs/methods.md explains each.
"""

from __future__ import annotations

from dataclasses import replace

from simlab.errors import OutOfDomain, unknown
from simlab.training import curricula
from simlab.training.method import Method, Phase

__all__ = ["METHODS", "Method", "Phase", "add", "find"]

_BASELINE = "simlab.training.baselines:"
_SEQUENCE = "simlab.training.sequence:"
_UNLABELLED = "simlab.training.unlabelled:"
_ENCODER = "simlab.training.arms:"
COLD = "-cold"  # of a curriculum: without its phase 0
_EXACT = "simlab.training.token_ridge:"
_JEPA = Method(
    "jepa-frozen",
    "cross-modal JEPA (EMA target, predictor); encoders frozen, linear discriminant on top",
    _ENCODER + "frozen_probe",
    tuning="none",
    view="cross-modal",
    target="ema",
    predictor="mlp",
    theory="cross_modal",
)
_VICREG = Method(
    "vicreg-frozen",
    "cross-modal JEPA with a VICReg target; encoders frozen, linear discriminant on top",
    _ENCODER + "frozen_probe",
    tuning="none",
    view="cross-modal",
    target="online",
    against_collapse="vicreg",
    theory="cross_modal",
)
_SUPERVISED = Method(
    "supervised",
    "both modalities from labels alone, regularisation tuned inside the labels",
    _ENCODER + "supervised",
    adaptation="scratch",
    theory="supervised_tuned",
)

# Points on the pretraining axes, each with the adaptations NAME-frozen, -frozen-ridge, -frozen-mlp, -partial,
# -finetuned. docs/methods/ has a page for each. `theory`: CCA, where what keeps the embedding apart whitens it.
_POINTS = (
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
_TOKEN_POINTS = (
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


def _archives(known: dict[str, Method]) -> dict[str, Method]:
    """The points fine-tuned exactly, and those whose archive is of images alone: what labels bring is new to them."""
    exact = [replace(known[f"{name}-finetuned"], name=f"{name}-exact", trainer=_EXACT + "finetuned",
                     meaning=known[f"{name}-finetuned"].meaning + ", solved exactly (linear token encoders)")
             for name in _EXACTLY]
    made = {method.name: method for method in exact}
    for name in _IMAGES:
        for one in (known[f"{name}-finetuned"], *filter(None, [made.get(f"{name}-exact")])):
            images = replace(one, name=f"image-{one.name}", meaning=f"{one.meaning}; images alone", archive="image")
            made[images.name] = images
    return made


def _adaptations(frozen: Method, theory: str | None = None) -> tuple[Method, ...]:
    """The ways of adapting one pretrained encoder to labels; `theory` predicts the fine-tuned one."""
    name, meaning = frozen.name.removesuffix("-frozen"), frozen.meaning.partition(";")[0]
    tuned = {"tuning": "cross-validated", "theory": None}
    moved = {**tuned, "trainer": _ENCODER + "finetuned"}
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


def _point(
    name: str, meaning: str, target: str, against: str, predictor: str, theory: str | None
) -> tuple[Method, ...]:
    return _adaptations(replace(_JEPA, name=f"{name}-frozen", target=target, against_collapse=against,
                                meaning=f"{meaning}; encoders frozen, linear discriminant on top", predictor=predictor,
                                theory=theory))


def _token_point(
    name: str, meaning: str, view: str, target: str, against: str, predictor: str
) -> tuple[Method, ...]:
    return _adaptations(replace(_JEPA, name=f"{name}-frozen", view=view, target=target, against_collapse=against,
                                meaning=f"{meaning}; encoder frozen, linear discriminant on top", predictor=predictor,
                                theory=None, reads="tokens", curriculum=CURRICULA.get(name, ()),
                                **_OWN.get(name, {})))


def _trajectories() -> tuple[Method, ...]:
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


def _outside(frozen: Method) -> tuple[Method, ...]:
    """A point's arms that use unlabelled records of the target (docs/methods/target.md)."""
    name, meaning = frozen.name.removesuffix("-frozen"), frozen.meaning.partition(";")[0]
    told = {"continued": "pretraining continued on the target's records",
            "pooled": "pretrained on source and target together"}
    made = []
    for way in _adaptations(frozen)[::4]:  # frozen and fine-tuned
        end = way.name.removeprefix(f"{name}-")
        made += [replace(way, name=f"{name}-{what}-{end}", outside=what, theory=None,
                         meaning=f"{meaning}; {words}, {end}") for what, words in told.items()]
        trainer = "simlab.training.target:" + ("coral_probe" if end == "frozen" else "coral_finetuned")
        made.append(replace(way, name=f"{name}-coral-{end}", outside="shown", theory=None, trainer=trainer,
                            meaning=f"{meaning}; aligned with target records (CORAL), {end}"))
    return tuple(made)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *_adaptations(_JEPA, "cross_modal_finetuned"),
        *_adaptations(_VICREG, "cross_modal_finetuned"),
        _SUPERVISED,
        replace(
            _SUPERVISED,
            name="supervised-unregularised",
            tuning="none",
            theory="supervised",
            meaning="both modalities from labels alone, no regularisation",
        ),
        replace(
            _SUPERVISED,
            name="image-only",
            streams="image",
            theory=None,
            meaning="the first modality alone, regularisation tuned",
        ),
        replace(
            _SUPERVISED,
            name="clinical-only",
            streams="clinical",
            theory=None,
            meaning="the second modality alone, regularisation tuned",
        ),
        Method(
            "lda",
            "linear discriminant on all features, no regularisation",
            _BASELINE + "lda",
            encoder="identity",
            adaptation="closed-form",
            tuning="none",
            theory="supervised",
        ),
        Method(
            "ridge",
            "ridge regression of the label on all features, penalty tuned",
            _BASELINE + "ridge",
            encoder="identity",
            adaptation="closed-form",
            theory="supervised_tuned",
        ),
        Method(
            "logistic",
            "penalised logistic regression on all features, penalty tuned",
            _BASELINE + "logistic",
            encoder="identity",
            adaptation="closed-form",
            search=(),  # its own grid
        ),
        Method(
            "lightgbm",
            "gradient-boosted trees on all features",
            _BASELINE + "lightgbm",
            encoder="identity",
            adaptation="closed-form",
            search=(),  # its own grid
        ),
        Method(
            "cca-lda",
            "first k canonical pairs of the unlabelled records, then linear discriminant",
            _BASELINE + "cca_lda",
            encoder="identity",
            adaptation="closed-form",
            tuning="none",
            search=("width",),
            theory="cross_modal",
        ),
        *(
            Method(
                name,
                f"{what} of the same unlabelled records, then {then}",
                _UNLABELLED + function,
                encoder="identity",
                adaptation="closed-form",
                tuning=tuning,
                search=search,
            )
            for name, what, then, function, tuning, search in (
                ("pca-ridge", "k principal components of each view", "ridge, penalty tuned", "pca_ridge",
                 "cross-validated", ("width", "penalty")),
                ("factor-ridge", "k factors (factor analysis) of both views", "ridge, penalty tuned", "factor_ridge",
                 "cross-validated", ("width", "penalty")),
                ("unlabelled-lda", "linear discriminant with the covariance", "the labels' class means",
                 "unlabelled_lda", "none", ()),
                ("self-training", "tuned ridge, then pseudo-labels", "ridge on both", "self_training",
                 "cross-validated", None),
            )
        ),
        *_outside(_JEPA),
        *_outside(_VICREG),
        Method("coral-ridge", "features aligned with unlabelled target records (CORAL), ridge, penalty tuned",
               "simlab.training.target:coral_ridge", encoder="identity", adaptation="closed-form", outside="shown"),
        *(method for point in _POINTS for method in _point(*point)),
        *(method for point in _TOKEN_POINTS for method in _token_point(*point)),
        replace(
            _SUPERVISED,
            name="supervised-tokens",
            meaning="the token encoder from labels alone, regularisation tuned",
            reads="tokens",
            theory=None,
        ),
        *(
            replace(_SUPERVISED, name=name, meaning=f"the token encoder from labels alone, {what}", reads="tokens",
                    theory=None, **own)
            for name, what, own in (
                ("supervised-tokens-unregularised", "no regularisation", {"tuning": "none"}),
                ("image-only-tokens", "the first modality alone, regularisation tuned", {"streams": "image"}),
                ("clinical-only-tokens", "the second modality alone, regularisation tuned", {"streams": "clinical"}),
            )
        ),
        *(
            Method(f"{name}-{how}", f"{meaning}, {what}; then fine-tuned", f"{where}:{how.replace('-', '_')}",
                   adaptation="scratch", reads="tokens")
            for name, meaning, where in (
                ("label-pretrained", "the token encoder from further labels", "simlab.training.incomplete"),
                ("label-ridge", "linear token encoders from further labels, exactly", _EXACT.removesuffix(":")))
            for how, what in (("zero-filled", "zeros in the place of the second modality"),
                              ("masked", "the second modality absent"),
                              ("complete", "both modalities there (a ceiling)"))
        ),
        *(
            Method(name, f"ridge on what {what} hold, penalty tuned", _EXACT + "scratch", streams=streams,
                   adaptation="scratch", reads="tokens")
            for name, what, streams in (("tokens-ridge", "the tokens", "all"),
                                        ("image-tokens-ridge", "the first modality's tokens", "image"))
        ),
        Method(
            "random-tokens",
            "the token encoder at its random initialisation, frozen, ridge probe (a floor)",
            _ENCODER + "frozen_probe",
            reads="tokens",
        ),
        *(
            Method(name, f"{what} on the hours themselves, from labels alone, tuned", _SEQUENCE + "classifier",
                   encoder=name, adaptation="scratch", reads="hours")
            for name, what in (("gru", "a gated recurrent network"), ("tcn", "a temporal convolution"),
                               ("transformer", "a transformer"))
        ),
        *_trajectories(),
        *(
            Method(name, f"{what} on what was measured and when, never a value (a floor)", _BASELINE + trainer,
                   encoder="identity", adaptation="closed-form", reads="mask")
            for name, what, trainer in (("mask-only", "penalised logistic regression", "logistic"),
                                        ("mask-only-lightgbm", "gradient-boosted trees", "lightgbm"))
        ),
        Method(
            "random-encoder",
            "encoders at their random initialisation, frozen, ridge probe (a floor)",
            _ENCODER + "frozen_probe",
        ),
        Method(
            "raw-probe",
            "a ridge probe, penalty tuned, on the raw features (a floor)",
            _ENCODER + "frozen_probe",
            encoder="identity",
        ),
    )
}

METHODS |= _archives(METHODS)

WAYS = {
    "frozen": "encoders frozen, linear discriminant",
    "frozen-ridge": "frozen, ridge probe, penalty tuned",
    "frozen-mlp": "frozen, an MLP head, tuned",
    "partial": "last block and head adapted, tuned",
    "finetuned": "everything adapted, tuned",
}


def listed() -> list[tuple[str, str]]:
    """Every method as (name, meaning); a point that has all adaptations is one line, NAME-WAY."""
    found: list[tuple[str, str]] = []
    for name, method in METHODS.items():
        base, way = next(((name.removesuffix(f"-{w}"), w) for w in sorted(WAYS, key=len, reverse=True)
                          if name.endswith(f"-{w}")), (name, ""))  # fmt: skip
        if not way or any(f"{base}-{w}" not in METHODS for w in WAYS):
            found.append((name, method.meaning))
        elif way == "frozen":
            found.append((f"{base}-WAY", method.meaning.partition(";")[0]))
    return found


def find(name: str) -> Method:
    """The method of this name. Raises UnknownName with the nearest names."""
    if name not in METHODS:
        raise unknown("method", name, list(METHODS), "docs/methods.md describes each.")
    return METHODS[name]


def add(method: Method) -> None:
    """Register a method (what `simlab.register` calls). A name that is taken is refused."""
    if METHODS.get(method.name, method) != method:
        raise OutOfDomain(f"method {method.name} exists already; choose another name.")
    METHODS[method.name] = method
