"""A function over many items by a few threads, in order, never far ahead of what is taken."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
WINDOW = 4  # items in flight for each thread


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """function(item) for each item, in order; decoding pictures lets other threads run, so it takes several."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > WINDOW * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
