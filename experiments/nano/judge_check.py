"""What the judge makes of pictures that should be refused, and whether its scores mean what they say.

    uv run python experiments/nano/judge_check.py

Prints the mean score and the share of scores over one half for wrong, damaged and empty pictures, and for scores in
ten bins the share that was right. The icons "never seen" and all damage are new; nothing is drawn by the transformer.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import to_pictures, to_tensor
from export import load_shipped
from judge_pictures import KEYS, batch, load_icons, make_bank
from PIL import Image
from sample import held_out_scenes
from scenes import compose, compose_scene
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge import KINDS, NanoJudge

SEED = 71
Refused = dict[str, tuple[torch.Tensor, np.ndarray]]


def numbers_of(scenes: list[tuple[str, str, str]]) -> np.ndarray:
    """Scenes -> [n, 3] of label numbers."""
    return np.array([[keys.index(word) for keys, word in zip(KEYS, scene, strict=True)] for scene in scenes])


def damaged(x: torch.Tensor, labels: np.ndarray, rng: np.random.Generator) -> Refused:
    """Pictures of the held-out scenes made unfit: what -> (pictures, what is asked of them)."""
    n = len(x)
    noise = torch.from_numpy(rng.uniform(-1, 1, x.shape)).float()
    tiles = x.reshape(n, 3, 8, 16, 8, 16).permute(0, 2, 4, 1, 3, 5).reshape(n, 64, 3, 16, 16)
    tiles = tiles[:, torch.from_numpy(rng.permutation(64))].reshape(n, 8, 8, 3, 16, 16)
    shuffled = tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 128, 128)
    small = {side: F.interpolate(x, size=side, mode="area") for side in (32, 16, 8)}
    blurs = {side: F.interpolate(tiny, size=128, mode="bicubic") for side, tiny in small.items()}
    another = x.roll(n // 3, 0)  # the scenes are in the order of their subjects
    halves = torch.cat([x[..., :64], another[..., 64:]], 3)
    return {
        "as they are": (x, labels),
        **{f"blurred to {side} x {side}": (blurred, labels) for side, blurred in blurs.items()},
        **{f"{share} % noise": (x * (1 - share / 100) + noise * share / 100, labels) for share in (30, 60, 90)},
        "in 64 shuffled pieces": (shuffled, labels),
        "left half, right half of another": (halves, labels),
        "mean of two": ((x + another) / 2, labels),
        "mirrored": (x.flip(3), labels),
        "upside down": (x.flip(2), labels),
        "in grey": (x.mean(1, keepdim=True).expand(-1, 3, -1, -1), labels),
        "negative": (-x, labels),
    }


def wrong(x: torch.Tensor, labels: np.ndarray, rng: np.random.Generator) -> Refused:
    """True pictures of which one thing else is asked."""
    result = {}
    for i, kind in enumerate(KINDS):
        other = labels.copy()
        other[:, i] = (other[:, i] + rng.integers(1, len(KEYS[i]), len(other))) % len(KEYS[i])
        result[f"another {kind} asked"] = (x, other)
    return result


def empty(labels: np.ndarray, rng: np.random.Generator) -> Refused:
    """Pictures that show nothing."""
    n = len(labels)
    flat = torch.from_numpy(rng.uniform(-1, 1, (n, 3, 1, 1))).float().expand(-1, -1, 128, 128)
    asked = torch.tensor([COLOURS[KEYS[2][i]] for i in labels[:, 2]])[:, :, None, None] / 127.5 - 1
    gradient = F.interpolate(torch.from_numpy(rng.uniform(-1, 1, (n, 3, 2, 2))).float(), size=128, mode="bilinear")
    normal = torch.from_numpy(rng.standard_normal((n, 3, 128, 128))).float()
    coarse = F.interpolate(normal[..., :12, :12], size=128, mode="bicubic")
    return {
        "uniform noise": (torch.from_numpy(rng.uniform(-1, 1, (n, 3, 128, 128))).float(), labels),
        "normal noise": (normal * 0.5, labels),
        "coarse noise": (coarse, labels),
        "grey": (torch.zeros(n, 3, 128, 128), labels),
        "any one colour": (flat, labels),
        "the asked colour alone": (asked.expand(-1, -1, 128, 128), labels),
        "gradients": (gradient, labels),
    }


def main() -> None:
    """Both tables."""
    judge, icons, rng = NanoJudge(None, "cpu", 64), load_icons(), np.random.default_rng(SEED)
    scenes = held_out_scenes(366)
    labels = numbers_of(scenes)
    x = to_tensor(np.stack([compose_scene(icons.sprites, *scene, rng) for scene in scenes]))
    pictures = [
        compose(icons.sprites[rng.choice(icons.unseen), style], COLOURS[KEYS[2][colour]], rng)
        for _, style, colour in labels
    ]
    unseen = {"an icon never seen": (to_tensor(np.stack(pictures)), labels)}
    print(judge.identity)
    print(f"{'mean score (share over 0.5, %)':36s} {'all':>12s} " + " ".join(f"{kind:>12s}" for kind in KINDS))
    rows = {**damaged(x, labels, rng), **wrong(x, labels, rng), **unseen, **empty(labels, rng)}
    for what, (made, asked) in rows.items():
        seen = judge.probabilities([Image.fromarray(picture) for picture in to_pictures(made)])
        scores = np.stack([p.numpy()[np.arange(len(p)), asked[:, i]] for i, p in enumerate(seen)], 1)
        columns = np.concatenate([scores.prod(1, keepdims=True), scores], 1)
        cells = " ".join(f"{c.mean():6.3f} ({100 * (c > 0.5).mean():3.0f})" for c in columns.T)
        line = f"{what:36s} {cells}"
        if what.startswith("an icon"):
            line += f"   named as some subject: {100 * (seen[0][:, :-1].amax(1) > 0.5).float().mean():.1f} %"
        print(line, flush=True)
    calibration(judge, icons)


@torch.no_grad()
def calibration(judge: NanoJudge, icons: object, batches: int = 40) -> None:
    """For scores in ten bins: how many, their mean, and the share that was right, on damaged pictures never seen.

    The score is that of the judge's first choice of a label ("none" is no label). What is right is the target's own
    share, as damage leaves some in doubt.
    """
    _, vae = load_shipped()
    bank = make_bank(vae, icons, 256, SEED)
    made = [batch(np.random.default_rng((SEED, i)), icons, bank, 64) for i in range(batches)]
    answers = [torch.cat(parts) for parts in zip(*(judge.net(m.pictures) for m in made), strict=True)]
    for i, kind in enumerate(KINDS):
        target = torch.cat([m.targets[i] for m in made]).numpy()
        kept = torch.cat([m.weights[:, i] for m in made]).numpy() == 1
        seen = (answers[i] / judge.config["temperature"][kind]).softmax(1).numpy()
        asked = seen[:, :-1].argmax(1)
        score, right = seen[np.arange(len(asked)), asked][kept], target[np.arange(len(asked)), asked][kept]
        bins = np.minimum((score * 10).astype(int), 9)
        error = sum(abs((score - right)[bins == b].sum()) for b in range(10)) / len(score)
        print(f"{kind}: expected calibration error {error:.3f}")
        for b in range(10):
            if (bins == b).any():
                print(f"   {b / 10:.1f} to {(b + 1) / 10:.1f}: {(bins == b).sum():5d} pictures, mean score "
                      f"{score[bins == b].mean():.3f}, right {right[bins == b].mean():.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
