"""Fewer tokens out of many: pure functions from embeddings [..., tokens, features] to [..., length, features].

They compute in float32 and return float32, in the order of the text. What goes along with tokens, such as their
weights, is compressed by the same shares: then `by` holds the tokens, which decide, and x what goes along. Which
tokens are compressed (the user's, never the chat template's) and to what length is decided in conditioning/encode.py.
docs/conditioning.md has formulae and sources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NEIGHBOURS = (-2, -1, 1, 2)  # what attention_pool compares a token with
LEAST_IMPORTANCE = 0.1


def interpolate(x: torch.Tensor, length: int, by: torch.Tensor | None = None) -> torch.Tensor:
    """Linear interpolation at evenly spaced positions; the first and the last token are kept as they are."""
    import torch

    tokens = x.shape[-2]
    at = torch.linspace(0, tokens - 1, length, dtype=torch.float64, device="cpu")
    below = at.floor().long().clamp(max=max(tokens - 2, 0))
    share = (at - below).float().to(x.device)[:, None]
    x, below = x.float(), below.to(x.device)
    above = (below + 1).clamp(max=tokens - 1)
    return x[..., below, :] * (1 - share) + x[..., above, :] * share


def pool(x: torch.Tensor, length: int, by: torch.Tensor | None = None) -> torch.Tensor:
    """Means over regions as equal as can be, which overlap by one token where they do not divide evenly.

    Region j is floor(j n / m) to ceil((j + 1) n / m), as in torch's adaptive_avg_pool1d.
    """
    import torch

    return torch.nn.functional.adaptive_avg_pool1d(x.float().movedim(-1, -2), length).movedim(-1, -2)


def importance(x: torch.Tensor) -> torch.Tensor:
    """How little a token is like those around it: 1 - mean cosine with its neighbours at -2 to 2, [..., tokens].

    The mean is over the neighbours that exist, so that a constant text is equally important everywhere. Shifted to a
    least value of 0.1.
    """
    import torch

    unit = torch.nn.functional.normalize(x.float(), dim=-1)
    tokens = x.shape[-2]
    total, count = unit.new_zeros(unit.shape[:-1]), unit.new_zeros(tokens)
    for offset in NEIGHBOURS:
        here = slice(max(0, -offset), min(tokens, tokens - offset))
        there = slice(max(0, offset), min(tokens, tokens + offset))
        if here.stop > here.start:
            total[..., here] += (unit[..., here, :] * unit[..., there, :]).sum(-1)
            count[here] += 1
    found = 1 - total / count.clamp_min(1)
    return found - found.amin(-1, keepdim=True) + LEAST_IMPORTANCE


def attention_pool(x: torch.Tensor, length: int, by: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over regions, each token weighted by the softmax of its importance within its region.

    Region of token i is floor(i length / tokens): they do not overlap.
    """
    import torch

    tokens = x.shape[-2]
    region = torch.arange(tokens, device=x.device) * length // tokens
    weight = importance(
        x if by is None else by
    ).exp()  # importances lie within 2.1 of each other, so this cannot overflow
    total = weight.new_zeros((*weight.shape[:-1], length)).index_add(-1, region, weight)
    weight = weight / total[..., region]
    pooled = weight.new_zeros((*x.shape[:-2], length, x.shape[-1]))
    return pooled.index_add(-2, region, weight[..., None] * x.float())


def merge(x: torch.Tensor, length: int, by: torch.Tensor | None = None) -> torch.Tensor:
    """Token merging (ToMe, Bolya and others 2210.09461): the most similar tokens become one, weighted by their sizes.

    Each round parts the tokens alternately into two sets, finds for each of the first the most similar one of the
    second by cosine, and merges the most similar pairs: as many as are too many, at most the whole first set. A merged
    token stands where the one of the second set stood; the first token is in no first set, so it stays in front.
    """
    import torch

    if x.ndim > 2:
        decide = [None] * len(x) if by is None else by
        return torch.stack([merge(row, length, one) for row, one in zip(x, decide, strict=True)])
    features = x.shape[-1] if by is None else by.shape[-1]
    x = x.float() if by is None else torch.cat([by.float(), x.float()], dim=-1)
    size = torch.ones(x.shape[0], device=x.device)
    while len(x) > length:
        x, size = _merge_round(x, size, len(x) - length, features)
    return x if by is None else x[:, features:]


def _merge_round(
    x: torch.Tensor, size: torch.Tensor, too_many: int, features: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One round of ToMe on [tokens, features and what is carried] with sizes [tokens]."""
    import torch

    unit = torch.nn.functional.normalize(x[:, :features], dim=-1)
    first = torch.arange(1, len(x), 2, device=x.device)
    second = torch.arange(0, len(x), 2, device=x.device)
    best, partner = (unit[first] @ unit[second].T).max(-1)
    # Stable, so that of equal pairs the earlier one is merged on every device.
    chosen = best.argsort(descending=True, stable=True)[:too_many]
    gone, into = first[chosen], second[partner[chosen]]
    total = (x * size[:, None]).index_add(0, into, x[gone] * size[gone][:, None])
    size = size.index_add(0, into, size[gone])
    kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
    kept[gone] = False
    return (total / size[:, None])[kept], size[kept]


COMPRESS: dict[str, Callable[..., torch.Tensor]] = {
    "interpolate": interpolate,
    "pool": pool,
    "attention_pool": attention_pool,
    "merge": merge,
}


def compress(x: torch.Tensor, length: int, how: str, by: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [..., tokens, features] to at most `length` of them; fewer are left alone. Raises ValueError below 1."""
    if length < 1:
        raise ValueError(f"{length} tokens cannot hold a text")
    return x if x.shape[-2] <= length else COMPRESS[how](x, length, by)


def nearness(x: torch.Tensor, original: torch.Tensor) -> tuple[float, float]:
    """(mean, lowest) over the tokens of x of the cosine with the nearest original token; 1 is a token as it was."""
    import torch

    unit = torch.nn.functional.normalize(x.float(), dim=-1)
    before = torch.nn.functional.normalize(original.float(), dim=-1)
    nearest = (unit @ before.T).amax(-1)
    return float(nearest.mean()), float(nearest.min())
