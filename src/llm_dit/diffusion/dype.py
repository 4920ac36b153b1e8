"""Dynamic position extrapolation (DyPE, 2510.20766): rotary positions for large pictures that follow the noise level.

Early steps draw the large shapes and need positions within what the model knows; late ones draw detail, which the
positions as trained serve best. So a method of positions.py acts by kappa(sigma) = lambda_s sigma^lambda_t. The
formulae are the paper's; where the authors' code differs, docs/high_resolution.md says how. Text is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llm_dit.config import DypeConfig
from llm_dit.diffusion.positions import Axis, ntk, pi, two_ramps, yarn
from llm_dit.diffusion.sigmas import PIXELS_A_TOKEN

FADING = ("dy_pi", "dy_ntk", "dy_yarn", "vision_yarn")
RAMPED = ("yarn", "dy_yarn")
WITH_ATTENTION_SCALE = (*RAMPED, "vision_yarn")


def kappa_at(sigma: float, settings: DypeConfig) -> float:
    """How much of the method acts at a noise level: lambda_s sigma^lambda_t (equation 13); 1 where it never fades."""
    return lambda_s_of(settings) * sigma**settings.lambda_t if settings.method in FADING else 1.0


def lambda_s_of(settings: DypeConfig) -> float:
    """lambda_s as given, else the paper's: 2 for PI and NTK, 1 where kappa multiplies the thresholds of ramps."""
    if settings.lambda_s is not None:
        return settings.lambda_s
    return 2.0 if settings.method in ("dy_pi", "dy_ntk") else 1.0


def stretches(size: tuple[int, int], trained_size: int, scaling: str = "per_axis") -> tuple[float, float]:
    """How many times (height, width) are longer than what was trained on, at least 1. All in pixels."""
    height, width = (max(1.0, side / trained_size) for side in size)
    return (height, width) if scaling == "per_axis" else (max(height, width),) * 2


def is_idle(settings: DypeConfig, size: tuple[int, int], trained_size: int) -> bool:
    """Whether the positions are the stock model's at every noise level."""
    if settings.method == "none" or max(stretches(size, trained_size)) == 1:
        return True
    return settings.method in FADING and lambda_s_of(settings) == 0


def stretched_axes(
    sigma: float, settings: DypeConfig, size: tuple[int, int], trained_size: int, stock: Sequence[Axis], theta: float
) -> dict[int, Axis]:
    """Rows (1) and columns (2) at a noise level; an axis that is not stretched, or at kappa 0, is left out.

    stock: the axes as the model was trained, text or frame first; theta: the base of their rates.
    The length 1 + c ln(stretch) is YaRN's. It stays the same through the run, as in the authors' code, but for
    vision_yarn, where the stretch is the larger one and the term fades as sigma^lambda_t.
    """
    kappa = kappa_at(sigma, settings)
    both = stretches(size, trained_size, settings.scaling)
    trained = trained_size / PIXELS_A_TOKEN
    found = {}
    for number, stretch in enumerate(both, start=1):
        if stretch == 1 or kappa == 0:
            continue
        rates, length = stock[number].rates, 1.0
        if settings.method in ("pi", "dy_pi"):
            rates = pi(rates, stretch, kappa)
        elif settings.method in ("ntk", "dy_ntk"):
            rates = ntk(rates, stretch, kappa)
        elif settings.method in RAMPED:
            rates = yarn(rates, stretch, trained, settings.alpha, settings.beta, kappa)
            length = 1 + settings.attention_scale * math.log(stretch)
        elif settings.method == "vision_yarn":
            rates = two_ramps(rates, stretch, max(both), trained, theta, kappa)
            length = 1 + settings.attention_scale * math.log(max(both)) * sigma**settings.lambda_t
        else:
            raise ValueError(f"unknown method {settings.method!r}")
        found[number] = Axis(tuple(rates), length)
    return found


def describe_dype(
    settings: DypeConfig, size: tuple[int, int], trained_size: int, sigmas: list[float]
) -> dict[str, Any] | None:
    """What ran, for the record; None when the positions were the stock model's. kappa: at each step's sigma."""
    if is_idle(settings, size, trained_size):
        return None
    return {
        "method": settings.method,
        "stretch": list(stretches(size, trained_size, settings.scaling)),
        "kappa": [kappa_at(s, settings) for s in sigmas[:-1]],
    }


def idle_positions(settings: DypeConfig, size: tuple[int, int], trained_size: int) -> list[str]:
    """Why settings of the group that were given cannot act, one line each. size: (height, width) in pixels."""
    plain, method = DypeConfig(), settings.method
    given = [k for k, v in vars(settings).items() if v != getattr(plain, k) and k != "method"]
    if method == "none":
        return [f"dype.{k} has no effect: dype.method is none." for k in given]
    height, width = size
    if max(stretches(size, trained_size)) == 1:
        return [f"dype has no effect: {width} x {height} is no larger than model.trained_size={trained_size}."]
    if is_idle(settings, size, trained_size):
        return ["dype has no effect: dype.lambda_s is 0."]
    why = {}
    if method not in FADING:
        why |= dict.fromkeys(("lambda_s", "lambda_t"), f"{method} does not fade")
    if method not in RAMPED:
        why |= dict.fromkeys(("alpha", "beta"), f"dype.method is {method}")
    if method not in WITH_ATTENTION_SCALE:
        why["attention_scale"] = f"dype.method is {method}"
    if height == width:
        why["scaling"] = "height and width are equal"
    return [f"dype.{k} has no effect: {why[k]}." for k in given if k in why]
