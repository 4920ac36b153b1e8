"""A bar on stderr, quiet when that is not a terminal."""

from __future__ import annotations

from typing import Any


class Bar:
    """with Bar("pictures", 100) as bar: ... bar.tick()"""

    def __init__(self, name: str, total: int):
        self._name, self._total = name, total
        self._bar: Any = None

    def __enter__(self) -> Bar:
        if self._total:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, desc=self._name, disable=None, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tick(self) -> None:
        if self._bar is not None:
            self._bar.update()
