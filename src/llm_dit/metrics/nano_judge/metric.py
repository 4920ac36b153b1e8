"""The metric nano_judge: is what was asked in the picture? Subjects, style, background, relation, count, size.

A small network that was trained on nano's icons (experiments/nano/judge_train.py), damaged in many ways and among
pictures that show none of them, and on no picture that nano's transformer drew. It knows nano's subjects, styles and
colours and nothing else, and does not see how well something is drawn: docs/metrics.md says more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

from llm_dit.base.errors import ModelError
from llm_dit.metrics.base import Metric, Sample, Score
from llm_dit.metrics.nano_judge.net import SIZE, SceneNet, marginals, trusting
from llm_dit.metrics.nano_judge.scene import Sight, find_drawings, scores, style_of
from llm_dit.metrics.nano_judge.words import KINDS, LABELLED, Vocabulary

WEIGHTS = Path(__file__).resolve().parent / "weights"


class NanoJudge(Metric):
    """Probability that what is asked is there: each of KINDS, and all of it (their product).

    Values: nano_judge (all), nano_judge_subject, _style, _colour, _relation, _count, _size, in 0..1; the last three
    given that the subjects are there. One that the prompt does not ask for is None; so is one outside the vocabulary,
    and then the whole is None too.
    """

    name = "nano_judge"
    version = 3
    weights: Path = WEIGHTS  # the folder that is read

    @cached_property
    def identity(self) -> str:
        """Name, version and the hash of weights and vocabulary. Raises ModelError when they are not there."""
        try:
            data = b"".join((self.weights / name).read_bytes() for name in ("judge.safetensors", "config.json"))
        except OSError as error:
            raise ModelError(f"{error.filename}: the weights of nano_judge are not there. Install again.") from error
        return f"{self.name} v{self.version} {hashlib.sha256(data).hexdigest()[:12]}"

    @cached_property
    def config(self) -> dict[str, Any]:
        """labels and plurals of the vocabulary; temperatures and bonus (net.trusting) of the answers."""
        assert self.identity  # its error is the better one
        return json.loads((self.weights / "config.json").read_text())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the judge knows."""
        return Vocabulary(self.config["labels"], self.config["plurals"])

    @cached_property
    def net(self) -> SceneNet:
        """The network, in float32 on the metric's device."""
        net = SceneNet(tuple(len(self.config["labels"][kind]) for kind in LABELLED))
        net.load_state_dict({key: value for key, value in self._stored.items() if not key.startswith("pooled.")})
        return net.float().to(self.device).eval().requires_grad_(False)

    @cached_property
    def _stored(self) -> dict[str, torch.Tensor]:
        """The network's state, and mean and spread of its pooled features over the training's pictures."""
        from safetensors.torch import load_file

        return load_file(self.weights / "judge.safetensors")

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample, in order."""
        asked = [self.vocabulary.asked(sample.prompt, sample.elements) for sample in samples]
        seen = self.see(pixels_of([sample.image for sample in samples]))
        return [self.score_of(sight, what) for sight, what in zip(seen, asked, strict=True)]

    def score_of(self, sight: Sight, asked: dict[str, Any]) -> Score:
        """The Score of one picture that is seen, for what Vocabulary.asked gives."""
        parts = scores(sight, self.vocabulary.numbers(asked))
        known = [part for part in parts.values() if part is not None]
        whole = float(np.prod(known)) if known and len(known) == len(parts) else None
        return Score({self.name: whole, **{f"{self.name}_{kind}": parts.get(kind) for kind in KINDS}})

    @torch.no_grad()
    def see(self, x: torch.Tensor) -> list[Sight]:
        """What is in each of the pictures [n, 3, h, w] in -1..1, with calibrated probabilities."""
        result, temperature = [], self.config["temperature"]
        subjects, styles = (len(self.config["labels"][kind]) for kind in ("subject", "style"))
        for part in self._batches(x):
            centre, side, drawing, colour = self.net(part.to(self.device))
            logits = trusting(drawing / temperature["drawing"], subjects, self.config["bonus"])
            of_cells = marginals(logits.softmax(1), subjects)
            seen = [a.cpu().numpy() for a in (centre.sigmoid(), side, *of_cells)]
            colours = (colour / temperature["colour"]).softmax(1).cpu().numpy()
            for i, of_ground in enumerate(colours):
                found = find_drawings(*(a[i] for a in seen))
                result.append(Sight(found, style_of(found, styles), of_ground))
        return result

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """What the network sees in each picture before it answers: float32 [n, d] on the CPU, of length 1.

        Less the mean over the training's pictures, in units of their spread, so that unrelated pictures are about
        at right angles.
        """
        mean, spread = (self._stored[f"pooled.{key}"].float() for key in ("mean", "spread"))
        parts = [self.net.features(x.to(self.device))[1].cpu() for x in self._batches(pixels_of(images))]
        return F.normalize((torch.cat([mean.new_empty(0, len(mean)), *parts]) - mean) / spread, dim=1)

    def _batches(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x[i : i + self.batch_size] for i in range(0, len(x), self.batch_size)]


def pixels_of(images: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures of any size and mode -> [n, 3, SIZE, SIZE] in -1..1: averaged down (or repeated up), not cropped."""
    small = [np.array(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)) for image in images]
    pixels = np.stack(small) if small else np.empty((0, SIZE, SIZE, 3), np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
