"""Hidden states of several layers to one: norms for each layer, and ways to combine them.

Pure functions over tensors [..., tokens, features]; they compute in float32 and return float32. Which layers,
and what the result is aligned to, is decided in conditioning/layers.py. docs/conditioning.md has the formulae.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EPS = 1e-6
PARALLEL = 1e-4  # radians; below it (and as near to pi) a slerp's weights lose their digits, and a lerp is the same


def rms(x: torch.Tensor) -> torch.Tensor:
    """Each token scaled to root mean square 1 (RMSNorm without a gain, Zhang and Sennrich 2019)."""
    x = x.float()
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt()


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    """Each token to mean 0 and variance 1 over its features (LayerNorm without gain and bias, Ba and others 2016)."""
    import torch

    return torch.nn.functional.layer_norm(x.float(), x.shape[-1:], eps=EPS)


def per_channel(x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Each feature of the rms-normed tokens to the mean 0 and variance 1 it has over a set of prompts.

    mean, std: [features], of rms-normed tokens. The rms comes first because one token, the attention sink that opens
    the text, can be hundreds of times larger than the rest and would be all that the statistics see.
    """
    return (rms(x) - mean.float()) / (std.float().square() + EPS).sqrt()


def shares(weights: Sequence[float], count: int) -> list[float]:
    """Weights divided by their sum; equal ones when none are given. Raises ValueError."""
    if not weights:
        return [1.0 / count] * count
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} layers")
    total = math.fsum(weights)
    if abs(total) < EPS:
        raise ValueError("the weights add up to 0")
    return [w / total for w in weights]


def weighted(states: Sequence[torch.Tensor], weights: Sequence[float] = ()) -> torch.Tensor:
    """sum of w h over the layers, the weights divided by their sum; the plain mean without weights."""
    total = 0.0
    for share, state in zip(shares(weights, len(states)), states, strict=True):
        total = total + share * state.float()
    return total


def norm_mean(states: Sequence[torch.Tensor], weights: Sequence[float] = ()) -> torch.Tensor:
    """Mean of the rms-normed layers, at the mean of their scales (after 'norm average', Wang and others 2506.08210).

    A plain mean is ruled by the layer with the largest states, which in an LLM is a late one.
    """
    scale = weighted([s.float().square().mean(-1, keepdim=True).sqrt() for s in states], weights)
    return weighted([rms(s) for s in states], weights) * scale


def slerp(states: Sequence[torch.Tensor], weights: Sequence[float] = ()) -> torch.Tensor:
    """Token by token along great circles (Shoemake 1985); lengths are mixed linearly.

    More than two layers are taken in one after the other, each at its share of the weights so far, so the order
    matters a little. Weights must not be negative. Raises ValueError.
    """
    parts = shares(weights, len(states))
    if min(parts) < 0:
        raise ValueError("slerp takes no negative weights")
    result, so_far = states[0].float(), parts[0]
    for share, state in zip(parts[1:], states[1:], strict=True):
        so_far += share
        result = _slerp_two(result, state.float(), share / so_far if so_far > 0 else 0.0)
    return result


def _slerp_two(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    import torch

    length_a = a.norm(dim=-1, keepdim=True).clamp_min(EPS)
    length_b = b.norm(dim=-1, keepdim=True).clamp_min(EPS)
    unit_a, unit_b = a / length_a, b / length_b
    # The half-angle form keeps its digits where the arc cosine of a product near 1 has none.
    angle = 2 * torch.atan2((unit_a - unit_b).norm(dim=-1, keepdim=True), (unit_a + unit_b).norm(dim=-1, keepdim=True))
    straight = (angle < PARALLEL) | (angle > math.pi - PARALLEL)
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    first = torch.where(straight, torch.full_like(angle, 1 - t), ((1 - t) * angle).sin() / sine)
    second = torch.where(straight, torch.full_like(angle, t), (t * angle).sin() / sine)
    return (first * unit_a + second * unit_b) * ((1 - t) * length_a + t * length_b)


def concat(states: Sequence[torch.Tensor], weights: Sequence[float] = ()) -> torch.Tensor:
    """The layers' features side by side, [..., tokens, layers x features], as FLUX.2 takes them. No weights."""
    import torch

    return torch.cat([s.float() for s in states], dim=-1)


COMBINE: dict[str, Callable[[Sequence[torch.Tensor], Sequence[float]], torch.Tensor]] = {
    "mean": lambda states, _weights: weighted(states),
    "weighted": weighted,
    "norm_mean": norm_mean,
    "slerp": slerp,
    "concat": concat,
}
