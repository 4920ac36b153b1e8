"""What all pictures of a config share once its prompts are encoded: what the record describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_dit.base.clock import Clock
from llm_dit.conditioning.encode import Encoded
from llm_dit.config import Config
from llm_dit.models.cache import Models

if TYPE_CHECKING:
    from PIL import Image

    from llm_dit.text.mix import Words


@dataclass(frozen=True)
class Run:
    """What all pictures of a config share. size: (height, width) in pixels. start: the picture of img2img.

    positive, mixed, blank: the prompt, mix.text, the empty prompt; the last two None while nothing asks for them.
    texts: embeddings and the user's tokens of what acts in the run, by its name in prompts_at.
    foreseen: what was told of the picture beforehand, for the record.
    second: the second stage of highres, which begins with the latents of this one; size, sigmas and shift are of one.
    shift: of the sigmas; None when they were given one by one.
    """

    config: Config
    models: Models
    clock: Clock
    size: tuple[int, int]
    start: Image.Image | None
    sigmas: list[float]
    shift: float | None
    positive: Encoded
    negative: Encoded | None
    mixed: Encoded | None
    blank: Encoded | None
    texts: dict[str, Words] = field(default_factory=dict)
    foreseen: tuple[str, ...] = ()
    second: Run | None = None
    is_second: bool = False

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return len(self.levels) - 1

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that acts."""
        return max(len(words.embeds) for words in self.texts.values())

    @property
    def levels(self) -> list[float]:
        """The noise levels of all stages, one after the other."""
        return self.sigmas if self.second is None else self.sigmas[:-1] + self.second.levels
