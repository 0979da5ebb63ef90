"""The named arms of a comparison, each a point on the axes. Imports no array module: a method is strings and numbers.

A method is a frozen dataclass; the function that trains it is named as `module:function` and imported only when it
runs. A new method is one line here, or `simlab.register(Method(...))` in a plug-in. docs/methods.md explains each.
"""

from __future__ import annotations

from dataclasses import replace

from simlab.errors import OutOfDomain, unknown
from simlab.training.method import Method, Phase
from simlab.training.points import (
    ENCODER,
    EXACT,
    JEPA,
    POINTS,
    SUPERVISED,
    TOKEN_POINTS,
    VICREG,
    adaptations,
    archives,
    outside,
    point,
    token_point,
    trajectories,
)

__all__ = ["METHODS", "Method", "Phase", "add", "find"]

_BASELINE = "simlab.training.baselines:"
_SEQUENCE = "simlab.training.sequence:"
_UNLABELLED = "simlab.training.unlabelled:"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *adaptations(JEPA, "cross_modal_finetuned"),
        *adaptations(VICREG, "cross_modal_finetuned"),
        SUPERVISED,
        replace(
            SUPERVISED,
            name="supervised-unregularised",
            tuning="none",
            theory="supervised",
            meaning="both modalities from labels alone, no regularisation",
        ),
        replace(
            SUPERVISED,
            name="image-only",
            streams="image",
            theory=None,
            meaning="the first modality alone, regularisation tuned",
        ),
        replace(
            SUPERVISED,
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
        *outside(JEPA),
        *outside(VICREG),
        Method("coral-ridge", "features aligned with unlabelled target records (CORAL), ridge, penalty tuned",
               "simlab.training.target:coral_ridge", encoder="identity", adaptation="closed-form", outside="shown"),
        *(method for one in POINTS for method in point(*one)),
        *(method for one in TOKEN_POINTS for method in token_point(*one)),
        replace(
            SUPERVISED,
            name="supervised-tokens",
            meaning="the token encoder from labels alone, regularisation tuned",
            reads="tokens",
            theory=None,
        ),
        *(
            replace(SUPERVISED, name=name, meaning=f"the token encoder from labels alone, {what}", reads="tokens",
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
                ("label-ridge", "linear token encoders from further labels, exactly", EXACT.removesuffix(":")))
            for how, what in (("zero-filled", "zeros in the place of the second modality"),
                              ("masked", "the second modality absent"),
                              ("complete", "both modalities there (a ceiling)"))
        ),
        *(
            Method(name, f"ridge on what {what} hold, penalty tuned", EXACT + "scratch", streams=streams,
                   adaptation="scratch", reads="tokens")
            for name, what, streams in (("tokens-ridge", "the tokens", "all"),
                                        ("image-tokens-ridge", "the first modality's tokens", "image"))
        ),
        Method(
            "random-tokens",
            "the token encoder at its random initialisation, frozen, ridge probe (a floor)",
            ENCODER + "frozen_probe",
            reads="tokens",
        ),
        *(
            Method(name, f"{what} on the hours themselves, from labels alone, tuned", _SEQUENCE + "classifier",
                   encoder=name, adaptation="scratch", reads="hours")
            for name, what in (("gru", "a gated recurrent network"), ("tcn", "a temporal convolution"),
                               ("transformer", "a transformer"))
        ),
        *trajectories(),
        *(
            Method(name, f"{what} on what was measured and when, never a value (a floor)", _BASELINE + trainer,
                   encoder="identity", adaptation="closed-form", reads="mask")
            for name, what, trainer in (("mask-only", "penalised logistic regression", "logistic"),
                                        ("mask-only-lightgbm", "gradient-boosted trees", "lightgbm"))
        ),
        Method(
            "random-encoder",
            "encoders at their random initialisation, frozen, ridge probe (a floor)",
            ENCODER + "frozen_probe",
        ),
        Method(
            "raw-probe",
            "a ridge probe, penalty tuned, on the raw features (a floor)",
            ENCODER + "frozen_probe",
            encoder="identity",
        ),
    )
}

METHODS |= archives(METHODS)

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
        where = "python -m simlab.train --list names all, docs/methods.md describes each."
        raise unknown("method", name, list(METHODS), where)
    return METHODS[name]


def add(method: Method) -> None:
    """Register a method (what `simlab.register` calls). A name that is taken is refused."""
    if METHODS.get(method.name, method) != method:
        raise OutOfDomain(f"method {method.name} exists already; choose another name.")
    METHODS[method.name] = method
