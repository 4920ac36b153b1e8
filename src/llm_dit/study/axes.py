"""Values of swept axes: as people say them, with their own types, and whether two of them are one.

A cell is labelled in text, as its axes were written on a command line or in a study's file. Which cells there are is
plan.py's and expand.py's.
"""

from __future__ import annotations

import json
import math
from typing import Any

from llm_dit.config import value_at


def label_of(axes: dict[str, Any], otherwise: str = "") -> str:
    """A cell as people say it: 'sampler.steps=8, guidance=none'."""
    said = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in axes.items())
    return ", ".join(said) or otherwise


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def typed(label: Any) -> Any:
    """A label as a number if it is one, else as it is."""
    if isinstance(label, str):
        try:
            value = json.loads(label)
        except ValueError:
            return label
        return value if is_number(value) and math.isfinite(value) else label
    return label


def same(a: Any, b: Any) -> bool:
    """Whether two values of an axis are one: as text, as numbers, or read as JSON, with or without quotes."""
    return str(a) == str(b) or read_value(a) == read_value(b)


def axis_value(config: dict[str, Any], key: str, label: str) -> Any:
    """A swept key's value with its own type, so that a table sorts by it; groups and lists stay labels."""
    value = value_at(config, key)
    plain = isinstance(value, bool | int | float | str) and key not in ("seed", "seeds")
    return value if plain else None if label == "null" else label


def read_value(value: Any) -> Any:
    """A value of an axis, written in JSON, YAML or Hydra's grammar, as Python has it; what is none of these as text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return read_value(text[1:-1].replace(f"\\{text[0]}", text[0]))
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "null") else text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        pass
    if text.startswith("["):
        return [read_value(item) for item in text.strip("[]").split(",")]
    return text
