"""The named arms of a comparison, each a point on the axes. Imports no array module: a method is strings and numbers.

A method is a frozen dataclass; the function that trains it is named as `module:function` and imported only when it
runs. A new method is one line here, or `simlab.register(Method(...))` in a plug-in. docs/methods.md explains each.
"""

from __future__ import annotations

from dataclasses import replace

from simlab.errors import OutOfDomain, unknown
from simlab.training.method import Method

__all__ = ["METHODS", "Method", "add", "find"]

_BASELINE = "simlab.training.baselines:"
_SEQUENCE = "simlab.training.sequence:"
_UNLABELLED = "simlab.training.unlabelled:"
_ENCODER = "simlab.training.arms:"
_JEPA = Method(
    "jepa-frozen",
    "cross-modal JEPA (EMA target, predictor), encoders frozen, linear discriminant on top",
    _ENCODER + "frozen_probe",
    tuning="none",
    view="cross-modal",
    target="ema",
    predictor="mlp",
    theory="cross_modal",
)
_VICREG = Method(
    "vicreg-frozen",
    "cross-modal JEPA with a VICReg target, encoders frozen, linear discriminant on top",
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

# Points on the pretraining axes, each with three adaptations: NAME-frozen, NAME-frozen-ridge, NAME-finetuned.
# docs/methods/ has a page for each. `theory`: CCA, where what keeps the embedding apart whitens it.
_POINTS = (
    ("lejepa", "LeJEPA: the two views' embeddings together, SIGReg", "online", "sigreg", "none", "cross_modal"),
    ("barlow", "Barlow Twins between the two views", "online", "barlow", "none", "cross_modal"),
    ("clip", "CLIP (InfoNCE) between the two views", "online", "contrastive", "none", None),
    ("mae", "cross-modal MAE: each view reconstructs the other's features", "input", "none", "linear", None),
    ("jepa-stopgrad", "cross-modal JEPA, stop-gradient target (no EMA)", "stop-gradient", "none", "mlp", None),
    ("unguarded", "online target with nothing against collapse (it collapses: a planted failure)", "online", "none",
     "none", None),
)


def _adaptations(
    name: str, meaning: str, target: str, against: str, predictor: str, theory: str | None
) -> tuple[Method, ...]:
    frozen = replace(
        _JEPA,
        name=f"{name}-frozen",
        meaning=f"{meaning}; encoders frozen, linear discriminant on top",
        target=target,
        against_collapse=against,
        predictor=predictor,
        theory=theory,
    )
    tuned = {"tuning": "cross-validated", "theory": None}
    return (
        frozen,
        replace(frozen, name=f"{name}-frozen-ridge", meaning=f"{meaning}; frozen, ridge probe, penalty tuned", **tuned),
        replace(
            frozen,
            name=f"{name}-finetuned",
            meaning=f"{meaning}; fine-tuned on the labels",
            trainer=_ENCODER + "finetuned",
            adaptation="finetuned",
            **tuned,
        ),
    )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _JEPA,
        replace(
            _JEPA,
            name="jepa-finetuned",
            meaning="cross-modal JEPA (EMA target, predictor), fine-tuned on the labels",
            trainer=_ENCODER + "finetuned",
            adaptation="finetuned",
            tuning="cross-validated",
            theory="cross_modal_finetuned",
        ),
        replace(
            _JEPA,
            name="jepa-frozen-ridge",
            meaning="as jepa-frozen, the probe's ridge penalty tuned (for wide encoders and few labels)",
            tuning="cross-validated",
            theory=None,
        ),
        _VICREG,
        replace(
            _VICREG,
            name="vicreg-frozen-ridge",
            meaning="as vicreg-frozen, the probe's ridge penalty tuned (for wide encoders and few labels)",
            tuning="cross-validated",
            theory=None,
        ),
        replace(
            _VICREG,
            name="vicreg-finetuned",
            meaning="cross-modal JEPA with a VICReg target, fine-tuned on the labels",
            trainer=_ENCODER + "finetuned",
            adaptation="finetuned",
            tuning="cross-validated",
            theory="cross_modal_finetuned",
        ),
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
        *(method for point in _POINTS for method in _adaptations(*point)),
        *(
            Method(name, f"{what} on the hours themselves, from labels alone, tuned", _SEQUENCE + "classifier",
                   encoder=name, adaptation="scratch", reads="hours")
            for name, what in (("gru", "a gated recurrent network"), ("tcn", "a temporal convolution"),
                               ("transformer", "a transformer"))
        ),
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
