"""The same picture drawn twice: arms that differ in nothing that may change a picture, such as hardware.threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_dit.study.axes import is_number
from llm_dit.study.evidence.arms import Arm


def repeats(arms: Sequence[Arm], columns: Sequence[str], base: Arm | None) -> list[dict[str, Any]]:
    """One entry for each arm that draws again what an earlier one drew; the baseline counts as the first.

    arms: the ids of both. pictures: of the same prompt, seed and weights in both. equal: how many of them have the
    same pixels. scores: the largest difference of each column, None where there is none. Arms without such a picture,
    as those of sweep=seeds, have no entry.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: arm is not base):
        if arm.drawn_as:
            groups.setdefault(arm.drawn_as, []).append(arm)
    found = []
    for first, *others in groups.values():
        drawn = {_picture(row): row for row in first.rows}
        for arm in others:
            pairs = [(drawn[key], row) for row in arm.rows if (key := _picture(row)) in drawn]
            if pairs:
                equal = sum(a["pixels_sha256"] == b["pixels_sha256"] for a, b in pairs)
                entry = {"arms": [first.id, arm.id], "pictures": len(pairs), "equal": equal}
                found.append(entry | {"scores": {column: _largest(pairs, column) for column in columns}})
    return found


def _picture(row: dict[str, Any]) -> tuple[Any, ...]:
    """What of a row has to be the same beside the arm's settings."""
    return row["prompt_id"], row.get("prompt"), row["seed"], row.get("transformer_fingerprint")


def _largest(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], column: str) -> float | None:
    values = [(a.get(column), b.get(column)) for a, b in pairs]
    known = [abs(a - b) for a, b in values if is_number(a) and is_number(b) and np.isfinite([a, b]).all()]
    return max(known, default=None)
