"""Which text acts at which noise level, and what a batch of pictures gets of it."""

from __future__ import annotations

import pytest
import torch

from llm_dit.config import DiversityConfig, MixConfig
from llm_dit.diffusion.prompts_at import BLANK, FIRST, MIXED, SECOND, Part, PromptsAt, parts_at, texts_at
from llm_dit.text.mix import Words

PLAIN = DiversityConfig()
SIGMAS = [1.0, 0.9, 0.75, 0.5, 0.0]


@pytest.mark.parametrize(
    ("mix", "parts"),
    [
        (MixConfig(), [Part(FIRST)]),
        (MixConfig("slerp", "b", 0.0), [Part(FIRST)]),
        (MixConfig("slerp", "b", 0.3), [Part(MIXED)]),
        (MixConfig("lerp", "b", 0.3), [Part(MIXED)]),
        (MixConfig("lerp", "b", 1.0), [Part(SECOND)]),
        (MixConfig("velocity", "b", 0.0), [Part(FIRST)]),
        (MixConfig("velocity", "b", 0.25), [Part(FIRST, 0.75), Part(SECOND, 0.25)]),
        (MixConfig("velocity", "b", 1.0), [Part(SECOND)]),
        (MixConfig("switch", "b", sigma=0.8), [Part(FIRST)]),
        (MixConfig("switch", "b", sigma=0.9), [Part(SECOND)]),
        (MixConfig("switch", "b", sigma=1.0), [Part(SECOND)]),
        (MixConfig("switch", "b", sigma=0.0), [Part(FIRST)]),
    ],
)
def test_what_acts_at_nine_tenths(mix, parts):
    assert parts_at(0.9, mix, PLAIN) == parts


def test_the_empty_prompt_acts_above_its_level_and_noise_in_its_window():
    noisy = DiversityConfig(1.0, embed_sigma_high=0.9, embed_sigma_low=0.5, blank_sigma=0.95)
    velocity = MixConfig("velocity", "b", 0.25)
    assert [parts_at(s, MixConfig(), noisy) for s in SIGMAS[:-1]] == [
        [Part(BLANK)],
        [Part(FIRST, noised=True)],
        [Part(FIRST, noised=True)],
        [Part(FIRST)],
    ]
    assert parts_at(0.9, velocity, noisy) == [Part(FIRST, 0.75, True), Part(SECOND, 0.25, True)]
    assert texts_at(SIGMAS, velocity, noisy) == {BLANK, FIRST, SECOND}
    assert texts_at(SIGMAS, MixConfig("switch", "b", sigma=0.6), PLAIN) == {FIRST, SECOND}
    assert texts_at(SIGMAS, MixConfig("switch", "b", sigma=0.4), PLAIN) == {FIRST}
    assert not parts_at(0.9, MixConfig(), DiversityConfig(1.0, embed_share=0.0))[0].noised


def test_shares_add_up_to_one():
    for amount in (0.0, 0.1, 1 / 3, 0.7, 1.0):
        assert sum(p.share for p in parts_at(0.5, MixConfig("velocity", "b", amount), PLAIN)) == 1


def test_a_batch_shares_clean_embeddings_and_has_noise_of_its_own():
    words = {FIRST: Words(torch.randn(9, 8), (2, 6), torch.ones(9)), BLANK: Words(torch.randn(5, 8), (0, 0))}
    settings = DiversityConfig(1.0, embed_sigma_low=0.6, blank_sigma=0.95)
    at = PromptsAt(words, [3, 4], MixConfig(), settings)
    ((share, blank, weights),) = at(1.0)
    assert (share, blank.shape, weights) == (1.0, (1, 5, 8), None)
    ((_, noisy, weights),) = at(0.9)
    assert weights is words[FIRST].weights
    assert noisy.shape == (2, 9, 8)
    assert not torch.equal(noisy[0], noisy[1])
    assert at(0.75)[0][1] is noisy  # made once
    ((_, clean, _),) = at(0.5)
    assert torch.equal(clean[0], words[FIRST][0])
    assert torch.equal(PromptsAt(words, [4], MixConfig(), settings)(0.9)[0][1][0], noisy[1])
