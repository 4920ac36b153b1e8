"""What the transformer makes of pictures it was shown, for the VAE's decoder to learn from: assets/nano/v1/drawn.npz.

    uv run python experiments/nano/drawn_latents.py outputs/train/nano_v1 [--pictures N]

A picture of the training is noised part of the way and drawn again with its prompt and guidance, as img2img does. The
latents are nearly its own, with the faults of the transformer in place of noise: wavering edges, smudged fills.
train_vae.py --drawn teaches the decoder to draw the picture from them. Pictures that were noised so far that they may
come out as another drawing are left to the transformer.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from common import to_tensor
from layouts import load_sprites, picture
from make_data import SEED as DATA_SEED
from make_data import training_entries
from paths import V1

from llm_dit.clock import Clock
from llm_dit.compose import compose
from llm_dit.conditioning import encode_prompt
from llm_dit.denoise.velocity import padded_length
from llm_dit.models.cache import Models
from llm_dit.models.place import choose_placement
from llm_dit.models.vae import encode_batch
from llm_dit.train.distill import Teacher
from llm_dit.train.flow import noised
from llm_dit.train.forward import stack_captions

SEED = 59
BATCH = 32
LEVELS = (0.25, 0.75)  # share of noise that a picture is given
INTERVAL = 1 / 12  # of the noise levels in a step, about


@torch.no_grad()
def redrawn(teacher: Teacher, latents: torch.Tensor, texts: list[torch.Tensor], level: float) -> torch.Tensor:
    """Scaled latents [n, 16, h, w] noised to `level` and denoised by Euler steps. texts: one [tokens, 576] each."""
    sigmas = torch.linspace(level, 0, max(3, round(level / INTERVAL)) + 1)[:, None].expand(-1, len(latents))
    x = noised(latents, torch.randn_like(latents), sigmas[0])
    return x - level * teacher.mean_velocity(x, sigmas, *stack_captions(texts))


def main() -> None:
    """Noise, draw, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="a folder with a transformer")
    parser.add_argument("--pictures", type=int, default=3200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = compose(["model=nano", f"model.path={args.model}"])
    models = Models(config, choose_placement("cpu"), clock=Clock())
    empty = encode_prompt(config, "", models).embeds
    teacher = Teacher(models.transformer, config.guidance.guidance_scale, empty, "cpu")
    vae, sprites = models.vae, load_sprites()
    entries, rng = training_entries(), np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    pixels, latents, began = [], [], time.time()
    while len(pixels) < args.pictures:
        chosen = [entries[i] for i in rng.choice(len(entries), BATCH, replace=False)]
        made = [picture(sprites, scene, np.random.default_rng((DATA_SEED, 9, len(pixels), i)))
                for i, (scene, _, _) in enumerate(chosen)]  # fmt: skip
        texts = [encode_prompt(config, prompts[0], models).embeds for _, prompts, _ in chosen]
        clean = encode_batch(vae, to_tensor(np.stack(made)), None, config.tiling)
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, text in enumerate(texts):
            by_length[padded_length(len(text))].append(i)
        for at in by_length.values():
            out = redrawn(teacher, clean[at], [texts[i] for i in at], float(rng.uniform(*LEVELS)))
            latents += list((out / vae.config.scaling_factor + vae.config.shift_factor).half().numpy())
            pixels += [made[i] for i in at]
        print(f"{len(pixels)} pictures, {time.time() - began:.0f} s", flush=True)
    np.savez(V1 / "drawn.npz", pictures=np.stack(pixels), latents=np.stack(latents))


if __name__ == "__main__":
    main()
