"""Hidden states: the right layer, in one forward, and untouched by padding."""

from __future__ import annotations

import pytest
import torch

from llm_dit.base.errors import ConfigError, ModelError, PromptError
from llm_dit.encoders.causal_lm import TransformersTextEncoder
from llm_dit.encoders.tiny import TEXT_LAYERS, tiny_text_encoder
from llm_dit.families.z_image.tiny import TEXT_WIDTH


@pytest.fixture(scope="module")
def encoder():
    model, tokenizer = tiny_text_encoder()
    return TransformersTextEncoder(model.eval(), tokenizer)


def all_states(encoder, ids):
    with torch.no_grad():
        return encoder.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states


def test_every_layer_equals_the_full_forward(encoder):
    ids, _ = encoder.tokenize("<|im_start|>user\na cat<|im_end|>\n")
    states = all_states(encoder, ids)
    layers = [*range(TEXT_LAYERS + 1), *range(-TEXT_LAYERS - 1, 0)]
    for layer, state in zip(layers, encoder.encode(ids, layers), strict=True):
        assert state.shape == (len(ids), TEXT_WIDTH)
        assert torch.equal(state, states[layer][0])


def test_minus_one_is_normed_and_minus_two_is_not(encoder):
    ids, _ = encoder.tokenize("a cat")
    last, before = encoder.encode(ids, [-1, -2])
    with torch.no_grad():
        block = encoder.model.layers[-1](
            before[None], position_embeddings=encoder.model.rotary_emb(before[None], torch.arange(len(ids))[None])
        )
        block = block[0] if isinstance(block, tuple) else block
        assert torch.allclose(encoder.model.norm(block)[0], last, atol=1e-6)


def test_padding_to_512_as_the_official_pipeline_does_changes_nothing(encoder):
    ids, _ = encoder.tokenize("<|im_start|>user\na cat<|im_end|>\n")
    padded = torch.tensor([ids + [encoder.tokenizer.pad_token_id] * (512 - len(ids))])
    mask = (torch.arange(512) < len(ids)).long()[None]
    with torch.no_grad():
        state = encoder.model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states[-2]
    assert torch.allclose(state[0, : len(ids)], encoder.encode(ids, [-2])[0], atol=1e-5)


@pytest.mark.parametrize("layer", [TEXT_LAYERS + 1, -TEXT_LAYERS - 2])
def test_a_layer_that_does_not_exist_is_named_with_the_range(encoder, layer):
    with pytest.raises(ConfigError, match="hidden states -5 to 4"):
        encoder.encode([1], [layer])


def test_a_token_the_encoder_does_not_know_is_named(encoder):
    with pytest.raises(ModelError, match="token 5000 is not among"):
        encoder.encode([1, 5000], [-1])


def test_a_tokenizer_without_a_template_is_named():
    model, tokenizer = tiny_text_encoder()
    tokenizer.chat_template = None
    with pytest.raises(PromptError, match="no chat template"):
        TransformersTextEncoder(model, tokenizer).apply_chat_template([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(
    ("asked", "computed"), [([0], 0), ([1], 1), ([-2], 3), ([-3, 0], 2), ([2, -1], 4), ([-1], 4), ([TEXT_LAYERS], 4)]
)
def test_layers_above_the_asked_ones_are_not_computed(encoder, asked, computed):
    ids, _ = encoder.tokenize("a cat")
    calls, norms = [], []
    handles = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in encoder.model.layers]
    handles.append(encoder.model.norm.register_forward_hook(lambda *_: norms.append(1)))
    found = encoder.encode(ids, asked)
    for handle in handles:
        handle.remove()
    assert (len(calls), len(norms)) == (computed, int(computed == TEXT_LAYERS))
    states = all_states(encoder, ids)
    assert all(torch.equal(state, states[layer][0]) for layer, state in zip(asked, found, strict=True))


def test_the_model_is_left_as_it_was(encoder):
    ids, _ = encoder.tokenize("a cat")
    before = all_states(encoder, ids)
    encoder.encode(ids, [0, 1, -2])
    encoder.encode(ids, [-1, 2], pre_norm=True)
    assert len(encoder.model.layers) == TEXT_LAYERS
    assert not any(layer._forward_pre_hooks for layer in encoder.model.layers)
    for one, other in zip(before, all_states(encoder, ids), strict=True):
        assert torch.equal(one, other)


def test_the_last_layer_before_and_after_the_final_norm(encoder):
    ids, _ = encoder.tokenize("a cat")
    (normed,), (raw,) = encoder.encode(ids, [-1]), encoder.encode(ids, [-1], pre_norm=True)
    assert not torch.allclose(raw, normed, atol=1e-3)
    with torch.no_grad():
        assert torch.equal(encoder.model.norm(raw), normed)
    assert torch.equal(encoder.encode(ids, [-2], pre_norm=True)[0], encoder.encode(ids, [-2])[0])


def test_texts_of_one_forward_equal_those_encoded_alone(encoder):
    texts = [encoder.tokenize(text)[0] for text in ("a cat", "a dog that sleeps", "x")]
    for ids, found in zip(texts, encoder.encode_many(texts, [-1, 0, -2]), strict=True):
        for alone, together in zip(encoder.encode(ids, [-1, 0, -2]), found, strict=True):
            assert torch.allclose(alone, together, atol=1e-5)


def test_a_model_of_another_build_is_encoded_whole(encoder):
    """GPT-2 calls its layers `h` and its norm `ln_f`."""
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2)).eval()
    other = TransformersTextEncoder(model, encoder.tokenizer)
    with torch.no_grad():
        states = model(torch.tensor([[1, 2, 3]]), output_hidden_states=True).hidden_states
    for layer, state in zip([-1, 1], other.encode([1, 2, 3], [-1, 1]), strict=True):
        assert torch.equal(state, states[layer][0])
    with pytest.raises(ConfigError, match="final norm of GPT2Model"):
        other.encode([1, 2, 3], [-1], pre_norm=True)
