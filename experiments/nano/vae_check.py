"""Is a VAE good enough for the pictures of version 1? PSNR by kind of scene and by style, and a sheet.

    uv run python experiments/nano/vae_check.py [--count N]       # the shipped one
    uv run python experiments/nano/vae_check.py --tuned           # the newest of train_vae.py

PSNR in dB (peak 1) of whole pictures, as for the training's own report, and of the square around each drawing alone:
plain backgrounds are easy and fill much of a picture with something small in it. assets/nano/v1/vae_check.png
(vae_check_tuned.png) holds rows of pictures over their reconstructions, one pair of rows a kind.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import shipped_vae, through_vae, to_pictures, to_tensor
from domain import TAUGHT_STYLES as STYLES
from layouts import load_sprites, picture, places
from make_data import SEED, first_entries
from paths import SIZE, V1
from PIL import Image
from train_vae import newest_vae


def psnr(error: torch.Tensor) -> float:
    """dB of a squared error of values in -1..1."""
    return float(-10 * torch.log10((error / 4).mean()))


@torch.no_grad()
def main() -> None:
    """Draw, rebuild, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=48, help="pictures of each kind")
    parser.add_argument("--tuned", action="store_true")
    args = parser.parse_args()
    count = args.count
    torch.set_num_threads(1)
    vae = newest_vae() if args.tuned else shipped_vae()
    sprites, groups = load_sprites(), {}
    for scene, _, _ in first_entries():
        name = scene.size if scene.kind == "single" else f"{scene.kind} {scene.count if scene.other is None else 2}"
        groups.setdefault(name, {style: [] for style in STYLES})[scene.style].append(scene)
    print(f"{'':10s}" + "".join(f"{style:>16s}" for style in STYLES) + f"{'all':>16s}{'worst':>8s}")
    rows = []
    for name, by_style in groups.items():
        scenes = [scene for i in range(count) for scene in [by_style[STYLES[i % len(STYLES)]][i // len(STYLES)]]]
        pixels = [picture(sprites, s, np.random.default_rng((SEED, 9, i))) for i, s in enumerate(scenes)]
        x = to_tensor(np.stack(pixels))
        rebuilt = through_vae(vae, x)
        error, inside = (rebuilt - x).square(), torch.zeros(count, 1, SIZE, SIZE)
        for i, scene in enumerate(scenes):
            for p in places(scene, np.random.default_rng((SEED, 9, i))):  # the same as in the picture
                a, b, side = (int(v * SIZE) for v in (p.y - p.side / 2, p.x - p.side / 2, p.side))
                inside[i, :, max(a, 0) : a + side, max(b, 0) : b + side] = 1
        each = torch.tensor([psnr(e) for e in error])
        drawn = torch.tensor([psnr(e[:, m[0] > 0]) for e, m in zip(error, inside, strict=True)])
        cells = [
            f"{each[j :: len(STYLES)].mean():8.1f}{drawn[j :: len(STYLES)].mean():7.1f} " for j in range(len(STYLES))
        ]
        print(f"{name:10s}" + "".join(cells) + f"{each.mean():8.1f}{drawn.mean():7.1f} {each.min():7.1f}", flush=True)
        for part in (x, rebuilt):
            rows.append(np.concatenate(list(to_pictures(part[:12])), 1))
    Image.fromarray(np.concatenate(rows)).save(V1 / ("vae_check_tuned.png" if args.tuned else "vae_check.png"))


if __name__ == "__main__":
    main()
