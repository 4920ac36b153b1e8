"""Hidden states: the right layer, in one forward, and untouched by padding."""

from __future__ import annotations

import pytest
import torch

from llm_dit.errors import ConfigError, ModelError, PromptError
from llm_dit.models.tiny import TEXT_LAYERS, TEXT_WIDTH, tiny_text_encoder
from llm_dit.text.encoder import TransformersTextEncoder


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
