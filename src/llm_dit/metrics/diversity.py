"""How much the seeds of one prompt differ: the mean distance of each picture to the others of its prompt.

Distance is 1 - cosine of two pictures' feature vectors: 0 for the same, near 1 for unrelated ones. A model that
ignores its seed, or a guidance that draws one picture again and again, has a diversity near 0. It does not see whether
the pictures are any good: noise is diverse too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.open_clip_model import Place, find_named, load_open_clip
from llm_dit.metrics.weights import batches, describe

if TYPE_CHECKING:
    from torch import Tensor

    from llm_dit.metrics.nano_judge import NanoJudge


class Diversity(Metric):
    """Mean of 1 - cosine to the other pictures of the same prompt; None for a picture that stands alone.

    features=nano_judge: what nano's judge sees, for nano's pictures; features=clip: CLIP's picture vector, for any.
    """

    name = "diversity"
    grouped = True

    @cached_property
    def judge(self) -> NanoJudge:
        """nano's judge, whose features are compared."""
        from llm_dit.config import NanoJudgeMetric
        from llm_dit.metrics.nano_judge import NanoJudge

        return NanoJudge(NanoJudgeMetric(), self.device, self.batch_size)

    @cached_property
    def place(self) -> Place:
        """CLIP's weights."""
        return find_named("metrics.diversity", self.settings.model, self.settings.weights)

    @cached_property
    def identity(self) -> str:
        if self.settings.features == "clip":
            told = self.place.told(self.settings.model, self.settings.weights)
            return describe(self.name, self.version, features="clip", **told)
        return f"{describe(self.name, self.version, features='nano_judge')} of {self.judge.identity}"

    def features(self, samples: Sequence[Sample]) -> Tensor:
        """One vector a picture, unit length, float32 on the CPU [n, d]."""
        import torch

        rows = []
        for batch in batches(samples, self.batch_size):
            images = [sample.image for sample in batch]
            if self.settings.features == "clip":
                rows.append(load_open_clip(self.place, self.device).image_features(images).cpu())
            else:
                rows.append(self.judge.features(images).float().cpu())
        return torch.nn.functional.normalize(torch.cat(rows), dim=-1)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each picture of one prompt, {diversity: mean distance to the others}, from 0 to 2."""
        if len(samples) < 2:
            return [Score({self.name: None}) for _ in samples]
        features = self.features(samples)
        # Rounding must not make two equal pictures differ by less than nothing.
        distances = (1 - features @ features.T).clamp(min=0).fill_diagonal_(0)
        means = distances.sum(1) / (len(samples) - 1)
        return [Score({self.name: value}) for value in means.tolist()]
