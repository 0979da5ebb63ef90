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
        ),
        Method(
            "lightgbm",
            "gradient-boosted trees on all features",
            _BASELINE + "lightgbm",
            encoder="identity",
            adaptation="closed-form",
        ),
        Method(
            "cca-lda",
            "first k canonical pairs of the unlabelled records, then linear discriminant",
            _BASELINE + "cca_lda",
            encoder="identity",
            adaptation="closed-form",
            tuning="none",
            theory="cross_modal",
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
