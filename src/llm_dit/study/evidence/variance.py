"""Where the noise of a comparison comes from: other seeds (A/A), and prompts against seeds against the rest.

Scores are matrices (prompts, seeds) with NaN where there is none. Nothing here tests anything; statistics.py does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llm_dit.study.evidence.statistics import RESAMPLES, mean_interval, spread


def mean_of_seeds(scores: np.ndarray) -> np.ndarray:
    """A prompt's mean over the seeds that have a score: (prompts, seeds) to (prompts,), NaN for none."""
    known = np.isfinite(scores)
    count = known.sum(axis=1)
    total = np.where(known, scores, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(scores), np.nan), where=count > 0)


def seed_sd(scores: np.ndarray) -> float:
    """Standard deviation of one picture's score around its prompt's mean, pooled over prompts; NaN for single seeds."""
    known = np.isfinite(scores)
    freedom = (known.sum(axis=1) - 1).clip(min=0).sum()
    if freedom == 0:
        return float("nan")
    off = np.where(known, scores - mean_of_seeds(scores)[:, None], 0.0)
    off[np.abs(off) < 1e-12 * np.abs(np.where(known, scores, 0.0)).max()] = 0.0  # rounding of the mean
    return float(np.sqrt((off**2).sum() / freedom))


def tie_band(sd: float, seeds_a: float, seeds_b: float) -> float:
    """epsilon: one standard deviation of the difference of two means of a prompt that differ in their seeds alone.

    sd sqrt(1 / seeds_a + 1 / seeds_b), with sd from seed_sd. 0 when sd is not known: then only equal scores tie.
    """
    return sd * math.sqrt(1 / seeds_a + 1 / seeds_b) if math.isfinite(sd) and seeds_a and seeds_b else 0.0


@dataclass(frozen=True)
class AgainstItself:
    """An arm's later seeds minus its earlier ones: delta, its 95 % interval, sd over prompts. first, second: seeds."""

    prompts: int
    delta: float
    interval: tuple[float, float]
    sd: float
    first: int
    second: int


def against_itself(scores: np.ndarray, resamples: int = RESAMPLES) -> AgainstItself | None:
    """The A/A comparison of one arm. Seeds are split in their order, the first half rounded up; None for one seed."""
    used = scores[:, np.isfinite(scores).any(axis=0)]
    first = math.ceil(used.shape[1] / 2)
    d = mean_of_seeds(used[:, first:]) - mean_of_seeds(used[:, :first])
    d = d[np.isfinite(d)]
    if len(d) == 0:
        return None
    low, high = mean_interval(d, resamples)
    return AgainstItself(len(d), float(d.mean()), (float(low), float(high)), spread(d), first, used.shape[1] - first)


@dataclass(frozen=True)
class Components:
    """Variances of a paired difference d(prompt, seed): two-way random effects, one picture a cell. At least 0 each.

    seed_by_chance: the seeds' mean square is no larger than F lets it be at 5 % when seeds have no effect in common.
    """

    prompt: float
    seed: float
    residual: float
    prompts: int
    seeds: int
    seed_by_chance: bool = False

    @property
    def total(self) -> float:
        return self.prompt + self.seed + self.residual

    def squared_error(self, prompts: float, seeds: float) -> float:
        """Squared standard error of the mean difference over so many prompts and seeds, both drawn anew."""
        return self.prompt / prompts + self.seed / seeds + self.residual / (prompts * seeds)


def components(differences: Sequence[np.ndarray]) -> Components | None:
    """From the paired differences (prompts, seeds) of each arm, by ANOVA mean squares, averaged over the arms.

    residual = MSE; prompt = (MSP - MSE) / seeds; seed = (MSS - MSE) / prompts; what comes out negative is 0. Of each
    arm, prompts that have a difference for every seed count. None without 2 such prompts and 2 seeds in any arm.
    """
    from scipy.stats import f

    found = []
    for d in differences:
        whole = d[:, np.isfinite(d).any(axis=0)]
        whole = whole[np.isfinite(whole).all(axis=1)]
        p, s = whole.shape
        if p < 2 or s < 2:
            continue
        of_prompt, of_seed, mean = whole.mean(axis=1), whole.mean(axis=0), whole.mean()
        rest = whole - of_prompt[:, None] - of_seed + mean
        error = (rest**2).sum() / ((p - 1) * (s - 1))
        by_prompt = s * ((of_prompt - mean) ** 2).sum() / (p - 1)
        by_seed = p * ((of_seed - mean) ** 2).sum() / (s - 1)
        found.append(((by_prompt - error) / s, (by_seed - error) / p, error, p, s))
    if not found:
        return None
    prompt, seed, residual, p, s = np.mean(found, axis=0)
    limit = f.ppf(0.95, s - 1, (s - 1) * (p - 1))
    chance = bool(residual + p * seed <= limit * residual)
    return Components(max(0.0, float(prompt)), max(0.0, float(seed)), float(residual), round(p), round(s), chance)


def advice(c: Components) -> str:
    """Which of more prompts and more seeds halves the standard error with fewer pictures, in one sentence.

    A seed's effect on all prompts alike counts only when it is more than chance: two or three seeds show one often.
    """
    if c.seed_by_chance:
        c = replace(c, seed=0.0)
    goal = c.squared_error(c.prompts, c.seeds) / 4
    if goal <= 0:
        return "nothing varies: neither more prompts nor more seeds would change the result"
    by_prompts = _needed(c.prompt + c.residual / c.seeds, goal - c.seed / c.seeds)
    by_seeds = _needed(c.seed + c.residual / c.prompts, goal - c.prompt / c.prompts)
    ways = {
        "more prompts": (by_prompts, c.seeds, f"{by_prompts} prompts x {c.seeds} seeds"),
        "more seeds": (c.prompts, by_seeds, f"{c.prompts} prompts x {by_seeds} seeds"),
    }
    costs = {name: n * m if n and m else math.inf for name, (n, m, _) in ways.items()}
    best, other = sorted(ways, key=lambda name: costs[name])  # stable: prompts, where both cost the same
    if math.isinf(costs[best]):
        return "more prompts and more seeds together: neither alone can halve the standard error"
    told = f"{best}: {ways[best][2]} ({costs[best]} pictures an arm) halve the standard error"
    if math.isinf(costs[other]):
        return f"{told}; no number of {other.removeprefix('more ')} alone can"
    return f"{told}; {other} take {ways[other][2]} ({costs[other]} pictures)"


def _needed(variance: float, goal: float) -> int:
    """The least n with variance / n <= goal, 0 when there is none."""
    return math.ceil(variance / goal - 1e-9) if goal > 1e-15 else 0
