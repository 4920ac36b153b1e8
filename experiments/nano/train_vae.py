"""Train nano's VAE: AutoencoderKL, 8x smaller, 16 channels, 1.7 M parameters.

    uv run python experiments/nano/train_vae.py --steps 2200              # encoder and decoder
    uv run python experiments/nano/train_vae.py --steps 4000 --decoder    # then the decoder alone: latents stay
    uv run python experiments/nano/train_vae.py --export                  # assets/nano/v1/vae, a diffusers folder

L1 of pixels and of pixel differences, counted five times where there is something to see, and a light KL term, on
scenes of the training and on wider ones. Goes on from its own checkpoint assets/nano/v1/vae.pt, written every 100
steps. With --decoder the encoder is frozen, so that latents encoded before stay right, and checkpoints go to
v1/vae_decoder.pt; with no v1/vae.pt it starts from the VAE that ships. README.md says how the shipped one came about.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import average_of, keep, make_optimizers, resume, save_grid, shipped_vae, take_step, to_tensor
from diffusers import AutoencoderKL
from domain import STYLES
from layouts import Place, compose, load_sprites, picture
from make_data import first_entries
from paths import SHIPPED, SIZE, V1

from llm_dit.train.optimizers import set_rates
from llm_dit.train.vae import kl_loss

CONFIG = {
    "block_out_channels": (16, 32, 64, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 1,  # with more, flat pictures lose their absolute colour
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": SIZE,
}
SEED = 12
BATCH = 8
RATE = 2e-3
KL_WEIGHT = 2e-4  # per latent element; leaves the posterior narrow but the decoder used to a little noise
SHARES = {"plain": 1.0, "large": 0.7, "small": 2.5, "pair": 1.5, "count": 2.0}  # how often a scene of a kind is taken


def fresh_vae() -> AutoencoderKL:
    """Random weights, with the two GroupNorms that no shortcut goes around nearly linear.

    A GroupNorm divides by the spread of the whole picture, so the last ones of encoder and decoder would hide the
    absolute colour, and unlearning that takes most of the training. Two constant channels of +-10 before the norm
    dominate its statistics; its weight and bias undo them.
    """
    vae, size = AutoencoderKL(**CONFIG), 10.0
    for net, block in (
        (vae.encoder, vae.encoder.mid_block.resnets[-1]),
        (vae.decoder, vae.decoder.up_blocks[-1].resnets[-1]),
    ):
        channels = net.conv_norm_out.num_channels
        with torch.no_grad():
            constant = torch.zeros(channels)
            constant[0], constant[1] = size, -size
            block.conv2.bias.add_(constant)
            net.conv_norm_out.weight.fill_(size * (2 / channels) ** 0.5)
            net.conv_norm_out.bias.sub_(constant)
    return vae


def scattered(sprites: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to four of any icons in one style on any ground: wider than the scenes."""
    count = int(rng.integers(1, 5))
    where = [Place("", *rng.uniform(0.15, 0.85, 2), float(rng.uniform(0.25, 0.8 if count < 3 else 0.5)))
             for _ in range(count)]  # fmt: skip
    numbers = rng.integers(len(sprites), size=count).tolist()
    return compose(sprites, numbers, int(rng.integers(len(STYLES))), where, tuple(rng.integers(0, 256, 3)))


