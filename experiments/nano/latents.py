"""Picture side of the training data: every training scene drawn a few times and encoded by the VAE.

    uv run python experiments/nano/latents.py

Also measures the latents' mean and spread, which become the VAE's shift_factor and scaling_factor. Writes
assets/nano/latents.pt: latents [scenes, VARIANTS, 16, 16, 16] bfloat16, normalised, in the order of `training_scenes`.
"""

from __future__ import annotations

import numpy as np
import torch
from common import to_tensor
from diffusers import AutoencoderKL
from paths import ASSETS
from scenes import compose_scene, load_sprites
from train_vae import CONFIG
from vocabulary import held_out, scenes

VARIANTS = 5
SEED = 21


def training_scenes() -> list[tuple[str, str, str]]:
    """Every scene that is not held out, in a fixed order."""
    return [scene for scene in scenes() if not held_out(*scene)]


def load_vae(**factors: float) -> AutoencoderKL:
    """The trained VAE (its average), float32, with scaling_factor and shift_factor if given."""
    state = torch.load(ASSETS / "vae.pt", weights_only=True)["average"]
    vae = AutoencoderKL(**CONFIG, **factors)
    vae.load_state_dict({k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")})
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def main() -> None:
    """Draw, encode, measure, save."""
    vae, sprites = load_vae(), load_sprites()
    chosen = training_scenes()
    latents = torch.empty(len(chosen), VARIANTS, 16, 16, 16, dtype=torch.bfloat16)
    for start in range(0, len(chosen), 16):
        pictures = []
        for number in range(start, min(start + 16, len(chosen))):
            rng = np.random.default_rng((SEED, number))
            pictures += [compose_scene(sprites, *chosen[number], rng) for _ in range(VARIANTS)]
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(to_tensor(np.stack(pictures))).latent_dist.mean
        latents[start : start + 16] = mean.reshape(-1, VARIANTS, 16, 16, 16).bfloat16()
    sample = latents[:: max(1, len(chosen) // 500)].float()
    shift, scale = sample.mean().item(), 1 / sample.std().item()
    by_channel = sample.std(dim=(0, 1, 3, 4))
    print(f"shift_factor {shift:.4f} scaling_factor {scale:.4f}; std by channel {(by_channel * scale).tolist()}")
    latents = ((latents.float() - shift) * scale).bfloat16()
    torch.save({"latents": latents, "shift": shift, "scale": scale}, ASSETS / "latents.pt")


if __name__ == "__main__":
    main()
