"""Two prompts' embeddings to one: values worked out by hand, and what must hold for any two texts."""

from __future__ import annotations

import math

import pytest
import torch

from llm_dit.base.errors import PromptError
from llm_dit.text.mix import Words, mix_words, repeated


def text(words, head=2, tail=3, seed=0, features=8, dtype=torch.float32):
    """Random embeddings of a chat with so many user tokens; the template's differ too, as an LLM's do after a word."""
    x = torch.randn(head + words + tail, features, generator=torch.Generator().manual_seed(seed))
    return Words(x.to(dtype), (head, head + words))


def test_slerp_by_hand():
    """A right angle, lengths 2 and 4: a third of the way is 30 degrees, at length 2 + 2/3."""
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    mixed, users, _ = mix_words(Words(a, (0, 1)), Words(b, (0, 1)), "slerp", 1 / 3)
    length = 2 + 2 / 3
    expected = torch.tensor([[length * math.cos(math.pi / 6), length * math.sin(math.pi / 6)]])
    assert torch.allclose(mixed, expected, atol=1e-6)
    assert users == (0, 1)
    straight, _, _ = mix_words(Words(a, (0, 1)), Words(b, (0, 1)), "lerp", 1 / 3)
    assert torch.allclose(straight, torch.tensor([[4 / 3, 4 / 3]]))


def test_slerp_at_sixty_degrees_by_hand():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, math.sqrt(0.75)]])
    mixed, _, _ = mix_words(Words(a, (0, 1)), Words(b, (0, 1)), "slerp", 0.25)
    assert torch.allclose(mixed, torch.tensor([[math.cos(math.pi / 12), math.sin(math.pi / 12)]]), atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_where_two_tokens_are_parallel_it_is_the_straight_line(sign):
    a = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    mixed, _, _ = mix_words(Words(a, (0, 4)), Words(sign * a, (0, 4)), "slerp", 0.25)
    assert torch.isfinite(mixed).all()
    assert torch.allclose(mixed, a * (1 if sign > 0 else 0.5), atol=1e-4)


def test_each_token_is_repeated_over_its_share_of_the_places():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    assert repeated(x, 3) is x
    assert repeated(x, 4).flatten().tolist() == [0, 1, 1, 2]
    assert repeated(x, 7).flatten().tolist() == [0, 0, 1, 1, 1, 2, 2]
    for count in range(3, 40):
        places = repeated(x, count).flatten()
        assert set(places.tolist()) == {0, 1, 2}
        assert (places.diff() >= 0).all()


@pytest.mark.parametrize("mode", ["slerp", "lerp"])
@pytest.mark.parametrize(("first", "second"), [(4, 4), (2, 7), (7, 2)])
def test_template_meets_template_and_words_meet_words(mode, first, second):
    a, b = text(first, seed=1), text(second, seed=2)
    mixed, users, _ = mix_words(a, b, mode, 0.3)
    count = max(first, second)
    assert (len(mixed), users) == (2 + count + 3, (2, 2 + count))
    for part in (slice(0, 2), slice(-3, None)):
        alone, _, _ = mix_words(Words(a[0][part], (0, 1)), Words(b[0][part], (0, 1)), mode, 0.3)
        assert torch.equal(mixed[part], alone)
    words = [repeated(x[start:end], count) for x, (start, end), _ in (a, b)]
    alone, _, _ = mix_words(Words(words[0], (0, count)), Words(words[1], (0, count)), mode, 0.3)
    assert torch.equal(mixed[2 : 2 + count], alone)


@pytest.mark.parametrize("mode", ["slerp", "lerp"])
def test_the_ends_are_the_prompts_themselves(mode):
    a, b = text(3, seed=1), text(6, seed=2)
    assert mix_words(a, b, mode, 0) is a
    assert mix_words(a, b, mode, 1) is b
    near, _, _ = mix_words(a, text(3, seed=2), mode, 1e-4)
    assert torch.allclose(near, a[0], atol=1e-2)


def test_it_does_not_matter_which_is_first():
    a, b = text(3, seed=1), text(6, seed=2)
    there, back = mix_words(a, b, "slerp", 0.3)[0], mix_words(b, a, "slerp", 0.7)[0]
    assert torch.allclose(there, back, atol=1e-5)


def test_the_dtype_is_kept():
    mixed, _, _ = mix_words(text(3, dtype=torch.bfloat16), text(5, dtype=torch.bfloat16), "slerp", 0.5)
    assert mixed.dtype == torch.bfloat16


def test_a_text_without_words_is_refused_by_name():
    empty = Words(torch.randn(5, 8), (0, 0))
    for first, second, name in ((text(3), empty, "mix.text"), (empty, text(3), "prompt.text")):
        with pytest.raises(PromptError, match=f"{name} has no words; mix.mode=velocity and switch take any prompt"):
            mix_words(first, second, "lerp", 0.5)
        assert mix_words(first, second, "lerp", 1) is second


def test_weights_of_words_follow_their_tokens():
    heavy = torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    first, second = text(2)._replace(weights=heavy), text(4, seed=2)
    mixed = mix_words(first, second, "slerp", 0.25)
    assert torch.equal(mixed.weights, torch.tensor([1.0, 1.0, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert mix_words(text(2), second, "slerp", 0.25).weights is None
