"""Pictures through the VAE, most of them with disturbed latents: what nano draws has its texture and such errors."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures, to_tensor
from diffusers import AutoencoderKL
from judge_damage import displaced
from judge_icons import Icons
from judge_nothing import ramp
from judge_scenes import Seen, Told, fade, scene
from paths import V1
from train_vae import newest_vae

SEED, BANK = 50, 4608


def load_bank(icons: Icons) -> tuple[np.ndarray, list[Told]]:
    """The pictures through the VAE and what is true of them, made on the first call."""
    path = V1 / "judge_bank.npz"
    if not path.exists():
        pictures, told = make_bank(newest_vae(), icons, BANK, SEED)
        text = [{**asdict(about), "colours": about.colours.tolist()} for about in told]
        path.with_suffix(".json").write_text(json.dumps(text))
        np.savez(path, pictures=pictures)
        print(f"{len(pictures)} pictures through the VAE", flush=True)
    told = []
    for about in json.loads(path.with_suffix(".json").read_text()):
        seen = [Seen(**one) for one in about.pop("seen")]
        told.append(Told(seen, **{**about, "colours": np.array(about["colours"], np.float32)}))
    with np.load(path) as file:
        return file["pictures"], told


@torch.no_grad()
def make_bank(vae: AutoencoderKL, icons: Icons, n: int, seed: int) -> tuple[np.ndarray, list[Told]]:
    """n pictures through the VAE, most of them with disturbed latents: uint8 [n, SIZE, SIZE, 3], and what is true."""
    pictures, told = [], []
    for start in range(0, n, 16):
        rng = np.random.default_rng((seed, start))
        made = [scene(rng, icons, calm=True) for _ in range(min(16, n - start))]
        with torch.autocast("cpu", torch.bfloat16):
            z = vae.encode(to_tensor(np.stack([m[0] for m in made]))).latent_dist.mean.float()
        spread = z.std()
        for i, (_, about) in enumerate(made):
            kind, other = rng.choice(5, p=[0.2, 0.35, 0.12, 0.08, 0.25]), int(rng.integers(len(made)))
            left = ground = 1.0
            if kind == 1:  # noise in the latent, fine or smooth
                strength = 1.6 * rng.random() ** 1.7  # mostly mild, as nano's own errors are
                noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
                if rng.random() < 0.5:
                    noise = 1.5 * F.interpolate(noise[..., ::4, ::4], size=16, mode="bicubic", align_corners=True)
                z[i] += strength * spread * noise[0]
                left = ground = float(ramp(strength, 0.6, 1.2))
            elif kind == 2:  # on the way to another picture
                share = rng.uniform(0, 0.5)
                z[i] = z[i] * (1 - share) + z[other] * share
                left, ground = float(ramp(share, 0.25, 0.45)), float(ramp(share, 0.1, 0.3))
            elif kind == 3:  # nothing but noise
                noise = torch.from_numpy(rng.standard_normal((1, 16, 16, 16))).float()
                side = int(rng.choice([16, 8, 4]))
                noise = F.interpolate(noise[..., :side, :side], size=16, mode="bicubic")[0]
                z[i] = rng.uniform(0.5, 1.8) * spread * noise
                about.seen, ground, about.centres_open = [], 0.0, True
            elif kind == 4:  # pushed about, and details lost: smeared as what nano half remembers
                spread = 0.11 * rng.random() ** 1.3
                z[i] = smeared(z[i], rng, spread)
                left = float(ramp(spread, 0.05, 0.11))
            fade(about, left, 0.3 + 0.7 * left, ground)
            told.append(about)
        with torch.autocast("cpu", torch.bfloat16):
            pictures.append(to_pictures(vae.decode(z).sample.float()))
    return np.concatenate(pictures), told


def smeared(z: torch.Tensor, rng: np.random.Generator, spread: float) -> torch.Tensor:
    """Latents [c, h, w] displaced smoothly (spread in shares of the side), part of their fine detail taken away."""
    moved = displaced(z, rng, spread, (3, 4, 6, 8), "border")[None]
    coarse = F.interpolate(F.interpolate(moved, scale_factor=0.5, mode="area"), size=z.shape[-2:], mode="bilinear")
    return torch.lerp(moved, coarse, float(rng.uniform(0, 0.7)))[0]
