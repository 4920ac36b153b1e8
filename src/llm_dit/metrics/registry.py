"""Every metric: where its class is, which way is better, what it says. Imports none of them until one is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.config import Config, MetricsConfig
from llm_dit.metrics.base import Metric

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Entry:
    """place: 'module:Class' below llm_dit.metrics. direction: which way is better. help: what it says, for people."""

    place: str
    direction: Direction
    help: str


# In the order in which one is taken as primary when several are chosen and none is named.
METRICS: dict[str, Entry] = {
    "nano_judge": Entry(
        "nano_judge:NanoJudge", "higher", "probability that what is asked is there, as nano's judge sees it"
    ),
    "vqa": Entry("vqa:Vqa", "higher", "probability that a vision language model sees each element of the prompt"),
    "image_reward": Entry("image_reward:ImageReward", "higher", "ImageReward: learned human preference"),
    "hps": Entry("open_clip_scores:Hps", "higher", "HPSv2.1: learned human preference"),
    "pick_score": Entry("open_clip_scores:PickScore", "higher", "PickScore: learned human preference"),
    "siglip": Entry("open_clip_scores:Siglip", "higher", "SigLIP logit of picture and prompt"),
    "clip": Entry("open_clip_scores:Clip", "higher", "CLIP similarity of picture and prompt, times 100"),
    "aesthetic": Entry("aesthetic:Aesthetic", "higher", "LAION aesthetic score, 1 to 10; knows no prompt"),
    "ocr": Entry("ocr:Ocr", "higher", "how well a text reader finds the asked words"),
    "diversity": Entry("diversity:Diversity", "none", "mean feature distance between the seeds of one prompt"),
    "sharpness": Entry("image_statistics:Sharpness", "none", "variance of the Laplacian of the grey picture"),
    "entropy": Entry("image_statistics:Entropy", "none", "entropy of the grey values, bits, 0 to 8"),
    "uniform": Entry("image_statistics:Uniform", "lower", "1 for a picture that is nearly one colour, else 0"),
}


def metric_of(column: str) -> str | None:
    """The metric that a column of scores belongs to, by name: its own, or that of NAME_part; None for other columns."""
    found = [name for name in METRICS if column == name or column.startswith(f"{name}_")]
    return max(found, key=len, default=None)


def info(column: str) -> Entry | None:
    """The entry of the metric that a column of scores belongs to."""
    return METRICS.get(metric_of(column) or "")


def chosen(config: MetricsConfig) -> list[str]:
    """The names of the metrics that are switched on, in the registry's order."""
    return [name for name in METRICS if getattr(config, name).enabled]


def primary(config: MetricsConfig) -> str | None:
    """The column that decides: the one named, else the first metric chosen. Raises ConfigError for an unknown name."""
    if config.primary is None:
        return next(iter(chosen(config)), None)
    if info(config.primary) is None:
        raise ConfigError(f"metrics.primary={config.primary}: no such metric. {nearest(config.primary, METRICS)}")
    return config.primary


def make_metrics(config: Config) -> list[Metric]:
    """The metrics a config asks for; weights load with the first score and stay for the process."""
    from llm_dit.weights.place import choose_placement

    device = choose_placement(config.hardware.device, config.hardware.dtype).device
    return [_make(name, _Settings(getattr(config.metrics, name)), str(device), config.metrics.batch_size)
            for name in chosen(config.metrics)]  # fmt: skip


def ready_metrics(config: Config) -> list[Metric]:
    """make_metrics, once all of their weights are found: before hours of drawing, or of another metric's work.

    Raises LabError for weights that are not there and for an unknown primary metric.
    """
    primary(config.metrics)
    metrics = make_metrics(config)
    for metric in metrics:
        _ = metric.identity
    return metrics


class _Settings:
    """A metric's group of the config as a key: config dataclasses are not hashable."""

    def __init__(self, values: Any):
        self.values = values

    def __hash__(self) -> int:
        return hash(repr(self.values))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Settings) and self.values == other.values


@cache
def _make(name: str, settings: _Settings, device: str, batch_size: int) -> Metric:
    module, _, cls = METRICS[name].place.partition(":")
    return getattr(import_module(f"llm_dit.metrics.{module}"), cls)(settings.values, device, batch_size)
