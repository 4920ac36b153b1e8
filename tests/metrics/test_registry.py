"""Every metric of the registry: switched on by its option, made with its own settings, and found by its columns."""

from __future__ import annotations

from importlib import import_module

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.compose import compose
from llm_dit.metrics.base import Metric
from llm_dit.metrics.registry import METRICS, chosen, info, make_metrics, primary


def metrics_of(*overrides):
    return compose(["model=tiny", "hardware=cpu", *overrides], prompt="x")


@pytest.mark.parametrize("name", METRICS)
def test_its_option_switches_it_on_and_its_place_holds_it(name):
    config = metrics_of(f"metrics={name}")
    assert chosen(config.metrics) == [name]
    module, _, cls = METRICS[name].place.partition(":")
    metric = getattr(import_module(f"llm_dit.metrics.{module}"), cls)
    assert issubclass(metric, Metric)
    assert metric.name == name
    assert not chosen(metrics_of(f"metrics={name}", f"metrics.{name}.enabled=false").metrics)


def test_metrics_are_made_once_with_their_settings(clip_folder):
    overrides = ["metrics=[clip,sharpness]", f"metrics.clip.model='{clip_folder}'", "metrics.batch_size=3"]
    one, two = make_metrics(metrics_of(*overrides))
    assert (one.name, two.name) == ("clip", "sharpness")
    assert one.settings.model == str(clip_folder)
    assert (one.batch_size, one.device) == (3, "cpu")
    assert make_metrics(metrics_of(*overrides))[0] is one
    other = make_metrics(metrics_of(*overrides[:2], "metrics.batch_size=4"))[0]
    assert other is not one


def test_the_primary_is_the_one_named_or_the_first_chosen():
    assert primary(metrics_of("metrics=none").metrics) is None
    assert primary(metrics_of("metrics=[entropy,clip]").metrics) == "clip"
    assert primary(metrics_of("metrics=[entropy,clip]", "metrics.primary=entropy").metrics) == "entropy"
    with pytest.raises(ConfigError, match="Did you mean 'entropy'"):
        primary(metrics_of("metrics=entropy", "metrics.primary=entrpy").metrics)


def test_columns_are_found():
    assert info("vqa_count") is METRICS["vqa"]
    assert info("image_reward") is METRICS["image_reward"]
    assert info("cell") is None
