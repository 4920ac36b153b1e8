"""Which rows make up a batch: a pure function of epoch, batch size and seed, so that resuming needs no state.

Every epoch visits every row `repeat` times. A batch has one shape and one padded length of captions, so that the
transformer needs no attention mask; the last batch of such a group may be smaller than the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llm_dit.base.seeds import seed_words

REMEMBER = 4  # epochs


class Visit(NamedTuple):
    """A row, which of its phrasings, and whether mirrored."""

    row: int
    phrasing: int
    mirrored: bool


class Order:
    """shapes: each row's shape as a number; lengths: the padded length of each phrasing of each row."""

    def __init__(self, shapes: Sequence[int], lengths: Sequence[Sequence[int]], repeat: int = 1, flip: bool = False):
        self._shapes = np.tile(np.asarray(shapes, np.int64), repeat)
        self._rows = np.tile(np.arange(len(shapes)), repeat)
        self._counts = np.tile(np.asarray([len(each) for each in lengths], np.int64), repeat)
        self._lengths = np.zeros((len(shapes), max(map(len, lengths))), np.int64)
        for row, each in enumerate(lengths):
            self._lengths[row, : len(each)] = each
        self._flip = flip
        # Where all phrasings of a row pad to one length, every epoch has the same number of batches.
        self._steady = all(len(set(each)) == 1 for each in lengths)
        self._epochs: OrderedDict[tuple[int, int, int], list[list[Visit]]] = OrderedDict()
        self._ends: dict[tuple[int, int], list[int]] = {}

    def epoch(self, number: int, batch_size: int, seed: int) -> list[list[Visit]]:
        """The batches of an epoch in order."""
        key = (number, batch_size, seed)
        if key not in self._epochs:
            self._epochs[key] = self._plan(*key)
            if len(self._epochs) > REMEMBER:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(key)
        return self._epochs[key]

    def at(self, index: int, batch_size: int, seed: int) -> list[Visit]:
        """The batch at an index that counts on from epoch to epoch."""
        if index < 0:
            raise ValueError(f"batch {index}: counted from 0")
        if self._steady:
            number, position = divmod(index, len(self.epoch(0, batch_size, seed)))
            return self.epoch(number, batch_size, seed)[position]
        ends = self._ends.setdefault((batch_size, seed), [])
        while not ends or ends[-1] <= index:
            ends.append((ends[-1] if ends else 0) + len(self.epoch(len(ends), batch_size, seed)))
        number = int(np.searchsorted(ends, index, side="right"))
        return self.epoch(number, batch_size, seed)[index - (ends[number - 1] if number else 0)]

    def _plan(self, number: int, batch_size: int, seed: int) -> list[list[Visit]]:
        generator = np.random.Generator(np.random.PCG64(seed_words(seed, number)))
        order = generator.permutation(len(self._rows))
        mirrored = generator.integers(2, size=len(order)).astype(bool) & self._flip
        # Phrasings take turns, each visit of a row from a start of its own, so that none is left out by chance.
        first = np.random.Generator(np.random.PCG64(seed_words(seed, 1, 2))).integers(1 << 30, size=len(order))
        phrasings = (first + number) % self._counts
        group = self._shapes * (1 << 32) + self._lengths[self._rows, phrasings]
        order = order[np.argsort(group[order], kind="stable")]
        cuts = np.flatnonzero(np.diff(group[order])) + 1
        batches = [
            part[start : start + batch_size]
            for part in np.split(order, cuts)
            for start in range(0, len(part), batch_size)
        ]
        shuffled = generator.permutation(len(batches))
        return [[Visit(int(self._rows[i]), int(phrasings[i]), bool(mirrored[i])) for i in batches[b]] for b in shuffled]
