"""Flow matching: noise levels, noised latents, the target, weights and loss. Pure functions over tensors.

x = (1 - sigma) clean + sigma noise, and the model predicts noise - clean (Lipman et al. 2023; Esser et al. 2024). What
is random comes from generators named by (seed, step, micro batch, process), so that a step can be repeated alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llm_dit.base.seeds import seed_words
from llm_dit.config import TrainConfig

if TYPE_CHECKING:
    import torch

BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)  # edges of the noise levels whose losses are logged apart
SMALLEST_SIGMA = 1e-3  # where weights that grow towards sigma 0 stop growing


def stream_seed(seed: int, step: int, micro: int, rank: int, use: int) -> int:
    """A seed below 2^63 for one use in one micro batch of one process; different numbers give unrelated ones."""
    import numpy as np

    return int(
        np.random.SeedSequence(seed_words(seed, step, micro, rank, use)).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )


def stream(seed: int, step: int, micro: int, rank: int, use: int, device: Any = "cpu") -> torch.Generator:
    """A generator of that seed on a device; its numbers depend on the kind of device."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, step, micro, rank, use))


def sample_sigmas(generator: torch.Generator, count: int, settings: TrainConfig, shift: float) -> torch.Tensor:
    """Noise levels float32 [count] in 0..1, drawn as settings say and then shifted.

    logit_normal: sigmoid(mean + std n). mode: 1 - u - s (cos^2(pi u / 2) - 1 + u), Esser et al. 2024, section 3.1.
    """
    import torch

    u, n, choice, even = (
        draw(count, generator=generator) for draw in (torch.rand, torch.randn, torch.rand, torch.rand)
    )
    if settings.sigma_sampling == "logit_normal":
        sigma = torch.sigmoid(settings.logit_mean + settings.logit_std * n)
    elif settings.sigma_sampling == "mode":
        sigma = 1 - u - settings.mode_scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
    else:
        sigma = u
    sigma = torch.where(choice < settings.uniform_share, even, sigma)
    return (shift * sigma / (1 + (shift - 1) * sigma)).clamp(0, 1)


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Latents [batch, C, H, W] at their noise levels [batch]."""
    level = sigma.view(-1, 1, 1, 1)
    return (1 - level) * clean + level * noise


def target_velocity(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What the model must predict, at every noise level."""
    return noise - clean


def weights_of(sigma: torch.Tensor, weighting: str) -> torch.Tensor:
    """Weight of each noise level in the loss, of the same shape.

    gaussian: exp(-2 (sigma - 1/2)^2) less its value at 0 and 1, with mean 1 over uniform levels (DiffSynth-Studio takes
    the mean over its own shifted table). sigma_sqrt: 1 / sigma^2. cosmap: 2 / (pi (1 - 2 sigma + 2 sigma^2)), both as
    in Esser et al. 2024.
    """
    import torch

    if weighting == "gaussian":
        least = math.exp(-0.5)
        mean = math.sqrt(math.pi / 2) * math.erf(math.sqrt(0.5))
        return (torch.exp(-2 * (sigma - 0.5) ** 2) - least) / (mean - least)
    if weighting == "sigma_sqrt":
        return sigma.clamp(min=SMALLEST_SIGMA) ** -2
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
    return torch.ones_like(sigma)


def squared_errors(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each picture, float32 [batch]."""
    return (predicted.float() - target.float()).square().flatten(1).mean(1)
