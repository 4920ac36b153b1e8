"""Weights in a prompt: read as written, carried to the very tokens of their words, whatever is done to the text."""

from __future__ import annotations

import random
import re

import pytest
import torch

from llm_dit.base.errors import PromptError
from llm_dit.encoders.gguf import load_gguf_tokenizer
from llm_dit.encoders.smollm2 import smollm2_gguf_path
from llm_dit.encoders.tiny import tiny_tokenizer
from llm_dit.text.chat import ChatParts, clean_whitespace, format_prompt, strip_quotes
from llm_dit.text.emphasis import (
    as_said,
    carried,
    empty_token,
    from_empty,
    has_weights,
    read_weights,
    weight_of_token,
    weights_of_tokens,
)
from llm_dit.text.layers import rms
from llm_dit.text.length import split_user, truncate_user

W = 1.1  # of parentheses without a number


def runs(said):
    """(words, weight) of each run of characters of one weight."""
    found = []
    for char, weight in zip(said.text, said.weights, strict=True):
        if found and found[-1][1] == round(weight, 6):
            found[-1][0] += char
        else:
            found.append([char, round(weight, 6)])
    return [tuple(f) for f in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a red apple", [("a red apple", 1)]),
        ("a (red:1.3) apple", [("a ", 1), ("red", 1.3), (" apple", 1)]),
        ("a (red) apple", [("a ", 1), ("red", W), (" apple", 1)]),
        ("((red))", [("red", 1.21)]),
        ("(a (red:2) apple:1.5)", [("a ", 1.5), ("red", 3), (" apple", 1.5)]),
        ("(a:0)(b:10)(c:.5)", [("a", 0), ("b", 10), ("c", 0.5)]),
        ("(red\napple : 2 )", [("red\napple ", 2)]),
        (r"a \(red:1.3\) apple", [("a (red:1.3) apple", 1)]),
        (r"(one \(two\):2)", [("one (two)", 2)]),
        ("C:\\\\dir [b:2] {c}", [("C:\\\\dir [b:2] {c}", 1)]),
        ("(a sign: stop)", [("a sign: stop", W)]),
        ("(16:9:2)", [("16:9", 2)]),
    ],
)
def test_what_is_read(text, expected):
    said = read_weights(text, W)
    assert runs(said) == expected
    assert said.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected", "told"),
    [
        ("(a", "(a", "'(a'"),
        ("a) b", "a) b", "') b'"),
        ("(a (b:2)", "(a b", "'(a (b:2)'"),
        ("(a:1,3)", "(a:1,3)", "'(a:1,3)'"),
        ("(a:)", "(a:)", "'(a:)'"),
        ("(a:50%)", "(a:50%)", "'(a:50%)'"),
        ("()", "()", "'()'"),
        ("( :2)", "( :2)", "'( :2)'"),
    ],
)
def test_what_is_no_weight_stays_and_is_told(text, expected, told):
    said = read_weights(text, W, "the prompt")
    assert said.text == expected
    assert len(said.warnings) == 1
    assert said.warnings[0].startswith(f"the prompt: {told} is no weight")


@pytest.mark.parametrize(("text", "weight"), [("(at 5:30)", "30"), ("(a:-1)", "-1"), ("((a:5):3)", "15")])
def test_a_weight_out_of_range_is_an_error_that_says_what_is_in(text, weight):
    with pytest.raises(PromptError, match=rf"the negative prompt: .* weighs {weight}; a weight is 0 to 10"):
        read_weights(text, W, "the negative prompt")


def test_groups_are_counted():
    said = read_weights("(a) ((b:2)) \\(c\\) (d", W)
    assert (said.groups, said.plain) == (3, 2)


def test_text_without_signs_comes_back_unchanged_and_any_text_is_read_without_error():
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice('ab "\\:.,12\n漢\U0001f986[]{}') for _ in range(rng.randrange(30)))
        assert read_weights(text, W) == as_said(text)
    for _ in range(300):
        text = "".join(rng.choice("ab ()():\\x") for _ in range(rng.randrange(30)))
        said = read_weights(text, 1.0)
        assert len(said.text) == len(said.weights)
        escaped = text.replace("(", "\\(").replace(")", "\\)")
        if "\\(" not in text and "\\)" not in text:
            assert read_weights(escaped, W).text == text


def test_a_hundred_thousand_parentheses_are_read_in_a_moment():
    assert read_weights("(" * 50_000 + "x" + ")" * 50_000, 1.0).text == "x"
    assert read_weights("(a:" * 30_000, 1.0).warnings


def test_what_looks_like_a_weight_is_seen():
    assert has_weights("a (red:1.3) apple")
    assert not any(has_weights(t) for t in ("a (red) apple", r"\(red:1.3)", "(a sign: stop)", "5:30"))


@pytest.mark.parametrize("clean", [strip_quotes, clean_whitespace, lambda t: clean_whitespace(strip_quotes(t))])
def test_weights_follow_their_characters_through_cleaning(clean):
    """Every letter stands once, so that each can be found again; blanks do not matter."""
    said = read_weights('  a  "(b  c:2)"  \n\n\n\n (" d":3)e ', W)
    cleaned = clean(said.text)
    got = dict(zip(cleaned, carried(said, cleaned), strict=True))
    assert [got[c] for c in "abcde"] == [1, 2, 2, 3, 1]


