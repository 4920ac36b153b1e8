"""One arm against the baseline on one metric: pairing by prompt and seed, and every number a report tells of it.

Scores are matrices (prompts, seeds) with NaN where there is none. Corrections over several arms need all of them, so
verdicts are given by judge, afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_dit.study.evidence import statistics
from llm_dit.study.evidence.statistics import ALPHA, FALSE_DISCOVERY_RATE, MIN_PROMPTS, RESAMPLES
from llm_dit.study.evidence.variance import mean_of_seeds, tie_band

EXTREMES = 8  # best and worst prompts told of each comparison
NOTHING = (None, None)


@dataclass(frozen=True)
class Pairs:
    """What of two arms can be compared. prompts: rows that count, (n,). d, a, b: their differences and means, (n,).

    each: differences by prompt and seed (prompts, seeds), NaN where there is no pair; None when no prompt has a seed
    in common, so that means over seeds were paired by prompt alone. shown: columns of the arm's and the baseline's
    picture that stand for a prompt, those nearest d where there are pairs, (n, 2). seeds_a, seeds_b: pictures averaged
    in a prompt. left_out: scores of either arm without a partner.
    """

    prompts: np.ndarray
    d: np.ndarray
    a: np.ndarray
    b: np.ndarray
    each: np.ndarray | None
    shown: np.ndarray
    seeds_a: float
    seeds_b: float
    left_out: int

    @property
    def count(self) -> int:
        """Pairs of pictures."""
        return 0 if self.each is None else int(np.isfinite(self.each).sum())


def pair(a: np.ndarray, b: np.ndarray) -> Pairs:
    """Arm a minus baseline b, by prompt and seed; by prompt over seed means when no prompt has a seed in common."""
    known_a, known_b = np.isfinite(a), np.isfinite(b)
    if (known_a & known_b).any():
        use_a = use_b = known_a & known_b
        each = np.where(use_a, a - np.where(use_b, b, 0.0), np.nan)
    else:
        rows = (known_a.any(axis=1) & known_b.any(axis=1))[:, None]
        use_a, use_b, each = known_a & rows, known_b & rows, None
    prompts = np.flatnonzero(use_a.any(axis=1))
    mean_a = mean_of_seeds(np.where(use_a, a, np.nan))[prompts]
    mean_b = mean_of_seeds(np.where(use_b, b, np.nan))[prompts]
    d = mean_a - mean_b if each is None else mean_of_seeds(each)[prompts]
    # Means of equal scores in another order differ in their last digit, which is no difference.
    d = np.where(np.abs(d) <= 1e-12 * np.maximum(np.abs(mean_a), np.abs(mean_b)), 0.0, d)
    if each is None:
        shown = np.stack([use[prompts].argmax(axis=1) for use in (use_a, use_b)], axis=1)
    else:
        off = np.abs(each[prompts] - d[:, None])
        shown = np.repeat(np.where(np.isfinite(off), off, np.inf).argmin(axis=1)[:, None], 2, axis=1)
    seeds = [float(use.sum() / max(1, len(prompts))) for use in (use_a, use_b)]
    left_out = int(known_a.sum() + known_b.sum() - use_a.sum() - use_b.sum())
    return Pairs(prompts, d, mean_a, mean_b, each, shown, *seeds, left_out)


def compare(
    pairs: Pairs,
    ids: Sequence[str],
    seeds: Sequence[int],
    direction: str,
    noise: float,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The entry of a report without what needs the other arms: p, p_holm, p_bh, verdict.

    ids: of all prompts. seeds: of the matrices' columns.
    direction: higher, lower or none (wins are then of the higher one). noise: the baseline's seed_sd.
    """
    d, n = pairs.d, len(pairs.d)
    sign = -1 if direction == "lower" else 1
    epsilon = tie_band(noise, pairs.seeds_a, pairs.seeds_b)
    wins, ties, losses = statistics.win_counts(d, epsilon, sign)
    rate, rate_interval = statistics.win_rate(wins, ties, losses)
    sd = statistics.spread(d)
    delta = float(d.mean()) if n else None
    return {
        "n_prompts": n,
        "n_pairs": pairs.count,
        "delta": delta,
        "se": sd / np.sqrt(n) if n else None,
        "d_z": delta / sd if n > 1 and sd > 0 else None,
        "ci": list(statistics.mean_interval(d, resamples)),
        "ci_unpaired": list(statistics.unpaired_interval(pairs.a, pairs.b, resamples)),
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "win_rate": rate,
        "win_ci": list(rate_interval),
        "epsilon": epsilon,
        "p": None,
        "p_holm": None,
        "p_bh": None,
        "p_wilcoxon": statistics.wilcoxon_p(d) if n >= MIN_PROMPTS else None,
        "mde": statistics.detectable(sd, n),
        "mde_holm": None,
        "prompts_needed": None,
        **extremes(pairs, ids, seeds, sign),
    }


