"""The group long_prompt from config to picture: what is read, what is passed on, and what the record says of it."""

from __future__ import annotations

import pytest
import torch

from llm_dit.base.errors import PromptError
from llm_dit.conditioning import encode as conditioning
from llm_dit.diffusion.positions import ntk, pi
from llm_dit.families.z_image import text_axis
from llm_dit.families.z_image.rotary import ComputedRotary
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.models.cache import Models, PartCache
from llm_dit.render.draw import render
from llm_dit.text.compress import COMPRESS, compress
from llm_dit.weights.place import Placement

CPU = Placement("cpu", "float32")
WORDS = "one two three four five six seven eight nine ten eleven twelve"  # a token is a byte: 62
TEMPLATE, HEAD = 19, 6  # tokens around the words, and those before them


@pytest.fixture
def encode(tiny, monkeypatch):
    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    parts = PartCache()

    def make(*overrides, prompt=WORDS):
        config = tiny(*(f"long_prompt.{o}" for o in overrides), prompt=prompt)
        return conditioning.encode_prompt(config, prompt, Models(config, CPU, parts))

    return make


@pytest.fixture
def whole(encode):
    return encode("max_tokens=512").embeds


@pytest.mark.parametrize("mode", list(COMPRESS))
def test_the_users_tokens_are_compressed_and_the_templates_are_not(encode, whole, mode):
    encoded = encode(f"mode={mode}", "max_tokens=48")
    assert len(encoded.embeds) == 48
    tail = TEMPLATE - HEAD
    assert torch.equal(encoded.embeds[:HEAD], whole[:HEAD])
    assert torch.equal(encoded.embeds[-tail:], whole[-tail:])
    words = whole[HEAD:-tail]
    assert torch.equal(encoded.embeds[HEAD:-tail], compress(words, 48 - TEMPLATE, mode))
    length = encoded.length
    assert [length[f"tokens_{what}"] for what in ("asked", "read", "after")] == [81, 81, 48]
    assert length["mode"] == mode
    cosine = torch.nn.functional.cosine_similarity(encoded.embeds[HEAD:-tail, None], words[None], dim=-1).amax(-1)
    assert length["cosine_mean"] == pytest.approx(float(cosine.mean()), abs=1e-5)
    assert length["cosine_min"] == pytest.approx(float(cosine.min()), abs=1e-5)
    assert encoded.warnings == ()


def test_the_record_of_a_picture_holds_it(tiny):
    words = ["long_prompt.mode=pool", "long_prompt.max_tokens=48", "sampler.steps=1", "guidance.guidance_scale=1"]
    record = render(tiny(*words, prompt=WORDS))[0].record
    assert (record["token_count"], record["padded_length"]) == (48, 64)
    assert record["long_prompt"]["tokens_asked"] == 81
    assert 0 < record["long_prompt"]["cosine_min"] <= record["long_prompt"]["cosine_mean"] <= 1
    assert record["negative"]["long_prompt"]["tokens_after"] == TEMPLATE
    assert record["warnings"] == []


def test_extend_gives_the_transformer_every_token(encode, whole):
    encoded = encode("mode=extend", "max_tokens=48")
    assert torch.equal(encoded.embeds, whole)
    assert encoded.length["tokens_after"] == 81
    assert encoded.length["cosine_mean"] is None


def test_segments_are_encoded_apart_and_joined(encode, whole):
    encoded = encode("mode=segments", "max_tokens=48")
    counts = encoded.length["segments"]
    assert len(counts) >= 3
    assert max(counts) <= 48
    words = sum(counts) - TEMPLATE * len(counts)
    assert len(encoded.embeds) == TEMPLATE + words
    assert words == len(WORDS) - (len(counts) - 1)  # the blanks between them are dropped
    # Nothing is above the first piece, so its states are those of the whole text; a later one has not read it.
    first = counts[0] - (TEMPLATE - HEAD)
    assert torch.allclose(encoded.embeds[:first], whole[:first], atol=1e-5)
    assert not torch.allclose(encoded.embeds[first], whole[first + 1], atol=1e-3)


def test_the_encoder_reads_no_more_than_it_may(encode):
    encoded = encode("mode=pool", "max_tokens=32", "encoder_max_tokens=60")
    length = encoded.length
    assert (length["tokens_asked"], length["tokens_read"], length["tokens_after"]) == (81, 60, 32)
    assert "long_prompt.encoder_max_tokens=60" in encoded.warnings[0]
    cut = encode("mode=truncate", "max_tokens=512", "encoder_max_tokens=60")
    assert "(long_prompt.encoder_max_tokens=60)" in cut.warnings[0]
    with pytest.raises(PromptError, match=r"the limit is long_prompt\.encoder_max_tokens=60"):
        encode("mode=refuse", "encoder_max_tokens=60")


@pytest.mark.parametrize("mode", list(COMPRESS))
def test_a_template_that_leaves_no_room_is_an_error(encode, mode):
    with pytest.raises(PromptError, match="the chat template alone has 19 tokens"):
        encode(f"mode={mode}", "max_tokens=19")