@pytest.fixture(scope="module", params=["smollm2", "bytes"])
def tokenize(request):
    tokenizer = load_gguf_tokenizer(smollm2_gguf_path()) if request.param == "smollm2" else tiny_tokenizer()

    def run(text):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], [tuple(span) for span in encoded["offset_mapping"]]

    run.words = request.param == "smollm2"
    return run


def chatml(parts):
    return format_prompt(parts, "chatml")


def fitted(tokenize, parts, limit=512):
    return truncate_user(parts, chatml, tokenize, limit)


def tokens_of(tokenize, text, *, clean=str, system="", limit=512, pieces=None):
    said = read_weights(text, W)
    cleaned = clean(said.text)
    pieces = pieces or [fitted(tokenize, ChatParts(cleaned, system=system), limit)]
    return weights_of_tokens(cleaned, carried(said, cleaned), pieces, tokenize)


def test_the_words_tokens_have_the_weight_and_no_others(tokenize):
    (found,) = tokens_of(tokenize, "a duck in (cartoon style:2), (white:0) background", system="Draw (this:3).")
    heavy = [(words, w) for words, w in found if w != 1]
    assert re.sub(r"\s", "", "".join(words for words, _ in heavy)) == "cartoonstylewhite"
    if tokenize.words:
        assert heavy == [(" cartoon", 2), (" style", 2), (" white", 0)]
        assert found[0] == ("<|im_start|>", 1)
    else:  # a blank within the words is a token of its own here
        assert [w for words, w in heavy if words == " "] == [2]


def test_characters_of_several_tokens_give_their_weight_to_each(tokenize):
    (found,) = tokens_of(tokenize, "a (漢\U0001f986:3) b")
    heavy = [w for words, w in found if w != 1]
    assert heavy == [3] * (6 if tokenize.words else 7)


def test_a_token_across_a_boundary_has_the_mean_weight_of_its_characters(tokenize):
    (found,) = tokens_of(tokenize, "a (unbe:3)lievable duck")
    if tokenize.words:
        assert dict(found)[" unbelie"] == pytest.approx((4 * 3 + 3 * 1) / 7)
    assert sum(w != 1 for _, w in found) == (1 if tokenize.words else 4)


def test_blanks_beside_words_do_not_count_and_blanks_alone_do():
    text, weights = " ab  ", [1.0, 3.0, 3.0, 2.0, 2.0]
    assert weight_of_token(text, weights, (0, 3)) == 3
    assert weight_of_token(text, weights, (3, 5)) == 2
    assert weight_of_token(text, weights, (2, 2)) == 1


def test_what_was_cut_off_takes_its_weights_along(tokenize):
    whole = tokens_of(tokenize, "one (two:2) three (four:4) five " * 6)[0]
    cut = tokens_of(tokenize, "one (two:2) three (four:4) five " * 6, limit=len(whole) - 9)[0]
    ending = next(i for i, (a, b) in enumerate(zip(cut, whole, strict=False)) if a != b)
    assert len(whole) - 12 < len(cut) < len(whole)
    assert ending >= len(cut) - 15  # the chat's own tokens behind the cut
    assert all(w == 1 for words, w in cut[ending + 1 :] if "four" not in words and "two" not in words)


def test_in_segments_every_word_keeps_its_weight(tokenize):
    text = "one (two:2) three (four:4) five " * 8
    said = read_weights(text, W)
    pieces = split_user(ChatParts(said.text), chatml, tokenize, 48 if tokenize.words else 64)
    assert len(pieces) > 1
    found = tokens_of(tokenize, text, pieces=pieces)
    for weight, word in ((2, "two"), (4, "four")):
        heard = "".join(words for piece in found for words, w in piece if w == weight)
        assert re.sub(r"\s", "", heard) == word * 8
    assert {w for piece in found for _, w in piece} == {1, 2, 4}


def test_from_empty_by_hand():
    """At 1 nothing moves, to the bit; at 0 it is e_0 in the token's own length; beyond 1 it goes on from e_0."""
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) * 3
    empty = rms(torch.ones(8))
    moved = from_empty(x, empty, torch.tensor([1.0, 0.0, 2.0, 0.5]))
    assert torch.equal(moved[0], x[0])
    size = x.square().mean(-1).sqrt()
    assert torch.allclose(moved[1], size[1] * empty, atol=1e-5)
    assert torch.allclose(moved[2], 2 * x[2] - size[2] * empty, atol=1e-5)
    assert torch.allclose(moved[3], (x[3] + size[3] * empty) / 2, atol=1e-5)
    assert from_empty(x.bfloat16(), empty, torch.tensor([1.0, 0, 2, 0.5])).dtype == torch.bfloat16


def test_the_empty_token_is_the_mean_direction_of_what_stands_behind_the_users_place():
    states = torch.tensor([[9.0, 9.0], [3.0, 0.0], [0.0, 50.0]])
    found = empty_token(states, [(0, 4), (4, 5), (5, 7)], 4)
    assert torch.allclose(found, torch.ones(2), atol=1e-4)
    assert torch.allclose(empty_token(states, [(0, 4), (4, 5), (5, 7)], 7), torch.tensor([0, 2**0.5]), atol=1e-4)
