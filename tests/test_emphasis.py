"""The group emphasis from config to picture: whose tokens are weighed, what is told, and what the record holds."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from llm_dit.base.errors import ConfigError, PromptError
from llm_dit.conditioning import encode as conditioning
from llm_dit.metrics.base import Sample
from llm_dit.models.cache import Models, PartCache
from llm_dit.render.draw import render
from llm_dit.text.compress import COMPRESS
from llm_dit.text.layers import rms
from llm_dit.weights.place import Placement

CPU = Placement("cpu", "float32")
MODES = ("attention", "from_empty")
SHORT = ["sampler.steps=2", "width=64", "height=64"]
WORDS = "one two (three:2) four five six seven (eight:3) nine ten eleven twelve"
HEAD = 6  # tokens of the chat before the words; a token is a byte


@pytest.fixture
def encode(tiny, monkeypatch):
    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    parts = PartCache()

    def make(prompt, *overrides, user=None):
        config = tiny(*overrides, prompt=prompt)
        return conditioning.encode_prompt(config, prompt if user is None else user, Models(config, CPU, parts))

    return make


def plain(text):
    return re.sub(r"\((\w+):[\d.]+\)", r"\1", text)


@pytest.mark.parametrize("mode", MODES)
def test_the_text_that_is_encoded_is_the_plain_one(encode, mode):
    ours, other = encode("a (red:2) apple", f"emphasis={mode}"), encode("a red apple")
    assert ours.text == other.text
    assert ours.emphasis["text"] == "a red apple"
    assert ours.emphasis["tokens"] == [["r", 2.0], ["e", 2.0], ["d", 2.0]]
    words = slice(HEAD + 2, HEAD + 5)
    if mode == "attention":
        assert torch.equal(ours.embeds, other.embeds)
        assert ours.weights.tolist() == [
            2.0 if i in range(HEAD + 2, HEAD + 5) else 1.0 for i in range(len(ours.embeds))
        ]
    else:
        assert ours.weights is None
        moved = (ours.embeds != other.embeds).any(-1)
        assert moved.nonzero().flatten().tolist() == list(range(words.start, words.stop))


def test_from_empty_moves_along_the_line_through_the_empty_prompts_token(encode):
    """e' - e has the direction of e - s e_0, with e_0 from the chat without words, read by hand here."""
    ours, other, empty = encode("a (red:3) apple", "emphasis=from_empty"), encode("a red apple"), encode("")
    zero = rms(rms(empty.embeds[HEAD:]).mean(0))
    word = other.embeds[HEAD + 2]
    size = (word / rms(word))[0]
    assert torch.allclose(ours.embeds[HEAD + 2] - word, 2 * (word - size * zero), atol=1e-4)
    gone = encode("a (red:0) apple", "emphasis=from_empty").embeds[HEAD + 2 : HEAD + 5]
    assert torch.allclose(rms(gone), zero.expand(3, -1), atol=5e-3)  # the eps of a norm of small numbers


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_without_weights_or_of_weight_1_is_encoded_as_without_emphasis(encode, mode):
    other = encode("a red apple")
    for prompt in ("a red apple", "a (red:1) apple", "(a (red:2) apple:0.5)".replace("0.5", "1").replace(":2", ":1")):
        ours = encode(prompt, f"emphasis={mode}")
        assert torch.equal(ours.embeds, other.embeds)
        assert ours.weights is None


@pytest.mark.parametrize("mode", ["attention", "from_empty"])
@pytest.mark.parametrize(
    "layers",
    [
        ["encoder_layer.layers=[-1,-3]", "encoder_layer.combine=slerp"],
        ["encoder_layer.index=-3", "encoder_layer.align=ridge", "encoder_layer.fit_prompts=starter"],
    ],
    ids=["slerp", "aligned"],
)
def test_with_other_layers(encode, mode, layers):
    ours, other = encode("a (red:2) apple", f"emphasis={mode}", *layers), encode("a red apple", *layers)
    changed = (ours.embeds != other.embeds).any(-1).nonzero().flatten().tolist()
    assert changed == ([] if mode == "attention" else [HEAD + 2, HEAD + 3, HEAD + 4])
    assert (ours.weights is None) == (mode == "from_empty")


