"""Train nano's judge, the metric nano_judge: which subject, style and background colour does a picture show, if any?

    uv run python experiments/nano/judge.py [--steps N]

Learns from judge_pictures.py alone, so from no picture of nano's transformer. Checkpoints to assets/nano/judge.pt
every 200 steps and goes on from there when started again; at the end, and with --export, it fits one temperature for
each answer on damaged pictures never seen, and writes src/llm_dit/metrics/nano_judge_weights (float16).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from export import load_shipped
from judge_pictures import KEYS, Batch, Icons, batch, load_icons, make_bank
from muon import Muon
from paths import ASSETS
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from llm_dit.metrics.nano_judge import KINDS, WEIGHTS, JudgeNet

CHANNELS = (32, 64, 96, 160, 160, 192)
SEED, BATCH, RATE = 43, 64, 4e-3
BANK = 4096  # pictures through the VAE
SHARES = (1.0, 0.9, 0.4)  # of the three answers in the loss


def load_bank() -> dict[str, np.ndarray]:
    """The pictures through the VAE, made on the first call."""
    path = ASSETS / "judge_bank.npz"
    if not path.exists():
        _, vae = load_shipped()
        bank = make_bank(vae, load_icons(), BANK, SEED)
        np.savez(path, **bank)
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def loss_of(answers: list[torch.Tensor], made: Batch) -> torch.Tensor:
    """Cross entropy with the soft targets, over the questions that are not left open."""
    total = torch.zeros(())
    for i, (answer, target) in enumerate(zip(answers, made.targets, strict=True)):
        each = F.cross_entropy(answer.float(), target, reduction="none")
        total = total + SHARES[i] * (each * made.weights[:, i]).sum() / made.weights[:, i].sum().clamp_min(1)
    return total


def train(steps: int, icons: Icons) -> JudgeNet:
    """The averaged network after `steps` steps, from the checkpoint if there is one."""
    bank = load_bank()
    net = JudgeNet([len(keys) for keys in KEYS], CHANNELS).to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters", flush=True)
    kernels = [p for p in net.parameters() if p.ndim > 1]
    optimiser = Muon(kernels, [p for p in net.parameters() if p.ndim == 1], RATE, RATE / 2)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    path, first, spent = ASSETS / "judge.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["cpu_seconds"]
    cpu, began, running = time.process_time(), time.time(), []
    for step in range(first, steps):
        made = batch(np.random.default_rng((SEED, step)), icons, bank, BATCH)
        warm = min(1.0, (step + 1) / 50)
        optimiser.scale_rates(warm * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps))))
        with torch.autocast("cpu", torch.bfloat16):
            answers = net(made.pictures.contiguous(memory_format=torch.channels_last))
        loss = loss_of(answers, made)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update_parameters(net)
        running.append(loss.item())
        if (step + 1) % 50 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            print(f"step {step + 1}/{steps} loss {np.mean(running):.4f} {rate:.3f} s/step", flush=True)
            running = []
        if (step + 1) % 200 == 0 or step + 1 == steps:
            total = spent + time.process_time() - cpu
            state = {"model": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "cpu_seconds": total}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    print(f"{(spent + time.process_time() - cpu) / 60:.0f} CPU minutes", flush=True)
    return average.module.eval().requires_grad_(False)


def unseen_batches(icons: Icons, batches: int = 24) -> list[Batch]:
    """Damaged pictures never trained on, of the same kinds; those through the VAE are new too."""
    _, vae = load_shipped()
    bank = make_bank(vae, icons, 256, SEED + 1)
    return [batch(np.random.default_rng((SEED + 1, i)), icons, bank, BATCH) for i in range(batches)]


@torch.no_grad()
def fit_temperatures(net: JudgeNet, made: list[Batch]) -> list[float]:
    """One temperature for each answer: the least cross entropy."""
    answers = [torch.cat(parts) for parts in zip(*(net(m.pictures) for m in made), strict=True)]
    weights, best = torch.cat([m.weights for m in made]), []
    for i, answer in enumerate(answers):
        target = torch.cat([m.targets[i] for m in made])
        losses = {
            t: float((F.cross_entropy(answer / t, target, reduction="none") * weights[:, i]).sum())
            for t in np.geomspace(0.4, 3, 60).round(3).tolist()
        }
        best.append(min(losses, key=losses.get))
        right = (answer.argmax(1) == target.argmax(1)).float()
        share = float((right * weights[:, i]).sum() / weights[:, i].sum())
        print(f"{KINDS[i]}: temperature {best[-1]:.3f}, {100 * share:.1f} % of damaged pictures right", flush=True)
    return best


@torch.no_grad()
def export(net: JudgeNet, made: list[Batch], temperatures: list[float]) -> None:
    """Write weights (float16), the features' mean and spread, and labels where the metric reads them."""
    WEIGHTS.mkdir(exist_ok=True)
    pooled = torch.cat([net.pooled(m.pictures) for m in made])
    statistics = {"pooled.mean": pooled.mean(0), "pooled.spread": pooled.std(0).clamp_min(1e-3)}
    state = {**net.state_dict(), **statistics}
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    save_file(state, WEIGHTS / "judge.safetensors")
    config = {
        "labels": dict(zip(KINDS, KEYS, strict=True)),
        "channels": CHANNELS,
        "temperature": dict(zip(KINDS, temperatures, strict=True)),
    }
    (WEIGHTS / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    size = sum(f.stat().st_size for f in WEIGHTS.iterdir())
    print(f"{WEIGHTS}: {size / 2**20:.2f} MiB")


def main() -> None:
    """Train, or go on training, to `--steps`; calibrate; export."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="no training: calibrate and export the checkpoint")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    icons = load_icons()
    net = train(0 if args.export else args.steps, icons)
    made = unseen_batches(icons)
    export(net, made, fit_temperatures(net, made))


if __name__ == "__main__":
    main()
