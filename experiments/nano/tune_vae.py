"""Train nano's VAE on for version 1: small drawings, several in a picture, and ink.

    uv run python experiments/nano/tune_vae.py --steps 1200               # encoder and decoder
    uv run python experiments/nano/tune_vae.py --steps 4000 --decoder     # then the decoder alone: latents stay
    uv run python experiments/nano/tune_vae.py --export                   # assets/nano/v1/vae, a diffusers folder

Goes on from assets/nano/vae.pt (train_vae.py), later from its own checkpoint assets/nano/v1/vae.pt, written every 100
steps. The first VAE saw few small drawings and no line art, and blurs both (vae_check.py). Here all pictures are
128 px, most of them scenes of the training, and errors count five times where there is something to see. With --decoder
the encoder is frozen, so that latents encoded before stay right, and checkpoints go to v1/vae_decoder.pt.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_tensor
from diffusers import AutoencoderKL
from domain import STYLES
from layouts import Place, compose, load_sprites, picture
from make_data import training_entries
from muon import Muon
from paths import ASSETS, SHIPPED, V1
from train_vae import CONFIG, KL_WEIGHT, report

SEED = 12
BATCH = 8
RATE = 2e-3
SHARES = {"plain": 1.0, "large": 0.7, "small": 2.5, "pair": 1.5, "count": 2.0}  # how often a scene of a kind is taken


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
            state = torch.load(V1 / name, weights_only=True)["average"]
            vae = AutoencoderKL(**CONFIG, **factors)
            vae.load_state_dict({k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")})
            return vae.eval().requires_grad_(False)
    return AutoencoderKL.from_pretrained(SHIPPED, subfolder="vae", torch_dtype=torch.float32).eval()


@torch.no_grad()
def export(pictures: int = 400) -> None:
    """Write the newest VAE as float16 to assets/nano/v1/vae, with mean and spread of the training's latents."""
    sprites, scenes = load_sprites(), [scene for scene, _, _ in training_entries()[:pictures]]
    x = to_tensor(np.stack([picture(sprites, s, np.random.default_rng((SEED, i))) for i, s in enumerate(scenes)]))
    vae, shipped = newest_vae(), AutoencoderKL.from_pretrained(SHIPPED, subfolder="vae", torch_dtype=torch.float32)
    latents, before = (torch.cat([v.encode(p).latent_dist.mean for p in x.split(16)]) for v in (vae, shipped))
    moved = (latents - before).std() / before.std()
    factors = {"scaling_factor": 1 / latents.std().item(), "shift_factor": latents.mean().item()}
    newest_vae(**factors, force_upcast=False).half().save_pretrained(V1 / "vae")
    print(f"{V1 / 'vae'}: {factors}; the latents moved by {moved:.3f} of their spread from the shipped VAE's")


def main() -> None:
    """Train, or go on training, to `--steps`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--decoder", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="no training: write the newest VAE as a folder")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    if args.export:
        export()
        return
    sprites, scenes = load_sprites(), [scene for scene, _, _ in training_entries()]
    share = np.array([SHARES[s.size if s.kind == "single" else s.kind] for s in scenes])
    share /= share.sum()
    vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    path = V1 / ("vae_decoder.pt" if args.decoder else "vae.pt")
    start = next(p for p in (path, V1 / "vae.pt", ASSETS / "vae.pt") if p.exists())
    state = torch.load(start, weights_only=True)
    same = start == path
    averaged = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
    vae.load_state_dict(state["model"] if same or not args.decoder else averaged)
    average.load_state_dict(state["average"])
    trained = vae.decoder if args.decoder else vae
    vae.encoder.requires_grad_(not args.decoder)
    kernels = [p for p in trained.parameters() if p.ndim > 1]
    optimiser = Muon(kernels, [p for p in trained.parameters() if p.ndim == 1], RATE, RATE / 2)
    if same or not args.decoder:
        optimiser.load_state_dict(state["optimiser"])
        for group, rate in zip(optimiser.param_groups, (RATE, RATE / 2), strict=True):
            group["base"] = rate
    first, spent = (state["step"], state["cpu_seconds"]) if same else (0, 0.0)

    def pictures(rng: np.random.Generator, n: int) -> torch.Tensor:
        made = []
        for _ in range(n):
            if rng.random() < 0.25:
                made.append(scattered(sprites, rng))
            else:
                made.append(picture(sprites, scenes[rng.choice(len(scenes), p=share)], rng))
        return to_tensor(np.stack(made))

    validation = pictures(np.random.default_rng((SEED, 1 << 30)), 48)
    report(average.module, validation, spent, "v1/vae.png")
    running, began, cpu = [], time.time(), time.process_time()
    for step in range(first, args.steps):
        x = pictures(np.random.default_rng((SEED, step)), BATCH).contiguous(memory_format=torch.channels_last)
        warm = min(1.0, (step + 1) / 30)
        optimiser.scale_rates(warm * (0.03 + 0.97 * 0.5 * (1 + np.cos(np.pi * step / args.steps))))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(not args.decoder):
                posterior = vae.encode(x).latent_dist
            out = vae.decode(posterior.sample()).sample.float()
        loss = loss_of(out, x)
        if not args.decoder:
            mean, variance = posterior.mean.float(), posterior.var.float()
            loss = loss + KL_WEIGHT * 0.5 * (mean**2 + variance - 1 - posterior.logvar.float()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update_parameters(vae)
        running.append(loss.item())
        if (step + 1) % 25 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            print(f"step {step + 1}/{args.steps} loss {np.mean(running):.4f} {rate:.3f} s/step", flush=True)
            running = []
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            total = spent + time.process_time() - cpu
            report(average.module, validation, total, "v1/vae.png")
            kept = {"model": vae.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**kept, "step": step + 1, "cpu_seconds": float(total)}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    main()
