"""Timing one function against another in one run, for the scripts of this folder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """What one call takes by a clock."""
    begin = clock()
    function()
    return clock() - begin


def paired(
    rounds: int, ours: Callable[[], object], theirs: Callable[[], object], clock: Callable[[], float]
) -> list[tuple[float, float]]:
    """Seconds of both sides by a clock, round by round, each going first in turn, after one untimed round."""
    ours(), theirs()
    times = []
    for i in range(rounds):
        taken = [0.0, 0.0]
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            taken[side] = seconds((ours, theirs)[side], clock)
        times.append((taken[0], taken[1]))
    return times


def print_ratio(name: str, rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Time both in CPU seconds and print a line: medians, and the median of the rounds' ratios with its quartiles.

    Both sides of a round share what else the machine does at that time, so their ratio is steadier than either.
    """
    times = paired(rounds, ours, theirs, time.process_time)
    ratios = [a / b for a, b in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    mine, bare = (statistics.median(side) for side in zip(*times, strict=True))
    print(
        f"{name}: {mine:.4f} s, bare {bare:.4f} s, ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {rounds})",
        flush=True,
    )
