"""The group encoder_layer from config to picture: layers, norms, alignment, tokens, and what it says about itself."""

from __future__ import annotations

import pytest
import torch

from llm_dit.base.errors import ConfigError, ModelError, PromptError
from llm_dit.compose import compose
from llm_dit.conditioning import encode as conditioning
from llm_dit.conditioning import layers as layer_choice
from llm_dit.conditioning.layers import LayerFit, asked_layers, combine_layers
from llm_dit.models.cache import Models, PartCache
from llm_dit.render.draw import render
from llm_dit.text import layers as operators
from llm_dit.weights.place import Placement

CPU = Placement("cpu", "float32")
FIT = "encoder_layer.fit_prompts=starter"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    for name in ("_channels", "_sums", "_fits"):
        monkeypatch.setattr(layer_choice, name, type(layer_choice._fits)())


@pytest.fixture
def encode(tiny):
    parts = PartCache()

    def make(*overrides, prompt="a red apple"):
        config = tiny(FIT, *overrides, prompt=prompt)
        return conditioning.encode_prompt(config, prompt, Models(config, CPU, parts))

    return make


def settings(*overrides):
    return compose(["model=tiny", "x", *(f"encoder_layer.{o}" for o in overrides)]).encoder_layer


def test_layers_are_a_list_a_range_or_one():
    assert asked_layers(settings(), 36) == [35]
    assert asked_layers(settings("layers=[-2,0,3]"), 36) == [35, 0, 3]
    assert asked_layers(settings("layer_range=[-4,-2]"), 36) == [33, 34, 35]
    assert asked_layers(settings("layer_range=[0,-1,18]"), 36) == [0, 18, 36]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["layers=[-2,9]"], "layers=9: this encoder has hidden states -5 to 4"),
        (["layer_range=[1,7]"], "layer_range=7: this encoder has"),
        (["layer_range=[-2,-4]"], "empty; it goes from the lower layer"),
        (["layer_range=[1]"], r"must be \[first,last\] or"),
        (["layer_range=[1,2,0]"], "step must be at least 1"),
        (["layers=[1,2]", "layer_range=[1,2]"], "both given"),
        (["layers=[1,2]", "weights=[1]"], "1 weights for 2 layers"),
        (["layer_range=[1,3]", "weights=[1,2]"], "2 weights for 3 layers"),
        (["layers=[1,2]", "weights=[1,-1]"], "add up to 0"),
        (["layers=[1,2]", "weights=[2,-1]", "combine=slerp"], "no negative weights"),
        (["align=ridge", "trained_index=null"], "needs encoder_layer.trained_index"),
        (["align=ridge", "trained_index=9", "index=-3"], "trained_index=9: this encoder has"),
    ],
)
def test_a_choice_that_cannot_be_is_named(encode, overrides, message):
    with pytest.raises(ConfigError, match=message):
        encode(*(f"encoder_layer.{o}" for o in overrides))


def test_the_trained_layer_alone_keeps_its_bits(encode):
    encoded = encode()
    encoder = Models(compose(["model=tiny", "x", "hardware=cpu"]), CPU, PartCache()).text_encoder
    ids, _ = encoder.tokenize(encoded.text)
    assert torch.equal(encoded.embeds, encoder.encode(ids, [-2])[0])
    assert encoded.warnings == ()
    assert encoded.layers == {
        "layers": [3], "of": 4, "final_norm": False, "norm": "none", "combine": None, "weights": None, "align": None,
    }  # fmt: skip


@pytest.mark.parametrize("combine", ["mean", "weighted", "norm_mean", "slerp"])
@pytest.mark.parametrize("norm", ["none", "rms", "layernorm"])
def test_the_operators_get_their_layers_in_order(encode, combine, norm):
    single = [encode(f"encoder_layer.index={i}").embeds for i in (-1, -3)]
    weights = [] if combine == "mean" else [3.0, 1.0]
    normed = {"none": list, "rms": lambda s: map(operators.rms, s), "layernorm": lambda s: map(operators.layer_norm, s)}
    expected = operators.COMBINE[combine](list(normed[norm](single)), weights)
    both = encode(
        "encoder_layer.layers=[-1,-3]", f"encoder_layer.combine={combine}", f"encoder_layer.norm={norm}",
        f"encoder_layer.weights={weights}".replace(" ", ""),
    )  # fmt: skip
    assert torch.allclose(both.embeds, expected, atol=1e-6)
    assert (both.layers["layers"], both.layers["combine"], both.layers["norm"]) == ([4, 2], combine, norm)
    assert both.layers["weights"] == (weights or None)


