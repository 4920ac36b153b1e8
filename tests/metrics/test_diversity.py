"""Diversity through a tiny CLIP and through nano's judge: by hand, and what stands alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_metrics import picture

from llm_dit.base.errors import LabError
from llm_dit.config import DiversityMetric
from llm_dit.metrics.base import Sample
from llm_dit.metrics.diversity import Diversity


def values(metric, samples):
    return [score.values["diversity"] for score in metric.score(samples)]


@pytest.fixture
def clip(clip_folder):
    """diversity(batch_size) over the tiny CLIP."""
    return lambda batch_size=2: Diversity(
        DiversityMetric(features="clip", model=f"local-dir:{clip_folder}"), "cpu", batch_size
    )


def test_it_is_the_mean_distance_to_the_others(clip, samples):
    metric = clip()
    features = metric.features(samples)
    for i, value in enumerate(values(metric, samples)):
        others = [1 - torch.dot(features[i], features[j]).item() for j in range(len(samples)) if j != i]
        assert value == pytest.approx(sum(others) / 4, abs=1e-6)
    assert values(clip(16), samples) == pytest.approx(values(metric, samples), abs=1e-6)
    assert metric.grouped


def test_the_same_picture_twice_is_0_and_one_alone_is_none(clip):
    same = [Sample(picture(1), "x"), Sample(picture(1), "x")]
    assert values(clip(), same) == pytest.approx([0, 0], abs=1e-6)
    assert values(clip(), same[:1]) == [None]
    assert clip().score([]) == []
    third = values(clip(), [*same, Sample(picture(2), "x")])
    assert third[0] == third[1]
    assert third[2] == pytest.approx(2 * third[0], abs=1e-6)


def test_settings_act(clip, clip_folder, samples, tmp_path):
    changed = {k: v + 0.1 for k, v in load_file(clip_folder / "open_clip_model.safetensors").items()}
    save_file(changed, tmp_path / "other.safetensors")
    folder = f"local-dir:{clip_folder}"
    weights = str(tmp_path / "other.safetensors")
    other = Diversity(DiversityMetric(features="clip", model=folder, weights=weights), "cpu", 2)
    assert values(other, samples) != values(clip(), samples)
    assert other.identity != clip().identity
    with pytest.raises(LabError, match=r"metrics\.diversity\.weights=openai: not on this machine"):
        _ = Diversity(DiversityMetric(features="clip"), "cpu", 2).identity
    with pytest.raises(LabError, match=r"metrics\.diversity\.model=local-dir:none: there is no such"):
        _ = Diversity(DiversityMetric(features="clip", model="local-dir:none"), "cpu", 2).identity


def test_nano_s_judge_is_the_default(samples, clip):
    metric = Diversity(DiversityMetric(), "cpu", 2)
    features = torch.nn.functional.normalize(metric.judge.features([sample.image for sample in samples]), dim=-1)
    expected = [(1 - features[i] @ features.T).sum().item() / 4 for i in range(5)]
    assert values(metric, samples) == pytest.approx(expected, abs=1e-5)
    assert values(metric, samples) != pytest.approx(values(clip(), samples), abs=1e-3)
    assert metric.identity == f"diversity v1 features=nano_judge of {metric.judge.identity}"