def extremes(pairs: Pairs, ids: Sequence[str], seeds: Sequence[int], sign: int) -> dict[str, list[dict[str, Any]]]:
    """best and worst: up to 8 prompts each, none in both, with the pictures that stand for the prompt's difference."""
    order = np.argsort(-sign * pairs.d, kind="stable")
    n = len(order)
    chosen = {"best": order[: min(EXTREMES, (n + 1) // 2)], "worst": order[::-1][: min(EXTREMES, n // 2)]}

    def told(i: int) -> dict[str, Any]:
        mine, theirs = (seeds[column] for column in pairs.shown[i])
        return {"prompt_id": ids[pairs.prompts[i]], "seed": mine, "seed_baseline": theirs, "d": float(pairs.d[i])}

    return {name: [told(i) for i in indices] for name, indices in chosen.items()}


def not_compared(note: str | None) -> dict[str, Any]:
    """The entry of an arm that has nothing in common with the baseline."""
    nothing = dict.fromkeys(("delta", "se", "d_z", "win_rate", "epsilon", "p", "p_holm", "p_bh", "p_wilcoxon"))
    counts = dict.fromkeys(("n_prompts", "n_pairs", "wins", "ties", "losses"), 0)
    intervals = {key: list(NOTHING) for key in ("ci", "ci_unpaired", "win_ci")}
    rest = {
        "mde": None,
        "mde_holm": None,
        "prompts_needed": None,
        "note": note,
        "verdict": "not compared",
        "best": [],
        "worst": [],
    }
    return nothing | counts | intervals | rest


def flip(entries: Sequence[dict[str, Any]], differences: Sequence[np.ndarray], resamples: int = RESAMPLES) -> None:
    """Give each entry of a family its p, in place, from the prompts' differences it was made from.

    The family decides how many flips there are, so that a correction for all of its tests can still be passed.
    """
    by_length: dict[int, list[int]] = {}
    for i, d in enumerate(differences):
        if len(d) >= MIN_PROMPTS:
            by_length.setdefault(len(d), []).append(i)
    flips = statistics.enough_flips(sum(map(len, by_length.values())), resamples)
    for mine in by_length.values():
        ps = statistics.sign_flip_p(np.stack([differences[i] for i in mine], axis=1), flips)
        for i, p in zip(mine, ps, strict=True):
            entries[i]["p"] = float(p)


def judge(entries: Sequence[dict[str, Any]], directions: Sequence[str], exploratory: bool) -> None:
    """Correct the p-values of a family of comparisons and give each entry its verdict and prompts_needed, in place.

    The family of the primary metric is held to 5 % by Holm, the exploratory one to a false discovery rate of 10 %.
    """
    ps = [np.nan if e["p"] is None else e["p"] for e in entries]
    adjusted = statistics.benjamini_hochberg(ps) if exploratory else statistics.holm(ps)
    key, limit = ("p_bh", FALSE_DISCOVERY_RATE) if exploratory else ("p_holm", ALPHA)
    tested = int(np.isfinite(ps).sum())
    compared = 1 if exploratory else sum(entry["n_prompts"] > 0 for entry in entries)
    for entry, direction, p in zip(entries, directions, adjusted, strict=True):
        entry["exploratory"] = exploratory
        if entry["n_prompts"] == 0:
            entry["verdict"] = "not compared"
            continue
        sd = entry["se"] * np.sqrt(entry["n_prompts"])
        entry["prompts_needed"] = statistics.prompts_needed(sd, entry["delta"], compared)
        if entry["p"] is None:
            entry["verdict"] = "too few prompts"
            continue
        entry[key] = float(p)
        if not exploratory and entry["mde"] is not None:
            entry["mde_holm"] = statistics.detectable(sd, entry["n_prompts"], tested)
        # A significant difference of mean 0 cannot be: the test is on the mean.
        better = entry["delta"] > 0 if direction == "higher" else entry["delta"] < 0
        seen = "differs" if direction == "none" else "better" if better else "worse"
        entry["verdict"] = seen if p < limit else "no difference seen"
