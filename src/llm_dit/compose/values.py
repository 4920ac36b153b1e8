"""Values to a checked Config: unknown keys refused, types, ranges and combinations checked."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llm_dit.base.errors import ConfigError, nearest, short
from llm_dit.compose.messages import explain, options_hint, type_name, unknown_key
from llm_dit.config import Config, Rule, get, is_group, parameters, type_hints


def check(composed: DictConfig | Mapping[str, Any]) -> Config:
    """A Config from composed or recorded values: unknown keys refused, types, ranges and combinations checked."""
    try:
        values = OmegaConf.to_container(composed, resolve=True) if isinstance(composed, DictConfig) else composed
    except OmegaConfBaseException as error:
        raise explain(error) from error
    config = _build(Config, values, "")
    _check_ranges(config)
    config.check()
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """An instance of a config dataclass; absent keys keep their defaults.

    Done by hand rather than by a second OmegaConf pass, which would read '${' and '???' in a prompt as its own.
    """
    hints = type_hints(cls)
    arguments = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise ConfigError(unknown_key(key))
        if is_group(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{key} is a group of settings, not a value; {options_hint(key)}")
            arguments[name] = _build(hints[name], value, f"{key}.")
        else:
            arguments[name] = _typed(value, hints[name], key)
    return cls(**arguments)


def _typed(value: Any, annotation: Any, key: str) -> Any:
    """The value as its declared type; an integer may stand for a float, nothing else is converted."""
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if value is None and NoneType in options:
        return None
    expected = next(o for o in options if o is not NoneType)
    if get_origin(expected) is list:
        if isinstance(value, list | tuple):
            return [_typed(item, get_args(expected)[0], key) for item in value]
    elif expected is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif expected is str and isinstance(value, str):
        return _text(value, key)
    elif isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool):
        return value
    raise ConfigError(f"{key}={short(value)}: must be {type_name(annotation)}.")


def _text(value: str, key: str) -> str:
    """A text as it is. Raises ConfigError for one that no file, record or tokenizer could take."""
    if "\0" in value and not key.startswith(("prompt.", "mix.")):
        raise ConfigError(f"{key}={short(value)}: a path or a name cannot hold a NUL character.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key}={short(value)}: not valid UTF-8 (from character {error.start + 1} on); write it in UTF-8."
        ) from error
    return value


def _check_ranges(config: Config) -> None:
    for p in parameters():
        value = get(config, p.key)
        if value is None and p.optional:
            continue
        for item in value if isinstance(value, list) else [value]:
            problem = _rule_problem(item, p.rule)
            if problem:
                raise ConfigError(f"{p.key}={short(item)}: {problem}")


def _rule_problem(value: Any, rule: Rule) -> str | None:
    """What is wrong with a value under a rule, or None."""
    if rule.choices:
        if value in rule.choices:
            return None
        if value in rule.refused:
            return f"refused, because {rule.refused[value]}."
        return f"not a choice. {nearest(str(value), rule.choices)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    in_range = (
        value == value  # NaN is not
        and (rule.ge is None or value >= rule.ge)
        and (rule.gt is None or value > rule.gt)
        and (rule.le is None or value <= rule.le)
    )
    if not in_range:
        return f"out of range; {rule.describe_range()}."
    if rule.multiple_of and value % rule.multiple_of:
        down = value // rule.multiple_of * rule.multiple_of
        return f"not a multiple of {rule.multiple_of}; the nearest are {down} and {down + rule.multiple_of}."
    return None
