"""A Z-Image transformer as a velocity field: velocity(x, sigma) -> v, with guidance inside.

Hides the model's own conventions: time is 1 - sigma, the output is negated, inputs are lists of [C, 1, H, W].
Runs only the forwards that a noise level needs, and counts them. The formulae are guidance.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from llm_dit.config import GuidanceConfig, NagConfig, SlgConfig
from llm_dit.diffusion.guidance import (
    apg,
    away_from,
    blend,
    cap_norm,
    cfg,
    cfg_zero,
    denoised,
    forwards_at,
    nag_is_given,
    rescale_std,
    velocity_to,
)
from llm_dit.families.z_image.skip import layers_to_skip, skipping

if TYPE_CHECKING:
    import torch

    from llm_dit.families.z_image.emphasis import Emphasis

    # Embeddings [batch or 1, tokens, features], and the weights [tokens] of their words, None where all are 1.
    Caption = tuple[torch.Tensor, torch.Tensor | None]

CAPTION_MULTIPLE = 32  # captions and pictures are padded to a multiple of this with learned tokens that are attended


def padded_length(tokens: int) -> int:
    """Positions the transformer sees for this many tokens, of a caption or of a picture."""
    return -(-tokens // CAPTION_MULTIPLE) * CAPTION_MULTIPLE


class ZImageVelocity:
    """Guided velocity of a batch of pictures. One run each: APG remembers earlier steps.

    prompt_embeds: [tokens, features], shared by all; or what they are at a sigma, as prompts_at.PromptsAt gives it.
    negative_prompt_embeds: [tokens, features], for CFG and NAG. Without settings there is no guidance.
    zero_above: noise level above which the velocity is 0 (guidance.zero_init_above). emphasis: weights of the tokens of
    both, which act in every forward that reads them; what is given by sigma brings its own.
    nfe counts forwards of one picture, of up to 3 a step: positive, negative, skipping layers; the first and the last
    once for each prompt that is mixed.
    """

    def __init__(
        self,
        transformer: Any,
        prompt_embeds: torch.Tensor | Callable[[float], list[tuple[float, torch.Tensor, torch.Tensor | None]]],
        negative_prompt_embeds: torch.Tensor | None = None,
        guidance: GuidanceConfig | None = None,
        slg: SlgConfig | None = None,
        nag: NagConfig | None = None,
        zero_above: float = inf,
        emphasis: Emphasis | None = None,
    ):
        self.guidance, self.slg, self.nag = guidance or GuidanceConfig(), slg or SlgConfig(), nag or NagConfig()
        if (self.guidance.guidance_scale > 0 or nag_is_given(self.nag)) and negative_prompt_embeds is None:
            raise ValueError("guidance needs negative_prompt_embeds")
        from llm_dit.families.z_image.emphasis import Emphasis

        self.transformer = transformer
        # Quantized transformers report a storage dtype; the embedder tells what they compute in.
        self.dtype = transformer.cap_embedder[0].weight.dtype
        self.emphasis = emphasis or Emphasis()
        self.prompts_at = prompt_embeds if callable(prompt_embeds) else self._one_prompt(prompt_embeds)
        self.negative = negative_prompt_embeds.to(self.dtype) if negative_prompt_embeds is not None else None
        self.layers = layers_to_skip(self.slg.layers, len(transformer.layers)) if self.slg.scale > 0 else []
        self.zero_above = zero_above
        self.nfe = 0
        self._average: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """x: float32 [batch, C, H, W]. Returns float32 of the same shape."""
        import torch

        prompts = self.prompts_at(sigma)
        need = forwards_at(sigma, self.guidance, self.slg, self.nag, self.zero_above, len(prompts))
        self.nfe += need.nfe
        if not need.positive:
            return torch.zeros_like(x)
        shares = [share for share, _, _ in prompts]
        texts = [(embeds.to(self.dtype), weights) for _, embeds, weights in prompts]
        apart = [(self.negative[None], self.emphasis.negative)] if need.negative else []
        if need.nag:
            found = self._predict_all(x, sigma, texts, nag=True) + self._predict_all(x, sigma, apart)
        else:
            found = self._predict_all(x, sigma, texts + apart)
        positive = blend(found[: len(texts)], shares)
        guided = self._guided(x, sigma, positive, found[-1]) if need.negative else positive
        if need.skipped:
            # The same attention as the positive prediction's, so that they differ by the layers alone.
            skipped = blend(self._predict_all(x, sigma, texts, nag=need.nag, skip=True), shares)
            guided = away_from(guided, positive, skipped, self.slg.scale)
            if self.slg.rescale > 0:
                guided = rescale_std(guided, positive, self.slg.rescale)
        return guided

    def _one_prompt(self, embeds: torch.Tensor) -> Callable[[float], list[tuple[float, torch.Tensor, Any]]]:
        return lambda _sigma: [(1.0, embeds[None], self.emphasis.positive)]

    def _guided(self, x: torch.Tensor, sigma: float, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        """The positive velocity guided away from the negative one, by the method asked for, its norm capped."""
        g = self.guidance
        if g.method == "cfg_zero":
            guided = cfg_zero(positive, negative, g.guidance_scale)
        elif g.method == "apg":
            settings = (g.guidance_scale, g.apg_eta, g.apg_norm_threshold, g.apg_momentum, self._average)
            if g.apg_space == "velocity":
                guided, self._average = apg(positive, negative, *settings)
            else:
                clean = denoised(x, positive, sigma), denoised(x, negative, sigma)
                towards, self._average = apg(*clean, *settings)
                guided = velocity_to(x, towards, sigma)
        else:
            guided = cfg(positive, negative, g.guidance_scale)
        return cap_norm(guided, positive, g.cfg_normalization) if g.cfg_normalization > 0 else guided

    def _skipping(self) -> AbstractContextManager[None]:
        return skipping(self.transformer, self.layers, self.slg.kind)

    def _attention(self, x: torch.Tensor, captions: Sequence[Caption], nag: bool) -> AbstractContextManager[None]:
        """How the model attends within one forward of these captions."""
        if not nag and all(weights is None for _, weights in captions):
            return nullcontext()
        patch = self.transformer.all_patch_size[0]
        grid = (x.shape[-2] // patch, x.shape[-1] // patch)
        if nag:
            from llm_dit.families.z_image.nag import attending_away

            embeds, weights = captions[0]  # those of all, see _predict_all
            heard = replace(self.emphasis, positive=weights)
            return attending_away(self.transformer, self.negative, embeds.shape[1], grid, self.nag, heard)
        from llm_dit.families.z_image.emphasis import emphasising

        rows = len(x) if len(captions) > 1 else 1
        said = [(embeds[0], weights) for embeds, weights in captions for _ in range(rows)]
        return emphasising(self.transformer, said, padded_length(grid[0] * grid[1]), self.emphasis.queries)

    def _predict_all(
        self, x: torch.Tensor, sigma: float, captions: Sequence[Caption], nag: bool = False, skip: bool = False
    ) -> list[torch.Tensor]:
        """A prediction for each caption, in their order.

        Captions of one padded length share a forward without an attention mask; others would need one, which most fast
        attention kernels refuse, so they go one after the other. NAG hears the words of a forward with one set of
        weights.
        """
        kinds = [(padded_length(embeds.shape[1]), id(weights) if nag else None) for embeds, weights in captions]
        found: dict[int, torch.Tensor] = {}
        for kind in dict.fromkeys(kinds):
            alike = [i for i, own in enumerate(kinds) if own == kind]
            with self._skipping() if skip else nullcontext():
                found |= zip(alike, self._predict(x, sigma, [captions[i] for i in alike], nag), strict=True)
        return [found[i] for i in range(len(captions))]

    def _predict(
        self, x: torch.Tensor, sigma: float, captions: Sequence[Caption], nag: bool = False
    ) -> list[torch.Tensor]:
        import torch

        batch = len(x)
        latents = list(x.to(self.dtype).unsqueeze(2).unbind(0)) * len(captions)
        # The model's time 1 - sigma by way of diffusers' 1000 timesteps in float32: the same bits (see sigmas.py).
        time = (1000 - torch.full((len(latents),), sigma, dtype=torch.float32, device=x.device) * 1000) / 1000
        texts = [text for embeds, _ in captions for text in embeds.expand(batch, -1, -1)]
        with self._attention(x, captions, nag):
            out = self.transformer(latents, time, texts, return_dict=False)[0]
        velocity = -torch.stack([o.squeeze(1).float() for o in out])
        return list(velocity.split(batch))
