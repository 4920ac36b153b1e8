"""The judge of the evaluation: a small network that names subject, style and background colour of a picture.

    uv run python experiments/nano/classifier.py

It is trained on the sprites alone (never on anything the VAE or the DiT made), under shift, scale, blur, noise,
brightness and colour jitter, and writes assets/nano/classifier.pt.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_tensor
from paths import ASSETS, SIZE
from PIL import Image
from scenes import load_sprites, paste
from torch import nn
from vocabulary import COLOURS, STYLES, SUBJECTS

KEYS = (list(SUBJECTS), list(STYLES), list(COLOURS))
SEED, BATCH, RATE = 41, 64, 2e-3


class Classifier(nn.Module):
    """Pictures [n, 3, 128, 128] in -1..1 -> logits for subject [n, 96], style [n, 3], colour [n, 12]."""

    def __init__(self):
        super().__init__()
        sizes = (3, 32, 64, 96, 160, 192)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Conv2d(a, b, 3, 2 if a > 3 else 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(2 * sizes[-1], len(keys)) for keys in KEYS)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = self.body(F.interpolate(x, size=64, mode="area"))
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return [head(pooled) for head in self.heads]


def augmented(sprites: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Pictures [n, 3, SIZE, SIZE] for labels [n, 3] (subject, style, colour), damaged at random."""
    pictures = []
    for subject, style, colour in labels:
        shade = np.clip(np.array(list(COLOURS.values())[colour]) + rng.integers(-14, 15, 3), 0, 255)
        canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in shade))
        side = int(SIZE * rng.uniform(0.58, 0.88))
        left, top = (SIZE - side) // 2 + rng.integers(-10, 11, 2)
        paste(canvas, sprites[subject, style], side, int(left), int(top))
        pictures.append(np.asarray(canvas))
    x = to_tensor(np.stack(pictures))
    n = len(x)
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (n, 3, 1, 1))).float()
    x = x * gain + torch.from_numpy(rng.uniform(-0.06, 0.06, (n, 3, 1, 1))).float()
    small = int(SIZE / rng.uniform(1.0, 2.6))  # one blur a batch
    if rng.random() < 0.6:
        x = F.interpolate(F.interpolate(x, size=small, mode="area"), size=SIZE, mode="bilinear", align_corners=False)
    strength = torch.from_numpy(rng.uniform(0, 0.25, (n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.6)).float()
    grain = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    coarse = F.interpolate(grain[..., ::4, ::4], size=SIZE, mode="bilinear", align_corners=False)
    return (x + strength * grain + 0.5 * strength * coarse).clamp(-1, 1)


def random_labels(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n, 3] of (subject, style, colour) numbers."""
    return np.stack([rng.integers(len(keys), size=n) for keys in KEYS], 1)


def load_classifier() -> Classifier:
    """The trained judge."""
    model = Classifier()
    model.load_state_dict(torch.load(ASSETS / "classifier.pt", weights_only=True))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: Classifier, x: torch.Tensor, labels: np.ndarray) -> list[float]:
    """Share of right answers for subject, style and colour."""
    answers = [torch.cat(parts).argmax(1) for parts in zip(*(model(part) for part in x.split(64)), strict=True)]
    return [(a == torch.from_numpy(labels[:, i])).float().mean().item() for i, a in enumerate(answers)]


def main() -> None:
    """Train, measure on damaged pictures never seen, save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    sprites, model = load_sprites(), Classifier()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, args.steps, pct_start=0.1)
    for step in range(args.steps):
        rng = np.random.default_rng((SEED, step))
        labels = random_labels(rng, BATCH)
        x = augmented(sprites, labels, rng)
        with torch.autocast("cpu", torch.bfloat16):
            answers = model(x)
        loss = sum(F.cross_entropy(a.float(), torch.from_numpy(labels[:, i])) for i, a in enumerate(answers))
        loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{args.steps} loss {loss.item():.3f}", flush=True)
    model.eval()
    rng = np.random.default_rng((SEED, 10**6))
    labels = random_labels(rng, 1024)
    x = torch.cat([augmented(sprites, part, rng) for part in np.split(labels, 16)])
    torch.save(model.state_dict(), ASSETS / "classifier.pt")
    print("held-out damaged pictures: subject {:.3f} style {:.3f} colour {:.3f}".format(*accuracy(model, x, labels)))


if __name__ == "__main__":
    main()
