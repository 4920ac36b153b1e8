"""Rotary positions as numbers: how fast an axis turns, and how a longer one than was trained on is slowed.

Rotary embedding: Su et al. 2021. pi, ntk, yarn and two_ramps slow the rates of an axis, be it of a picture or of text;
dype.py makes them follow the noise level. Which axes a model has, and where it wants the result, is its family's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Axis:
    """How one axis turns. rates: radians a position, one for each channel pair, fastest first; length: of the result.

    A length other than 1 multiplies queries and keys, so that attention's logits are multiplied by its square.
    """

    rates: tuple[float, ...]
    length: float = 1.0


def stock_axis(dim: int, theta: float) -> Axis:
    """The axis as the model was trained: rates theta^(-2d / dim). dim: its channels, an even number."""
    import torch

    # By torch and in this order, for the bits of the stock table.
    return Axis(tuple((1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))).tolist()))


def pi(rates: Sequence[float], stretch: float, kappa: float = 1.0) -> list[float]:
    """Position interpolation (2306.15595; DyPE's equation 14): every channel slowed by stretch^kappa.

    stretch: positions asked for over positions trained on, at least 1, here and below; kappa: how much of it acts.
    """
    return [rate / stretch**kappa for rate in rates]


def ntk(rates: Sequence[float], stretch: float, kappa: float = 1.0) -> list[float]:
    """NTK-aware scaling (DyPE's equation 15): channel d slowed by stretch^(kappa 2d / (dim - 2)).

    The fastest stays, the slowest is slowed as by pi; the same as a base of theta stretch^(kappa dim / (dim - 2)).
    An axis of one channel pair stays as it is.
    """
    last = max(len(rates) - 1, 1)
    return [rate / stretch ** (kappa * d / last) for d, rate in enumerate(rates)]


def yarn(
    rates: Sequence[float], stretch: float, trained: float, alpha: float, beta: float, kappa: float = 1.0
) -> list[float]:
    """YaRN's ramp (2309.00071; DyPE's equations 16 and 22): slow channels as by pi, fast ones as they are.

    A channel turns r = trained rate / 2 pi times over the trained positions: slowed fully below kappa alpha, not at all
    above kappa beta, with a straight ramp between. At kappa 0 nothing is slowed. trained: in positions; alpha < beta.
    """
    if kappa == 0:
        return list(rates)
    found = []
    for rate in rates:
        turns = trained * rate / (2 * math.pi)
        kept = min(max((turns - kappa * alpha) / (kappa * (beta - alpha)), 0.0), 1.0)
        found.append((1 - kept) * rate / stretch + kept * rate)
    return found


# Turns over the trained positions at which a channel passes from pi to ntk, and from there to none: those of the DyPE
# authors' code for FLUX, which multiplies them by kappa since February 2026 and before raised them to that power.
PI_TO_NTK, NTK_TO_NONE = (1.25, 0.75), (16.0, 2.0)


def two_ramps(
    rates: Sequence[float], stretch: float, overall: float, trained: float, theta: float, kappa: float = 1.0
) -> list[float]:
    """Vision YaRN: slow channels as by pi of the axis' own stretch, middle ones as by ntk of the overall one.

    Fast ones stay as they are. The ramps run over channels, from floor to ceiling of where a channel turns so many
    times: dim ln(trained / (2 pi n)) / (2 ln theta). overall: the largest stretch of any axis. At kappa 0 nothing is
    slowed.
    """
    if kappa == 0:
        return list(rates)
    count = len(rates)

    def channel(turns: float) -> float:
        return 2 * count * math.log(trained / (2 * math.pi * turns * kappa)) / (2 * math.log(theta))

    def above(first: float, second: float) -> list[float]:
        low = min(max(math.floor(channel(first)), 0), count)
        high = min(max(math.ceil(channel(second)), 0), count)
        return [1 - min(max((d - low) / max(high - low, 0.001), 0.0), 1.0) for d in range(count)]

    mixed = zip(rates, pi(rates, stretch), ntk(rates, overall), above(*PI_TO_NTK), above(*NTK_TO_NONE), strict=True)
    return [(slow * (1 - m) + middle * m) * (1 - n) + rate * n for rate, slow, middle, m, n in mixed]


def rotary_frequencies(positions: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
    """Complex numbers length exp(i position rate) for every position and channel pair.

    positions: [tokens, axes] on the CPU. Returns complex64 [tokens, channel pairs of all axes].
    """
    import torch

    parts = []
    for number, axis in enumerate(axes):
        rates = torch.tensor(axis.rates, dtype=torch.float64)
        # A picture has few rows and columns, so each is computed once.
        values, place = torch.unique(positions[:, number], return_inverse=True)
        angles = torch.outer(values.to(torch.float64), rates).float()
        parts.append(torch.polar(torch.full_like(angles, axis.length), angles)[place])
    return torch.cat(parts, dim=-1)
