"""Noise on embeddings: how much, where, and of which seed."""

from __future__ import annotations

import pytest
import torch

from llm_dit.config import DiversityConfig
from llm_dit.diffusion.embed_noise import noised

USERS = (3, 11)


def embeds(tokens=14, features=400, dtype=torch.float32):
    """Tokens of very different scales, as the first token of an LLM's text and the others are."""
    x = torch.randn(tokens, features, generator=torch.Generator().manual_seed(0))
    return (x * torch.logspace(0, 3, tokens)[:, None]).to(dtype)


def add(seeds=(0,), x=None, users=USERS, **settings):
    settings = {"embed_strength": 1.0, **settings}
    x = embeds() if x is None else x
    return noised(x, users, seeds, DiversityConfig(**settings)).float() - x.float()


def test_only_the_users_tokens_get_it():
    noise = add((0, 1))
    assert noise.shape == (2, 14, 400)
    assert not noise[:, :3].any()
    assert not noise[:, 11:].any()
    assert noise[:, 3:11].any(dim=-1).all()


def test_it_is_uniform_in_deviations_of_each_token():
    x = embeds()
    words = add(embed_share=1.0, embed_strength=0.5)[0, 3:11] / x[3:11].std(dim=-1, keepdim=True)
    assert float(words.abs().max()) <= 0.5
    assert float(words.abs().max()) > 0.49
    assert torch.allclose(words.std(dim=-1), torch.full((8,), 0.5 / 3**0.5), rtol=0.1)
    assert torch.allclose(add(embed_strength=2.0), 2 * add(embed_strength=1.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_of_values(share):
    hit = (add(embed_share=share)[0, 3:11] != 0).float()
    assert float(hit.mean()) == pytest.approx(share, abs=0.03)
    assert (hit.mean(dim=-1) > 0).all()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.01, 1), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_or_of_whole_tokens(share, count):
    hit = add(embed_share=share, embed_unit="tokens")[0, 3:11] != 0
    assert int(hit.any(dim=-1).sum()) == int(hit.all(dim=-1).sum()) == count


@pytest.mark.parametrize("unit", ["values", "tokens"])
def test_a_larger_share_adds_to_a_smaller_one(unit):
    few, more = (add(embed_share=share, embed_unit=unit) for share in (0.3, 0.8))
    assert torch.equal(more[few != 0], few[few != 0])
    assert (more != 0).sum() > (few != 0).sum()


def test_each_seed_has_its_own_whatever_is_beside_it():
    together = add((4, 7, 5))
    assert torch.equal(add((7,))[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_a_variation_seed_moves_it_too():
    moved = {"variation_seed": 9, "embed_share": 1.0}
    assert torch.equal(add((4,), variation_strength=1.0, **moved), add((9,), embed_share=1.0))
    assert torch.equal(add((4,), variation_strength=0.0, **moved), add((4,), embed_share=1.0))
    half = add((4,), variation_strength=0.5, **moved)[:, 3:11]
    ends = [add((seed,), embed_share=1.0)[:, 3:11] for seed in (4, 9)]
    assert float(half.std()) == pytest.approx(float(ends[0].std()), rel=0.1)
    assert not any(torch.allclose(half, end, rtol=0.1) for end in ends)


def test_its_dtype_is_the_embeddings_and_a_text_without_words_is_left_as_it_is():
    assert noised(embeds(dtype=torch.bfloat16), USERS, [0], DiversityConfig(1.0)).dtype == torch.bfloat16
    x = embeds()
    assert torch.equal(noised(x, (0, 0), [0, 1], DiversityConfig(1.0)), torch.stack([x, x]))
    assert torch.equal(add((0,), x, (0, 0), variation_seed=3, variation_strength=0.5), torch.zeros(1, 14, 400))


def test_it_is_not_the_noise_of_the_latents():
    words = add(embed_share=1.0)[0, 3:11].flatten()
    uniform = torch.rand(8, 400, generator=torch.Generator().manual_seed(0)).flatten() * 2 - 1
    assert abs(float(torch.corrcoef(torch.stack([words, uniform]))[0, 1])) < 0.1
