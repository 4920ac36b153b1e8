"""The next batch made ready while the accelerator works on this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Ahead:
    """make(step, micro) a call ahead, in one thread. make must depend on its arguments alone."""

    def __init__(self, make: Callable[[int, int], Any], accumulation: int, steps: int):
        self._make, self._accumulation, self._steps = make, accumulation, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future] | None = None

    def get(self, step: int, micro: int) -> Any:
        """What make gives; the following one is begun."""
        waiting = self._next
        made = waiting[1].result() if waiting and waiting[0] == (step, micro) else self._make(step, micro)
        following = (step, micro + 1) if micro + 1 < self._accumulation else (step + 1, 0)
        if following[0] < self._steps:
            self._next = (following, self._pool.submit(self._make, *following))
        return made

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
