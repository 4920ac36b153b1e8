"""Velocity fields whose flow is known: data that is a mixture of Gaussians, in one dimension."""

from __future__ import annotations

import math

import torch

MEANS = torch.tensor([-1.0, 0.8], dtype=torch.float64)
SPREADS = torch.tensor([0.35, 0.25], dtype=torch.float64)
WEIGHTS = torch.tensor([0.4, 0.6], dtype=torch.float64)
STARTS = torch.tensor([-1.7, -0.6, 0.1, 0.9, 2.0], dtype=torch.float64)


def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """dx/dsigma at x [points]: the mean of noise - data given x = (1 - sigma) data + sigma noise."""
    means, variances = (1 - sigma) * MEANS, (1 - sigma) ** 2 * SPREADS**2 + sigma**2
    off = x[:, None] - means
    share = torch.softmax(WEIGHTS.log() - 0.5 * variances.log() - off**2 / (2 * variances), -1)
    growth = (sigma - (1 - sigma) * SPREADS**2) / variances
    return (share * (growth * off - MEANS)).sum(-1)


def solution(x: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """Where the flow takes x from sigma start to sigma end: in one dimension it keeps every quantile."""
    low, high = torch.full_like(x, -9.0), torch.full_like(x, 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = _cdf(middle, end) < _cdf(x, start)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _cdf(x: torch.Tensor, sigma: float) -> torch.Tensor:
    spread = ((1 - sigma) ** 2 * SPREADS**2 + sigma**2).sqrt()
    return (WEIGHTS * torch.special.ndtr((x[:, None] - (1 - sigma) * MEANS) / spread)).sum(-1)


def even_in_lambda(steps: int, most: float = 3.0) -> list[float]:
    """Sigmas at even steps of lambda = log((1 - sigma) / sigma) from -most to most: there, multistep orders hold."""
    return [1 / (1 + math.exp(-most + 2 * most * i / steps)) for i in range(steps + 1)]
