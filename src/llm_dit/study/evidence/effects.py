"""What an arm's mean hides: subsets of the prompts, single axes of a factorial sweep, cost against quality."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_dit.study.axes import same
from llm_dit.study.evidence.arms import Arm
from llm_dit.study.evidence.statistics import FEW, RESAMPLES, mean_interval
from llm_dit.study.evidence.variance import mean_of_seeds

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
    note = None if n >= FEW else "one prompt" if n == 1 else f"{n} prompts: Student's interval, as if they were normal"
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
    values, means = factorial(arms), whole_prompts(scores)
    if values is None or means.shape[1] == 0:
        return []
    found, where = [], places(arms, values)
    for axis, options in with_reference_first(values, baseline).items():
        by_value = {v: means[where[axis, v]].mean(axis=0) for v in options}
        for value in options:
            d = by_value[value] - by_value[options[0]]
            ci = [None, None] if value == options[0] else list(mean_interval(d, resamples))
            found.append(
                {
                    "axis": axis,
                    "value": value,
                    "metric": metric,
                    "n_prompts": means.shape[1],
                    "mean": float(by_value[value].mean()),
                    "reference": options[0],
                    "delta_from_first": float(d.mean()),
                    "ci": ci,
                }
            )
    return found


def interactions(
    arms: Sequence[Arm],
    scores: Sequence[np.ndarray],
    baseline: dict[str, Any],
    metric: str,
    resamples: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """How far two axes do not add up: one entry for each pair of values that are not their axes' references.

    delta: what the first axis' change does at the second one's value, minus what it does at the second's reference.
    In a full factorial that is the interaction of ordinary least squares with prompts as fixed effects.
    """
    values, means = factorial(arms), whole_prompts(scores)
    if values is None or means.shape[1] == 0:
        return []
    found, where = [], places(arms, values)
    for (a, of_a), (b, of_b) in itertools.combinations(with_reference_first(values, baseline).items(), 2):
        for x, y in itertools.product(of_a[1:], of_b[1:]):
            there, here = (
                means[where[a, x] & at].mean(axis=0) - means[where[a, of_a[0]] & at].mean(axis=0)
                for at in (where[b, y], where[b, of_b[0]])
            )
            d = there - here
            entry = {"axes": [a, b], "values": [x, y], "references": [of_a[0], of_b[0]], "metric": metric}
            ci = list(mean_interval(d, resamples))
            found.append(entry | {"n_prompts": len(d), "delta": float(d.mean()), "ci": ci})
    return found


def whole_prompts(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Prompt means (arms, prompts) over what every arm has a score of, by prompt and seed, or by prompt alone."""
    cube = np.stack(scores)
    whole = np.isfinite(cube).all(axis=0)
    if whole.any():
        cube = np.where(whole, cube, np.nan)
    means = np.stack([mean_of_seeds(matrix) for matrix in cube])
    return means[:, np.isfinite(means).all(axis=0)]


def with_reference_first(values: dict[str, list[Any]], baseline: dict[str, Any]) -> dict[str, list[Any]]:
    """Each axis' values with the baseline's, where it names one of them, before the others."""

    def first(axis: str, options: list[Any]) -> list[Any]:
        named = [v for v in options if axis in baseline and same(v, baseline[axis])]
        return [*named, *(v for v in options if v not in named)]

    return {axis: first(axis, options) for axis, options in values.items()}


def places(arms: Sequence[Arm], values: dict[str, list[Any]]) -> dict[tuple[str, Any], np.ndarray]:
    """Which arms have each value of each axis, (arms,)."""
    return {(axis, v): np.array([arm.axes[axis] == v for arm in arms]) for axis, of in values.items() for v in of}


def pareto(quality: Sequence[float], cost: Sequence[float], direction: str) -> list[bool]:
    """Whether no other arm is at least as good and as cheap, and better in one. NaN, or direction none: False."""
    front = [False] * len(quality)
    if direction == "none":
        return front
    sign = -1 if direction == "lower" else 1
    known = [i for i, point in enumerate(zip(quality, cost, strict=True)) if np.isfinite(point).all()]
    best = -np.inf
    for _, mine in itertools.groupby(sorted(known, key=lambda i: cost[i]), key=lambda i: cost[i]):
        values = {i: sign * quality[i] for i in mine}
        top = max(values.values())
        if top > best:
            best = top
            for i, value in values.items():
                front[i] = value == top
    return front
