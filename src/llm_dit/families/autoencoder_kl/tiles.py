"""Decoding latents in tiles that agree with each other: memory bounded by the tile, and no seams.

A tile of its own differs from the same place of the whole picture in three ways. Attention, in the middle of the
decoder, sees the tile alone: here that part runs on the whole picture, where it is 64 times smaller than at the end.
Group normalisation takes its mean and variance from the tile: here every tile is normalised by those of the whole
picture, which a pass over all tiles measures first. And convolutions lack what is beyond the tile's edge: tiles
overlap, and the edges count for nothing in the blend. docs/high_resolution.md has what is left, measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llm_dit.families.z_image.skip import replaced

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Span:
    """One tile along one side, in latents: [start, end), of which it owns [first, last)."""

    start: int
    end: int
    first: int
    last: int


def spans(size: int, tile: int, overlap: int) -> list[Span]:
    """A side of so many latents cut into as few equal tiles as overlap by at least so much; one where it fits."""
    if size <= tile:
        return [Span(0, size, 0, size)]
    count = math.ceil((size - overlap) / (tile - overlap))
    starts = [round(i * (size - tile) / (count - 1)) for i in range(count)]
    edges = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), size]
    return [Span(s, s + tile, first, last) for s, (first, last) in zip(starts, pairwise(edges), strict=True)]


def windows(cut: Sequence[Span], overlap: int, factor: int) -> list[torch.Tensor]:
    """Each tile's share of every pixel of its side, float32; all shares of a pixel add up to 1.

    They rise from the tile's edge over the overlap as a squared sine, and stay flat at the picture's own edge.
    """
    import torch

    size, ramp = cut[-1].end, overlap * factor
    found = []
    for span in cut:
        length = (span.end - span.start) * factor
        inside = torch.arange(length, dtype=torch.float64) + 0.5
        share = torch.ones(length, dtype=torch.float64)
        for far, distance in ((span.start == 0, inside), (span.end == size, length - inside)):
            if not far:
                share *= torch.sin(distance.div(ramp).clamp(max=1) * torch.pi / 2) ** 2
        found.append(share)
    total = torch.zeros(size * factor, dtype=torch.float64)
    for span, share in zip(cut, found, strict=True):
        total[span.start * factor : span.end * factor] += share
    return [
        (share / total[span.start * factor : span.end * factor]).float() for span, share in zip(cut, found, strict=True)
    ]


class _SharedNorm:
    """Takes the place of a GroupNorm's forward: the tile's own statistics, until those of all tiles are given.

    own: the tile's (rows, columns) and, in the tile, the box it owns, all in latents.
    """

    def __init__(self, norm: Any):
        self.norm = norm
        self.own: tuple[Span, Span] | None = None
        self.given: tuple[torch.Tensor, torch.Tensor] | None = None
        self._parts: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        if self.own is not None:
            self._measure(x)
        norm = self.norm
        if self.given is None:
            return torch.nn.functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
        mean, variance = (v.repeat_interleave(x.shape[1] // norm.num_groups) for v in self.given)
        scale = (variance + norm.eps).rsqrt() * norm.weight
        shift = norm.bias - mean * scale
        return torch.addcmul(shift[:, None, None].float(), x.float(), scale[:, None, None].float()).to(x.dtype)

    def _measure(self, x: torch.Tensor) -> None:
        import torch

        rows, columns = self.own
        factor = x.shape[-1] // (columns.end - columns.start)
        box = [slice((s.first - s.start) * factor, (s.last - s.start) * factor) for s in (rows, columns)]
        own = x[0, :, box[0], box[1]].float().reshape(self.norm.num_groups, -1)
        variance, mean = torch.var_mean(own, dim=1, correction=0)
        self._parts.append((own.shape[1], mean.double().cpu(), variance.double().cpu()))

    def settle(self) -> None:
        """From now on normalise by what was measured since the last time, over all tiles together."""
        import torch

        counts = torch.tensor([n for n, _, _ in self._parts], dtype=torch.float64)[:, None]
        means, variances = (torch.stack([part[i] for part in self._parts]) for i in (1, 2))
        mean = (counts * means).sum(0) / counts.sum()
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / counts.sum()
        place = self.norm.weight.device
        self.given = (mean.float().to(place), variance.float().to(place))
        self._parts = []


def decode_in_tiles(vae: Any, z: torch.Tensor, tile: int, overlap: int, passes: int = 1) -> torch.Tensor:
    """vae.decode of scaled latents [1, C, h, w] in tiles of so many latents: float32 [3, 8h, 8w] on the CPU.

    overlap: in latents, at most half a tile. passes: how often statistics are measured before the tiles are drawn; each
    costs one more decode, and 0 leaves every tile its own. A norm's statistics are exact once those before it are, so
    that as many passes as norms are exact; on the way they need not come closer with each.
    """
    import torch

    decoder, factor = vae.decoder, 2 ** (len(vae.config.block_out_channels) - 1)
    if vae.post_quant_conv is not None:
        z = vae.post_quant_conv(z)
    features = decoder.mid_block(decoder.conv_in(z))
    rows, columns = (spans(side, tile, overlap) for side in features.shape[-2:])
    shares = [windows(cut, overlap, factor) for cut in (rows, columns)]
    norms = [m for part in (decoder.up_blocks, decoder.conv_norm_out) for m in part.modules() if _is_group_norm(m)]
    shared = [_SharedNorm(norm) for norm in norms]
    picture = torch.zeros(vae.config.out_channels, *(side * factor for side in features.shape[-2:]))
    with ExitStack() as stack:
        for norm in shared:
            stack.enter_context(replaced(norm.norm, "forward", norm))
        for _ in range(passes):
            for row, column in _tiles(rows, columns):
                for norm in shared:
                    norm.own = (row, column)
                _finish(decoder, features, row, column)
            for norm in shared:
                norm.settle()
                norm.own = None
        for row, column in _tiles(rows, columns):
            drawn = _finish(decoder, features, row, column)[0].float().cpu()
            share = shares[0][rows.index(row)][:, None] * shares[1][columns.index(column)]
            place = [slice(s.start * factor, s.end * factor) for s in (row, column)]
            picture[:, place[0], place[1]] += drawn * share
    return picture


def _tiles(rows: Sequence[Span], columns: Sequence[Span]) -> Iterator[tuple[Span, Span]]:
    return ((row, column) for row in rows for column in columns)


def _finish(decoder: Any, features: torch.Tensor, row: Span, column: Span) -> torch.Tensor:
    """The decoder from its middle on, over one tile."""
    x = features[:, :, row.start : row.end, column.start : column.end]
    for block in decoder.up_blocks:
        x = block(x)
    return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))


def _is_group_norm(module: Any) -> bool:
    from torch.nn import GroupNorm

    return isinstance(module, GroupNorm)
