"""A small data set in memory, with the interface of train/data/dataset.py, and trainings of the tiny model on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file

from llm_dit.compose import compose
from llm_dit.train.checkpoint import checkpoints


@dataclass
class MemoryData:
    """latents [n, 16, h, w] and captions [tokens, features] in memory; batch() is a pure function of its arguments."""

    latents: torch.Tensor
    captions: list[torch.Tensor]
    empty_embeds: torch.Tensor
    fingerprint: str = "memory"
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ("one was turned",)

    @property
    def count(self) -> int:
        return len(self.latents)

    def batch(self, step, micro, batch_size, seed, rank, world):
        rng = np.random.default_rng((seed, step, micro, rank))
        chosen = rng.choice(self.count, batch_size, replace=False).tolist()
        return SimpleNamespace(
            latents=self.latents[chosen], embeds=[self.captions[i] for i in chosen], ids=[str(i) for i in chosen]
        )


def make_data(count: int = 4, tokens: int = 9, empty: int = 5, side: int = 8) -> MemoryData:
    g = torch.Generator().manual_seed(0)
    return MemoryData(
        torch.randn(count, 16, side, side, generator=g),
        [torch.randn(tokens + i, 32, generator=g) for i in range(count)],
        torch.randn(empty, 32, generator=g),
    )


FAST = ["train.log_every=1", "train.batch_size=2", "train.learning_rate=0.003"]


def settings(folder, *overrides):
    return compose(
        [
            "task=train",
            "model=tiny",
            "hardware=cpu",
            f"train.dir={folder}",
            "train.name=t",
            "tracker=none",
            *FAST,
            *overrides,
        ]
    )


def log_of(folder):
    return [json.loads(line) for line in (folder / "t" / "log.jsonl").read_text().splitlines()]


def without_seconds(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def small_start(folder, channels=4):
    """A transformer of three blocks, started as nano is: closed output, branches a third open."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        in_channels=channels, dim=64, n_layers=1, n_refiner_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=32,
        axes_dims=[16, 24, 24], axes_lens=[1536, 512, 512],
    )  # fmt: skip
    with torch.no_grad():
        for block in [*model.noise_refiner, *model.layers]:
            block.adaLN_modulation[0].weight.zero_()
            block.adaLN_modulation[0].bias.copy_(torch.tensor([0.0, 0.3, 0.0, 0.3]).repeat_interleave(64))
        final = model.all_final_layer["2-1"]
        for linear in (final.linear, final.adaLN_modulation[1]):
            linear.weight.zero_()
            linear.bias.zero_()
    model.save_pretrained(folder / "transformer")
    return folder


def state_of(folder):
    """Every tensor of the newest checkpoint and of the result, by file."""
    newest = checkpoints(folder / "t" / "checkpoints")[-1]
    files = [
        *newest.glob("*.safetensors"),
        *(folder / "t").glob("*.safetensors"),
        *(folder / "t").glob("transformer/*.safetensors"),
    ]
    return {str(path.relative_to(folder)): load_file(path) for path in files}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[f].keys() == b[f].keys() and all(torch.equal(a[f][k], b[f][k]) for k in a[f]) for f in a
    )
