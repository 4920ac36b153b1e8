"""CLIP, SigLIP, PickScore and HPSv2.1 on tiny random weights: against open_clip and transformers."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_metrics import TINY_CLIP, picture, save_open_clip, save_word_tokenizer

from llm_dit.base.errors import ConfigError, LabError, ModelError
from llm_dit.config import ClipMetric, HpsMetric, PickScoreMetric, SiglipMetric
from llm_dit.metrics.open_clip_model import from_transformers
from llm_dit.metrics.open_clip_scores import Clip, Hps, PickScore, Siglip

open_clip = pytest.importorskip("open_clip", reason="needs: uv sync --extra metrics")


def reference(folder, samples, scale=None):
    """The cosine by open_clip's own factory, one sample at a time."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    values = []
    with torch.no_grad():
        for sample in samples:
            image = model.encode_image(transform(sample.image)[None], normalize=True)
            text = model.encode_text(tokenizer([sample.prompt]), normalize=True)
            cosine = (image * text).sum()
            values.append((scale or (lambda model, c: 100 * c))(model, cosine).item())
    return values


def values(metric, samples):
    return [score.values[metric.name] for score in metric.score(samples)]


def test_clip_is_100_times_the_cosine_that_open_clip_gives(clip_folder, samples):
    metric = Clip(ClipMetric(model=f"local-dir:{clip_folder}"), "cpu", 2)
    scores = metric.score(samples)
    assert [s.values["clip"] for s in scores] == pytest.approx(reference(clip_folder, samples), abs=1e-4)
    assert len({s.values["clip"] for s in scores}) == 5
    # a red fox: three words, start and end
    assert [(s.tokens, s.truncated) for s in scores[:2]] == [(5, False)] * 2
    assert (scores[4].tokens, scores[4].truncated) == (142, True)


def test_what_is_beyond_77_tokens_is_not_read(clip_folder):
    from llm_dit.metrics.base import Sample

    metric = Clip(ClipMetric(model=str(clip_folder)), "cpu", 4)
    long = "word " * 75
    one, two, short = (Sample(picture(0), text) for text in (long + "fox", long + "owl", "fox"))
    first, second, third = metric.score([one, two, short])
    assert first == second
    assert first.values != third.values
    assert (first.tokens, first.truncated) == (78, True)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_batch_does_not_matter(clip_folder, samples, batch_size):
    metric = Clip(ClipMetric(model=str(clip_folder)), "cpu", batch_size)
    assert values(metric, samples) == pytest.approx(reference(clip_folder, samples), abs=1e-4)


def test_settings_of_clip_act(clip_folder, samples, tmp_path, randomize):
    base = Clip(ClipMetric(model=str(clip_folder)), "cpu", 4)
    other = shutil.copytree(clip_folder, tmp_path / "other")
    save_open_clip(other, randomize(open_clip.CLIP(**TINY_CLIP)), TINY_CLIP)
    by_model = Clip(ClipMetric(model=f"local-dir:{other}"), "cpu", 4)
    by_file = Clip(ClipMetric(model=str(clip_folder), weights=str(other / "open_clip_model.safetensors")), "cpu", 4)
    assert values(base, samples) != values(by_model, samples)
    assert values(by_file, samples) == values(by_model, samples)
    assert len({base.identity, by_model.identity}) == 2
    assert base.identity.startswith("clip v1 model=tiny sha256=")
    assert by_file.identity.startswith("clip v1 model=tiny weights=open_clip_model.safetensors sha256=")
    assert str(tmp_path) not in by_file.identity


