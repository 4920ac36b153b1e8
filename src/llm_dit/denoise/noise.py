"""Seeded noise, drawn on the CPU in float32 from each picture's own seed.

So a picture does not depend on its batch, on its place in a sweep, or on the device that runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seeded_generator(seed: int) -> torch.Generator:
    """A CPU generator at the start of a seed's stream."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def draw_noise(generators: list[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise [len(generators), *shape], float32 on the CPU, each item from its own generator."""
    import torch

    return torch.stack([torch.randn((1, *shape), generator=g)[0] for g in generators])


def renoiser(
    seeds: Sequence[int], shape: tuple[int, ...], device: str, second_stage: bool = False
) -> Callable[[], torch.Tensor]:
    """A source of the noise that stochastic samplers add between steps: each call gives [len(seeds), *shape] anew.

    Each seed has a stream of its own for it in each stage, another than that of its first noise.
    """
    import hashlib

    where = "between steps of the second stage" if second_stage else "between steps"
    streams = [int.from_bytes(hashlib.sha256(f"{where} {seed}".encode()).digest()[:7]) for seed in seeds]
    generators = [seeded_generator(stream) for stream in streams]
    return lambda: draw_noise(generators, shape).to(device)


def mix_noise(clean: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """The noisy latents at sigma on the straight path: sigma noise + (1 - sigma) clean."""
    return sigma * noise + (1.0 - sigma) * clean
