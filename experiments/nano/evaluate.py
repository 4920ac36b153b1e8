"""How often does nano draw what was asked? Judged by the shipped judge on scenes that training never showed.

    uv run python experiments/nano/evaluate.py [--count N] [--name dit] [--sweep] [--kept]

Draws held-out scenes in known phrasings and in the phrasing never trained on; prints subject, style and colour
accuracy (the judge's first answer, "none of these" being wrong) beside the judge's own on clean sprites and on VAE
reconstructions, its mean score, what it took for what; and writes assets/nano/evaluation.png.
Without --name the shipped weights are read. --sweep compares steps, guidance and shift. --kept draws nothing and
judges the pictures of the last run again, as for another judge.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter

import numpy as np
import torch
from captions import LAYER
from common import save_grid, to_pictures, to_tensor
from export import load_shipped, load_trained
from judge_pictures import KEYS
from model import use_real_rotary
from paths import ASSETS
from PIL import Image
from sample import GUIDANCE, SHIFT, STEPS, held_out_prompts, held_out_scenes, sample
from scenes import compose_scene, load_sprites

from llm_dit.metrics.nano_judge import NanoJudge

# (steps, guidance in diffusers' meaning, shift)
SWEEP = [
    *((12, guidance, 2.0) for guidance in (0.0, 1.0, 2.0, 3.0, 4.0)),
    *((12, 2.0, shift) for shift in (1.0, 3.0)),
    *((steps, 2.0, 2.0) for steps in (6, 8, 20)),
]


def judged(judge: NanoJudge, x: torch.Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For pictures [n, 3, h, w] in -1..1: the answers [n, 3], and the probabilities [n, 3] of the labels."""
    seen = judge.probabilities([Image.fromarray(picture) for picture in to_pictures(x)])
    scores = [p[torch.arange(len(p)), torch.from_numpy(labels[:, i])] for i, p in enumerate(seen)]
    return np.stack([p.argmax(1).numpy() for p in seen], 1), torch.stack(scores, 1).numpy()


def show(what: str, judge: NanoJudge, x: torch.Tensor, labels: np.ndarray, seconds: float | None = None) -> None:
    """One line of the table, and what was taken for what."""
    answers, scores = judged(judge, x, labels)
    took = "" if seconds is None else f"   {seconds:.2f} s a picture"
    shares = " ".join(f"{value:6.1f}" for value in 100 * (answers == labels).mean(0))
    whole = f"{100 * (answers == labels).all(1).mean():6.1f}  mean score {scores.prod(1).mean():.3f}"
    print(f"{what:46s} {shares} {whole}{took}", flush=True)
    for i, keys in enumerate(KEYS):
        wrong = Counter(
            (keys[a], [*keys, "none"][b]) for a, b in zip(labels[:, i], answers[:, i], strict=True) if a != b
        )
        if wrong:
            print("   " + ", ".join(f"{a} -> {b} {n}" for (a, b), n in wrong.most_common(12)), flush=True)


@torch.no_grad()
def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=366)
    parser.add_argument("--name")
    parser.add_argument("--layer", type=int, default=LAYER)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--kept", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge = NanoJudge(None, "cpu", 64)
    model, vae = load_shipped()
    if args.name:
        model = load_trained(args.name)
    use_real_rotary(model)
    scenes = held_out_scenes(args.count)
    labels = np.array([[keys.index(v) for keys, v in zip(KEYS, scene, strict=True)] for scene in scenes])

    def draw(prompts: list[str], **settings: float) -> tuple[torch.Tensor, float]:
        began = time.time()
        settings = {"steps": STEPS, "guidance": GUIDANCE, "shift": SHIFT, **settings}
        parts = [
            sample(model, vae, prompts[i : i + 32], layer=args.layer, seed=i, **settings)
            for i in range(0, len(prompts), 32)
        ]
        return torch.cat(parts), (time.time() - began) / len(prompts)

    print(judge.identity)
    print(f"{len(scenes)} held-out scenes{'':25s} subject  style colour    all (per cent right)")
    if args.sweep:
        for steps, guidance, shift in SWEEP:
            pictures, seconds = draw(held_out_prompts(args.count), steps=steps, guidance=guidance, shift=shift)
            show(f"steps {steps} guidance {guidance} shift {shift}", judge, pictures, labels, seconds)
        return
    sprites, rng = load_sprites(), np.random.default_rng(51)
    clean = to_tensor(np.stack([compose_scene(sprites, *scene, rng) for scene in scenes]))
    show("the true pictures", judge, clean, labels)
    rebuilt = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in clean.split(32)])
    psnr = -10 * torch.log10(((rebuilt.clamp(-1, 1) - clean) / 2).square().mean((1, 2, 3)))
    show(f"VAE reconstructions ({psnr.mean():.1f} dB)", judge, rebuilt, labels)
    for what, key in (("drawn, known phrasings", "known"), ("drawn, phrasing never trained on", "new")):
        path, seconds = ASSETS / f"evaluation_{key}.npy", None
        if not args.kept:
            pictures, seconds = draw(held_out_prompts(args.count, new_phrasing=key == "new"))
            np.save(path, to_pictures(pictures))
        show(what, judge, to_tensor(np.load(path)), labels, seconds)
    known = to_tensor(np.load(ASSETS / "evaluation_known.npy"))
    save_grid(known[torch.linspace(0, len(known) - 1, min(96, len(known))).long()], 12, "evaluation.png")


if __name__ == "__main__":
    main()
