"""Noise on a prompt's embeddings, another for each seed, so that seeds draw more different pictures.

After the SeedVarianceEnhancer for ComfyUI and InvokeAI's node of that name: e + strength std(e) u, u uniform in -1..1
on a random share of the values. There std is the whole text's, or 1, and the chat template gets noise too; here it is
each token's own, and only the user's tokens get it. docs/diversity.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_dit.config import DiversityConfig
from llm_dit.diffusion.noise import Streams, named_generator

if TYPE_CHECKING:
    import torch


def noised(
    embeds: torch.Tensor, users: tuple[int, int], seeds: Sequence[int], settings: DiversityConfig
) -> torch.Tensor:
    """Embeddings [tokens, features] with noise on the tokens from users[0] to users[1]: [seeds, tokens, features].

    The noise is of the same stream in both stages and for every prompt; embeds' dtype is kept.
    """
    import torch

    start, end = users
    out = embeds.repeat(len(seeds), 1, 1)
    if start == end:
        return out
    streams = Streams(lambda seed: named_generator("prompt embeddings", seed), seeds, settings)
    noise = streams.draw(
        (end - start, embeds.shape[1]),
        lambda generators, shape: torch.stack([uniform_noise(g, shape, settings) for g in generators]),
    )
    words = embeds[start:end].float().cpu()
    words = words + settings.embed_strength * words.std(dim=-1, keepdim=True) * noise
    out[:, start:end] = words.to(out)
    return out


def uniform_noise(generator: torch.Generator, shape: tuple[int, int], settings: DiversityConfig) -> torch.Tensor:
    """Noise [tokens, features], uniform in -1..1 on settings.embed_share of the values or tokens, 0 on the others.

    What has noise at a smaller share has the same at a larger one. Of whole tokens it is the nearest number to the
    share, but at least one.
    """
    import torch

    noise = torch.rand(shape, generator=generator) * 2 - 1
    if settings.embed_unit == "values":
        return noise * (torch.rand(shape, generator=generator) < settings.embed_share)
    count = max(1, round(settings.embed_share * shape[0])) if settings.embed_share > 0 else 0
    order = torch.rand(shape[0], generator=generator).argsort()
    mask = torch.zeros(shape[0], 1)
    mask[order[:count]] = 1
    return noise * mask
