"""How well a picture fits its prompt, by models with a picture and a text tower: CLIP, SigLIP, PickScore, HPSv2.1.

All go one way: unit vectors of both, their cosine, and the metric's own scale. The prompt is read whole, cut at the
text tower's length. Loading is open_clip_model.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from llm_dit.base.errors import ConfigError
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.open_clip_model import (
    WEIGHTS_NAMES,
    OpenClipModel,
    Place,
    find_named,
    find_tuned,
    load_open_clip,
)
from llm_dit.metrics.weights import batches, describe

if TYPE_CHECKING:
    from torch import Tensor


class _Matching(Metric):
    """A score made of the cosine of picture and prompt."""

    max_tokens = 77

    @cached_property
    @abstractmethod
    def place(self) -> Place:
        """Where the weights are."""

    @property
    def net(self) -> OpenClipModel:
        """The model, loaded once for all metrics that use it."""
        return load_open_clip(self.place, self.device)

    def scale(self, cosines: Tensor) -> Tensor:
        """The score of a cosine, both [n]."""
        return 100 * cosines

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample: {name: value}, with the prompt's tokens and whether it was cut."""
        scores = []
        for batch in batches(samples, self.batch_size):
            prompts = list(dict.fromkeys(sample.prompt for sample in batch))
            texts = dict(zip(prompts, self.net.text_features(prompts), strict=True))
            images = self.net.image_features([sample.image for sample in batch])
            values = self.scale(sum_products(images, [texts[sample.prompt] for sample in batch])).tolist()
            for sample, value in zip(batch, values, strict=True):
                tokens = self.net.count_tokens(sample.prompt)
                scores.append(Score({self.name: value}, tokens, tokens > self.net.max_tokens))
        return scores


def sum_products(images: Tensor, texts: Sequence[Tensor]) -> Tensor:
    """The cosine of each picture's unit vector [n, d] with its own text's [d], as [n]."""
    import torch

    return (images * torch.stack(list(texts))).sum(-1)


class Clip(_Matching):
    """CLIP (Radford and others 2021): 100 x the cosine of picture and prompt. Not clipped at 0."""

    name = "clip"

    @cached_property
    def place(self) -> Place:
        return find_named("metrics.clip", self.settings.model, self.settings.weights)

    @cached_property
    def identity(self) -> str:
        return describe(self.name, self.version, **self.place.told(self.settings.model, self.settings.weights))


class Siglip(_Matching):
    """SigLIP and SigLIP2 (Tschannen and others 2025): the logit, exp(logit_scale) x cosine + logit_bias.

    Its sigmoid, the probability of a match, saturates near 0 and 1; the logit tells good from better.
    """

    name = "siglip"
    max_tokens = 64

    @cached_property
    def place(self) -> Place:
        return find_named("metrics.siglip", self.settings.model, self.settings.weights)

    @cached_property
    def identity(self) -> str:
        return describe(self.name, self.version, **self.place.told(self.settings.model, self.settings.weights))

    def scale(self, cosines: Tensor) -> Tensor:
        model = self.net.model
        if model.logit_bias is None:
            raise ConfigError(
                f"metrics.siglip.model={self.settings.model}: has no logit bias, so it is not a SigLIP model. "
                "metrics.clip takes it."
            )
        return model.logit_scale.exp() * cosines + model.logit_bias


class PickScore(_Matching):
    """PickScore (Kirstain and others 2023, arXiv:2305.01569): exp(logit_scale) x cosine, as its model card scores.

    A difference of two pictures' scores for one prompt is the log odds that people choose the first.
    """

    name = "pick_score"

    @cached_property
    def place(self) -> Place:
        names = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
        return find_tuned("metrics.pick_score", self.settings.weights, "ViT-H-14", names)

    @cached_property
    def identity(self) -> str:
        return describe(self.name, self.version, weights=self.settings.weights, sha256=self.place.digest)

    def scale(self, cosines: Tensor) -> Tensor:
        return self.net.model.logit_scale.exp() * cosines


class Hps(_Matching):
    """HPSv2.1 (Wu and others 2023, arXiv:2306.09341): 100 x the cosine.

    The hpsv2 package's score() gives the bare cosine, and its benchmark tables 100 times that, as here.
    """

    name = "hps"

    @cached_property
    def place(self) -> Place:
        names = ("HPS_v2.1_compressed.pt", *WEIGHTS_NAMES)
        return find_tuned("metrics.hps", self.settings.weights, "ViT-H-14", names)

    @cached_property
    def identity(self) -> str:
        return describe(self.name, self.version, weights=self.settings.weights, sha256=self.place.digest)
