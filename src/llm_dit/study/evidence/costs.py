"""What a picture of an arm costs: forwards of the transformer, or seconds where the sweep is about the hardware."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llm_dit.study.axes import is_number
from llm_dit.study.evidence.arms import Arm
from llm_dit.study.evidence.statistics import mean_interval


class Costs:
    """The cost by which arms are ranked.

    column: 'nfe', which is the same on every machine and every day; 'seconds' when a hardware key differs between the
    arms, as then the time is what was asked about. Seconds are noisy, so two arms differ in them only when their
    intervals are apart.
    """

    def __init__(self, arms: Sequence[Arm]):
        keys = {key for arm in arms for key in arm.axes if key.split(".")[0] == "hardware"}
        swept = any(len({str(arm.axes.get(key)) for arm in arms}) > 1 for key in keys)
        self.column = "seconds" if swept else "nfe"

    def interval(self, arm: Arm) -> tuple[float, float]:
        """95 % interval of an arm's seconds for a picture over its prompts; NaN under 2 prompts."""
        by_prompt: dict[str, list[float]] = {}
        for row in arm.rows:
            if is_number(row.get("seconds")):
                by_prompt.setdefault(row["prompt_id"], []).append(row["seconds"])
        low, high = mean_interval(np.array([np.mean(values) for values in by_prompt.values()]))
        return float(low), float(high)

    def levels(self, arms: Sequence[Arm | None]) -> list[float]:
        """A number for each arm, equal where arms cannot be told apart by cost; NaN for None and an unknown cost.

        Seconds: arms in the order of their intervals, a new level where one begins above all of those before.
        """
        if self.column == "nfe":
            return [math.nan if arm is None else arm.mean("nfe") for arm in arms]
        levels = [math.nan] * len(arms)
        known = {i: ends for i, arm in enumerate(arms) if arm and math.isfinite((ends := self.interval(arm))[0])}
        level, reached = 0.0, -math.inf
        for i, (low, high) in sorted(known.items(), key=lambda item: item[1]):
            level += low > reached
            reached = max(reached, high)
            levels[i] = level
        return levels
