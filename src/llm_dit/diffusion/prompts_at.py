"""Which prompt the positive prediction is made under, at each noise level and for each picture of a batch.

The groups mix (a second prompt) and diversity (noise on the embeddings, an empty prompt at first) are windows in sigma
over a few texts. Here is which text acts where; how two become one is text/mix.py's, how noise gets on one is
embed_noise.py's, and what is predicted with them velocity.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_dit.config import DiversityConfig, MixConfig
from llm_dit.diffusion.guidance import in_window
from llm_dit.diffusion.sigmas import above

if TYPE_CHECKING:
    import torch

    from llm_dit.text.mix import Words

FIRST, SECOND, MIXED, BLANK = "first", "second", "mixed", "blank"


@dataclass(frozen=True)
class Part:
    """One text of a noise level: which, its share in the prediction, whether with noise on its embeddings."""

    text: str
    share: float = 1.0
    noised: bool = False


def parts_at(sigma: float, mix: MixConfig, diversity: DiversityConfig) -> list[Part]:
    """The texts that act at sigma, one forward each; their shares add up to 1."""
    if above(sigma, diversity.blank_sigma):
        return [Part(BLANK)]
    noised = (
        diversity.embed_strength > 0
        and diversity.embed_share > 0
        and in_window(sigma, diversity.embed_sigma_low, diversity.embed_sigma_high)
    )
    if mix.mode == "switch":
        shares = {FIRST if above(sigma, mix.sigma) else SECOND: 1.0}
    elif mix.mode == "none" or mix.amount == 0:
        shares = {FIRST: 1.0}
    elif mix.amount == 1:
        shares = {SECOND: 1.0}
    elif mix.mode == "velocity":
        shares = {FIRST: 1.0 - mix.amount, SECOND: mix.amount}
    else:
        shares = {MIXED: 1.0}
    return [Part(text, share, noised) for text, share in shares.items()]


def texts_at(sigmas: Sequence[float], mix: MixConfig, diversity: DiversityConfig) -> set[str]:
    """The texts that act anywhere in a run. sigmas: with the last, at which nothing is predicted."""
    return {part.text for sigma in sigmas[:-1] for part in parts_at(sigma, mix, diversity)}


class PromptsAt:
    """The texts of a batch as a function of sigma: [(share, embeddings [batch or 1, tokens, features], weights)].

    texts: by their names above. weights: [tokens] of the words in attention, None where all are 1. seeds: of the
    batch's pictures.
    """

    def __init__(
        self,
        texts: Mapping[str, Words],
        seeds: Sequence[int],
        mix: MixConfig,
        diversity: DiversityConfig,
        device: str = "cpu",
    ):
        self.texts, self.seeds, self.mix, self.diversity, self.device = texts, seeds, mix, diversity, device
        self._made: dict[tuple[str, bool], torch.Tensor] = {}

    def __call__(self, sigma: float) -> list[tuple[float, torch.Tensor, torch.Tensor | None]]:
        parts = parts_at(sigma, self.mix, self.diversity)
        return [(part.share, self._embeds(part), self.texts[part.text].weights) for part in parts]

    def _embeds(self, part: Part) -> torch.Tensor:
        key = part.text, part.noised
        if key not in self._made:
            from llm_dit.diffusion.embed_noise import noised

            embeds, users, _ = self.texts[part.text]
            made = noised(embeds, users, self.seeds, self.diversity) if part.noised else embeds[None]
            self._made[key] = made.to(self.device)
        return self._made[key]
