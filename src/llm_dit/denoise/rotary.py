"""Rotary positions, computed from the position ids.

Z-Image's own embedder looks its angles up in a table of 1536 rows, which is what limits prompts to 1504 tokens
and sides to 8192 px. Here the same angles are computed, so that there is no limit; below it they are the same
bits. Rotary embedding: Su et al. 2021; three axes (text and frame, row, column) as in Z-Image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# With Z-Image's table: captions are padded to a multiple of 32, positions start at 1, and the picture's own
# position is padded length + 1, which must stay below the 1536 rows.
STOCK_MAX_TEXT_TOKENS = 1504


def rotary_frequencies(positions: torch.Tensor, axes_dims: Sequence[int], theta: float) -> torch.Tensor:
    """Unit complex numbers exp(i position theta^(-2k / d)) for every position and channel pair.

    positions: integers [tokens, axes] on the CPU. axes_dims: even channel count of each axis.
    Returns complex64 [tokens, sum(axes_dims) / 2].
    """
    import torch

    parts = []
    for axis, dim in enumerate(axes_dims):
        inverse = 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        angles = torch.outer(positions[:, axis].to(torch.float64), inverse).float()
        parts.append(torch.polar(torch.ones_like(angles), angles))
    return torch.cat(parts, dim=-1)


class ComputedRotary:
    """Takes the place of a Z-Image transformer's rope_embedder: ids [tokens, 3] to complex64 frequencies.

    A run asks for the same few sets of positions at every step, so the last ones are remembered, by value.
    """

    def __init__(self, axes_dims: Sequence[int], theta: float, remember: int = 8):
        self.axes_dims = list(axes_dims)
        self.theta = theta
        self._remember = remember
        self._known: dict[tuple, torch.Tensor] = {}

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        # Angles come from the CPU, as the stock table's do: the same bits on every device, and float64 on all.
        positions = ids.cpu()
        key = (positions.numpy().tobytes(), ids.device)
        if key not in self._known:
            if len(self._known) >= self._remember:
                self._known.pop(next(iter(self._known)))
            self._known[key] = rotary_frequencies(positions, self.axes_dims, self.theta).to(ids.device)
        return self._known[key]


def install_computed_rotary(transformer: Any) -> None:
    """Replace a ZImageTransformer2DModel's table of rotary positions by computed ones."""
    transformer.rope_embedder = ComputedRotary(transformer.axes_dims, transformer.rope_theta)
