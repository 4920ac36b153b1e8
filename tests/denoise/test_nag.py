"""NAG inside the transformer: equal to its authors' batch of two texts with one picture, and undone afterwards."""

from __future__ import annotations

import pytest
import torch

from llm_dit.config import NagConfig
from llm_dit.diffusion.guidance import normalized_attention
from llm_dit.families.z_image.nag import attending_away, picture_ids, refine_caption
from llm_dit.families.z_image.rotary import install_computed_rotary
from llm_dit.families.z_image.skip import skipping
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer

STRONG = NagConfig(scale=4.0, tau=2.5, alpha=0.7)
# Rows and columns of the picture in tokens: with padding to 32 tokens, and without.
GRIDS = [(4, 3), (4, 8)]
# Text tokens of prompt and negative prompt: of one padded length, and of two.
LENGTHS = [(9, 20), (40, 9), (9, 40), (32, 64)]


@pytest.fixture
def transformer():
    model = tiny_transformer().eval().requires_grad_(False)
    install_computed_rotary(model)
    return model


def inputs(grid, lengths, batch=2):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 16, 1, 2 * grid[0], 2 * grid[1], generator=generator)
    return latents, *(torch.randn(n, TEXT_WIDTH, generator=generator) for n in lengths)


def predict(model, latents, text):
    with torch.inference_mode():
        times = torch.full((len(latents),), 0.3)
        return torch.stack(model(list(latents), times, [text] * len(latents), return_dict=False)[0])


def guided(model, latents, positive, negative, settings, grid):
    with torch.inference_mode(), attending_away(model, negative, len(positive), grid, settings):
        return predict(model, latents, positive)


class Pairwise:
    """The authors' form: a batch of (positive, negative) over one picture, whose picture tokens are made one again.

    Each of the two attends unpadded, by its own length, through the stock processor's own projections.
    """

    def __init__(self, stock, picture, settings):
        self.stock, self.picture, self.settings = stock, picture, settings

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        count = self.picture
        # Both see the positive's picture: with padded picture tokens the noise refiner makes them differ by a little.
        hidden_states = torch.cat(
            [hidden_states[:1], torch.cat([hidden_states[:1, :count], hidden_states[1:, count:]], 1)]
        )
        lengths = [len(hidden_states[0])] * 2 if attention_mask is None else attention_mask.sum(dim=1).tolist()
        projection, attn.to_out = attn.to_out, torch.nn.ModuleList([torch.nn.Identity()])
        outs = [
            self.stock(attn, hidden_states[i : i + 1, :n], freqs_cis=freqs_cis[i : i + 1, :n])
            for i, n in enumerate(lengths)
        ]
        attn.to_out = projection
        s = self.settings
        picture = normalized_attention(outs[0][:, :count], outs[1][:, :count], s.scale, s.tau, s.alpha)
        whole = torch.zeros_like(hidden_states)
        for i, (out, n) in enumerate(zip(outs, lengths, strict=True)):
            whole[i, :n] = torch.cat([picture[0], out[0, count:]])
        return attn.to_out[0](whole)


def reference(model, latents, positive, negative, settings, grid):
    """One picture at a time as a batch of two, with every padded position masked by Pairwise."""
    count = -(-grid[0] * grid[1] // 32) * 32
    stocks = [block.attention.processor for block in model.layers]
    for block, stock in zip(model.layers, stocks, strict=True):
        block.attention.processor = Pairwise(stock, count, settings)
    try:
        with torch.inference_mode():
            pairs = [
                model([z, z], torch.full((2,), 0.3), [positive, negative], return_dict=False)[0][0] for z in latents
            ]
    finally:
        for block, stock in zip(model.layers, stocks, strict=True):
            block.attention.processor = stock
    return torch.stack(pairs)


@pytest.mark.parametrize("grid", GRIDS, ids=["padded picture", "whole picture"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_it_equals_a_batch_of_two_texts_over_one_picture(transformer, grid, lengths):
    latents, positive, negative = inputs(grid, lengths)
    ours = guided(transformer, latents, positive, negative, STRONG, grid)
    theirs = reference(transformer, latents, positive, negative, STRONG, grid)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, predict(transformer, latents, positive), atol=1e-2)


@pytest.mark.parametrize("grid", GRIDS, ids=["padded picture", "whole picture"])
@pytest.mark.parametrize(
    "settings", [NagConfig(scale=1.0), NagConfig(scale=4.0, alpha=0.0)], ids=["scale 1", "alpha 0"]
)
def test_settings_that_guide_nowhere_draw_what_no_nag_draws(transformer, grid, settings):
    latents, positive, negative = inputs(grid, (9, 40))
    ours = guided(transformer, latents, positive, negative, settings, grid)
    assert torch.allclose(ours, predict(transformer, latents, positive), atol=1e-6)


def test_the_prompt_as_its_own_negative_changes_nothing(transformer):
    latents, positive, _ = inputs((4, 3), (9, 9))
    ours = guided(transformer, latents, positive, positive, STRONG, (4, 3))
    assert torch.allclose(ours, predict(transformer, latents, positive), atol=1e-6)


@pytest.mark.parametrize("tokens", [9, 32, 40])
def test_the_caption_is_refined_as_the_model_does(transformer, tokens):
    seen = []
    transformer.context_refiner[-1].register_forward_hook(lambda _, args, out: seen.append((out, args[2])))
    latents, text = inputs((4, 3), (tokens,))
    predict(transformer, latents[:1], text)
    with torch.inference_mode():
        features, rotary = refine_caption(transformer, text)
    assert torch.equal(features, seen[0][0])
    assert torch.equal(rotary, seen[0][1])


@pytest.mark.parametrize("grid", [(4, 3), (4, 8), (1, 1), (7, 5)])
def test_positions_of_the_picture_are_the_models(transformer, grid):
    latents, text = inputs(grid, (40,))
    ids = transformer.patchify_and_embed([latents[0]], [text], 2, 1)[3][0]
    assert torch.equal(picture_ids(grid, 64, "cpu"), ids)


def test_with_skipped_layers_too_it_equals_a_model_without_them(transformer):
    import copy

    latents, positive, negative = inputs((4, 3), (9, 40))
    without = copy.deepcopy(transformer)
    del without.layers[0]
    with (
        torch.inference_mode(),
        attending_away(transformer, negative, len(positive), (4, 3), STRONG),
        skipping(transformer, [0], "block"),
    ):
        ours = predict(transformer, latents, positive)
    assert torch.equal(ours, guided(without, latents, positive, negative, STRONG, (4, 3)))


def test_the_model_is_as_before_also_after_an_exception(transformer):
    latents, positive, negative = inputs((4, 3), (9, 40))
    before = predict(transformer, latents, positive)
    processors = [block.attention.processor for block in transformer.layers]
    with (
        pytest.raises(RuntimeError, match="broken"),
        torch.inference_mode(),
        attending_away(transformer, negative, len(positive), (4, 3), STRONG),
    ):
        raise RuntimeError("broken")
    assert [block.attention.processor for block in transformer.layers] == processors
    assert not transformer.layers[0]._forward_pre_hooks
    assert torch.equal(predict(transformer, latents, positive), before)


def test_texts_of_two_lengths_in_one_batch_are_refused(transformer):
    latents, positive, negative = inputs((4, 3), (9, 40))
    with (
        pytest.raises(ValueError, match="captions of one length"),
        torch.inference_mode(),
        attending_away(transformer, negative, len(positive), (4, 3), STRONG),
    ):
        transformer(list(latents), torch.full((2,), 0.3), [positive, negative], return_dict=False)