def test_only_the_layers_up_to_the_highest_asked_one_are_computed(encode):
    encode()  # loaded
    config = compose(["model=tiny", "x", "hardware=cpu"])
    encoder = Models(config, CPU, (parts := PartCache())).text_encoder
    calls = []
    for layer in encoder.model.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    config = compose(["model=tiny", "x", "hardware=cpu", "encoder_layer.layers=[-4,-3]"])
    conditioning.encode_prompt(config, "x", Models(config, CPU, parts))
    assert len(calls) == 2


@pytest.mark.parametrize("align", ["moments", "ridge", "procrustes"])
def test_an_aligned_layer_comes_nearer_to_the_trained_one_and_its_fit_is_recorded(encode, align):
    trained = operators.rms(encode().embeds)
    other = encode("encoder_layer.index=1")
    aligned = encode("encoder_layer.index=1", f"encoder_layer.align={align}")
    assert (operators.rms(aligned.embeds) - trained).norm() < 0.9 * (operators.rms(other.embeds) - trained).norm()
    report = aligned.layers["align"]
    assert (report["method"], report["to"], report["prompts"]) == (align, 3, "starter")
    assert report["tokens"] > 300 > report["held_out_tokens"] > 50  # ten prompts of bytes, two held out
    assert report["r2_without"] < report["r2"] <= 1
    assert other.layers["align"] is None


def test_ridge_maps_what_is_concatenated_and_the_others_say_that_they_cannot(encode):
    both = ["encoder_layer.layers=[-2,-3]", "encoder_layer.combine=concat"]
    report = encode(*both, "encoder_layer.align=ridge", "encoder_layer.ridge=0").layers["align"]
    assert report["r2"] > 0.999  # the trained layer is one of the two
    assert report["r2_without"] is None
    with pytest.raises(ConfigError, match=r"align=moments: .* 64 and 32; ridge maps any width"):
        encode(*both, "encoder_layer.align=moments")


def test_concat_draws_only_where_the_width_fits(tiny):
    both = ["encoder_layer.layers=[-2,-3]", "encoder_layer.combine=concat", "sampler.steps=1"]
    with pytest.raises(ModelError, match="gives 2 x 32 = 64 features a token, this transformer takes 32"):
        render(tiny(*both))
    assert render(tiny(*both, FIT, "encoder_layer.align=ridge"))[0].record["encoder_layer"]["combine"] == "concat"


def test_the_set_is_encoded_once_for_all_methods(encode, monkeypatch):
    forwards = []
    from llm_dit.encoders.causal_lm import TransformersTextEncoder

    many = TransformersTextEncoder.encode_many
    monkeypatch.setattr(
        TransformersTextEncoder,
        "encode_many",
        lambda self, t, *a, **k: forwards.append(len(t)) or many(self, t, *a, **k),
    )
    for align in ("moments", "procrustes", "ridge"):
        encode("encoder_layer.index=1", f"encoder_layer.align={align}")
    assert forwards == [12, 1, 1, 1]
    encode("encoder_layer.index=1", "encoder_layer.align=ridge", "prompt.system=other")  # another chat, another fit
    encode("encoder_layer.index=0", "encoder_layer.align=ridge")
    assert forwards[4:] == [12, 1, 12, 1]


def test_per_channel_is_fitted_over_the_set(encode, tmp_path):
    plain = encode("encoder_layer.index=-3").embeds
    normed = encode("encoder_layer.index=-3", "encoder_layer.norm=per_channel")
    ((mean, std),) = next(iter(layer_choice._channels.values()))
    assert torch.allclose(normed.embeds, operators.per_channel(plain, mean, std), atol=1e-6)
    assert normed.layers["norm"] == "per_channel"


def test_a_changed_file_of_prompts_is_fitted_anew(tiny, tmp_path):
    path = tmp_path / "mine.yaml"
    entry = "- {{id: p{0}, category: c, difficulty: easy, prompt: {1} {0}, elements: [{{subject: x}}]}}\n"
    found = []
    for word in ("apple", "a longer pear"):
        path.write_text("version: 1\ndescription: d\nprompts:\n" + "".join(entry.format(i, word) for i in range(6)))
        config = tiny(f"encoder_layer.fit_prompts={path}", "encoder_layer.index=1", "encoder_layer.align=moments")
        found.append(conditioning.encode_prompt(config, "x", Models(config, CPU, PartCache())).embeds)
    assert not torch.equal(*found)


def test_too_few_prompts_for_a_fit_are_an_error(tiny, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\ndescription: d\nprompts:\n"
        "- {id: p, category: c, difficulty: easy, prompt: x, elements: [{subject: x}]}\n"
    )
    config = tiny(f"encoder_layer.fit_prompts={path}", "encoder_layer.index=1", "encoder_layer.align=moments")
    with pytest.raises(PromptError, match="1 prompts are too few"):
        conditioning.encode_prompt(config, "x", Models(config, CPU, PartCache()))


