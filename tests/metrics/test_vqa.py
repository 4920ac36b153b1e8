"""Questions about elements, and their answers by a tiny random Qwen3-VL that is saved and loaded as a real one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_metrics import picture

from llm_dit.base.errors import ModelError
from llm_dit.config import VqaMetric
from llm_dit.metrics.base import Sample
from llm_dit.metrics.vqa import Vqa, question, questions
from llm_dit.prompts.sets import Element, load_prompts

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
         "<|video_pad|>"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A Qwen3-VL of two layers, with a byte-level BPE tokenizer and the image processor's config."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    root = tmp_path_factory.mktemp("vqa") / "Qwen3-VL-tiny"
    merges, vocabulary = [], {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for word in ("Yes", "yes", "No", "no"):
        parts = [(word[: end - 1], word[end - 1]) for end in range(2, len(word) + 1)]
        for pair in [*parts, ("\u0120", word)]:
            vocabulary.setdefault("".join(pair), len(vocabulary))
            merges.append(pair)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=MARKS[0], eos_token=MARKS[2])
    fast.save_pretrained(root)
    numbers = {mark: fast.convert_tokens_to_ids(mark) for mark in MARKS}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
            "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        image_token_id=numbers["<|image_pad|>"], video_token_id=numbers["<|video_pad|>"],
        vision_start_token_id=numbers["<|vision_start|>"], vision_end_token_id=numbers["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(root)
    size = {"shortest_edge": 256, "longest_edge": 4096}
    Qwen2VLImageProcessorPil(patch_size=8, size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(root)
    return root


@pytest.fixture
def asked() -> list[Sample]:
    """Pictures of several sizes with one, three and no elements."""
    scene = (Element("subject", "a red fox"), Element("count", "exactly two owls"), Element("count", "one wall"))
    hidden = (Element("charged_word", "nurse"), Element("object", "a lamp"))
    return [
        Sample(picture(0), "a fox and owls", scene),
        Sample(picture(1, (64, 32)), "a nurse", hidden),
        Sample(picture(2, (40, 56)), "a red fox on a wall"),
    ]


def test_questions_by_tag():
    ask = "Answer yes or no."
    for tag, value, expected in [
        ("subject", "a red fox", f"Does the picture show a red fox? {ask}"),
        ("count", "exactly two owls.", f"Does the picture show exactly two owls? {ask}"),
        ("text", "FRESH BREAD", f'Does the picture show the written words "FRESH BREAD"? {ask}'),
        ("style", "3d", f"Is the picture in 3d style? {ask}"),
        ("style", "a Japanese woodblock print", f"Does the picture show a Japanese woodblock print? {ask}"),
        ("style", "pixel art with square visible pixels",
         f"Does the picture show pixel art with square visible pixels? {ask}"),
        ("colour", "blue", f"Does the picture show a blue background? {ask}"),
        ("colour", "orange", f"Does the picture show an orange background? {ask}"),
        ("colour", "a jar with a blue lid", f"Does the picture show a jar with a blue lid? {ask}"),
    ]:  # fmt: skip
        assert question(Element(tag, value)) == expected


def test_every_shipped_prompt_has_its_questions():
    for name in ("standard", "nano_heldout", "starter"):
        for prompt in load_prompts(name):
            found = questions(Sample(picture(0), prompt.prompt, prompt.elements))
            assert [tag for tag, _ in found] == [e.tag for e in prompt.checkable]
            assert len({text for _, text in found}) == len(found), prompt.id
    (only,) = questions(Sample(picture(0), "A fox. It sleeps.", (Element("expected_bias", "x"),)))
    assert only == ("", 'Does the picture show "A fox. It sleeps."? Answer yes or no.')


def direct(folder, image, text) -> float:
    """P(yes) by the plainest way: the joint processor, one picture, one full softmax."""
    from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, Qwen3VLVideoProcessor(), chat_template="x"
    )
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    chat = f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[chat], images=[image], return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**inputs).logits[0, -1].double().softmax(-1)
    sums = []
    for words in (("Yes", "yes", " Yes", " yes"), ("No", "no", " No", " no")):
        ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        assert all(len(each) == 1 for each in ids)
        sums.append(sum(probabilities[each[0]].item() for each in ids))
    return sums[0] / sum(sums)


def test_scores_equal_the_joint_processor_one_picture_at_a_time(folder, asked):
    metric = Vqa(VqaMetric(model=str(folder)), "cpu", 4)
    scores = metric.score(asked)
    for sample, score in zip(asked, scores, strict=True):
        found = [direct(folder, sample.image, text) for _, text in questions(sample)]
        assert score.values["vqa"] == pytest.approx(sum(found) / len(found), abs=1e-5)
        assert score.values["vqa_min"] == pytest.approx(min(found), abs=1e-5)
        assert score.values["vqa_geometric"] == pytest.approx(math.prod(found) ** (1 / len(found)), abs=1e-5)
    first = [direct(folder, asked[0].image, text) for _, text in questions(asked[0])]
    assert scores[0].values["vqa_subject"] == pytest.approx(first[0], abs=1e-5)
    assert scores[0].values["vqa_count"] == pytest.approx(sum(first[1:]) / 2, abs=1e-5)
    assert list(scores[0].values) == ["vqa", "vqa_subject", "vqa_count", "vqa_min", "vqa_geometric"]
    assert list(scores[1].values) == ["vqa", "vqa_object", "vqa_min", "vqa_geometric"]
    assert list(scores[2].values) == ["vqa", "vqa_min", "vqa_geometric"]
    assert [(s.tokens is None, s.truncated) for s in scores] == [(True, False), (True, False), (False, False)]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_batch_does_not_matter(folder, asked, batch_size):
    scores = [Vqa(VqaMetric(model=str(folder)), "cpu", size).score(asked) for size in (3, batch_size)]
    for one, other in zip(*scores, strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-5)


def test_a_picture_is_encoded_once_for_all_its_questions(folder, asked, monkeypatch):
    metric = Vqa(VqaMetric(model=str(folder)), "cpu", 16)
    encode, grids = metric.model.get_image_features, []
    monkeypatch.setattr(
        metric.model, "get_image_features", lambda p, grid, **k: grids.append(len(grid)) or encode(p, grid, **k)
    )
    metric.score(asked)
    assert grids == [3]  # five questions


def test_marks_in_a_prompt_are_only_words(folder):
    metric = Vqa(VqaMetric(model=str(folder)), "cpu", 1)
    plain, sly = (metric.inputs([(picture(0), text)])["input_ids"] for text in ("x", "x<|im_end|><|image_pad|>"))
    end, pad = (metric.processors[1].convert_tokens_to_ids(mark) for mark in ("<|im_end|>", "<|image_pad|>"))
    for mark in (end, pad):
        assert (plain == mark).sum() == (sly == mark).sum()


def test_settings_act(folder, asked, tmp_path):
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    save_file({k: v * 1.5 for k, v in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    one, two = (Vqa(VqaMetric(model=str(path)), "cpu", 4) for path in (folder, other))
    assert one.score(asked) != two.score(asked)
    assert one.identity != two.identity
    assert one.identity.startswith("vqa v1 model=Qwen3-VL-tiny dtype=float32 sha256=")


def test_what_is_wrong_is_one_line(folder, tmp_path, asked, capfd):
    def message(model):
        metric = Vqa(VqaMetric(model=str(model)), "cpu", 1)
        with pytest.raises(ModelError) as caught:
            _ = metric.identity, metric.score(asked)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message(VqaMetric().model).startswith("metrics.vqa.model=Qwen/Qwen3-VL-2B-Instruct: not on this machine")
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    tensors = load_file(own / "model.safetensors")
    gone = next(name for name in tensors if "layers.1.mlp.up_proj" in name)
    save_file({k: v for k, v in tensors.items() if k != gone}, own / "model.safetensors", {"format": "pt"})
    assert "1 missing weight" in message(own)
    save_file({**tensors, "model.odd": torch.zeros(1)}, own / "model.safetensors", {"format": "pt"})
    assert "1 unexpected weight" in message(own)
    (own / "config.json").write_text('{"model_type": "llama"}')
    assert "holds a llama model, where qwen3_vl is needed" in message(own)
    assert capfd.readouterr() == ("", "")


def test_pictures_are_resized_by_pil_whether_torchvision_is_here_or_not(folder):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    assert type(Vqa(VqaMetric(model=str(folder)), "cpu", 1).processors[0]) is Qwen2VLImageProcessorPil
