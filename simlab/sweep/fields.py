"""Typed fields of a study file: what each key may hold, and the error that names file, key, value and expectation.

A section of the file is a frozen dataclass whose fields carry their domain (an `Interval` or `Choice` of
`simlab.environments.knobs`, or None for free text). `read` turns a TOML table into the dataclass; `dump` writes nested
tables back as TOML. Imports no array module.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from simlab.environments.knobs import Choice, Interval
from simlab.errors import InvalidStudy, nearest

Domain = Interval | Choice | None
T = TypeVar("T")


def setting(default: Any, domain: Domain, meaning: str) -> Any:
    """A dataclass field with a default, the domain that a study file's value must lie in, and its meaning."""
    return dataclasses.field(default=default, metadata={"domain": domain, "meaning": meaning})


def table(raw: object, key: str) -> dict[str, Any]:
    """`raw` as a TOML table. Raises InvalidStudy naming `key` when it is something else."""
    if not isinstance(raw, Mapping):
        raise InvalidStudy(f"[{key}] must be a table of keys, not {raw!r}.")
    return dict(raw)


def known_keys(raw: Mapping[str, object], known: Sequence[str], where: str) -> None:
    """Refuse the first key of `raw` that is not known, with the nearest names. `where` names the section."""
    for key in raw:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}."
            raise InvalidStudy(f"unknown key '{key}' in {where}: {hint}")


def checked(value: object, domain: Domain, key: str) -> Any:
    """`value` in the type of its domain. Raises InvalidStudy naming the key, the value and what was expected."""
    if domain is None:
        if not isinstance(value, str):
            raise InvalidStudy(f"{key} = {value!r}: expected text in quotes.")
        return value
    if value not in domain:
        raise InvalidStudy(f"{key} = {value!r}: expected {domain}.")
    if isinstance(domain, Choice):
        return value
    return int(value) if domain.whole else float(value)  # type: ignore[call-overload]


def listed(value: object, domain: Domain, key: str) -> tuple[Any, ...]:
    """`value` as a non-empty tuple of checked items. Raises InvalidStudy."""
    if not isinstance(value, (list, tuple)) or not value:
        raise InvalidStudy(f"{key} = {value!r}: expected a list in square brackets with at least one item.")
    return tuple(checked(item, domain, key) for item in value)


def read(cls: type[T], raw: object, section: str) -> T:
    """The section's dataclass from its TOML table; every key checked against its field's domain."""
    given = table(raw, section)
    specs = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known_keys(given, list(specs), f"[{section}]")
    return cls(**{k: checked(v, specs[k].metadata["domain"], f"{section}.{k}") for k, v in given.items()})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one mapping from dotted keys to values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def dump(tree: Mapping[str, Any]) -> str:
    """Nested tables as TOML text (strings, booleans, numbers, lists; a None is left out), in the order given."""
    lines: list[str] = []

    def walk(node: Mapping[str, Any], path: tuple[str, ...]) -> None:
        plain = {k: v for k, v in node.items() if not isinstance(v, Mapping) and v is not None}
        if path and (plain or not node):
            lines.append(f"{'' if not lines else chr(10)}[{'.'.join(map(_key, path))}]")
        lines.extend(f"{_key(k)} = {_literal(v)}" for k, v in plain.items())
        for key, value in node.items():
            if isinstance(value, Mapping) and value:
                walk(value, (*path, key))

    walk(tree, ())
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _literal(key)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return repr(value)
