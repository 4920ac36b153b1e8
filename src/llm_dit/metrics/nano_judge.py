"""nano's judge: is the asked subject, style and background colour in the picture?

A small network that was trained on nano's icons (experiments/nano/judge.py), damaged in many ways and among pictures
that show none of them, and on no picture that nano's transformer drew. Each of its three answers has a last choice,
"none of these". It knows nano's 96 subjects, 3 styles and 12 colours and nothing else, and does not see how well
something is drawn, where it is, or how many there are: docs/metrics.md says more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import nn

from llm_dit.errors import ModelError
from llm_dit.metrics.base import Metric, Sample, Score

WEIGHTS = Path(__file__).resolve().parent / "nano_judge_weights"
SIZE = 64  # px, side of what the network sees
KINDS = ("subject", "style", "colour")


class JudgeNet(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 -> logits [n, choices + 1] for each of KINDS; the last is "none of these"."""

    def __init__(self, choices: Sequence[int], channels: Sequence[int]):
        """choices: how many subjects, styles and colours. channels: of each convolution; all but the first halve."""
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((3, *channels))):
            stride = 2 if i and a != b else 1
            layers += [nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(2 * channels[-1], n + 1) for n in choices)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Mean and maximum of the last features [n, 2 channels]; pictures are averaged down to SIZE first."""
        features = self.body(F.interpolate(x, size=SIZE, mode="area"))
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        pooled = self.pooled(x)
        return [head(pooled) for head in self.heads]


class Vocabulary:
    """The words that the judge knows, and which of them a prompt asks for."""

    def __init__(self, words: dict[str, list[str]]):
        """words: the labels of each of KINDS, in the order of the network's answers."""
        self.index = {kind: {word: i for i, word in enumerate(words[kind])} for kind in KINDS}
        self._patterns = {kind: _any_of(words[kind]) for kind in KINDS}
        colours = self._patterns["colour"]
        self._grounds = [  # where a colour is surely the background's, the surest first
            re.compile(rf"{colours}[ -]back(?:ground|drop)\b"),
            re.compile(rf"\bback(?:ground|drop)(?: (?:is|in|of|to be))? {colours}"),
            re.compile(rf"\b(?:on|against|in front of|over) (?:an? |the )?(?:plain |solid |flat )?{colours}"),
        ]
        styles = self._patterns["style"]
        self._manners = [
            re.compile(rf"{styles}[ -](?:style|picture|icon|illustration|drawing|image|render)\b"),
            re.compile(rf"\bstyle (?:is |of )?{styles}"),
        ]

    def asked(self, sample: Sample) -> dict[str, int | None]:
        """kind -> number of the word asked for, or None where it is not one the judge knows.

        From the sample's elements; where there are none, from the prompt's text.
        """
        if not sample.elements:
            return self.find(sample.prompt)
        result: dict[str, int | None] = {}
        for tag, value in sample.elements:
            kind = "colour" if tag == "color" else tag
            if kind in KINDS:
                number = self.index[kind].get(_plain(value))
                result[kind] = None if kind in result and result[kind] != number else number
        return result

    def find(self, prompt: str) -> dict[str, int | None]:
        """What a text asks for: the longest known words win ('hot dog' holds no dog), and each kind needs one answer.

        Two subjects in one prompt are None: the judge cannot see two. A colour right before the subject is the
        subject's own ('a red car'). Kinds that the text does not name are left out.
        """
        text = _plain(prompt)
        result: dict[str, int | None] = {}
        subjects = self._patterns["subject"]
        found = {match[1] for match in re.finditer(subjects, text)}
        if found:
            result["subject"] = self.index["subject"][found.pop()] if len(found) == 1 else None
        rest = re.sub(rf"(?:{self._patterns['colour']} )*{subjects}", " | ", text)
        for kind, surest in (("style", self._manners), ("colour", self._grounds)):
            for pattern in (*surest, re.compile(self._patterns[kind])):
                words = {next(filter(None, match.groups())) for match in pattern.finditer(rest)}
                if words:
                    result[kind] = self.index[kind][words.pop()] if len(words) == 1 else None
                    break
        return result


