"""Values of swept axes: as people say them, with their own types, and whether two of them are one.

A cell is labelled in text, as its axes were written on a command line or in a study's file. Which cells there are is
plan.py's and expand.py's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from decimal import Decimal
from typing import Any

from llm_dit.base.errors import ConfigError
from llm_dit.config import Config, value_at

MOST_VALUES = 100_000  # of one axis
SHORT = 12  # digits of a decimal that a person writes


def range_values(start: float, stop: float, step: float, shuffled: bool = False) -> list[int | float]:
    """The numbers of Hydra's range(start,stop,step), stop left out, counted in the decimals as written.

    Hydra adds the binary numbers, so that range(0.7,1.0,0.1) would have 0.7999999999999999 and 1.0. Raises ConfigError
    for a step of 0 and for more than 100,000 values.
    """
    first, last, by = (Decimal(repr(number)) for number in (start, stop, step))
    if not by or not all(map(Decimal.is_finite, (first, last, by))):
        raise ConfigError("a range needs finite numbers and a step other than 0.")
    count = max(0, math.ceil((last - first) / by))
    if count > MOST_VALUES:
        raise ConfigError(f"a range of {count:,} values; at most {MOST_VALUES:,} are taken.")
    whole = all(isinstance(number, int) for number in (start, stop, step))
    values = [(int if whole else float)(first + i * by) for i in range(count)]
    return random.sample(values, count) if shuffled else values


def as_written(number: float) -> float:
    """A float that differs in its last bits from a decimal of at most 12 digits as that decimal: 0.1 + 0.2 as 0.3."""
    near = float(f"{number:.{SHORT}g}")
    return near if near != number and math.isclose(near, number, rel_tol=1e-15, abs_tol=0.0) else number


def numbers_as_written(config: Config) -> Config:
    """A cell's config with every float as the decimal it stands for, so that 0.30000000000000004 and 0.3 are one."""
    return _written(config)


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return as_written(value)
    if isinstance(value, list):
        return [_written(item) for item in value]
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: _written(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    return value


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
