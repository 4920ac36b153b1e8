"""LAION's improved aesthetic predictor: a small linear network over CLIP ViT-L-14's picture vector.

How much people liked a picture, on a scale from 1 to 10, as far as a vector of CLIP tells. It reads no prompt, and
knows the pictures and the taste of its training sets (SAC, LAION-Logos, AVA) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.open_clip_model import WEIGHTS_ENDINGS, Place, find_named, load_open_clip
from llm_dit.metrics.weights import batches, describe, files_hash, fill, find_file, read_tensors

KEY = "metrics.aesthetic.weights"
NAMES = ("sac+logos+ava1-l14-linearMSE.pth", "aesthetic-model.pth", "model.safetensors")


def linear_head(width: int) -> Any:
    """width to 1 in five linear layers, with dropout after three and no activations between: layers 0, 2, 4, 6 and 7.

    The network of improved-aesthetic-predictor, which ImageReward took over.
    """
    from torch.nn import Dropout, Linear, Sequential

    return Sequential(
        Linear(width, 1024), Dropout(0.2), Linear(1024, 128), Dropout(0.2), Linear(128, 64), Dropout(0.1),
        Linear(64, 16), Linear(16, 1),
    )  # fmt: skip


class Aesthetic(Metric):
    """The aesthetic predictor: CLIP's picture vector at unit length, through linear_head. Reads no prompt."""

    name = "aesthetic"

    @cached_property
    def file(self) -> Path:
        """The predictor's weights."""
        return find_file(KEY, self.settings.weights, NAMES)

    @cached_property
    def place(self) -> Place:
        """CLIP's weights: a folder or hub id of its own, or ViT-L-14 by tag, or by OpenAI's file."""
        weights = self.settings.clip_weights
        if weights.endswith(WEIGHTS_ENDINGS):  # OpenAI trained with the quick GELU, which no file tells
            return find_named("metrics.aesthetic", "ViT-L-14-quickgelu", weights, "clip_weights")
        if "/" in weights or weights.startswith("local-dir:"):
            return find_named("metrics.aesthetic", weights, "", model_name="clip_weights")
        return find_named("metrics.aesthetic", "ViT-L-14", weights, "clip_weights")

    @cached_property
    def identity(self) -> str:
        return describe(
            self.name, self.version, weights=self.settings.weights, sha256=files_hash(self.file),
            clip_weights=self.settings.clip_weights, clip_sha256=self.place.digest,
        )  # fmt: skip

    @cached_property
    def head(self) -> Any:
        """The predictor on the device, as wide as its file says."""
        tensors = {name.removeprefix("layers."): tensor for name, tensor in read_tensors(self.file).items()}
        first = tensors.get("0.weight")
        width = first.shape[1] if first is not None and first.ndim == 2 else 768
        return fill(linear_head(width), tensors, self.file).to(self.device)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: {aesthetic: value}, about 1 to 10 and not clipped."""
        import torch

        net, scores = load_open_clip(self.place, self.device), []
        for batch in batches(samples, self.batch_size):
            features = net.image_features([sample.image for sample in batch])
            if features.shape[1] != self.head[0].in_features:
                raise ModelError(
                    f"{KEY}={self.settings.weights}: takes vectors of {self.head[0].in_features} values, where "
                    f"metrics.aesthetic.clip_weights={self.settings.clip_weights} gives {features.shape[1]}."
                )
            with torch.inference_mode():
                scores += [Score({self.name: value}) for value in self.head(features)[:, 0].tolist()]
        return scores
