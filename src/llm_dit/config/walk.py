"""Going through the parameters, and through configs by dotted keys."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_dit.config.root import Config
from llm_dit.config.rule import Rule


@dataclass(frozen=True)
class Parameter:
    """A leaf of the config: its dotted key, type, default and Rule."""

    key: str
    type: type
    optional: bool
    default: Any
    rule: Rule


def type_hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of a config dataclass."""
    return typing.get_type_hints(cls)


def is_group(annotation: Any) -> bool:
    """Whether an annotation is itself a config dataclass."""
    return dataclasses.is_dataclass(annotation)


def parameters(cls: type = Config, prefix: str = "") -> Iterator[Parameter]:
    """Every leaf parameter below cls, in declaration order."""
    hints = type_hints(cls)
    for f in dataclasses.fields(cls):
        annotation = hints[f.name]
        if is_group(annotation):
            yield from parameters(annotation, f"{prefix}{f.name}.")
            continue
        optional = isinstance(annotation, types.UnionType) and type(None) in annotation.__args__
        if optional:
            annotation = next(a for a in annotation.__args__ if a is not type(None))
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()
        yield Parameter(f"{prefix}{f.name}", annotation, optional, default, f.metadata["rule"])


def get(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts."""
    *groups, leaf = key.split(".")
    for group in groups:
        values = values[group]
    values[leaf] = value


def value_at(values: dict[str, Any], key: str) -> Any:
    """The value at a dotted key of nested dicts, such as a recorded config; None where it has none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)
