"""The aesthetic predictor on random weights: against its definition, and what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tiny_metrics import TINY_CLIP, save_open_clip

from llm_dit.base.errors import ModelError
from llm_dit.config import AestheticMetric
from llm_dit.metrics.aesthetic import Aesthetic, linear_head

open_clip = pytest.importorskip("open_clip", reason="needs: uv sync --extra metrics")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A predictor of random weights for vectors of 16 values, under the names of the original's checkpoint."""
    torch.manual_seed(0)
    head = linear_head(16).eval()
    path = tmp_path_factory.mktemp("aesthetic") / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save({f"layers.{name}": tensor for name, tensor in head.state_dict().items()}, path)
    return path, head


def values(metric, samples):
    return [score.values["aesthetic"] for score in metric.score(samples)]


def test_it_is_five_linear_layers_over_the_unit_vector(predictor, clip_folder, samples):
    path, head = predictor
    metric = Aesthetic(AestheticMetric(weights=str(path), clip_weights=f"local-dir:{clip_folder}"), "cpu", 2)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    with torch.no_grad():
        x = model.eval().encode_image(torch.stack([transform(s.image) for s in samples]))
        x = x / x.norm(dim=-1, keepdim=True)
        for layer in (0, 2, 4, 6, 7):
            x = x @ head[layer].weight.T + head[layer].bias
    assert values(metric, samples) == pytest.approx(x[:, 0].tolist(), abs=1e-6)
    assert {(s.tokens, s.truncated) for s in metric.score(samples)} == {(None, False)}


def test_the_original_is_768_wide_and_its_names_fit():
    shapes = {f"layers.{name}": tuple(tensor.shape) for name, tensor in linear_head(768).state_dict().items()}
    assert shapes["layers.0.weight"] == (1024, 768)
    assert sorted(shapes) == sorted(f"layers.{i}.{kind}" for i in (0, 2, 4, 6, 7) for kind in ("weight", "bias"))


def test_settings_act(predictor, clip_folder, samples, tmp_path, randomize):
    path, head = predictor
    clip = f"local-dir:{clip_folder}"
    base = Aesthetic(AestheticMetric(weights=str(path), clip_weights=clip), "cpu", 4)
    save_file({name: 2 * tensor for name, tensor in head.state_dict().items()}, tmp_path / "other.safetensors")
    by_head = Aesthetic(AestheticMetric(weights=str(tmp_path / "other.safetensors"), clip_weights=clip), "cpu", 4)
    other = save_open_clip(tmp_path / "clip", randomize(open_clip.CLIP(**TINY_CLIP)), TINY_CLIP)
    by_clip = Aesthetic(AestheticMetric(weights=str(path), clip_weights=f"local-dir:{other}"), "cpu", 4)
    assert len({tuple(values(m, samples)) for m in (base, by_head, by_clip)}) == 3
    assert len({m.identity for m in (base, by_head, by_clip)}) == 3


def test_openai_s_file_gets_its_own_activation(predictor, clip_folder):
    file = str(clip_folder / "open_clip_model.safetensors")
    place = Aesthetic(AestheticMetric(weights=str(predictor[0]), clip_weights=file), "cpu", 4).place
    assert place.name == "ViT-L-14-quickgelu"


def test_what_does_not_fit_is_refused(predictor, clip_folder, samples, tmp_path):
    path, head = predictor
    clip = f"local-dir:{clip_folder}"

    def message(weights, clip_weights=clip):
        metric = Aesthetic(AestheticMetric(weights=str(weights), clip_weights=clip_weights), "cpu", 4)
        with pytest.raises(ModelError) as caught:
            _ = metric.identity, metric.score(samples)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    torch.save({k: v for k, v in head.state_dict().items() if k != "6.bias"}, tmp_path / "less.pt")
    assert "missing weight" in message(tmp_path / "less.pt")
    torch.save({**head.state_dict(), "9.weight": torch.zeros(1)}, tmp_path / "more.pt")
    assert "unexpected weight, the first is '9.weight'" in message(tmp_path / "more.pt")
    torch.save(linear_head(24).state_dict(), tmp_path / "wide.pt")
    assert "takes vectors of 24 values" in message(tmp_path / "wide.pt")
    (tmp_path / "text.pt").write_text("none")
    assert "damaged" in message(tmp_path / "text.pt")
    assert "metrics.aesthetic.weights=trl-lib/ddpo-aesthetic-predictor: not on" in message(AestheticMetric().weights)
    assert "metrics.aesthetic.clip_weights=openai: not on this machine" in message(path, "openai")
