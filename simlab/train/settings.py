"""The encoder settings of `python -m simlab.train`, and how `--set` pairs fill them. Imports no array module."""

from __future__ import annotations

from simlab.errors import OutOfDomain, unknown

DEFAULTS: dict[str, float | int | str] = {
    "encoder": "mlp",
    "width": 16,
    "hidden": 64,
    "steps": 600,
    "batch": 256,
    "learning_rate": 2e-3,
    "weight_decay": 1e-4,
    "finetune_steps": 100,
    "encoder_rate": 1.0,
    "token_encoder": "transformer",
    "depth": 2,
    "decay": "key",
    "missing": "masked",
    "readout": "last",
    "masked": 0.5,
    "goal": "whole",
    "coordinates": 6,
    "patch": 8,
    "volume": "patches",
}
CHOICES = {
    "encoder": ("linear", "mlp"),
    "token_encoder": ("transformer", "linear", "mlp"),
    "decay": ("key", "query", "none"),
    "missing": ("masked", "zero-filled"),
    "readout": ("last", "mean"),
    "goal": ("whole", "target"),
    "volume": ("patches", "cnn"),
}


def settings_of(pairs: list[str], known: list[str]) -> tuple[dict[str, float | int | str], dict[str, str]]:
    """Split `--set` pairs into encoder settings (typed as `DEFAULTS`) and the rest (knobs, as text).

    Raises OutOfDomain for a malformed pair or value, UnknownName for a key that is neither setting nor `known`.
    """
    settings: dict[str, float | int | str] = dict(DEFAULTS)
    rest: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.removeprefix("train.")
        if not equals or not text:
            raise OutOfDomain(f"--set {pair!r}: expected KEY=VALUE.")
        if key in DEFAULTS:
            try:
                settings[key] = type(DEFAULTS[key])(text)
            except ValueError:
                kind = type(DEFAULTS[key]).__name__
                raise OutOfDomain(f"--set {key} = {text!r}: expected a value of type {kind}.") from None
        elif key in known:
            rest[key] = text
        else:
            raise unknown("setting", key, [*DEFAULTS, *known])
    for key, allowed in CHOICES.items():
        if settings[key] not in allowed:
            raise OutOfDomain(f"--set {key} = {settings[key]!r}: expected {' or '.join(allowed)}.")
    for key, value in settings.items():
        if key in CHOICES:
            continue
        least = {"weight_decay": 0, "batch": 2, "coordinates": 2}.get(key)
        if least is not None and value < least:  # type: ignore[operator]
            raise OutOfDomain(f"--set {key} = {value}: expected at least {least}.")
        if least is None and value <= 0:  # type: ignore[operator]
            raise OutOfDomain(f"--set {key} = {value}: expected a positive number.")
    if settings["masked"] >= 1:  # type: ignore[operator]
        raise OutOfDomain(f"--set masked = {settings['masked']}: expected a share between 0 and 1.")
    return settings, rest