def loss_of(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and of pixel differences; five times as much within 3 px of an edge."""
    edges = F.pad(x.diff(dim=2).abs().amax(1, keepdim=True), (0, 0, 0, 1))
    edges = torch.maximum(edges, F.pad(x.diff(dim=3).abs().amax(1, keepdim=True), (0, 1, 0, 0)))
    weight = 1 + 4 * (F.max_pool2d(edges, 7, 1, 3) > 0.06).float()
    weight = weight / weight.mean()
    d = out - x
    return (
        (d.abs() * weight).mean()
        + (d.diff(dim=2).abs() * weight[:, :, 1:]).mean()
        + (d.diff(dim=3).abs() * weight[..., 1:]).mean()
    )


def newest_vae(**factors: float) -> AutoencoderKL:
    """The average of v1/vae_decoder.pt or v1/vae.pt, the first that is there, else the shipped VAE; float32.

    factors: scaling_factor and shift_factor, if they are known.
    """
    for name in ("vae_decoder.pt", "vae.pt"):
        if (V1 / name).exists():
            vae = AutoencoderKL(**CONFIG, **factors)
            vae.load_state_dict(average_of(V1 / name))
            return vae.eval().requires_grad_(False)
    return shipped_vae()


@torch.no_grad()
def export(pictures: int = 400) -> None:
    """Write the newest VAE as float16 to assets/nano/v1/vae, with mean and spread of the training's latents.

    With a decoder trained alone these stay as they ship: the latents are what they were.
    """
    if (V1 / "vae_decoder.pt").exists():
        shipped = AutoencoderKL.load_config(SHIPPED, subfolder="vae")
        factors = {key: shipped[key] for key in ("scaling_factor", "shift_factor")}
        newest_vae(**factors, force_upcast=False).half().save_pretrained(V1 / "vae")
        print(f"{V1 / 'vae'}: {factors}, as shipped")
        return
    sprites, scenes = load_sprites(), [scene for scene, _, _ in first_entries()[:pictures]]
    x = to_tensor(np.stack([picture(sprites, s, np.random.default_rng((SEED, i))) for i, s in enumerate(scenes)]))
    vae = newest_vae()
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(16)])
    factors = {"scaling_factor": 1 / latents.std().item(), "shift_factor": latents.mean().item()}
    newest_vae(**factors, force_upcast=False).half().save_pretrained(V1 / "vae")
    print(f"{V1 / 'vae'}: {factors}")


@torch.no_grad()
def report(vae: AutoencoderKL, x: torch.Tensor, cpu_seconds: float) -> None:
    """Print PSNR (dB, peak 1) and the latents' spread; draw pictures over their reconstructions."""
    posterior = vae.encode(x).latent_dist
    out = vae.decode(posterior.mean).sample.clamp(-1, 1)
    psnr = -10 * torch.log10(((out - x) / 2).square().mean(dim=(1, 2, 3)))
    spread = f"latent std {posterior.mean.std():.3f} posterior std {posterior.std.mean():.3f}"
    print(f"  psnr {psnr.mean():.2f} dB (worst {psnr.min():.2f}) {spread} cpu {cpu_seconds / 60:.1f} min", flush=True)
    save_grid(torch.cat([t for i in range(0, 48, 12) for t in (x[i : i + 12], out[i : i + 12])]), 12, "v1/vae.png")


def main() -> None:
    """Train, or go on training, to `--steps`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--decoder", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="no training: write the newest VAE as a folder")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    if args.export:
        export()
        return
    sprites, scenes = load_sprites(), [scene for scene, _, _ in first_entries()]
    share = np.array([SHARES[s.size if s.kind == "single" else s.kind] for s in scenes])
    share /= share.sum()
    vae = fresh_vae().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    trained = vae.decoder if args.decoder else vae
    vae.encoder.requires_grad_(not args.decoder)
    optimizers = make_optimizers(trained, RATE)
    path = V1 / ("vae_decoder.pt" if args.decoder else "vae.pt")
    if args.decoder and not path.exists():
        known = newest_vae().state_dict()
        for net in (vae, average.module):
            net.load_state_dict(known)
    first, spent = resume(path, vae, average, optimizers)

    def pictures(rng: np.random.Generator, n: int) -> torch.Tensor:
        made = []
        for _ in range(n):
            if rng.random() < 0.25:
                made.append(scattered(sprites, rng))
            else:
                made.append(picture(sprites, scenes[rng.choice(len(scenes), p=share)], rng))
        return to_tensor(np.stack(made))

    validation = pictures(np.random.default_rng((SEED, 1 << 30)), 48)
    running, began, cpu = [], time.time(), time.process_time()
    for step in range(first, args.steps):
        rng = np.random.default_rng((SEED, step))
        x = pictures(rng, BATCH).contiguous(memory_format=torch.channels_last)
        warm = min(1.0, (step + 1) / 30)
        set_rates(optimizers, warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / args.steps))))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(not args.decoder):
                posterior = vae.encode(x).latent_dist
            out = vae.decode(posterior.sample()).sample.float()
        loss = loss_of(out, x)
        if not args.decoder:
            loss = loss + KL_WEIGHT * kl_loss(posterior.mean.float(), posterior.logvar.float())
        take_step(loss, vae, average, optimizers, 1.0)
        running.append(loss.item())
        if (step + 1) % 25 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            print(f"step {step + 1}/{args.steps} loss {np.mean(running):.4f} {rate:.3f} s/step", flush=True)
            running = []
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            total = spent + time.process_time() - cpu
            report(average.module, validation, total)
            keep(path, vae, average, optimizers, step + 1, float(total))


if __name__ == "__main__":
    main()
