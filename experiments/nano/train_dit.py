"""Train nano's DiT by flow matching on the latents and captions made before.

    uv run python experiments/nano/train_dit.py [--steps N] [--layer K] [--name NAME]

x_t = (1 - sigma) x + sigma noise, the network predicts noise - x. Rates: warm-up, flat, then linear to zero over the
last 60 % of the steps, so that a run can be stretched or cut by restarting with another --steps. Checkpoints to
assets/nano/NAME.pt every 250 steps and goes on from there; a sheet of held-out scenes is drawn from the averaged
weights at the same time (NAME.png).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from captions import LAYER, channel_gain, training_captions
from common import save_grid, start_training
from latents import load_vae, training_scenes
from model import CAPTION, angles, build, forward, use_real_rotary
from muon import Muon
from paths import ASSETS
from sample import held_out_prompts, sample

SEED = 31
BATCH = 32
RATE, OTHER_RATE = 4e-3, 1.5e-3
WARM, COOL = 100, 0.6  # steps, share of the steps
EMPTY, OPEN = 0.08, 0.10  # shares of pictures with no prompt, with a prompt that leaves something open
AVERAGE = 0.998


class Captions:
    """All prompts in one tensor: states [n, 32, 576] bfloat16, padding [n, 32], and which prompts a scene has."""

    def __init__(self, layer: int):
        stored = torch.load(ASSETS / "captions.pt", weights_only=True)
        states = [s[:CAPTION] for s in stored["states"][layer]]
        self.gain = channel_gain(states[:: max(1, len(states) // 1000)])
        self.states = torch.stack([F.pad(s, (0, 0, 0, CAPTION - len(s))) for s in states])
        lengths = torch.tensor([len(s) for s in states])
        self.padding = torch.arange(CAPTION) >= lengths[:, None]
        index = {prompt: i for i, prompt in enumerate(stored["prompts"])}
        groups = training_captions()
        by_scene = [[index[p] for p in groups["|".join(scene)]] for scene in training_scenes()]
        self.of_scene = np.array(by_scene)  # [scenes, full + open]; the last four are open

    def pick(self, rng: np.random.Generator, scenes: np.ndarray) -> np.ndarray:
        """One prompt number for each scene; 0 is the empty prompt."""
        n, full = len(scenes), self.of_scene.shape[1] - 4
        column = np.where(rng.random(n) < OPEN, full + rng.integers(0, 4, n), rng.integers(0, full, n))
        return np.where(rng.random(n) < EMPTY, 0, self.of_scene[scenes, column])


def draw_sigma(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise levels [n] in (0, 1): logit-normal leaning to noise, where the subject is decided, a quarter uniform."""
    logit = 1 / (1 + np.exp(-rng.normal(0.4, 1.1, n)))
    return np.where(rng.random(n) < 0.25, rng.random(n), logit)


def rate_factor(step: int, steps: int) -> float:
    """Warm-up, flat, linear to zero."""
    return min(1.0, (step + 1) / WARM, (steps - step) / (COOL * steps))


def main() -> None:
    """Train, or go on training, to `--steps`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--layer", type=int, default=LAYER)
    parser.add_argument("--name", default="dit")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    start_training(SEED)
    captions = Captions(args.layer)
    latents = torch.load(ASSETS / "latents.pt", weights_only=True)["latents"]
    model = build(captions.gain)
    use_real_rotary(model)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and n.startswith(("layers", "noise_", "context_"))]
    chosen = {id(p) for p in inner}
    optimiser = Muon(inner, [p for p in model.parameters() if id(p) not in chosen], RATE, OTHER_RATE)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    path, first, spent = ASSETS / f"{args.name}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, spent = state["average"], state["step"], state["cpu_seconds"]
    rope = angles(model, 8, 8)
    run = forward if args.no_compile else torch.compile(forward)
    vae = load_vae()
    prompts = held_out_prompts(24)

    losses, began, cpu = [], time.time(), time.process_time()
    for step in range(first, args.steps):
        rng = np.random.default_rng((SEED, step))
        scenes = rng.integers(0, len(latents), BATCH)
        numbers = torch.from_numpy(captions.pick(rng, scenes))
        x = latents[scenes, rng.integers(0, latents.shape[1], BATCH)].float()
        sigma = torch.from_numpy(draw_sigma(rng, BATCH)).float()
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        mixed = x + sigma[:, None, None, None] * (noise - x)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = run(model, mixed, sigma, captions.states[numbers], captions.padding[numbers], rope)
        loss = (velocity - (noise - x)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.scale_rates(rate_factor(step, args.steps))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        keep = min(AVERAGE, 1 - 1 / (step + 2) ** 0.7)
        with torch.no_grad():
            for name, p in model.named_parameters():
                average[name].lerp_(p, 1 - keep)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            print(f"step {step + 1}/{args.steps} loss {np.mean(losses):.4f} {rate:.3f} s/step", flush=True)
            losses = []
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            total = float(spent + time.process_time() - cpu)
            state = {"model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "cpu_seconds": total, "layer": args.layer}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
            if (step + 1) % 500 == 0 or step + 1 == args.steps:
                live = {name: p.detach().clone() for name, p in model.named_parameters()}
                model.load_state_dict(average)
                save_grid(sample(model, vae, prompts, layer=args.layer), 8, f"{args.name}.png")
                model.load_state_dict(live)
                print(f"  {total / 60:.1f} CPU minutes; assets/nano/{args.name}.png drawn", flush=True)


if __name__ == "__main__":
    main()
