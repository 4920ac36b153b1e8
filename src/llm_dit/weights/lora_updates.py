"""The updates of a linear layer's weight that a LoRA file can hold: LoRA, LoKr, LoHa, a whole difference, and DoRA.

| kind | the update at scale 1 | source |
| --- | --- | --- |
| LoRA | alpha / rank B A | Hu et al., 2106.09685 |
| LoKr | alpha / rank (w1 kron w2); factor 1 where both are whole matrices | Yeh et al., 2309.14859; LyCORIS' lokr.py |
| LoHa | alpha / rank (w1a w1b) * (w2a w2b), element by element | Hyeon-Woo et al., 2108.06098; LyCORIS' loha.py |
| difference | the matrix as it is | LyCORIS' full.py |
| DoRA | m (W + D) / norm(W + D) - W, D one of the above | Liu et al., 2402.09353; LyCORIS' locon.py |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch

# A layer's weight [out, in] in float32 by its name.
Weights = Callable[[str], "torch.Tensor"]


@dataclass(frozen=True)
class Pair:
    """The update alpha / rank B A of one linear layer. a: [rank, in]; b: [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor
    alpha: float

    kind: ClassVar[str] = "LoRA"

    @property
    def rank(self) -> int:
        return len(self.a)

    @property
    def strength(self) -> float:
        """alpha / rank: what B A is multiplied by at scale 1."""
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.b), self.a.shape[1]

    @property
    def is_zero(self) -> bool:
        return not (self.alpha and self.a.any() and self.b.any())

    def rows(self, start: int, stop: int) -> Pair:
        """The update of some of the layer's outputs."""
        return Pair(self.a, self.b[start:stop].contiguous(), self.alpha)

    def delta(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """The update at scale 1, float32 [out, in]."""
        return self.strength * (self.b.to(device).float() @ self.a.to(device).float())


@dataclass(frozen=True)
class Product:
    """LoKr's Kronecker product or LoHa's product by element of two matrices, each whole, (w,), or (w_a, w_b).

    strength: of the product. rank, alpha: as the file says them; None where both matrices are whole. start, stop: the
    rows of the product that are this layer's.
    """

    kind: str
    first: tuple[torch.Tensor, ...]
    second: tuple[torch.Tensor, ...]
    strength: float
    rank: int | None
    alpha: float | None
    start: int = 0
    stop: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        one, two = ((parts[0].shape[0], parts[-1].shape[1]) for parts in (self.first, self.second))
        out, features = (one[0] * two[0], one[1] * two[1]) if self.kind == "LoKr" else one
        return len(range(out)[self.start : self.stop]), features

    @property
    def is_zero(self) -> bool:
        return not self.strength or not all(part.any() for part in (*self.first, *self.second))

    def rows(self, start: int, stop: int) -> Product:
        return replace(self, start=self.start + start, stop=self.start + stop)

    def delta(self, device: torch.device | str = "cpu") -> torch.Tensor:
        import torch

        one, two = (_multiplied(parts, device) for parts in (self.first, self.second))
        whole = torch.kron(one, two) if self.kind == "LoKr" else one * two
        return whole[self.start : self.stop] * self.strength


def _multiplied(parts: tuple[torch.Tensor, ...], device: torch.device | str) -> torch.Tensor:
    parts = tuple(part.to(device).float() for part in parts)
    return parts[0] if len(parts) == 1 else parts[0] @ parts[1]


@dataclass(frozen=True)
class Difference:
    """A whole matrix [out, in] that is added to the weight."""

    matrix: torch.Tensor

    kind: ClassVar[str] = "difference"
    rank: ClassVar[None] = None
    alpha: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    @property
    def is_zero(self) -> bool:
        return not self.matrix.any()

    def rows(self, start: int, stop: int) -> Difference:
        return Difference(self.matrix[start:stop])

    def delta(self, device: torch.device | str = "cpu") -> torch.Tensor:
        return self.matrix.to(device).float()


Additive = Pair | Product | Difference


@dataclass(frozen=True)
class Decomposed:
    """DoRA: the weight with `direction` added, each row or column of it brought to the length that magnitude says.

    magnitude: [out, 1], a length for each output (peft, and LyCORIS with wd_on_output), or [1, in], one for each
    input. modules: the layers whose weights, one below the other, were the layer that was trained; more than one for
    a fused qkv. start, stop: this layer's rows of it.
    """

    direction: Additive
    magnitude: torch.Tensor
    modules: tuple[str, ...]
    start: int = 0
    stop: int | None = None

    is_zero: ClassVar[bool] = False  # not known without the model's weights

    @property
    def kind(self) -> str:
        return "DoRA" if self.direction.kind == "LoRA" else f"DoRA of {self.direction.kind}"

    @property
    def rank(self) -> int | None:
        return self.direction.rank

    @property
    def alpha(self) -> float | None:
        return self.direction.alpha

    @property
    def shape(self) -> tuple[int, int]:
        out, features = self.direction.shape
        return len(range(out)[self.start : self.stop]), features

    def rows(self, start: int, stop: int) -> Decomposed:
        return replace(self, start=self.start + start, stop=self.start + stop)

    def delta(self, weights: Weights) -> torch.Tensor:
        """What is added to the layer's weight at scale 1, float32 [out, in].

        The norm is that of the weight with the update, as in the paper, LyCORIS and peft. Another scale takes this
        times the scale, as ComfyUI does, so that scale 0 is the model itself; in peft the scale acts on the direction
        alone, and 0 leaves the trained lengths.
        """
        import torch

        before = torch.cat([weights(name) for name in self.modules])
        after = before + self.direction.delta(before.device)
        lengths = after.norm(dim=1 if self.magnitude.shape[1] == 1 else 0, keepdim=True)
        tiny = torch.finfo(torch.float32).tiny
        changed = after * (self.magnitude.to(before.device).float() / lengths.clamp_min(tiny)) - before
        return changed[self.start : self.stop]


Update = Additive | Decomposed


def delta_of(update: Update, weights: Weights, device: torch.device | str) -> torch.Tensor:
    """What an update adds to its layer's weight at scale 1, float32 [out, in]."""
    return update.delta(weights) if isinstance(update, Decomposed) else update.delta(device)
