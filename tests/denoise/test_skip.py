"""Skipped layers: equal to a model without them, restored afterwards; perturbed attention counted by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from llm_dit.base.errors import ConfigError
from llm_dit.families.z_image.rotary import install_computed_rotary
from llm_dit.families.z_image.skip import layers_to_skip, replaced, skipping
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer

KINDS = ("block", "attention", "ff", "attention_identity")


@pytest.fixture
def transformer():
    model = tiny_transformer().eval().requires_grad_(False)
    install_computed_rotary(model)
    return model


def predict(model, batch=2, tokens=9):
    generator = torch.Generator().manual_seed(0)
    latents = list(torch.randn(batch, 16, 1, 8, 6, generator=generator))
    text = torch.randn(tokens, TEXT_WIDTH, generator=generator)
    with torch.inference_mode():
        return torch.stack(model(latents, torch.full((batch,), 0.3), [text] * batch, return_dict=False)[0])


@pytest.mark.parametrize("layers", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_skipping_layers_equals_a_model_without_them_to_the_bit(transformer, layers):
    without = copy.deepcopy(transformer)
    for layer in reversed(layers):
        del without.layers[layer]
    with skipping(transformer, layers, "block"):
        skipped = predict(transformer)
    assert torch.equal(skipped, predict(without))
    assert not torch.equal(skipped, predict(transformer))


@pytest.mark.parametrize(("kind", "gate"), [("attention", 1), ("ff", 3)])
def test_skipping_a_branch_equals_a_model_whose_gate_is_shut(transformer, kind, gate):
    """adaLN gives scale and gate of attention, then of ff; tanh(0) adds nothing."""
    shut = copy.deepcopy(transformer)
    linear = shut.layers[1].adaLN_modulation[0]
    with torch.no_grad():
        linear.weight.unflatten(0, (4, -1))[gate] = 0
        linear.bias.unflatten(0, (4, -1))[gate] = 0
    with skipping(transformer, [1], kind):
        assert torch.equal(predict(transformer), predict(shut))


def test_the_branch_left_out_is_not_computed(transformer):
    calls = []
    block = transformer.layers[1]
    for name, part in (("attention", block.attention.to_q), ("ff", block.feed_forward.w1)):
        part.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    counted = {}
    for kind in KINDS:
        calls.clear()
        with skipping(transformer, [1], kind):
            predict(transformer)
        counted[kind] = set(calls)
    assert counted == {"block": set(), "attention": {"ff"}, "ff": {"attention"}, "attention_identity": {"ff"}}


def test_identity_attention_is_the_projected_value_of_each_token(transformer):
    """The same by hand: softmax is replaced by the identity matrix, so out = to_out(I v)."""
    attention = transformer.layers[1].attention
    hidden = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(1))
    value = (hidden @ attention.to_v.weight.T).unflatten(-1, (2, 32)).transpose(1, 2)
    by_hand = (torch.eye(7) @ value).transpose(1, 2).flatten(2) @ attention.to_out[0].weight.T
    with skipping(transformer, [1], "attention_identity"):
        out = attention(hidden, attention_mask=None, freqs_cis=None)
    assert torch.allclose(out, by_hand, atol=1e-6)


def test_identity_attention_equals_diffusers_skipped_scores(transformer):
    from diffusers import LayerSkipConfig
    from diffusers.hooks import HookRegistry, apply_layer_skip

    with skipping(transformer, [1], "attention_identity"):
        ours = predict(transformer)
    plain = predict(transformer)
    config = LayerSkipConfig([1], fqn="layers", skip_attention=False, skip_attention_scores=True, skip_ff=False)
    apply_layer_skip(transformer, config)
    theirs = predict(transformer)
    HookRegistry.check_if_exists_or_initialize(transformer.layers[1].attention).remove_hook("layer_skip_hook")
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, plain, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_as_before_also_after_an_exception(transformer, kind):
    before = predict(transformer)
    attributes = {n: set(vars(m)) for n, m in transformer.named_modules()}
    with pytest.raises(RuntimeError, match="broken"), skipping(transformer, [0, 2], kind):
        raise RuntimeError("broken")
    assert {n: set(vars(m)) for n, m in transformer.named_modules()} == attributes
    assert torch.equal(predict(transformer), before)


def test_refiners_are_never_skipped(transformer):
    runs = []
    for part in (*transformer.noise_refiner, *transformer.context_refiner):
        part.register_forward_hook(lambda *_: runs.append(1))
    with skipping(transformer, [0, 1, 2], "block"):
        predict(transformer)
    assert len(runs) == 4


def test_an_unknown_kind_is_an_error(transformer):
    with pytest.raises(ValueError, match="unknown kind 'half'"), skipping(transformer, [0], "half"):
        pass


def test_layers_by_number_and_by_depth():
    assert layers_to_skip([5, 2, 5], 7) == [2, 5]
    # SD3.5-medium's own layers, and the same depth in Z-Image, nano and tiny.
    assert {d: layers_to_skip([], d) for d in (24, 30, 7, 3, 1)} == {
        24: [7, 8, 9],
        30: [9, 10, 11],
        7: [2, 3],
        3: [1],
        1: [0],
    }
    for wrong in ([7], [0, 30], [-1]):
        with pytest.raises(ConfigError, match=r"this model has layers 0 to 6\."):
            layers_to_skip(wrong, 7)


def test_an_attribute_that_was_its_own_comes_back():
    class Thing:
        kept = "of the class"

    thing = Thing()
    with replaced(thing, "kept", "new"):
        assert thing.kept == "new"
    assert "kept" not in vars(thing)
    thing.kept = "own"
    with replaced(thing, "kept", "new"):
        pass
    assert thing.kept == "own"
