"""A study as a file: the question, the axes, and what they are compared with.

    question: Which hidden layer of the text encoder serves best?
    settings: [prompts=starter, "seeds=[0,1,2]"]     overrides that all cells share
    axes: {encoder_layer.index: [-1, -2, -6]}        every combination of the axes is a cell
    zip:                                             axes that move together
      - {sampler.steps: [4, 8], sampler.shift: [1.0, 3.0]}
    cells:                                           single cells beside the combinations
      - {sampler.steps: 50}
    baseline: {encoder_layer.index: -2}              the cell that the others are compared with

Nothing here runs anything; expand.py makes cells of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from os.path import isfile
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.base.inputs import read_text, refuse_special
from llm_dit.base.paths import shipped_folder, user_path, visible
from llm_dit.base.yamlfile import parse_yaml
from llm_dit.compose.given import refuse_contradictions
from llm_dit.study.axes import range_values

RANGE = re.compile(r"range\(([^()]+)\)")  # an axis as one text, counted in the decimals as written


@dataclass(frozen=True)
class Study:
    """The content of a study's file. Keys are config keys or groups, values plain YAML values."""

    name: str
    question: str = ""
    settings: list[str] = field(default_factory=list)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    zip: list[dict[str, list[Any]]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    baseline: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Every key that differs between cells, in order of appearance."""
        found = [*self.axes, *(k for z in self.zip for k in z), *(k for c in self.cells for k in c)]
        return list(dict.fromkeys(found))


def sweeps_dir() -> Path:
    """The folder of the shipped studies."""
    return shipped_folder("sweeps")


def load_study(name: str) -> Study:
    """A shipped study by name, or any .yaml file by path. Raises ConfigError that names the place."""
    path = user_path(name) if name.endswith((".yaml", ".yml")) else sweeps_dir() / f"{name}.yaml"
    refuse_special(path, f"sweep={name}", ConfigError)
    if not isfile(path):
        known = [p.stem for p in visible(sweeps_dir(), "*.yaml")]
        raise ConfigError(f"sweep={name}: no such study. {nearest(name, known)}")
    values = parse_yaml(read_text(path, f"sweep={name}", ConfigError), str(path), ConfigError)
    return parse_study(path.stem, values, str(path))


def parse_study(name: str, values: Any, where: str) -> Study:
    """A study from its file's values; where is for messages."""
    known = {f.name for f in fields(Study)} - {"name"}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: a study is keys and values: {', '.join(sorted(known))}.")
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'. {nearest(str(key), known)}")
    for key, value in values.items():
        kind = {"question": str, "axes": dict, "baseline": dict}.get(key, list)
        if not isinstance(value, kind):
            said = {str: "text", dict: "keys and values", list: "a list"}[kind]
            raise ConfigError(f"{where}: '{key}' must be {said}.")
        if key in ("zip", "cells") and not all(isinstance(item, dict) for item in value):
            raise ConfigError(f"{where}: every item of '{key}' must be keys and values.")
        if key == "settings" and not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{where}: every item of 'settings' must be text such as model=nano.")
        if key == "settings":
            refuse_contradictions(value, f"{where}: settings: ")
    study = Study(name, **_with_ranges(values, where))
    for key, column in [*study.axes.items(), *(item for z in study.zip for item in z.items())]:
        if not isinstance(column, list) or not column:
            raise ConfigError(f"{where}: the axis '{key}' must be a list of values.")
    for group in study.zip:
        if len({len(column) for column in group.values()}) > 1:
            sizes = ", ".join(f"{key}: {len(column)}" for key, column in group.items())
            raise ConfigError(f"{where}: axes that are zipped need equally many values ({sizes}).")
    for key in study.baseline:
        if key not in study.keys:
            raise ConfigError(f"{where}: the baseline's '{key}' is not swept. {nearest(key, study.keys)}")
    if not study.keys:
        raise ConfigError(f"{where}: nothing is swept; give axes, zip or cells.")
    return study


def _with_ranges(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The study with each axis that is written as range(START,STOP,STEP) as its list of values."""

    def expanded(axes: dict[str, Any]) -> dict[str, Any]:
        return {key: _range(key, column, where) if isinstance(column, str) else column for key, column in axes.items()}

    found = dict(values)
    if "axes" in found:
        found["axes"] = expanded(found["axes"])
    if "zip" in found:
        found["zip"] = [expanded(group) for group in found["zip"]]
    return found


def _range(key: str, text: str, where: str) -> Any:
    """The values of range(START,STOP) or range(START,STOP,STEP); the text itself where it is none."""
    match = RANGE.fullmatch(text.strip())
    if not match:
        return text
    try:
        numbers = [float(part) if re.search(r"[.eE]", part) else int(part) for part in match[1].split(",")]
        start, stop, step = (*numbers, 1)[:3] if len(numbers) > 1 else (0, numbers[0], 1)
        return range_values(start, stop, step)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{where}: the axis '{key}': {text}: {error}") from error