class NanoJudge(Metric):
    """Probability that the asked subject, style and colour are there: each, and all of them (their product).

    Values: nano_judge (all), nano_judge_subject, nano_judge_style, nano_judge_colour, in 0..1. One that the prompt
    does not ask for is None; so is one outside the vocabulary, and then the whole is None too.
    """

    name = "nano_judge"

    def __init__(self, settings: Any, device: str, batch_size: int):
        super().__init__(settings, device, batch_size)
        self._weights = WEIGHTS / "judge.safetensors"

    @cached_property
    def identity(self) -> str:
        """Name, version and the hash of weights and vocabulary. Raises ModelError when they are not there."""
        try:
            data = self._weights.read_bytes() + self._weights.with_name("config.json").read_bytes()
        except OSError as error:
            raise ModelError(f"{error.filename}: the weights of nano_judge are not there. Install again.") from error
        return f"{self.name} v{self.version} {hashlib.sha256(data).hexdigest()[:12]}"

    @cached_property
    def config(self) -> dict[str, Any]:
        """labels of each kind, channels of the network, and the temperature that calibrates each answer."""
        assert self.identity  # its error is the better one
        return json.loads(self._weights.with_name("config.json").read_text())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the judge knows."""
        return Vocabulary(self.config["labels"])

    @cached_property
    def net(self) -> JudgeNet:
        """The network, in float32 on the metric's device."""
        net = JudgeNet([len(self.config["labels"][kind]) for kind in KINDS], self.config["channels"])
        net.load_state_dict({key: value for key, value in self._stored.items() if not key.startswith("pooled.")})
        return net.float().to(self.device).eval().requires_grad_(False)

    @cached_property
    def _stored(self) -> dict[str, torch.Tensor]:
        """The network's state, and mean and spread of its pooled features over the training's pictures."""
        from safetensors.torch import load_file

        return load_file(self._weights)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample, in order."""
        asked = [self.vocabulary.asked(sample) for sample in samples]
        answers = self.probabilities([sample.image for sample in samples])
        return [
            _score(numbers, [float(p[i, numbers[kind]]) if numbers.get(kind) is not None else None
                             for kind, p in zip(KINDS, answers, strict=True)])
            for i, numbers in enumerate(asked)
        ]  # fmt: skip

    @torch.no_grad()
    def probabilities(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Calibrated probabilities [n, choices + 1] for each of KINDS, float32 on the CPU; the last is "none"."""
        pooled = self._pooled(images)
        return [
            (head(pooled) / self.config["temperature"][kind]).softmax(1).cpu()
            for kind, head in zip(KINDS, self.net.heads, strict=True)
        ]

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """What the network sees in each picture before it answers: float32 [n, d] on the CPU, of length 1.

        Less the mean over the training's pictures, in units of their spread, so that unrelated pictures are about
        at right angles.
        """
        mean, spread = (self._stored[f"pooled.{key}"].float() for key in ("mean", "spread"))
        return F.normalize((self._pooled(images).cpu() - mean) / spread, dim=1)

    def _pooled(self, images: Sequence[Image.Image]) -> torch.Tensor:
        small = [_small(image) for image in images]
        parts = [
            self.net.pooled(torch.stack(small[i : i + self.batch_size]).to(self.device))
            for i in range(0, len(small), self.batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.net.heads[0].in_features, device=self.device)


def _score(asked: dict[str, int | None], seen: Sequence[float | None]) -> Score:
    known = [value for value in seen if value is not None]
    whole = float(np.prod(known)) if known and len(known) == len(asked) else None
    parts = {f"{NanoJudge.name}_{kind}": value for kind, value in zip(KINDS, seen, strict=True)}
    return Score({NanoJudge.name: whole, **parts})


def _small(image: Image.Image) -> torch.Tensor:
    """A picture of any size and mode -> [3, SIZE, SIZE] in -1..1, averaged down (or repeated up), not cropped."""
    pixels = np.array(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1


def _plain(text: str) -> str:
    """Lower case, single spaces, grey and colour as in the vocabulary."""
    text = re.sub(r"[\s_]+", " ", text.lower()).strip()
    return re.sub(r"\bgray\b", "grey", re.sub(r"\b3-d\b", "3d", text))


def _any_of(words: Sequence[str]) -> str:
    """A pattern with one group: any of the words, the longest first, not inside another word."""
    return rf"(?<![\w-])({'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})(?!\w)"
