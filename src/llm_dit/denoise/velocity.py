"""A Z-Image transformer as a velocity field: velocity(x, sigma) -> v, with guidance inside.

Hides the model's own conventions: time is 1 - sigma, the output is negated, inputs are lists of [C, 1, H, W].
Runs only the forwards that a noise level needs, and counts them. The formulae are guidance.py's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Any

from llm_dit.config import GuidanceConfig, NagConfig, SlgConfig
from llm_dit.denoise.guidance import (
    apg,
    away_from,
    cap_norm,
    cfg,
    cfg_zero,
    denoised,
    forwards_at,
    nag_is_given,
    rescale_std,
    velocity_to,
)
from llm_dit.denoise.skip import layers_to_skip, skipping

if TYPE_CHECKING:
    import torch

    from llm_dit.denoise.emphasis import Emphasis

CAPTION_MULTIPLE = 32  # captions and pictures are padded to a multiple of this with learned tokens that are attended


def padded_length(tokens: int) -> int:
    """Positions the transformer sees for this many tokens, of a caption or of a picture."""
    return -(-tokens // CAPTION_MULTIPLE) * CAPTION_MULTIPLE


class ZImageVelocity:
    """Guided velocity of a batch of pictures that share one prompt. One run each: APG remembers earlier steps.

    prompt_embeds, negative_prompt_embeds: [tokens, features]; the latter for CFG and NAG. Without settings there is
    no guidance. zero_above: noise level above which the velocity is 0 (guidance.zero_init_above). emphasis: weights of
    the tokens of both, which act in every forward that reads them.
    nfe counts forwards of one picture, of up to 3 a step: positive, negative, skipping layers.
    """

    def __init__(
        self,
        transformer: Any,
        prompt_embeds: torch.Tensor,
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
        self.transformer = transformer
        # Quantized transformers report a storage dtype; the embedder tells what they compute in.
        self.dtype = transformer.cap_embedder[0].weight.dtype
        self.positive = prompt_embeds.to(self.dtype)
        self.negative = negative_prompt_embeds.to(self.dtype) if negative_prompt_embeds is not None else None
        self.layers = layers_to_skip(self.slg.layers, len(transformer.layers)) if self.slg.scale > 0 else []
        self.zero_above = zero_above
        self.emphasis = emphasis
        self.nfe = 0
        self._average: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """x: float32 [batch, C, H, W]. Returns float32 of the same shape."""
        import torch

        need = forwards_at(sigma, self.guidance, self.slg, self.nag, self.zero_above)
        self.nfe += need.nfe
        if not need.positive:
            return torch.zeros_like(x)
        # Captions of one padded length share a forward without an attention mask; others would need one,
        # which most fast attention kernels refuse, so they go one after the other.
        if need.negative and not need.nag and padded_length(len(self.positive)) == padded_length(len(self.negative)):
            positive, negative = self._predict(x, sigma, [self.positive, self.negative])
        else:
            positive = self._predict(x, sigma, [self.positive], need.nag)[0]
            negative = self._predict(x, sigma, [self.negative])[0] if need.negative else None
        guided = positive if negative is None else self._guided(x, sigma, positive, negative)
        if need.skipped:
            # The same attention as the positive prediction's, so that they differ by the layers alone.
            with self._skipping():
                skipped = self._predict(x, sigma, [self.positive], need.nag)[0]
            guided = away_from(guided, positive, skipped, self.slg.scale)
            if self.slg.rescale > 0:
                guided = rescale_std(guided, positive, self.slg.rescale)
        return guided

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

    def _attention(self, x: torch.Tensor, captions: list[torch.Tensor], nag: bool) -> AbstractContextManager[None]:
        """How the model attends within one forward of these captions."""
        if not nag and self.emphasis is None:
            return nullcontext()
        patch = self.transformer.all_patch_size[0]
        grid = (x.shape[-2] // patch, x.shape[-1] // patch)
        if nag:
            from llm_dit.denoise.nag import attending_away

            return attending_away(self.transformer, self.negative, len(self.positive), grid, self.nag, self.emphasis)
        from llm_dit.denoise.emphasis import emphasising

        weights = {id(self.positive): self.emphasis.positive, id(self.negative): self.emphasis.negative}
        said = [(c, weights[id(c)]) for c in captions for _ in range(len(x) if len(captions) > 1 else 1)]
        return emphasising(self.transformer, said, padded_length(grid[0] * grid[1]), self.emphasis.queries)

    def _predict(
        self, x: torch.Tensor, sigma: float, captions: list[torch.Tensor], nag: bool = False
    ) -> list[torch.Tensor]:
        import torch

        batch = len(x)
        latents = list(x.to(self.dtype).unsqueeze(2).unbind(0)) * len(captions)
        # The model's time 1 - sigma by way of diffusers' 1000 timesteps in float32: the same bits (see sigmas.py).
        time = (1000 - torch.full((len(latents),), sigma, dtype=torch.float32, device=x.device) * 1000) / 1000
        texts = [caption for caption in captions for _ in range(batch)]
        with self._attention(x, captions, nag):
            out = self.transformer(latents, time, texts, return_dict=False)[0]
        velocity = -torch.stack([o.squeeze(1).float() for o in out])
        return list(velocity.split(batch))
