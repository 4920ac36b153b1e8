"""A Z-Image transformer as a velocity field: velocity(x, sigma) -> v, with guidance inside.

Hides the model's own conventions: time is 1 - sigma, the output is negated, inputs are lists of [C, 1, H, W].
Counts the forwards it pays for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_dit.denoise.guidance import cap_norm, cfg, cfg_is_on

if TYPE_CHECKING:
    import torch

CAPTION_MULTIPLE = 32  # captions are padded to a multiple of this with a learned token that is attended


def padded_length(tokens: int) -> int:
    """Text positions the transformer sees for a caption of this many tokens."""
    return -(-tokens // CAPTION_MULTIPLE) * CAPTION_MULTIPLE


class ZImageVelocity:
    """Guided velocity of a batch of pictures that share one prompt.

    prompt_embeds, negative_prompt_embeds: [tokens, features]. cfg_normalization 0 is off.
    nfe counts forwards of one picture: 2 a guided step, 1 an unguided one.
    """

    def __init__(
        self,
        transformer: Any,
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor | None = None,
        guidance_scale: float = 0.0,
        cfg_normalization: float = 0.0,
        cfg_truncation: float = 1.0,
    ):
        if guidance_scale > 0 and negative_prompt_embeds is None:
            raise ValueError("guidance needs negative_prompt_embeds")
        self.transformer = transformer
        # Quantized transformers report a storage dtype; the embedder tells what they compute in.
        self.dtype = transformer.cap_embedder[0].weight.dtype
        self.positive = prompt_embeds.to(self.dtype)
        self.negative = negative_prompt_embeds.to(self.dtype) if negative_prompt_embeds is not None else None
        self.guidance_scale = guidance_scale
        self.cfg_normalization = cfg_normalization
        self.cfg_truncation = cfg_truncation
        self.nfe = 0

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """x: float32 [batch, C, H, W]. Returns float32 of the same shape."""
        if not cfg_is_on(sigma, self.guidance_scale, self.cfg_truncation):
            self.nfe += 1
            return self._predict(x, sigma, [self.positive])[0]
        self.nfe += 2
        # Captions of one padded length share a forward without an attention mask; others would need one,
        # which most fast attention kernels refuse, so they go one after the other.
        if padded_length(len(self.positive)) == padded_length(len(self.negative)):
            positive, negative = self._predict(x, sigma, [self.positive, self.negative])
        else:
            positive = self._predict(x, sigma, [self.positive])[0]
            negative = self._predict(x, sigma, [self.negative])[0]
        guided = cfg(positive, negative, self.guidance_scale)
        return cap_norm(guided, positive, self.cfg_normalization) if self.cfg_normalization > 0 else guided

    def _predict(self, x: torch.Tensor, sigma: float, captions: list[torch.Tensor]) -> list[torch.Tensor]:
        import torch

        batch = len(x)
        latents = list(x.to(self.dtype).unsqueeze(2).unbind(0)) * len(captions)
        # The model's time 1 - sigma by way of diffusers' 1000 timesteps in float32: the same bits (see sigmas.py).
        time = (1000 - torch.full((len(latents),), sigma, dtype=torch.float32, device=x.device) * 1000) / 1000
        texts = [caption for caption in captions for _ in range(batch)]
        out = self.transformer(latents, time, texts, return_dict=False)[0]
        velocity = -torch.stack([o.squeeze(1).float() for o in out])
        return list(velocity.split(batch))
