"""Guidance: predictions under different conditions to one velocity. Pure functions over float32 [batch, ...].

Here are the formulae and the windows in which they act. What is predicted, and by how many forwards, is velocity.py's;
how a model is made to leave a layer out or to attend to a negative prompt is skip.py's and nag.py's.
docs/guidance.md has the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from llm_dit.base.errors import ConfigError
from llm_dit.config import GuidanceConfig, NagConfig, SlgConfig
from llm_dit.diffusion.sigmas import above, model_time

if TYPE_CHECKING:
    import torch


def blend(predictions: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """Predictions under several prompts at once: their weighted sum; one alone is kept to the bit.

    Composable diffusion's conjunction (Liu et al. 2206.01714) without its negation, at shares that add up to 1.
    """
    if len(predictions) == 1:
        return predictions[0]
    return sum(share * prediction for share, prediction in zip(shares, predictions, strict=True))


def cfg(positive: torch.Tensor, negative: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) in Z-Image's form: pos + s (pos - neg).

    s = 0 is no guidance. The common form neg + w (pos - neg) is the same with w = s + 1.
    """
    return positive + guidance_scale * (positive - negative)


def cfg_zero(positive: torch.Tensor, negative: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """CFG-Zero* (2503.18886): CFG after the negative prediction is scaled to lie nearest to the positive one.

    pos + s (pos - a neg), a = <pos, neg> / |neg|^2, for each picture. Its zero-init is forwards_at's.
    """
    nearest = _dot(positive, negative) / _dot(negative, negative).clamp(min=1e-8)
    return positive + guidance_scale * (positive - nearest * negative)


def apg(
    positive: torch.Tensor,
    negative: torch.Tensor,
    guidance_scale: float,
    eta: float,
    norm_threshold: float = 0.0,
    momentum: float = 0.0,
    average: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adaptive projected guidance (2410.02416): (guided prediction, running average for the next step).

    d = pos - neg + momentum average; d is cut to the norm norm_threshold (0: not); the part of d along pos counts
    eta times; the result is pos + s d. Norm and projection are over each whole picture. eta 1 alone is CFG.
    """
    import torch

    difference = positive - negative
    if average is not None:
        difference = difference + momentum * average
    average = difference
    if norm_threshold > 0:
        norm = _dot(difference, difference).sqrt()
        difference = torch.where(norm > norm_threshold, difference * (norm_threshold / norm), difference)
    along = _dot(difference, positive) / _dot(positive, positive).clamp(min=1e-12) * positive
    return positive + guidance_scale * (difference - (1.0 - eta) * along), average


def denoised(x: torch.Tensor, velocity: torch.Tensor, sigma: float) -> torch.Tensor:
    """The clean latents that a velocity at x points to: x - sigma v."""
    return x - sigma * velocity


def velocity_to(x: torch.Tensor, clean: torch.Tensor, sigma: float) -> torch.Tensor:
    """The velocity at x that points to some clean latents: (x - x0) / sigma. sigma is above 0."""
    return (x - clean) / sigma


def cap_norm(guided: torch.Tensor, positive: torch.Tensor, limit: float) -> torch.Tensor:
    """Guided velocity scaled down so that its norm is at most limit times the positive one's (cfg_normalization).

    The norm is over each whole picture: dimensions 1 and up of [batch, ...].
    """
    import torch

    dims = tuple(range(1, guided.ndim))
    allowed = torch.linalg.vector_norm(positive, dim=dims, keepdim=True) * limit
    actual = torch.linalg.vector_norm(guided, dim=dims, keepdim=True)
    return torch.where(actual > allowed, guided * (allowed / actual), guided)


def away_from(guided: torch.Tensor, positive: torch.Tensor, worse: torch.Tensor, scale: float) -> torch.Tensor:
    """Guidance away from a worse prediction of the same prompt (SD3.5, PAG, STG): guided + s (pos - worse)."""
    return guided + scale * (positive - worse)


def rescale_std(guided: torch.Tensor, positive: torch.Tensor, share: float) -> torch.Tensor:
    """Guided velocity with its standard deviation moved towards the positive one's: 1 all the way, 0 not at all.

    guided (share std(pos) / std(guided) + 1 - share), std over each whole picture (Lin et al. 2305.08891, STG).
    """
    dims = tuple(range(1, guided.ndim))
    ratio = positive.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True).clamp(min=1e-12)
    return guided * (share * ratio + (1.0 - share))


def normalized_attention(
    positive: torch.Tensor, negative: torch.Tensor, scale: float, tau: float, alpha: float
) -> torch.Tensor:
    """Normalized attention guidance (2505.21179) of attention outputs [batch, tokens, channels], any dtype.

    z = pos + (scale - 1) (pos - neg), cut so that its L1 norm is at most tau times pos's in each token;
    the result is alpha z + (1 - alpha) pos. scale 1 gives pos, to the bit, for tau of at least 1.
    """
    import torch

    guided = positive + (scale - 1.0) * (positive - negative)
    allowed = positive.float().abs().sum(dim=-1, keepdim=True) * tau
    actual = guided.float().abs().sum(dim=-1, keepdim=True)
    guided = guided * torch.where(actual > allowed, allowed / actual, 1.0).to(guided.dtype)
    return positive + alpha * (guided - positive)


def in_window(sigma: float, sigma_low: float, sigma_high: float) -> bool:
    """Whether sigma is in the window (sigma_low, sigma_high]. Windows that touch share no step."""
    return above(sigma, sigma_low) and not above(sigma, sigma_high)


def cfg_is_on(
    sigma: float, guidance_scale: float, cfg_truncation: float, sigma_low: float = 0.0, sigma_high: float = 1.0
) -> bool:
    """Whether CFG acts at sigma: inside its window, until the model's time 1 - sigma is above cfg_truncation.

    As ZImagePipeline on the CPU: the time is computed in float32, the truncation is not rounded to it.
    """
    in_time = not model_time(sigma) > cfg_truncation
    return guidance_scale > 0 and in_time and in_window(sigma, sigma_low, sigma_high)


def nag_is_given(settings: NagConfig) -> bool:
    """Whether NAG does anything anywhere: scale 1 and alpha 0 leave every attention output as it is."""
    return settings.scale > 1 and settings.alpha > 0


@dataclass(frozen=True)
class Forwards:
    """What one noise level needs. nag: the positive and the skipping forward attend to the negative prompt too.

    prompts: how many are predicted under and mixed, in the positive and the skipping forward.
    """

    positive: bool = True
    negative: bool = False
    skipped: bool = False
    nag: bool = False
    prompts: int = 1

    @property
    def nfe(self) -> int:
        """Forwards of one picture. NAG adds none: it makes those there are attend twice."""
        return self.prompts * (self.positive + self.skipped) + self.negative


def forwards_at(
    sigma: float, guidance: GuidanceConfig, slg: SlgConfig, nag: NagConfig, zero_above: float = inf, prompts: int = 1
) -> Forwards:
    """What is needed at sigma. Above zero_above (zero-init) the velocity is 0 and nothing is.

    prompts: how many are mixed there (prompts_at.parts_at).
    """
    if above(sigma, zero_above):
        return Forwards(positive=False)
    g = guidance
    return Forwards(
        negative=cfg_is_on(sigma, g.guidance_scale, g.cfg_truncation, g.sigma_low, g.sigma_high),
        skipped=slg.scale > 0 and in_window(sigma, slg.sigma_low, slg.sigma_high),
        nag=nag_is_given(nag) and in_window(sigma, nag.sigma_low, nag.sigma_high),
        prompts=prompts,
    )


def zero_init_above(guidance: GuidanceConfig, sigmas: Sequence[float]) -> float:
    """The noise level above which CFG-Zero* predicts 0: that of step zero_init_steps, from 0; infinity for never.

    sigmas: of the run, with the last 0. Raises ConfigError when no step would be left.
    """
    steps = guidance.zero_init_steps if guidance.method == "cfg_zero" and guidance.guidance_scale > 0 else 0
    if steps >= len(sigmas) - 1:
        raise ConfigError(f"guidance.zero_init_steps={steps}: leaves nothing of the run's {len(sigmas) - 1} steps.")
    return sigmas[steps] if steps else inf


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner product of each picture of the batch, shaped to multiply with it."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)