def test_a_name_of_open_clip_with_a_tag_or_a_file(clip_folder, samples, tmp_path, monkeypatch):
    (tmp_path / "lab-tiny.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "lab-tiny.json")
    file = str(clip_folder / "open_clip_model.safetensors")
    by_file = Clip(ClipMetric(model="lab-tiny", weights=file), "cpu", 4)
    assert values(by_file, samples) == pytest.approx(reference(clip_folder, samples), abs=1e-4)
    tag = {"file": file, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "lab-tiny", {"openai": tag})
    by_tag = Clip(ClipMetric(model="lab-tiny", weights="openai"), "cpu", 4)
    folder = save_open_clip(tmp_path / "same", open_clip.CLIP(**TINY_CLIP), {**TINY_CLIP, "quick_gelu": True},
                            {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"})  # fmt: skip
    shutil.copy(file, folder / "open_clip_model.safetensors")
    assert values(by_tag, samples) == pytest.approx(reference(folder, samples), abs=1e-4)
    assert values(by_tag, samples) != values(by_file, samples)


def test_openai_weights_by_name_get_their_own_activation():
    from llm_dit.metrics.open_clip_model import find_named

    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_dit.metrics.open_clip_model.download", lambda *a: asked.append(a) or Path("x.safetensors"))
        assert json.loads(find_named("metrics.clip", "ViT-L-14", "openai").changes) == {"quick_gelu": True}
        assert json.loads(find_named("metrics.clip", "ViT-L/14", "datacomp_xl_s13b_b90k").changes) == {}
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    assert asked[0] == ("metrics.clip.weights", "openai", "timm/vit_large_patch14_clip_224.openai", names)
    assert asked[1][2] == "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    """A tiny random SigLIP: timm's vision tower, a text tower without causal mask, a tokenizer of its own."""
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
        "text_cfg": {
            "context_length": 64, "vocab_size": 32, "width": 64, "heads": 2, "layers": 2, "no_causal_mask": True,
            "pool_type": "last", "proj_bias": True, "hf_tokenizer_name": "here",
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
    }  # fmt: skip
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"}, init_logit_scale=0.7)
    folder = tmp_path_factory.mktemp("siglip") / "tiny"
    save_open_clip(folder, model, config, {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"})
    words = ["a", "red", "fox", "two", "barn", "owls", "on", "beam", "very", "long", "prompt", "of", "many", "words"]
    return save_word_tokenizer(folder, words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")


def test_siglip_is_the_logit(siglip_folder, samples):
    metric = Siglip(SiglipMetric(model=str(siglip_folder)), "cpu", 2)
    expected = reference(siglip_folder, samples, lambda m, c: m.logit_scale.exp() * c + m.logit_bias)
    scores = metric.score(samples)
    assert [s.values["siglip"] for s in scores] == pytest.approx(expected, abs=1e-4)
    assert [(s.tokens, s.truncated) for s in (scores[0], scores[4])] == [(4, False), (141, True)]
    assert metric.net.max_tokens == Siglip.max_tokens == 64


def test_siglip_settings_act_and_a_model_without_bias_is_refused(siglip_folder, clip_folder, samples, tmp_path):
    base = Siglip(SiglipMetric(model=str(siglip_folder)), "cpu", 4)
    changed = {k: v + 0.1 for k, v in load_file(siglip_folder / "open_clip_model.safetensors").items()}
    save_file(changed, tmp_path / "other.safetensors")
    other = Siglip(SiglipMetric(model=str(siglip_folder), weights=str(tmp_path / "other.safetensors")), "cpu", 4)
    assert values(base, samples) != values(other, samples)
    assert base.identity != other.identity
    with pytest.raises(ConfigError, match=r"metrics\.siglip\.model=.*no logit bias"):
        Siglip(SiglipMetric(model=str(clip_folder)), "cpu", 4).score(samples)


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def transformers_clip(request, tmp_path_factory):
    """A tiny random CLIPModel of transformers on disk, every weight random, and the model."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**vision, "image_size": 32, "patch_size": 8, "hidden_act": request.param},
        text_config={**text, "vocab_size": 49408, "hidden_act": request.param, "eos_token_id": 49407},
        projection_dim=24,
    )
    torch.manual_seed(1)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    folder = tmp_path_factory.mktemp("pick") / "PickScore_tiny"
    model.save_pretrained(folder)
    return folder, model


def test_pick_score_equals_transformers_clip_model(transformers_clip, samples):
    folder, model = transformers_clip
    metric = PickScore(PickScoreMetric(weights=str(folder)), "cpu", 2)
    tokens = open_clip.get_tokenizer("ViT-H-14")([s.prompt for s in samples])
    pixels = torch.stack([metric.net.transform(s.image) for s in samples])
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=tokens).pooler_output
    cosines = torch.nn.functional.cosine_similarity(images, texts)
    by_clip = Clip(ClipMetric(model=str(folder)), "cpu", 2)
    assert values(by_clip, samples) == pytest.approx((100 * cosines).tolist(), abs=1e-4)
    assert values(metric, samples) == pytest.approx((model.logit_scale.exp() * cosines).tolist(), abs=1e-4)
    assert torch.allclose(
        metric.net.image_features([s.image for s in samples]), torch.nn.functional.normalize(images), atol=1e-5
    )


def test_the_conversion_is_strict(transformers_clip, tmp_path):
    folder = shutil.copytree(transformers_clip[0], tmp_path / "own")
    file = folder / "model.safetensors"
    whole = load_file(file)

    def message(tensors):
        save_file(tensors, file)
        with pytest.raises(ModelError) as caught:
            _ = PickScore(PickScoreMetric(weights=str(folder)), "cpu", 2).net
        return str(caught.value)

    gone = "vision_model.encoder.layers.1.self_attn.k_proj.weight"
    assert "missing weight" in message({k: v for k, v in whole.items() if k != gone})
    gone = "vision_model.encoder.layers.1.self_attn.q_proj.weight"
    assert "in_proj_weight" in message({k: v for k, v in whole.items() if k != gone})
    assert "unexpected weight" in message({**whole, "extra.weight": torch.zeros(2)})
    assert "of another shape" in message({**whole, "logit_scale": torch.zeros(2)})
    assert from_transformers({"visual.proj": 1}) == {"visual.proj": 1}


def test_at_full_size_the_converted_names_and_shapes_are_vit_h_14_s():
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):
        theirs = CLIPModel(
            CLIPConfig(vision_config={**vision, "patch_size": 14}, text_config=text, projection_dim=1024)
        )
        ours = open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))
        converted = {name: tensor.shape for name, tensor in from_transformers(theirs.state_dict()).items()}
    assert converted == {name: tensor.shape for name, tensor in ours.state_dict().items()}


def test_hps_reads_a_state_dict_of_torch_and_gives_100_times_the_cosine(clip_folder, samples, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "hps")
    weights = load_file(folder / "open_clip_model.safetensors")
    file = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 1, "state_dict": weights}, file)
    metric = Hps(HpsMetric(weights=str(file)), "cpu", 4)
    assert values(metric, samples) == pytest.approx(reference(clip_folder, samples), abs=1e-4)
    other = {k: v + 0.05 for k, v in weights.items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in other.items()}}, folder / "other.pt")
    changed = Hps(HpsMetric(weights=str(folder / "other.pt")), "cpu", 4)
    assert values(changed, samples) != values(metric, samples)
    assert changed.identity != metric.identity
    assert Hps(HpsMetric(weights=f"local-dir:{folder}"), "cpu", 4).place.weights == file


def test_a_file_alone_is_taken_for_vit_h_14(clip_folder, tmp_path):
    file = tmp_path / "alone.safetensors"
    shutil.copy(clip_folder / "open_clip_model.safetensors", file)
    for metric in (
        Hps(HpsMetric(weights=str(file)), "cpu", 1),
        PickScore(PickScoreMetric(weights=str(file)), "cpu", 1),
    ):
        assert metric.place.name == "ViT-H-14"


class Sneaky:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("sneaked in",))


def test_pickled_code_is_not_run(clip_folder, tmp_path, capsys):
    folder = shutil.copytree(clip_folder, tmp_path / "own")
    torch.save({"state_dict": {"logit_scale": Sneaky()}}, folder / "bad.pt")
    with pytest.raises(ModelError, match="pickled code"):
        _ = Hps(HpsMetric(weights=str(folder / "bad.pt")), "cpu", 1).net
    assert "sneaked" not in capsys.readouterr().out


def test_code_beside_a_tokenizer_is_not_run(siglip_folder, tmp_path):
    """Though both the folder's configs ask for it."""
    folder = shutil.copytree(siglip_folder, tmp_path / "own")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["trust_remote_code"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Sly", "auto_map": {"AutoTokenizer": ["sly.Sly", "sly.Sly"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    sign = tmp_path / "was_run"
    (folder / "sly.py").write_text(f"open({str(sign)!r}, 'w')\nclass Sly:\n    from_pretrained = None\n")
    with contextlib.suppress(ModelError):
        _ = Siglip(SiglipMetric(model=str(folder)), "cpu", 1).net
    assert not sign.exists()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Clip(ClipMetric(), "cpu", 1), "metrics.clip.weights=openai: not on this machine and could not be downloaded"),
        (Clip(ClipMetric(model="Vit-L14"), "cpu", 1), "Did you mean 'ViT-L-14'"),
        (Clip(ClipMetric(weights="opnai"), "cpu", 1), "metrics.clip.weights=opnai: neither a file of weights nor"),
        (Clip(ClipMetric(weights="no/file.pt"), "cpu", 1), "metrics.clip.weights=no/file.pt: there is no such file"),
        (Clip(ClipMetric(model="local-dir:none"), "cpu", 1), "metrics.clip.model=local-dir:none: there is no such"),
        (Clip(ClipMetric(model="no/model"), "cpu", 1), "metrics.clip.model=no/model: not on this machine"),
        (Siglip(SiglipMetric(), "cpu", 1), "metrics.siglip.weights=webli: not on this machine"),
        (PickScore(PickScoreMetric(), "cpu", 1), "metrics.pick_score.weights=yuvalkirstain/PickScore_v1: not on this"),
        (Hps(HpsMetric(), "cpu", 1), "metrics.hps.weights=xswu/HPSv2: not on this machine"),
    ],
)
def test_what_is_not_here_is_one_line(metric, message, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(LabError) as caught:
        _ = metric.identity
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")


def test_loading_says_nothing_and_leaves_logging_alone(clip_folder, tmp_path, capfd, samples):
    import logging

    handlers = list(logging.root.handlers)
    folder = shutil.copytree(clip_folder, tmp_path / "own")
    Clip(ClipMetric(model=str(folder)), "cpu", 1).score(samples[:1])
    assert logging.root.handlers == handlers
    assert capfd.readouterr() == ("", "")
