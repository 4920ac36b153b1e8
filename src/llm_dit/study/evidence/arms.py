"""The arms of a report: every cell of one or several sweeps, what it was asked to be, what is there of it.

An arm is a cell as a reader sees it. Labels come from what ran; only a cell that has not run yet is told by what was
asked for. analysis.py compares arms, this module finds and names them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.records.schema import SweepLine
from llm_dit.study.axes import is_number, label_of, read_value, same, typed
from llm_dit.study.store import SweepFolder


@dataclass(eq=False)
class Arm:
    """One cell. axes: swept keys to values, numbers as numbers. rows: of the long table, one a picture.

    status: complete, failed or unfinished. asked: pictures it is meant to have; None when nobody knows. drawn_as: the
    identity of every setting that can change a picture. model: the settings that name its weights.
    """

    id: str
    axes: dict[str, Any]
    sweep: str = ""
    cell: str | None = None
    status: str = "complete"
    error: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: int | None = None
    label: str = ""
    drawn_as: str | None = None
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Seeds of its pictures, in order."""
        return list(dict.fromkeys(row["seed"] for row in self.rows))

    def scores(self, column: str, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """A column as a matrix (prompts, seeds); NaN where there is no picture, no score, or one that is not finite."""
        rows, columns = {p: i for i, p in enumerate(prompts)}, {s: i for i, s in enumerate(seeds)}
        matrix = np.full((len(prompts), len(seeds)), np.nan)
        for row in self.rows:
            value = row.get(column)
            if is_number(value) and np.isfinite(value):
                matrix[rows[row["prompt_id"]], columns[row["seed"]]] = value
        return matrix

    def mean(self, column: str) -> float:
        """Mean of a column over pictures; NaN for none."""
        values = [row[column] for row in self.rows if is_number(row.get(column))]
        return float(np.mean(values)) if values else float("nan")


def read_arms(folders: Sequence[SweepFolder]) -> list[Arm]:
    """The arms of some sweeps: cells in the order asked for, then those of earlier commands. Ids and labels differ."""
    arms = [arm for folder in folders for arm in _arms_of(folder)]
    name_apart(arms)
    return arms


def name_apart(arms: Sequence[Arm]) -> None:
    """Set every label, and tell arms of one id by SWEEP/ID, of one label by their sweep or cell behind it."""
    taken = Counter(arm.id for arm in arms)
    for arm in arms:
        if taken[arm.id] > 1:
            arm.id = f"{arm.sweep}/{arm.id}"
        arm.label = label_of(arm.axes) or arm.sweep or arm.id
    for name in ("sweep", "id"):
        groups: dict[str, set[str]] = {}
        for arm in arms:
            groups.setdefault(arm.label, set()).add(getattr(arm, name))
        for arm in arms:
            if len(groups[arm.label]) > 1:
                arm.label += f" ({getattr(arm, name)})"


def find_baseline(arms: Sequence[Arm], asked: str | None, named: dict[str, Any]) -> tuple[Arm | None, list[str]]:
    """The arm that others are compared with, and warnings.

    asked: an arm as 'a=1, b=2', by label or by id; it may leave axes out. named: sweep.json's baseline, axis to value.
    Without either, or when no arm is the one named, the first arm that has pictures. Raises ConfigError for an unknown
    arm asked for.
    """
    if asked is not None:
        exact = [arm for arm in arms if asked.strip() in (arm.id, arm.label)]
        wanted = dict(re.findall(r"([^\s=,][^=,]*)=(.*?)(?=,\s*[\w./+~-]+=|$)", asked.strip(), re.DOTALL))
        found = exact or ([arm for arm in arms if _is(arm, wanted)] if wanted else [])
        if not found:
            raise ConfigError(
                f"report.baseline={asked}: no such arm. {nearest(asked, [a.label for a in arms])}".strip()
            )
        return _drawn(found)
    found = [arm for arm in arms if _is(arm, named)] if named else []
    if found:
        return _drawn(found)
    first = next((arm for arm in arms if arm.rows), None)
    warnings = []
    if named and first:
        warnings.append(f"no arm is the study's baseline {label_of(named)}; compared with {first.label} instead")
    return first, warnings


def _drawn(found: Sequence[Arm]) -> tuple[Arm, list[str]]:
    """The first of some arms that has pictures, else the first, and a warning."""
    best = next((arm for arm in found if arm.rows), found[0])
    return best, [] if best.rows else [f"the baseline {best.label} has no pictures"]


def _is(arm: Arm, wanted: dict[str, Any]) -> bool:
    return all(key in arm.axes and same(arm.axes[key], value) for key, value in wanted.items())


def _arms_of(folder: SweepFolder) -> list[Arm]:
    from llm_dit.study.table import rows

    sweep, table = folder.read(), {}
    for row in rows(folder):
        table.setdefault(row["cell"], []).append(row)
    there = []
    for cell in folder.cells():
        done, failed = cell.read("cell.json") or {}, cell.read("failed.json") or {}
        mine = table.get(cell.id, [])
        labels = done.get("labels") or failed.get("labels") or (cell.records()[0]["axes"] if mine else None)
        if labels is None and not done:
            continue  # a folder in which nothing has happened yet is told by what was asked for
        status = "complete" if done else "failed" if failed else "unfinished"
        axes = {key: typed(value) for key, value in (labels or {}).items()}
        error = failed.get("error") if status == "failed" else None
        config = done.get("config") or next(iter(cell.lines("records.jsonl", SweepLine)), {}).get("config") or {}
        there.append(
            Arm(
                *(cell.id, axes, folder.path.name, cell.id, status, error, mine, done.get("pictures")),
                # A cell is named by its identity, and by a hash of what else was swept: IDENTITY or IDENTITY-HASH.
                drawn_as=cell.id.partition("-")[0],
                model=config.get("model") or {},
            )
        )
    places = [_place(arm.axes) for arm in there]
    drawn: dict[Hashable, list[Arm]] = {}
    for arm, place in zip(there, places, strict=True):
        drawn.setdefault(place, []).append(arm)
    ordered: list[Arm] = []
    known: set[Hashable] = set()
    for number, labels in enumerate(sweep.get("cells", [])):
        axes = {key: typed(value) for key, value in labels.items()}
        place = _place(axes)
        if place not in known:
            known.add(place)
            asked = Arm(f"asked-{number + 1}", axes, folder.path.name, None, "unfinished")
            ordered += drawn.get(place, [asked])
    ordered += [arm for arm, place in zip(there, places, strict=True) if place not in known]
    # What a cell that is not finished is meant to have is what most finished ones have.
    usual = Counter(arm.asked for arm in ordered if arm.asked).most_common(1)
    for arm in ordered:
        arm.asked = arm.asked or (usual[0][0] if usual else None)
    return ordered


def _place(axes: dict[str, Any]) -> Hashable:
    """Axes as a key of a dict: equal for those that `same` finds to be one."""

    def hashable(value: Any) -> Hashable:
        if isinstance(value, dict):
            return frozenset((k, hashable(v)) for k, v in value.items())
        return tuple(hashable(v) for v in value) if isinstance(value, list) else value

    return frozenset((key, hashable(read_value(value))) for key, value in axes.items())
