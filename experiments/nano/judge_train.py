"""Train nano's judge, the metric nano_judge (src/llm_dit/metrics/nano_judge), on the pictures of judge_batches.py.

    uv run python experiments/nano/judge_train.py [--steps N]     # log: to stdout
    uv run python experiments/nano/judge_train.py --export        # weights beside the data: assets/nano/v1/judge/
    uv run python experiments/nano/judge_train.py --export --ship # weights where the metric reads them

Checkpoints to assets/nano/v1/judge.pt every 100 steps and goes on from there when started again. The pictures through
the VAE are made once, with v1/vae_decoder.pt, v1/vae.pt or the shipped VAE, the first that is there (judge_bank.npz and
.json; delete them to make them anew). At the end, and with --export, one temperature each for drawings and grounds is
fitted on damaged pictures never seen, and the averaged weights are written in float16, with mean and spread of the
pooled features over these pictures, and the vocabulary. Only --ship touches the metric: judge_eval.py --folder has to
prove the weights first.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import average_of, keep, make_optimizers, resume, take_step
from domain import plurals
from judge_bank import SEED, load_bank, make_bank
from judge_batches import Batch, batch
from judge_icons import KEYS, Icons, load_icons
from paths import V1
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from train_vae import newest_vae

from llm_dit.metrics.nano_judge import WEIGHTS
from llm_dit.metrics.nano_judge.net import SceneNet
from llm_dit.metrics.nano_judge.words import LABELLED
from llm_dit.train.optimizers import set_rates

UNSEEN_SEED, BATCH, RATE = 59, 48, 3e-3
BONUS = 3.0  # for known subjects (net.trusting), by 100 labelled pictures of version 0: docs/nano.md
SHARES = {"centre": 0.6, "drawing": 1.5, "side": 0.5, "colour": 0.4}
CHECKPOINT, OUT = V1 / "judge.pt", V1 / "judge"


def losses(answers: tuple[torch.Tensor, ...], made: Batch) -> dict[str, torch.Tensor]:
    """Each part of the loss, a mean over what is not left open."""
    centre, side, drawing, colour = answers
    at = made.cells.unbind(1)

    def mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (values * weights).sum() / weights.sum().clamp_min(1)

    told = F.binary_cross_entropy_with_logits(centre.float(), made.centre, reduction="none")
    drawings = sum(len(about.seen) for about in made.told)
    each = F.cross_entropy(drawing[at[0], :, at[1], at[2]].float(), made.drawing, reduction="none")
    return {
        "centre": (told * made.centre_weight).sum() / max(1, drawings),
        "drawing": mean(each, made.drawing_weight),
        "side": mean((side[at].float() - made.side).abs(), torch.ones_like(made.side)),
        "colour": mean(F.cross_entropy(colour.float(), made.colour, reduction="none"), made.colour_weight),
    }


def load_average(path: Path) -> SceneNet:
    """The averaged network of a checkpoint."""
    net = SceneNet(tuple(len(keys) for keys in KEYS))
    net.load_state_dict(average_of(path))
    return net.eval().requires_grad_(False)


def train(steps: int, icons: Icons, start: Path | None) -> None:
    """Train to `steps`, from the checkpoint if there is one; start: one of another training, to begin with."""
    bank = load_bank(icons)
    net = SceneNet(tuple(len(keys) for keys in KEYS)).to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters", flush=True)
    optimizers = make_optimizers(net, RATE)
    if start:  # what has the same shape there
        there, here = average_of(start), net.state_dict()
        fits = {key: value for key, value in there.items() if key in here and value.shape == here[key].shape}
        net.load_state_dict(fits, strict=False)
        print(f"{len(fits)} of {len(here)} tensors from {start}; new: {sorted(here.keys() - fits.keys())}", flush=True)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    first, spent = resume(CHECKPOINT, net, average, optimizers)
    cpu, began, running = time.process_time(), time.time(), []
    for step in range(first, steps):
        made = batch(np.random.default_rng((SEED, step)), icons, bank, BATCH)
        warm = min(1.0, (step + 1) / 50)
        set_rates(optimizers, warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))))
        with torch.autocast("cpu", torch.bfloat16):
            answers = net(made.pictures.contiguous(memory_format=torch.channels_last))
        parts = losses(answers, made)
        take_step(sum(SHARES[key] * value for key, value in parts.items()), net, average, optimizers, 5.0)
        running.append([value.item() for value in parts.values()])
        if (step + 1) % 25 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            means = " ".join(f"{k} {v:.3f}" for k, v in zip(parts, np.mean(running, 0), strict=True))
            print(f"step {step + 1}/{steps} {means} {rate:.2f} s/step", flush=True)
            running = []
        if (step + 1) % 100 == 0 or step + 1 == steps:
            keep(CHECKPOINT, net, average, optimizers, step + 1, spent + time.process_time() - cpu)
    print(f"{(spent + time.process_time() - cpu) / 60:.0f} CPU minutes", flush=True)


def unseen_batches(icons: Icons, batches: int = 24) -> list[Batch]:
    """Damaged pictures never trained on, of the same kinds; those through the VAE are new too."""
    bank = make_bank(newest_vae(), icons, 192, UNSEEN_SEED)
    return [batch(np.random.default_rng((UNSEEN_SEED, i)), icons, bank, BATCH) for i in range(batches)]


@torch.no_grad()
def fit_temperatures(net: SceneNet, made: list[Batch]) -> dict[str, float]:
    """One temperature each for drawings and colours: the least cross entropy."""
    rows: dict[str, list[tuple[torch.Tensor, ...]]] = {"drawing": [], "colour": []}
    for one in made:
        _, _, drawing, colour = net(one.pictures)
        at = one.cells.unbind(1)
        rows["drawing"].append((drawing[at[0], :, at[1], at[2]], one.drawing, one.drawing_weight))
        rows["colour"].append((colour, one.colour, one.colour_weight))
    best = {}
    for kind, parts in rows.items():
        answer, target, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        found = {
            t: float((F.cross_entropy(answer / t, target, reduction="none") * weight).sum())
            for t in np.geomspace(0.4, 3, 60).round(3).tolist()
        }
        best[kind] = min(found, key=found.get)
        right = float(((answer.argmax(1) == target.argmax(1)) * weight).sum() / weight.sum())
        print(f"{kind}: temperature {best[kind]:.3f}, {100 * right:.1f} % of damaged pictures right", flush=True)
    return best


@torch.no_grad()
def export(net: SceneNet, made: list[Batch], folder: Path) -> None:
    """Write weights (float16), the features' mean and spread, temperatures and vocabulary, as the metric reads them."""
    temperatures = fit_temperatures(net, made)
    pooled = torch.cat([net.features(one.pictures)[1] for one in made])
    state = {**net.state_dict(), "pooled.mean": pooled.mean(0), "pooled.spread": pooled.std(0).clamp_min(1e-3)}
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "judge.safetensors")
    config = {
        "temperature": temperatures,
        "bonus": BONUS,
        "labels": dict(zip(LABELLED, KEYS, strict=True)),
        "plurals": plurals(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.2f} MiB")


def main() -> None:
    """Train, or go on training, to `--steps`; calibrate; export."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=7200)
    parser.add_argument(
        "--start", type=Path, help="a checkpoint of another training, whose weights this one begins with"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="no training: calibrate and export the checkpoint")
    parser.add_argument("--ship", action="store_true", help="export into the metric's package")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    icons = load_icons()
    if not args.export:
        train(args.steps, icons, args.start)
    export(load_average(CHECKPOINT), unseen_batches(icons), WEIGHTS if args.ship else OUT)


if __name__ == "__main__":
    main()