def test_of_the_users_tokens_alone_the_weights_are_theirs(encode):
    ours = encode("a (red:2) apple", "emphasis=attention", "encoder_layer.tokens=user")
    assert ours.weights.tolist() == [1, 1, 2, 2, 2, *[1] * 6]


@pytest.mark.parametrize("mode", list(COMPRESS))
def test_where_tokens_are_averaged_so_are_their_weights(encode, mode):
    """Least squares gives the shares of 21 tokens that make each of 12; the weights must be of the same ones."""
    prompt = "a (red:2) apple, (big:3) tree"
    settings = [f"long_prompt.mode={mode}", "long_prompt.max_tokens=31"]
    ours, whole = encode(prompt, "emphasis=attention", *settings), encode(prompt, "emphasis=attention")
    assert len(ours.weights) == len(ours.embeds) == 31
    assert torch.equal(ours.embeds, encode(plain(prompt), *settings).embeds)
    before, after = slice(HEAD, HEAD + 21), slice(HEAD, HEAD + 12)
    assert len(whole.embeds) == 21 + 19
    shares = torch.linalg.lstsq(whole.embeds[before].T.double(), ours.embeds[after].T.double()).solution.T
    assert torch.allclose(shares.float() @ whole.weights[before], ours.weights[after], atol=1e-3)
    assert ours.weights.max() > 1.5
    assert ours.weights[:HEAD].eq(1).all()
    assert ours.weights[HEAD + 12 :].eq(1).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("long", ["truncate", "segments", "extend"])
def test_other_ways_with_long_prompts(encode, mode, long):
    settings = [f"long_prompt.mode={long}", "long_prompt.max_tokens=48"]
    ours, other = encode(WORDS, f"emphasis={mode}", *settings), encode(plain(WORDS), *settings)
    assert ours.text == other.text
    said = "".join(words for words, w in ours.emphasis["tokens"])
    assert said == ("three" if long == "truncate" else "threeeight")
    if mode == "attention":
        assert len(ours.weights) == len(ours.embeds)
        assert torch.equal(ours.embeds, other.embeds)
        assert ours.weights[ours.weights != 1].tolist() == [2.0] * 5 + [3.0] * (5 * (long != "truncate"))
    else:
        assert (ours.embeds != other.embeds).any(-1).sum() == len(said)