def test_without_the_template_all_room_is_the_users(tiny):
    given = ["long_prompt.mode=merge", "long_prompt.max_tokens=16", "encoder_layer.tokens=user"]
    config = tiny(*given, prompt=WORDS)
    encoded = conditioning.encode_prompt(config, WORDS, Models(config, CPU, PartCache()))
    assert (encoded.length["tokens_after"], len(encoded.embeds)) == (16, 16)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=merge"], "long_prompt.mode=merge has no effect: the prompt's 81 tokens are within"),
        (["mode=segments"], "long_prompt.mode=segments has no effect"),
        (["mode=extend"], "long_prompt.mode=extend has no effect"),
        (["positions=pi"], "long_prompt.positions=pi has no effect"),
        (["mode=pool", "max_tokens=48", "positions=ntk"], "long_prompt.positions=ntk has no effect: the 48 tokens"),
        (["max_tokens=100", "encoder_max_tokens=200"], "long_prompt.encoder_max_tokens has no effect"),
    ],
)
def test_what_cannot_act_says_so(encode, whole, overrides, message):
    encoded = encode(*overrides)
    assert [message in w for w in encoded.warnings] == [True]
    if "max_tokens=48" not in overrides:
        assert torch.equal(encoded.embeds, whole)


def test_a_negative_prompt_that_fits_is_no_reason_for_a_warning(tiny):
    given = ["long_prompt.mode=merge", "long_prompt.max_tokens=48", "guidance.guidance_scale=1", "sampler.steps=1"]
    assert render(tiny(*given, "prompt.negative=fog", prompt=WORDS))[0].record["warnings"] == []


@pytest.mark.parametrize("positions", ["pi", "ntk"])
def test_slowed_positions_end_where_those_of_max_tokens_do(tiny, positions):
    lp = tiny("long_prompt.mode=extend", "long_prompt.max_tokens=32", f"long_prompt.positions={positions}").long_prompt
    rotary = ComputedRotary([32, 48, 48], 256.0)
    axes = text_axis.stretched_text(lp, 81, rotary)
    stretch = (padded_length(81) + 1) / 33
    assert axes[0].rates == tuple({"pi": pi, "ntk": ntk}[positions](rotary.stock[0].rates, stretch))
    assert axes[0].rates[-1] * (padded_length(81) + 1) == pytest.approx(rotary.stock[0].rates[-1] * 33)
    assert set(axes) == {0}
    assert text_axis.stretched_text(lp, 32, rotary) == {}
    assert text_axis.describe_text_axis(lp, 81) == {"scaling": positions, "stretch": stretch}


def test_positions_are_slowed_for_the_run_and_no_longer(tiny):
    given = ["long_prompt.mode=extend", "long_prompt.max_tokens=32", "sampler.steps=1"]
    plain, slowed, again = (
        render(tiny(*given, f"long_prompt.positions={p}", prompt=WORDS))[0] for p in ("plain", "pi", "plain")
    )
    assert not torch.allclose(plain.latents, slowed.latents, atol=1e-3)
    assert torch.equal(plain.latents, again.latents)
    assert plain.record["long_prompt"]["positions"] is None
    assert slowed.record["long_prompt"]["positions"]["stretch"] == pytest.approx(97 / 33)


@pytest.mark.parametrize("count", [1505, 4000])
def test_more_text_than_the_stock_table_holds_is_drawn(tiny, count):
    given = ["long_prompt.mode=extend", "sampler.steps=1", "long_prompt.positions=ntk"]
    record = render(tiny(*given, prompt="x" * (count - TEMPLATE)))[0].record
    assert (record["token_count"], record["warnings"]) == (count, [])


def test_embeddings_are_known_by_every_setting_of_the_group(encode):
    variants = [[], ["mode=extend"], ["mode=segments"], ["mode=extend", "encoder_max_tokens=60"]]
    variants += [[f"mode={mode}"] for mode in COMPRESS] + [["mode=merge", "encoder_max_tokens=60"]]
    found = [encode("max_tokens=48", *v).embeds for v in variants]
    for i, one in enumerate(found):
        assert not any(one.shape == other.shape and torch.equal(one, other) for other in found[:i]), variants[i]


def test_a_transformer_built_as_z_image_takes_long_texts():
    """30 layers, heads of 128 channels turned as 32, 48 and 48, captions of 2560 features; only the width is small."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.config import LongPromptConfig
    from llm_dit.families.z_image.rotary import install_computed_rotary

    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=16, dim=128, n_layers=30, n_refiner_layers=2, n_heads=1, n_kv_heads=1, cap_feat_dim=2560,
        axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
    ).eval()  # fmt: skip
    install_computed_rotary(transformer)
    rotary = transformer.rope_embedder
    for count, positions in ((1505, "plain"), (1505, "pi"), (4000, "ntk")):
        slowed = text_axis.stretched_text(LongPromptConfig("extend", positions=positions), count, rotary)
        with torch.inference_mode(), rotary.turning(slowed):
            velocity = transformer([torch.randn(16, 1, 8, 8)], torch.tensor([0.3]), [torch.randn(count, 2560)])[0][0]
        assert torch.isfinite(velocity).all()
