"""Seconds by stage of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """`with clock("denoise"): ...` adds to a stage. A stage inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - begin
            own = elapsed - self._inner.pop()
            self._inner[-1] += elapsed
            self.seconds[stage] = self.seconds.get(stage, 0.0) + own

    def take(self, pictures: int = 1) -> dict[str, float]:
        """The seconds since the last call, each stage divided among so many pictures."""
        taken = {stage: round(seconds / pictures, 4) for stage, seconds in self.seconds.items()}
        self.seconds.clear()
        return taken
