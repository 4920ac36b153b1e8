"""Draw pictures with the network in training: Euler steps with classifier-free guidance, as the renderer does it."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from captions import LAYER, encode, load_encoder
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from model import CAPTION, angles, forward
from paths import ASSETS
from vocabulary import HELD_OUT_PHRASING, PHRASINGS, caption, held_out, scenes

STEPS, GUIDANCE, SHIFT = 12, 2.0, 2.0


def held_out_scenes(n: int) -> list[tuple[str, str, str]]:
    """`n` held-out scenes, spread evenly over the subjects."""
    unseen = [scene for scene in scenes() if held_out(*scene)]
    return [unseen[i * len(unseen) // n] for i in range(n)]


def held_out_prompts(n: int, new_phrasing: bool = False) -> list[str]:
    """Prompts for `held_out_scenes`, in the known phrasings in turn or in the one never trained on."""
    return [
        caption(HELD_OUT_PHRASING if new_phrasing else PHRASINGS[i % len(PHRASINGS)], *scene)
        for i, scene in enumerate(held_out_scenes(n))
    ]


@lru_cache(maxsize=1)
def encoder() -> tuple:
    """The text encoder, loaded once."""
    return load_encoder()


@lru_cache(maxsize=8)
def embed(prompts: tuple[str, ...], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(states [n, 32, 576], padding [n, 32]) in float32."""
    states = [s.float() for s in encode(encoder(), prompts, (layer,), dtype=torch.float32)[layer]]
    lengths = torch.tensor([len(s) for s in states])
    return torch.stack([F.pad(s, (0, 0, 0, CAPTION - len(s))) for s in states]), torch.arange(CAPTION) >= lengths[
        :, None
    ]


def sigmas(steps: int, shift: float) -> torch.Tensor:
    """`steps` noise levels from 1 down, and the final 0: FlowMatchEuler's with a static shift."""
    s = torch.linspace(1, 1 / steps, steps)
    return torch.cat([shift * s / (1 + (shift - 1) * s), torch.zeros(1)])


@torch.no_grad()
def sample(
    model: ZImageTransformer2DModel,
    vae: AutoencoderKL,
    prompts: list[str],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    shift: float = SHIFT,
    layer: int = LAYER,
    seed: int = 0,
) -> torch.Tensor:
    """Pictures [n, 3, 128, 128] in about -1..1. `guidance` is diffusers': pos + guidance * (pos - neg)."""
    stored = torch.load(ASSETS / "latents.pt", weights_only=True, mmap=True)
    states, padding = embed(("", *prompts), layer)
    n, rope = len(prompts), angles(model, 8, 8)
    x = torch.randn(n, 16, 16, 16, generator=torch.Generator().manual_seed(seed))
    levels = sigmas(steps, shift)
    for now, following in pairwise(levels):
        velocity = forward(model, x, now.expand(n), states[1:], padding[1:], rope)
        if guidance > 0:
            empty = forward(model, x, now.expand(n), states[:1].expand(n, -1, -1), padding[:1].expand(n, -1), rope)
            velocity = velocity + guidance * (velocity - empty)
        x = x + (following - now) * velocity
    return torch.cat([vae.decode(z / stored["scale"] + stored["shift"]).sample for z in x.split(16)])