@pytest.mark.parametrize("mode", MODES)
def test_pictures_with_everything_else_on(tiny, mode):
    others = [
        "slg.scale=1", "dype.method=dy_ntk", "highres.mode=two_stage", "width=96", "height=64", "model.trained_size=64",
        "guidance.guidance_scale=2", "guidance.method=apg", "sampler.steps=2", "nag.scale=3", "num_images=2",
        "prompt.strip_quotes=true", "prompt.clean_whitespace=true", "prompt.system=be(kind:3)", "hardware.batch_size=2",
    ]  # fmt: skip
    prompt, negative = 'a "(red:2)"  apple', "prompt.negative=(fog:0.5)"
    pictures = render(tiny(*others, negative, f"emphasis={mode}", prompt=prompt))
    record = pictures[0].record
    assert "be(kind:3)" in record["formatted_prompt"]
    assert "user\na red apple<|im_end|>" in record["formatted_prompt"]
    assert record["emphasis"]["tokens"] == [[c, 2.0] for c in "red"]
    assert record["negative"]["emphasis"]["tokens"] == [[c, 0.5] for c in "fog"]
    assert not [w for w in record["warnings"] if "emphasis" in w]
    assert record["nfe"] == render(tiny(*others, prompt="a red apple"))[0].record["nfe"]
    # A seed's picture does not depend on what runs beside it.
    alone = render(tiny(*others, negative, f"emphasis={mode}", "seed=1", "num_images=1", prompt=prompt))[0]
    assert torch.allclose(alone.latents, pictures[1].latents, atol=1e-4)
    without = render(tiny(*others, "prompt.negative=(fog:1)", f"emphasis={mode}", prompt='a "(red:1)"  apple'))
    assert not torch.allclose(without[0].latents, pictures[0].latents, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_1_draw_the_same_bits_as_no_emphasis(tiny, mode):
    on = render(tiny(*SHORT, "guidance.guidance_scale=2", f"emphasis={mode}", prompt="a (red:1) apple"))[0]
    off = render(tiny(*SHORT, "guidance.guidance_scale=2", prompt="a red apple"))[0]
    assert on.record["pixels_sha256"] == off.record["pixels_sha256"]
    assert f"emphasis.mode={mode} has no effect: every weight is 1." in on.record["warnings"]
    assert off.record["emphasis"] is None


def warnings_of(tiny, *overrides, prompt):
    return [w for w in render(tiny(*SHORT, *overrides, prompt=prompt))[0].record["warnings"] if w != ""]


def test_what_cannot_act_is_told(tiny):
    def told(*overrides, prompt="a red apple"):
        return " ".join(warnings_of(tiny, *overrides, prompt=prompt))

    assert told() == ""
    assert "the prompt holds weights such as (words:1.3), which emphasis.mode=none" in told(prompt="a (red:2) apple")
    negative = ["guidance.guidance_scale=2", "prompt.negative=(fog:2)"]
    assert "prompt.negative holds weights" in told(*negative)
    assert "emphasis.mode=attention has no effect: no words" in told("emphasis=attention")
    assert told("emphasis=attention", *negative) == ""
    assert "emphasis.weight has no effect: emphasis.mode is none" in told("emphasis.weight=2")
    number = ["emphasis=attention", "emphasis.weight=2"]
    assert "emphasis.weight has no effect: every weight" in told(*number, prompt="a (red:2) apple")
    assert told(*number, prompt="a (red) apple") == ""
    other = ["emphasis=from_empty", "emphasis.queries=all"]
    assert "emphasis.queries has no effect: emphasis.mode is from_empty" in told(*other, prompt="a (red:2) apple")
    assert "the prompt: '(a red apple' is no weight" in told("emphasis=attention", prompt="(a red apple")
    assert "emphasis" not in told(prompt="a (red apple")


def test_a_weight_out_of_range_names_the_text_it_stands_in(tiny):
    with pytest.raises(PromptError, match=r"the prompt: '\(red:11\)' weighs 11"):
        render(tiny(*SHORT, "emphasis=attention", prompt="a (red:11) apple"))
    guided = ["guidance.guidance_scale=2", "prompt.negative=(fog:11)"]
    with pytest.raises(PromptError, match=r"the negative prompt: '\(fog:11\)' weighs 11"):
        render(tiny(*SHORT, *guided, "emphasis=attention", prompt="a red apple"))


def test_scale_is_refused_with_its_reason(tiny):
    with pytest.raises(
        ConfigError, match=r"emphasis.mode='scale': refused, because the transformer begins with an RMS"
    ):
        tiny("emphasis.mode=scale")


@pytest.mark.parametrize("backend", ["flash", "_flash_3", "sage", "xformers"])
def test_kernels_without_a_bias_are_refused_by_both_keys(tiny, backend):
    both = ["emphasis=attention", f"hardware.attention_backend={backend}"]
    with pytest.raises(ConfigError, match=rf"emphasis.mode=attention .* hardware.attention_backend={backend}"):
        tiny(*both)
    tiny("emphasis=from_empty", both[1])


def test_the_preview_shows_the_tokens_and_their_weights(run_main):
    code, out, err, _ = run_main("task=preview", "emphasis=attention", "a duck, (cartoon:2) style, (white (red:0)")
    assert code == 0
    assert "a duck, cartoon style, (white red<|im_end|>" in out
    assert "--- tokens with a weight: ' cartoon' 2, ' red' 0; all others weigh 1" in err
    assert "warning: the prompt: '(white (red:" in err
    assert "tokens with a weight: none" in run_main("task=preview", "emphasis=attention", "a duck")[2]
    assert "weight" not in run_main("task=preview", "a duck, (cartoon:2) style")[2]


def test_a_metric_reads_the_words_without_signs(tiny, tmp_path, monkeypatch):
    from llm_dit.study.score import sample_of

    picture = render(tiny(*SHORT, "emphasis=attention", prompt="a (red:2) apple"))[0]
    picture.image.save(tmp_path / "a.png")
    cell = dataclasses.make_dataclass("Cell", ["path"])(tmp_path)
    record = picture.record | {"path": "a.png", "prompt": "a (red:2) apple"}
    found = sample_of(cell, record)
    assert isinstance(found, Sample)
    assert found.prompt == "a red apple"
    assert sample_of(cell, record | {"emphasis": None}).prompt == "a (red:2) apple"