def test_the_users_tokens_alone(encode):
    every, users = encode().embeds, encode("encoder_layer.tokens=user").embeds
    start = len(["<|im_start|>", *"user\n"])  # other tokens are bytes
    assert torch.equal(users, every[start : start + len("a red apple")])
    assert torch.equal(encode("encoder_layer.tokens=user", prompt="").embeds, encode(prompt="").embeds)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["norm=rms"], "norm=rms has no effect: the transformer begins with an RMSNorm"),
        (["layers=[-1,-3]", "norm=rms", "combine=slerp"], "norm=rms has no effect: encoder_layer.combine=slerp does"),
        (["layers=[-1,-3]", "norm=rms", "combine=norm_mean"], "norm=rms has no effect"),
        (["combine=slerp"], "combine=slerp has no effect: there is only one layer"),
        (["weights=[2]"], "weights has no effect: there is only one layer"),
        (["layers=[-1,-3]", "weights=[2,1]"], "weights has no effect: encoder_layer.combine is mean"),
        (["layers=[-1,-3]", "combine=weighted"], "is the plain mean"),
        (["pre_norm=true"], "pre_norm has no effect"),
        (["ridge=1"], "ridge has no effect: encoder_layer.align is none"),
        (["align=ridge"], "align=ridge has no effect"),
    ],
)
def test_what_cannot_act_says_so_and_does_not_act(tiny, overrides, message):
    given = [f"encoder_layer.{o}" for o in overrides]
    (picture,) = render(tiny(FIT, *given, "sampler.steps=2"))
    (warning,) = picture.record["warnings"]
    assert message in warning
    without = [
        o for o in given if not o.startswith(f"encoder_layer.{warning.split('.')[1].split('=')[0].split(' ')[0]}")
    ]
    (plain,) = render(tiny(FIT, *without, "sampler.steps=2"))
    # The random encoder's states are so small that the epsilon of the transformer's own RMSNorm is seen a little.
    assert torch.allclose(picture.latents, plain.latents, atol=0.01 if "norm=rms" in message else 1e-6)
    assert plain.record["warnings"] == []


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_the_transformers_first_norm_cancels_a_tokens_scale(scale):
    from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer

    embedder = tiny_transformer().cap_embedder
    states = torch.randn(9, TEXT_WIDTH, generator=torch.Generator().manual_seed(0)) * scale
    with torch.no_grad():
        assert torch.allclose(embedder(states), embedder(operators.rms(states)), atol=2e-4)
        assert not torch.allclose(embedder(states), embedder(operators.layer_norm(states)), atol=0.01)


def test_what_acts_says_nothing(tiny):
    for overrides in (
        ["norm=layernorm"],
        ["layers=[-1,-3]", "norm=rms"],
        ["index=-1", "pre_norm=true"],
        ["index=-3", "align=ridge", "ridge=1"],
    ):
        given = [f"encoder_layer.{o}" for o in overrides]
        assert render(tiny(FIT, *given, "sampler.steps=1"))[0].record["warnings"] == []


def test_the_trained_layer_may_be_normed_where_the_asked_one_is_not(encode):
    same = ["encoder_layer.index=-1", "encoder_layer.trained_index=-1"]
    raw = encode(*same, "encoder_layer.pre_norm=true", "encoder_layer.align=ridge", "encoder_layer.ridge=0.001")
    assert raw.layers["align"]["to"] == 4
    assert raw.layers["align"]["r2"] > 0.999
    assert "has no effect" in encode(*same, "encoder_layer.align=ridge").warnings[0]


def test_embeddings_are_known_by_every_setting_of_the_group(encode):
    variants = [
        [], ["index=-3"], ["layers=[-2,-3]"], ["layer_range=[-3,-2]", "combine=weighted", "weights=[1,3]"],
        ["layers=[-2,-3]", "combine=slerp"], ["index=-1"], ["index=-1", "pre_norm=true"], ["norm=layernorm"],
        ["norm=per_channel"], ["index=-3", "align=moments"], ["index=-3", "align=ridge"],
        ["index=-3", "align=ridge", "ridge=1"], ["index=-3", "align=ridge", "fit_prompts=nano_heldout"],
        ["index=-3", "align=ridge", "trained_index=-1"], ["tokens=user"],
    ]  # fmt: skip
    found = [encode(*(f"encoder_layer.{o}" for o in overrides)).embeds for overrides in variants]
    for i, one in enumerate(found):
        assert not any(one.shape == other.shape and torch.equal(one, other) for other in found[:i]), variants[i]


def test_bfloat16_states_are_combined_in_float32_and_given_back_in_their_dtype():
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(4, 8, generator=generator).bfloat16() for _ in range(2)]
    one = combine_layers(states, settings("layers=[1,2]"), LayerFit())
    assert one.dtype == torch.float32
    assert torch.equal(one, (states[0].float() * 0.5 + states[1].float() * 0.5))
