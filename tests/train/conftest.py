"""A small data set in memory, with the same interface as llm_dit.train.data.dataset."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch


@dataclass
class MemoryData:
    """latents [n, 16, h, w] and captions [tokens, features] in memory; batch() is a pure function of its arguments."""

    latents: torch.Tensor
    captions: list[torch.Tensor]
    empty_embeds: torch.Tensor
    fingerprint: str = "memory"
    problems: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.latents)

    def batch(self, step, micro, batch_size, seed, rank, world):
        rng = np.random.default_rng((seed, step, micro, rank))
        chosen = rng.choice(self.count, batch_size, replace=False).tolist()
        return SimpleNamespace(
            latents=self.latents[chosen], embeds=[self.captions[i] for i in chosen], ids=[str(i) for i in chosen]
        )


def make_data(count: int = 4, tokens: int = 9, empty: int = 5, side: int = 8) -> MemoryData:
    g = torch.Generator().manual_seed(0)
    return MemoryData(
        torch.randn(count, 16, side, side, generator=g),
        [torch.randn(tokens + i, 32, generator=g) for i in range(count)],
        torch.randn(empty, 32, generator=g),
    )


@pytest.fixture
def data():
    return make_data()
