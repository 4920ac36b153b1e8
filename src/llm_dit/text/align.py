"""Maps from one space of hidden states to another: moments, ridge regression, orthogonal Procrustes.

A frozen transformer meets inputs of a kind it never saw when it is given another layer. A map fitted to the layer it
was trained on takes that away, so that what is left is what the layer knows. Everything is fitted from sums over
tokens, in float64, so that one pass over the prompts serves every method. All states are rms-normed first (the
transformer's own first step): otherwise one token, the attention sink, decides the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_dit.text.layers import rms

if TYPE_CHECKING:
    import torch

EPS = 1e-8


class Moments:
    """Sums over tokens of x [tokens, a], y [tokens, b] and their products, in float64: all that the fits need."""

    def __init__(self) -> None:
        self.count = 0
        self.x: torch.Tensor | float = 0.0  # [a]
        self.y: torch.Tensor | float = 0.0  # [b]
        self.xx: torch.Tensor | float = 0.0  # [a, a]
        self.xy: torch.Tensor | float = 0.0  # [a, b]
        self.yy: torch.Tensor | float = 0.0  # [b], squares alone

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take in tokens of both spaces, rms-normed here."""
        x, y = rms(x).double(), rms(y).double()
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y
        self.yy = self.yy + y.square().sum(0)

    def centred(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mean of x, mean of y, covariance of x, covariance of x and y, variances of y)."""
        import torch

        mean_x, mean_y = self.x / self.count, self.y / self.count
        cov_x = self.xx / self.count - torch.outer(mean_x, mean_x)
        cov_xy = self.xy / self.count - torch.outer(mean_x, mean_y)
        return mean_x, mean_y, cov_x, cov_xy, (self.yy / self.count - mean_y.square()).clamp_min(0)


@dataclass(frozen=True)
class Affine:
    """y = rms(x) weight + bias. weight: [a, b], or [a] where features are scaled one by one. float32."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x, weight, bias = rms(x), self.weight.to(x.device), self.bias.to(x.device)
        return (x * weight if weight.ndim == 1 else x @ weight) + bias


def fit_moments(sums: Moments) -> Affine:
    """Mean and variance of each feature to those of y. Needs equal widths (ValueError)."""
    mean_x, mean_y, cov_x, _, var_y = sums.centred()
    if len(mean_x) != len(mean_y):
        raise ValueError(f"moments are matched feature by feature, but there are {len(mean_x)} and {len(mean_y)}")
    scale = ((var_y + EPS) / (cov_x.diagonal().clamp_min(0) + EPS)).sqrt()
    return Affine(scale.float(), (mean_y - mean_x * scale).float())


def fit_ridge(sums: Moments, strength: float) -> Affine:
    """Least squares with a penalty: weight = (Cxx + k I)^-1 Cxy (Hoerl and Kennard 1970), k = strength x mean variance.

    strength has no unit: 0.01 damps directions of x that vary less than a hundredth of the average one.
    """
    import torch

    mean_x, mean_y, cov_x, cov_xy, _ = sums.centred()
    penalty = strength * cov_x.diagonal().mean() + EPS
    weight = torch.linalg.solve(cov_x + penalty * torch.eye(len(cov_x), dtype=cov_x.dtype), cov_xy)
    return Affine(weight.float(), (mean_y - mean_x @ weight).float())


def fit_procrustes(sums: Moments) -> Affine:
    """The rotation (with reflection) and one scale that bring x nearest to y (Schoenemann 1966). Equal widths."""
    import torch

    mean_x, mean_y, cov_x, cov_xy, _ = sums.centred()
    if len(mean_x) != len(mean_y):
        raise ValueError(f"a rotation keeps the width, but there are {len(mean_x)} and {len(mean_y)} features")
    left, singular, right = torch.linalg.svd(cov_xy, full_matrices=False)
    weight = left @ right * (singular.sum() / (cov_x.trace() + EPS))
    return Affine(weight.float(), (mean_y - mean_x @ weight).float())


def fit(sums: Moments, method: str, strength: float) -> Affine:
    """The map of a method by name: moments, ridge (strength is its own), procrustes."""
    if method == "ridge":
        return fit_ridge(sums, strength)
    return {"moments": fit_moments, "procrustes": fit_procrustes}[method](sums)


def r_squared(sums: Moments, map: Affine | None = None) -> float:
    """Share of y's variance that the map explains on these tokens: 1 is all, 0 no more than y's mean, below 0 less.

    Without a map, x itself is taken for y.
    """
    import torch

    mean_y = sums.y / sums.count
    total = sums.yy.sum() - sums.count * mean_y.square().sum()
    weight = torch.ones_like(sums.x) if map is None else map.weight.double()
    bias = torch.zeros_like(sums.y) if map is None else map.bias.double()
    full = torch.diag(weight) if weight.ndim == 1 else weight
    drawn = sums.x @ full  # sum of x weight
    square = (full * (sums.xx @ full)).sum() + 2 * bias @ drawn + sums.count * bias @ bias
    error = sums.yy.sum() - 2 * ((full * sums.xy).sum() + bias @ sums.y) + square
    return float(1 - error / total.clamp_min(EPS))
