"""What a metric is. A metric sees pictures and prompts only; which pictures, and where scores go, is study/score.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from llm_dit.prompts.sets import Element

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One picture to score. elements: what its prompt set says can be checked; empty for a bare prompt."""

    image: Image.Image
    prompt: str
    elements: tuple[Element, ...] = ()


@dataclass(frozen=True)
class Score:
    """A picture's numbers. The first key of values is the metric's name, others are NAME_part. None: no answer.

    tokens, truncated: of the prompt as the metric read it, where it reads text.
    """

    values: dict[str, float | None]
    tokens: int | None = None
    truncated: bool = False


class Metric(ABC):
    """A metric with its settings. Cheap to make: weights load on the first score, and stay.

    name: its main column. version: raised when the same weights give other numbers. grouped: score() takes all
    seeds of one prompt at once. max_tokens: prompts are cut here; None when the metric reads no text or all of it.
    Which way is better is in registry.py, where a report finds it without importing the metric.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    grouped: ClassVar[bool] = False
    max_tokens: ClassVar[int | None] = None

    def __init__(self, settings: Any, device: str, batch_size: int):
        """settings: the metric's own group of the config. device: a torch device. batch_size: pictures at once."""
        self.settings = settings
        self.device = device
        self.batch_size = batch_size

    @property
    @abstractmethod
    def identity(self) -> str:
        """One line that differs whenever scores may: name, version, settings, and the weights' hash.

        Raises ModelError when the weights are not there, before a picture is read.
        """

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One Score for each sample, in order."""
