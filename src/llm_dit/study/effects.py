"""What an arm's mean hides: subsets of the prompts, single axes of a factorial sweep, cost against quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_dit.study.arms import Arm, same
from llm_dit.study.statistics import RESAMPLES, mean_interval
from llm_dit.study.variance import mean_of_seeds

FEW = 6  # prompts below which an interval is the range of what was seen, little more
BINS = 3


def length_bins(tokens: Sequence[int | None]) -> list[str]:
    """Each prompt's bin by its token count: up to three bins of about as many prompts each, '12-19 tokens'.

    Prompts of one length stay together. One bin for fewer than six prompts; '' for an unknown count.
    """
    known = sorted(t for t in tokens if t is not None)
    edges: list[int] = []
    if len(known) >= 2 * BINS:
        edges = sorted({known[len(known) * i // BINS] for i in range(1, BINS)} - {known[0]})
    number = np.searchsorted(edges, [t if t is not None else -1 for t in tokens], side="right")
    names = {}
    for i in set(number.tolist()):
        inside = [t for t, j in zip(tokens, number, strict=True) if j == i and t is not None]
        if inside:
            low, high = min(inside), max(inside)
            names[i] = f"{low} tokens" if low == high else f"{low}-{high} tokens"
    return ["" if t is None else names[int(i)] for t, i in zip(tokens, number, strict=True)]


def slice_of(d: np.ndarray, resamples: int = RESAMPLES) -> dict[str, Any]:
    """A subset's difference: n_prompts, delta, ci, note. d: (n,), at least one. No p: subsets were not planned for."""
    n = len(d)
    note = (
        None if n >= FEW else "one prompt" if n == 1 else f"{n} prompts: the interval is little more than their range"
    )
    return {"n_prompts": n, "delta": float(d.mean()), "ci": list(mean_interval(d, resamples)), "note": note}


def factorial(arms: Sequence[Arm]) -> dict[str, list[Any]] | None:
    """The axes of arms that are every combination of two or more axes, each once: axis to values. None otherwise."""
    if not arms or any(arm.axes.keys() != arms[0].axes.keys() for arm in arms):
        return None
    values = {axis: list(dict.fromkeys(arm.axes[axis] for arm in arms)) for axis in arms[0].axes}
    values = {axis: found for axis, found in values.items() if len(found) > 1}
    combinations = {tuple(arm.axes[axis] for axis in values) for arm in arms}
    whole = int(np.prod([len(found) for found in values.values()])) == len(arms) == len(combinations)
    return values if len(values) >= 2 and whole else None


def main_effects(
    arms: Sequence[Arm],
    scores: Sequence[np.ndarray],
    baseline: dict[str, Any],
    metric: str,
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """One entry for each value of each axis of a full factorial: its mean over all combinations of the other axes.

    scores: each arm's (prompts, seeds). Only prompt and seed that have a score in every arm count; prompts that have
    one in every arm, when no seed is shared. baseline: the value of each axis that the others are compared with, else
    its first; it comes first. Empty when the arms are no full factorial or no prompt is left.
    """
    values = factorial(arms)
    if values is None:
        return []
    cube = np.stack(scores)
    whole = np.isfinite(cube).all(axis=0)
    if whole.any():
        cube = np.where(whole, cube, np.nan)
    means = np.stack([mean_of_seeds(matrix) for matrix in cube])
    means = means[:, np.isfinite(means).all(axis=0)]
    if means.shape[1] == 0:
        return []
    found = []
    for axis, options in values.items():
        named = [v for v in options if axis in baseline and same(v, baseline[axis])]
        reference = (named or options)[0]
        by_value = {v: means[[i for i, arm in enumerate(arms) if arm.axes[axis] == v]].mean(axis=0) for v in options}
        for value in sorted(options, key=lambda v, first=reference: v != first):
            d = by_value[value] - by_value[reference]
            ci = [None, None] if value == reference else list(mean_interval(d, resamples))
            found.append(
                {
                    "axis": axis,
                    "value": value,
                    "metric": metric,
                    "n_prompts": means.shape[1],
                    "mean": float(by_value[value].mean()),
                    "reference": reference,
                    "delta_from_first": float(d.mean()),
                    "ci": ci,
                }
            )
    return found


def pareto(quality: Sequence[float], cost: Sequence[float], direction: str) -> list[bool]:
    """Whether no other arm is at least as good and as cheap, and better in one. NaN, or direction none: False."""
    if direction == "none":
        return [False] * len(quality)
    sign = -1 if direction == "lower" else 1
    points = [(sign * q, -c) for q, c in zip(quality, cost, strict=True)]

    def beaten(p: tuple[float, float]) -> bool:
        return any(o[0] >= p[0] and o[1] >= p[1] and o != p for o in points)

    return [bool(np.isfinite(p).all()) and not beaten(p) for p in points]
