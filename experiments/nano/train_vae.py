"""Train nano's VAE: AutoencoderKL, 8x smaller, 16 channels, 1.7 M parameters.

    uv run python experiments/nano/train_vae.py [--steps N]

L1 and gradient-difference loss, a light KL term, and now and then a picture whose latent was shrunk before decoding
(meant to keep latents smooth for the DiT; not measured apart). 64 px first, then 128 px. Checkpoints to
assets/nano/vae.pt every 200 steps and goes on from there when started again.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import save_grid, start_training, to_tensor
from diffusers import AutoencoderKL
from muon import Muon
from paths import ASSETS, SIZE
from scenes import compose_anything, load_sprites

from llm_dit.train.vae import edge_loss

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
SEED = 11
BATCH = 8  # at 128 px; twice that at 64 px
RATE = 3e-3
KL_WEIGHT = 2e-4  # per latent element; leaves the posterior narrow but the decoder used to a little noise
SMALL_SHARE = 0.62  # of the steps at 64 px
SHRINK_SHARE = 0.25  # of the steps decode a shrunk latent


def tame_last_norms(vae: AutoencoderKL, size: float = 10.0) -> None:
    """Start with the two GroupNorms that no shortcut goes around nearly linear.

    A GroupNorm divides by the spread of the whole picture, so the last ones of encoder and decoder would hide the
    absolute colour, and unlearning that takes most of the training. Two constant channels of +-size before the norm
    dominate its statistics; its weight and bias undo them.
    """
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


def main() -> None:
    """Train, or go on training, to `--steps`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1600)
    steps = parser.parse_args().steps
    start_training(SEED)
    sprites = load_sprites()
    vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    tame_last_norms(vae)
    print(f"{sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M parameters", flush=True)
    average = torch.optim.swa_utils.AveragedModel(vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    kernels = [p for p in vae.parameters() if p.ndim > 1]
    optimiser = Muon(kernels, [p for p in vae.parameters() if p.ndim == 1], RATE, RATE / 2)
    path, first, spent = ASSETS / "vae.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        vae.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["cpu_seconds"]
    rng = np.random.default_rng(SEED + 100)
    validation = to_tensor(np.stack([compose_anything(sprites, rng) for _ in range(48)]))

    running, began, cpu = [], time.time(), time.process_time()
    for step in range(first, steps):
        rng = np.random.default_rng((SEED, step))
        small = step < SMALL_SHARE * steps
        batch = BATCH * 2 if small else BATCH
        x = to_tensor(np.stack([compose_anything(sprites, rng) for _ in range(batch)]))
        if small:
            x = F.interpolate(x, size=SIZE // 2, mode="area")
        x = x.contiguous(memory_format=torch.channels_last)
        warm = min(1.0, (step + 1) / 50)
        optimiser.scale_rates(warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps))))
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            z = posterior.sample()
            target = x
            if rng.random() < SHRINK_SHARE:
                z = F.interpolate(z.float(), scale_factor=0.5, mode="bilinear", antialias=True)
                target = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
            out = vae.decode(z).sample.float()
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        loss = (out - target).abs().mean() + edge_loss(out, target) + KL_WEIGHT * kl
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update_parameters(vae)
        running.append((loss.item(), kl.item()))
        if (step + 1) % 50 == 0:
            mean = np.mean(running, 0)
            rate = (time.time() - began) / (step + 1 - first)
            print(f"step {step + 1}/{steps} loss {mean[0]:.4f} kl {mean[1]:.3f} {rate:.3f} s/step", flush=True)
            running = []
        if (step + 1) % 200 == 0 or step + 1 == steps:
            total = spent + time.process_time() - cpu
            report(average.module, validation, total)
            state = {"model": vae.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "cpu_seconds": float(total)}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)


@torch.no_grad()
def report(vae: AutoencoderKL, x: torch.Tensor, cpu_seconds: float, sheet: str = "vae.png") -> None:
    """Print PSNR (dB, peak 1) and the latents' spread; draw pictures over their reconstructions."""
    posterior = vae.encode(x).latent_dist
    out = vae.decode(posterior.mean).sample.clamp(-1, 1)
    psnr = -10 * torch.log10(((out - x) / 2).square().mean(dim=(1, 2, 3)))
    spread = f"latent std {posterior.mean.std():.3f} posterior std {posterior.std.mean():.3f}"
    print(f"  psnr {psnr.mean():.2f} dB (worst {psnr.min():.2f}) {spread} cpu {cpu_seconds / 60:.1f} min", flush=True)
    save_grid(torch.cat([t for i in range(0, 48, 12) for t in (x[i : i + 12], out[i : i + 12])]), 12, sheet)


if __name__ == "__main__":
    main()
