"""Do the report's numbers keep their promises? Synthetic studies with a known truth, through the code that reports use:

    uv run python experiments/bench/statistics_truth.py [--runs 2000] [--seed 0]

coverage    share of studies whose 95 % interval of the mean difference holds the true one; 93 to 97 % is the aim
familywise  share of studies without any effect in which Holm's sign-flip tests name some arm; at most 5 %
power       share in which one test at 5 % finds an effect of the detectable size (2.8 sd / sqrt(n)); about 80 %

A study is a baseline and some arms, prompts x seeds of scores each, paired by prompt and seed. Kinds of scores: normal;
thirds, the share of three things that are there, with most prompts at the ceiling; skewed and heavy, whose effects
differ between prompts by a log-normal and by Student's t with 4 degrees of freedom, which are hard for any interval.
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np

from llm_dit.study.evidence import statistics
from llm_dit.study.evidence.variance import mean_of_seeds
from llm_dit.study.evidence.versus import pair

SEEDS = 3
KINDS = ("normal", "thirds", "skewed", "heavy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for kind in KINDS:
        for prompts in (statistics.MIN_PROMPTS, 36, 100):
            begin = time.perf_counter()
            with_one, without = (
                coverage(kind, given.runs, prompts, seed=given.seed, effect=effect) for effect in (0.3, 0.0)
            )
            errors = {arms: familywise(kind, given.runs, prompts, arms, seed=given.seed) for arms in (1, 5, 11)}
            print(
                f"{kind:7} {prompts:3} prompts: coverage {with_one:.1%} (no effect: {without:.1%}), familywise "
                + ", ".join(f"{e:.1%} ({arms} arms)" for arms, e in errors.items())
                + f", power {power(kind, given.runs, prompts, seed=given.seed):.1%}"
                + f"  [{time.perf_counter() - begin:.0f} s]",
                flush=True,
            )


def studies(
    kind: str, runs: int, prompts: int, arms: int, effect: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Baselines (runs, prompts, seeds), arms (runs, arms, prompts, seeds), and the true mean difference."""
    shape = (runs, arms, prompts)
    if kind == "thirds":
        easy = rng.beta(12, 1.5, (runs, prompts, 1))
        base = rng.binomial(3, np.broadcast_to(easy, (runs, prompts, SEEDS))) / 3
        factor = 1 - effect / 4
        chance = np.broadcast_to(factor * easy[:, None], (*shape, SEEDS))
        return base, rng.binomial(3, chance) / 3, -effect / 4 * 12 / 13.5
    of_prompt = rng.normal(0, 1, (runs, prompts, 1))
    base = of_prompt + rng.normal(0, 0.5, (runs, prompts, SEEDS))
    by_prompt = {
        "normal": lambda: rng.normal(0, 0.4, shape),
        "skewed": lambda: 0.4 * (rng.lognormal(0, 0.75, shape) - np.exp(0.75**2 / 2)),
        "heavy": lambda: 0.4 * rng.standard_t(4, shape),
    }[kind]()
    shared = rng.normal(0, 0.3, (runs, 1, prompts, SEEDS))  # the noise that pairing removes in part
    arm = (of_prompt + shared[:, 0])[:, None] + effect + by_prompt[..., None] + rng.normal(0, 0.4, (*shape, SEEDS))
    return base + shared[:, 0], arm, effect


def differences(base: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """Prompts' differences (prompts, runs x arms), as pair makes them of each study; studies stand side by side."""
    runs, count, prompts, seeds = arms.shape
    theirs = np.broadcast_to(base[:, None], arms.shape).reshape(-1, seeds)
    d = pair(arms.reshape(-1, seeds), theirs).d  # all prompts of all studies as rows of one
    return d.reshape(runs * count, prompts).T


def coverage(kind: str, runs: int, prompts: int, resamples: int = 10_000, seed: int = 0, effect: float = 0.3) -> float:
    base, arms, true = studies(kind, runs, prompts, 1, effect, np.random.default_rng([seed, prompts, 1]))
    low, high = statistics.mean_interval(differences(base, arms), resamples)
    rounding = 1e-6  # scores in thirds have intervals that end at the truth itself
    return float(np.mean((low <= true + rounding) & (true <= high + rounding)))


def familywise(kind: str, runs: int, prompts: int, arms: int, resamples: int = 10_000, seed: int = 0) -> float:
    base, drawn, _ = studies(kind, runs, prompts, arms, 0.0, np.random.default_rng([seed, prompts, 2]))
    ps = statistics.sign_flip_p(differences(base, drawn), resamples).reshape(runs, arms)
    statistics.holm(ps[0])  # loads what it needs
    gc.freeze()  # statsmodels collects garbage with every correction, among all that was loaded
    try:
        return float(np.mean([(statistics.holm(row) < statistics.ALPHA).any() for row in ps]))
    finally:
        gc.unfreeze()


def power(kind: str, runs: int, prompts: int, resamples: int = 10_000, seed: int = 0) -> float:
    """The effect is of the detectable size by the true sd of differences, measured on 200,000 prompts without one."""
    rng = np.random.default_rng([seed, prompts, 3])
    base, arms, _ = studies(kind, 1, 200_000, 1, 0.0, rng)
    sd = statistics.spread(mean_of_seeds(arms[0, 0] - base[0]))
    base, arms, _ = studies(kind, runs, prompts, 1, 0.0, rng)
    shifted = differences(base, arms) + statistics.detectable(sd, prompts)
    return float(np.mean(statistics.sign_flip_p(shifted, resamples) < statistics.ALPHA))


if __name__ == "__main__":
    main()
