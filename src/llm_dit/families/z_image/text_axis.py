"""Positions of a text longer than the model was trained for: the rotary axis of the text slowed until they lie within.

Z-Image gives the text positions 1 to its padded length on the first axis, and the picture the one after. Slowing that
axis (positions.py has the scalings) moves text and picture together, in every forward of the run. docs/conditioning.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_dit.config import LongPromptConfig
from llm_dit.families.z_image.velocity import padded_length

if TYPE_CHECKING:
    from llm_dit.diffusion.positions import Axis
    from llm_dit.families.z_image.rotary import ComputedRotary

TEXT = 0  # the axis


def text_stretch(settings: LongPromptConfig, tokens: int) -> float:
    """The picture's position over the one it has behind max_tokens of text; 1 where nothing is to be slowed."""
    if settings.positions == "plain":
        return 1.0
    return max(1.0, (padded_length(tokens) + 1) / (padded_length(settings.max_tokens) + 1))


def stretched_text(settings: LongPromptConfig, tokens: int, rotary: ComputedRotary) -> dict[int, Axis]:
    """The text's axis for a prompt of so many tokens, for ComputedRotary.turning(); empty where it is the stock one."""
    from llm_dit.diffusion.positions import Axis, ntk, pi

    stretch = text_stretch(settings, tokens)
    if stretch == 1:
        return {}
    scaling = {"pi": pi, "ntk": ntk}[settings.positions]
    return {TEXT: Axis(tuple(scaling(rotary.stock[TEXT].rates, stretch)))}


def describe_text_axis(settings: LongPromptConfig, tokens: int) -> dict[str, Any] | None:
    """What ran, for the record; None when the positions were the stock model's."""
    stretch = text_stretch(settings, tokens)
    return {"scaling": settings.positions, "stretch": stretch} if stretch > 1 else None
