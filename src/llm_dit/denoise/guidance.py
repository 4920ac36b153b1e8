"""Guidance: predictions under different conditions to one velocity. Pure functions, float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cfg(positive: torch.Tensor, negative: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) in Z-Image's form: pos + s (pos - neg).

    s = 0 is no guidance. The common form neg + w (pos - neg) is the same with w = s + 1.
    """
    return positive + guidance_scale * (positive - negative)


def cap_norm(guided: torch.Tensor, positive: torch.Tensor, limit: float) -> torch.Tensor:
    """Guided velocity scaled down so that its norm is at most limit times the positive one's (cfg_normalization).

    The norm is over each whole picture: dimensions 1 and up of [batch, ...].
    """
    import torch

    dims = tuple(range(1, guided.ndim))
    allowed = torch.linalg.vector_norm(positive, dim=dims, keepdim=True) * limit
    actual = torch.linalg.vector_norm(guided, dim=dims, keepdim=True)
    return torch.where(actual > allowed, guided * (allowed / actual), guided)


def cfg_is_on(sigma: float, guidance_scale: float, cfg_truncation: float) -> bool:
    """Whether guidance acts at sigma: it stops once the model's time 1 - sigma is above cfg_truncation."""
    return guidance_scale > 0 and not 1.0 - sigma > cfg_truncation
