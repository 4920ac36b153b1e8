"""Computed rotary positions: the stock table's bits below its limit, and no limit."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_z_image import RopeEmbedder

from llm_dit.families.z_image.rotary import STOCK_MAX_TEXT_TOKENS, ComputedRotary, install_computed_rotary
from llm_dit.families.z_image.tiny import TEXT_WIDTH, tiny_transformer

REAL = {"theta": 256.0, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}


@pytest.fixture(scope="module")
def ids():
    generator = torch.Generator().manual_seed(0)
    highs = REAL["axes_lens"]
    return torch.stack([torch.randint(0, high, (2000,), generator=generator, dtype=torch.int32) for high in highs], 1)


def test_equal_to_the_stock_table_bit_for_bit(ids):
    stock = RopeEmbedder(**REAL)(ids)
    ours = ComputedRotary(REAL["axes_dims"], REAL["theta"])(ids)
    assert ours.dtype == torch.complex64
    assert torch.equal(torch.view_as_real(ours), torch.view_as_real(stock))


def test_positions_beyond_the_table_equal_a_longer_table():
    ids = torch.tensor([[1536, 511, 512], [4000, 600, 1023]], dtype=torch.int32)
    longer = RopeEmbedder(theta=256.0, axes_dims=[32, 48, 48], axes_lens=[4096, 1024, 1024])(ids)
    assert torch.equal(ComputedRotary([32, 48, 48], 256.0)(ids), longer)


def test_different_positions_are_never_confused(ids):
    rotary = ComputedRotary([32, 48, 48], 256.0, remember=2)
    sets = [ids[:10], ids[10:20], ids[20:30], ids[:10], ids[:5]]
    fresh = [ComputedRotary([32, 48, 48], 256.0)(s) for s in sets]
    for given, expected in zip(sets, fresh, strict=True):
        assert torch.equal(rotary(given), expected)
    assert len(rotary._known) == 2


def forward(transformer, tokens: int, side: int = 4):
    generator = torch.Generator().manual_seed(tokens)
    caption = torch.randn(tokens, TEXT_WIDTH, generator=generator)
    latents = torch.randn(16, 1, side, side, generator=generator)
    with torch.no_grad():
        return transformer([latents], torch.tensor([0.3]), [caption], return_dict=False)[0][0]


def test_the_transformer_gives_the_same_bits_up_to_the_old_wall_and_runs_past_it():
    stock, ours = tiny_transformer().eval(), tiny_transformer().eval()
    install_computed_rotary(ours)
    for tokens in (5, STOCK_MAX_TEXT_TOKENS):
        assert torch.equal(forward(stock, tokens), forward(ours, tokens))
    with pytest.raises(IndexError):
        forward(stock, STOCK_MAX_TEXT_TOKENS + 1)
    for tokens in (STOCK_MAX_TEXT_TOKENS + 1, 4000):
        assert torch.isfinite(forward(ours, tokens)).all()
