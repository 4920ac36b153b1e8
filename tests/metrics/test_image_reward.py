"""ImageReward's port against the image-reward package, on a tiny version of its model with every weight random."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_metrics import picture

from llm_dit.base.errors import ModelError
from llm_dit.config import ImageRewardMetric
from llm_dit.metrics.base import Sample
from llm_dit.metrics.image_reward import ImageReward, Sizes, build, to_pixels, to_transformers

TINY = Sizes(vision_width=32, vision_layers=2, vision_heads=2, text_layers=2, text_heads=4, text_mlp=64, vocabulary=64)
WORDS = re.findall(r"\S+", "a red fox two barn owls on beam very long prompt of many words the picture shows , .")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A BERT tokenizer of 62 words on disk."""
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *WORDS, *(f"word{i}" for i in range(62 - len(special) - len(WORDS)))]
    folder = tmp_path_factory.mktemp("bert")
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def package(tokenizer_folder, tmp_path_factory):
    """The package's own model. It was made for an older transformers: what that had is put back around it."""
    import transformers.modeling_utils
    import transformers.pytorch_utils

    spec = find_spec("ImageReward")
    if spec is None:
        pytest.skip("needs: uv sync --group originals")
    root = Path(spec.origin).parent
    with pytest.MonkeyPatch.context() as patch:
        for name in ("apply_chunking_to_forward", "prune_linear_layer"):
            found = getattr(transformers.pytorch_utils, name)
            patch.setattr(transformers.modeling_utils, name, found, raising=False)
        patch.setattr(transformers.modeling_utils, "find_pruneable_heads_and_indices", None, raising=False)
        for name, folder in (("", root), (".models", root / "models"), (".models.BLIP", root / "models" / "BLIP")):
            module = types.ModuleType(f"ImageReward{name}")
            module.__path__ = [str(folder)]
            patch.setitem(sys.modules, f"ImageReward{name}", module)
        fairscale = "fairscale.nn.checkpoint.checkpoint_activations"
        for depth in range(1, 5):
            name = ".".join(fairscale.split(".")[:depth])
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules[fairscale].checkpoint_wrapper = lambda module, *a, **k: module
        theirs = importlib.import_module("ImageReward.ImageReward")
        med = importlib.import_module("ImageReward.models.BLIP.med")
        vit = importlib.import_module("ImageReward.models.BLIP.vit")
        pretrain = importlib.import_module("ImageReward.models.BLIP.blip_pretrain")
        patch.setattr(med.BertPreTrainedModel, "all_tied_weights_keys", {}, raising=False)
        patch.setattr(med.BertPreTrainedModel, "get_head_mask", lambda self, mask, n, *a: [None] * n, raising=False)
        patch.setattr(
            med.BertPreTrainedModel, "invert_attention_mask",
            lambda self, mask: (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min, raising=False,
        )  # fmt: skip
        tower = vit.VisionTransformer(img_size=224, patch_size=16, embed_dim=32, depth=2, num_heads=2)
        patch.setattr(pretrain, "create_vit", lambda *a: (tower, 32))
        patch.setattr(pretrain, "init_tokenizer", lambda: own_tokenizer(tokenizer_folder))
        config = {
            "architectures": ["BertModel"], "hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 64, "encoder_width": 768, "add_cross_attention": True,
            "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "type_vocab_size": 2,
        }  # fmt: skip
        path = tmp_path_factory.mktemp("med") / "med_config.json"
        path.write_text(json.dumps(config))
        torch.manual_seed(0)
        model = theirs.ImageReward(str(path)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
        yield model
        for name in [name for name in sys.modules if name.startswith("ImageReward.")]:
            del sys.modules[name]


def own_tokenizer(folder):
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    return tokenizer


@pytest.fixture
def tiny_sizes(monkeypatch):
    monkeypatch.setattr(ImageReward, "sizes", TINY)


@pytest.fixture
def checkpoint(tmp_path, tokenizer_folder, tiny_sizes):
    """A checkpoint of the tiny network under the package's names, and the settings that read it."""
    torch.manual_seed(0)
    model = build(TINY)
    back = [
        (".self_attn.projection.", ".attn.proj."), (".self_attn.qkv.", ".attn.qkv."), ("layer_norm", "norm"),
        ("encoder.layers.", "blocks."), ("post_layernorm.", "norm."), ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding", "pos_embed"), ("embeddings.patch_embedding.", "patch_embed.proj."),
    ]  # fmt: skip
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("vision_model."):
            name = name.removeprefix("vision_model.")
            for ours, theirs in back:
                name = name.replace(ours, theirs)
            name = f"blip.visual_encoder.{name}"
        elif name.startswith("text_encoder."):
            name = f"blip.{name}"
        tensors[name] = (tensor + 0.05 * torch.randn(tensor.shape)).contiguous()
    file = tmp_path / "ImageReward.safetensors"
    save_file(tensors, file)
    return file, tensors, ImageRewardMetric(weights=str(file), tokenizer=str(tokenizer_folder))


def values(metric, samples):
    return [score.values["image_reward"] for score in metric.score(samples)]


def test_it_equals_the_package(package, tokenizer_folder, samples, tmp_path, tiny_sizes):
    torch.save(package.state_dict(), tmp_path / "ImageReward.pt")
    settings = ImageRewardMetric(weights=str(tmp_path), tokenizer=str(tokenizer_folder))
    metric = ImageReward(settings, "cpu", 2)
    more = [Sample(picture(7, (300, 200)), "a red fox , the picture"), Sample(picture(8, (225, 512)), "owls")]
    samples = [*samples, *more]
    with torch.no_grad():
        expected = [package.score(sample.prompt, sample.image) for sample in samples]
    assert values(metric, samples) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-2
    assert len({round(value, 6) for value in expected}) == len(samples)


def test_at_full_size_it_has_the_package_s_weights():
    """446.7 million, less the two projections to 256 values that no score uses."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build(Sizes()).parameters())
    assert round((weights + 256 * (1024 + 1) + 256 * (768 + 1)) / 1e6, 1) == 446.7


def test_pixels_are_the_package_s(package):
    for size in ((48, 40), (300, 200), (225, 512), (1024, 1024), (224, 224), (333, 1000)):
        image = picture(1, size)
        assert torch.equal(package.preprocess(image), to_pixels(image)), size


def test_tokens_and_what_is_cut(checkpoint, samples):
    scores = ImageReward(checkpoint[2], "cpu", 4).score(samples)
    assert [(s.tokens, s.truncated) for s in (scores[0], scores[4])] == [(5, False), (142, True)]
    one, two = (Sample(samples[0].image, "red " * 33 + last) for last in ("fox", "owls"))
    first, second = ImageReward(checkpoint[2], "cpu", 4).score([one, two])
    assert first == second
    assert (first.tokens, first.truncated) == (36, True)


def test_settings_act(checkpoint, tokenizer_folder, samples, tmp_path):
    file, tensors, settings = checkpoint
    base = ImageReward(settings, "cpu", 4)
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, tmp_path / "other.safetensors")
    weights = ImageRewardMetric(weights=str(tmp_path / "other.safetensors"), tokenizer=settings.tokenizer)
    from transformers import BertTokenizer

    swapped = dict(BertTokenizer.from_pretrained(tokenizer_folder).get_vocab())
    swapped["red"], swapped["fox"] = swapped["two"], swapped["owls"]
    swapped["two"], swapped["owls"] = 6, 7
    folder = tmp_path / "bert"
    BertTokenizer(vocab=swapped).save_pretrained(folder)
    words = ImageRewardMetric(weights=str(file), tokenizer=str(folder))
    others = [ImageReward(other, "cpu", 4) for other in (weights, words)]
    assert len({tuple(values(metric, samples)) for metric in (base, *others)}) == 3
    assert len({metric.identity for metric in (base, *others)}) == 3


def test_every_weight_must_land(checkpoint, tokenizer_folder, tmp_path):
    tensors = checkpoint[1]
    path = tmp_path / "changed.safetensors"

    def message(changed):
        save_file(changed, path)
        with pytest.raises(ModelError) as caught:
            _ = ImageReward(ImageRewardMetric(weights=str(path), tokenizer=str(tokenizer_folder)), "cpu", 1).model
        return str(caught.value)

    less = {name: tensor for name, tensor in tensors.items() if name != "mlp.layers.7.bias"}
    assert "1 missing weight, the first is 'mlp.layers.7.bias'" in message(less)
    assert "unexpected weight" in message({**tensors, "blip.visual_encoder.odd": torch.zeros(1)})
    unused = {f"blip.{side}_proj.{kind}": torch.zeros(1) for side in ("vision", "text") for kind in ("weight", "bias")}
    assert to_transformers(unused) == {}


def test_what_is_not_here_is_one_line(checkpoint, tmp_path, capfd):
    file, _, settings = checkpoint

    def message(**changed):
        metric = ImageReward(
            ImageRewardMetric(**{"weights": str(file), "tokenizer": settings.tokenizer, **changed}), "cpu", 1
        )
        with pytest.raises(ModelError) as caught:
            _ = metric.identity, metric.tokenizer
        assert "\n" not in str(caught.value)
        return str(caught.value)

    defaults = ImageRewardMetric()
    assert "metrics.image_reward.weights=zai-org/ImageReward: not on this machine" in message(weights=defaults.weights)
    assert "metrics.image_reward.tokenizer=google-bert/bert-base-uncased: not on" in message(
        tokenizer=defaults.tokenizer
    )
    assert "holds none of tokenizer.json, vocab.txt" in message(tokenizer=str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_of_another_model_is_refused(checkpoint, tmp_path):
    from transformers import BertTokenizer

    BertTokenizer(vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}).save_pretrained(
        tmp_path / "b"
    )
    settings = ImageRewardMetric(weights=str(checkpoint[0]), tokenizer=str(tmp_path / "b"))
    with pytest.raises(ModelError, match="has 7 tokens"):
        _ = ImageReward(settings, "cpu", 1).tokenizer
