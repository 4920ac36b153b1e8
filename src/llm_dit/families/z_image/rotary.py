"""A Z-Image transformer's rotary positions, computed from the position ids.

Z-Image's own embedder looks its angles up in a table of 1536 rows, which is what limits prompts to 1504 tokens
and sides to 8192 px. Here the same angles are computed, so that there is no limit; below it they are the same
bits. Three axes: text and frame, row, column. The numbers are positions.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_dit.config import DypeConfig
from llm_dit.diffusion.dype import is_idle, stretched_axes
from llm_dit.diffusion.positions import Axis, rotary_frequencies, stock_axis

if TYPE_CHECKING:
    import torch

# With Z-Image's table: captions are padded to a multiple of 32, positions start at 1, and the picture's own
# position is padded length + 1, which must stay below the 1536 rows.
STOCK_MAX_TEXT_TOKENS = 1504


class ComputedRotary:
    """Takes the place of a Z-Image transformer's rope_embedder: ids [tokens, 3] to complex64 frequencies.

    axes: how each axis turns now, to be set through turning(). A run asks for the same few sets of positions at every
    step, so the last ones are remembered, by the values of positions and axes.
    """

    def __init__(self, axes_dims: Sequence[int], theta: float, remember: int = 8):
        self.theta = theta
        self.stock = tuple(stock_axis(dim, theta) for dim in axes_dims)
        self.axes = self.stock
        self._remember = remember
        self._known: dict[tuple, torch.Tensor] = {}

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        # Angles come from the CPU, as the stock table's do: the same bits on every device, and float64 on all.
        positions = ids.cpu()
        key = (self.axes, positions.numpy().tobytes(), ids.device)
        if key not in self._known:
            if len(self._known) >= self._remember:
                self._known.pop(next(iter(self._known)))
            self._known[key] = rotary_frequencies(positions, self.axes).to(ids.device)
        return self._known[key]

    @contextmanager
    def turning(self, axes: dict[int, Axis]) -> Iterator[None]:
        """Within, these axes (0 text and frame, 1 rows, 2 columns) turn so; afterwards as before. May be nested."""
        before = self.axes
        self.axes = tuple(axes.get(number, axis) for number, axis in enumerate(before))
        try:
            yield
        finally:
            self.axes = before


def install_computed_rotary(transformer: Any) -> None:
    """Replace a ZImageTransformer2DModel's table of rotary positions by computed ones."""
    transformer.rope_embedder = ComputedRotary(transformer.axes_dims, transformer.rope_theta)


def following(
    velocity: Callable[[torch.Tensor, float], torch.Tensor],
    transformer: Any,
    settings: DypeConfig,
    size: tuple[int, int],
    trained_size: int,
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """The velocity with the transformer's positions set anew for each noise level; itself where nothing is stretched.

    Every forward inside sees them: positive, negative and with layers left out. size: (height, width) in pixels.
    """
    if is_idle(settings, size, trained_size):
        return velocity
    rotary = transformer.rope_embedder

    def at(x: torch.Tensor, sigma: float) -> torch.Tensor:
        with rotary.turning(stretched_axes(sigma, settings, size, trained_size, rotary.stock, rotary.theta)):
            return velocity(x, sigma)

    return at
