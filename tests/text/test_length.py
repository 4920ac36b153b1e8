"""Cutting a prompt to the limit: the user's words go, the template stays, and the cut is told."""

from __future__ import annotations

import pytest

from llm_dit.base.errors import PromptError
from llm_dit.encoders.causal_lm import TransformersTextEncoder
from llm_dit.encoders.tiny import tiny_tokenizer
from llm_dit.text.chat import ChatParts, format_prompt
from llm_dit.text.length import split_user, truncate_user

TAIL = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenize():
    from types import SimpleNamespace

    model = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=0, hidden_size=0))
    return TransformersTextEncoder(model, tiny_tokenizer()).tokenize


def fit(tokenize, parts, limit, refuse=False):
    return truncate_user(parts, lambda p: format_prompt(p, "qwen3"), tokenize, limit, refuse)


def test_a_prompt_within_the_limit_is_left_alone(tokenize):
    fitted = fit(tokenize, ChatParts("a cat"), 512)
    assert fitted.warning == ""
    assert fitted.formatted.text.endswith("a cat" + TAIL)


@pytest.mark.parametrize("limit", [24, 25, 40, 99])
def test_the_cut_uses_the_whole_limit_and_keeps_the_template(tokenize, limit):
    words = "one two three four five six seven eight nine ten " * 5
    fitted = fit(tokenize, ChatParts(words), limit)
    assert limit - 1 <= len(fitted.token_ids) <= limit  # one less where the cut falls on a blank
    assert fitted.formatted.text.startswith("<|im_start|>user\none")
    assert fitted.formatted.text.endswith(TAIL)
    assert f"to {len(fitted.token_ids)} tokens" in fitted.warning
    assert fitted.token_ids == tokenize(fitted.formatted.text)[0]


def test_characters_of_several_tokens_are_never_halved(tokenize):
    for limit in range(24, 40):
        text = fit(tokenize, ChatParts("漢字猫犬鳥魚" * 4), limit).formatted.text
        assert "\ufffd" not in text
        assert set(text.removeprefix("<|im_start|>user\n").removesuffix(TAIL)) <= set("漢字猫犬鳥魚")


def test_refuse_is_an_error_that_names_both_numbers(tokenize):
    with pytest.raises(PromptError, match=r"has 219 tokens, the limit is long_prompt.max_tokens=100"):
        fit(tokenize, ChatParts("x" * 200), 100, refuse=True)


def test_a_template_over_the_limit_is_an_error(tokenize):
    with pytest.raises(PromptError, match="the chat template alone has"):
        fit(tokenize, ChatParts("x", system="y" * 100), 50)


def test_the_users_tokens_are_known(tokenize):
    words = "猫 and a dog"
    fitted = fit(tokenize, ChatParts(words, system="Be brief."), 512)
    start, end = fitted.user
    assert end - start == len(words.encode())  # a token is a byte
    assert fitted.token_ids[start:end] == tokenize(words)[0]
    assert fit(tokenize, ChatParts(""), 512).user == (0, 0)
    start, end = fit(tokenize, ChatParts("word " * 30), 60).user
    assert end - start == 60 - len(tokenize("<|im_start|>user\n" + TAIL)[0])


def test_messages_name_the_setting_that_the_limit_comes_from(tokenize):
    def cut(**more):
        return truncate_user(ChatParts("x" * 99), lambda p: format_prompt(p, "qwen3"), tokenize, 50, **more)

    assert "(long_prompt.max_tokens=50)" in cut().warning
    assert "(long_prompt.encoder_max_tokens=50)" in cut(key="long_prompt.encoder_max_tokens").warning


def split(tokenize, parts, limit):
    return split_user(parts, lambda p: format_prompt(p, "qwen3"), tokenize, limit)


@pytest.mark.parametrize("limit", [37, 41, 60, 200])
def test_pieces_hold_all_words_in_order_and_each_is_a_whole_chat(tokenize, limit):
    words = "one two three four five six seven eight nine ten " * 3
    pieces = split(tokenize, ChatParts(words, system="Hm."), limit)
    assert all(len(p.token_ids) <= limit for p in pieces)
    said = [p.formatted.text[p.formatted.user_start : p.formatted.user_end] for p in pieces]
    assert " ".join(said).split() == words.split()
    for piece in pieces:
        assert piece.formatted.text.startswith("<|im_start|>system\nHm.<|im_end|>\n<|im_start|>user\n")
        assert piece.formatted.text.endswith(TAIL)
        assert piece.token_ids == tokenize(piece.formatted.text)[0]
        assert piece.warning == ""


def test_a_text_without_blanks_is_split_anywhere(tokenize):
    pieces = split(tokenize, ChatParts("漢字猫犬鳥魚" * 4), 40)
    said = [p.formatted.text[p.formatted.user_start : p.formatted.user_end] for p in pieces]
    assert "".join(said) == "漢字猫犬鳥魚" * 4
    assert len(pieces) > 2


def test_segments_without_room_for_a_word_are_an_error(tokenize):
    with pytest.raises(PromptError, match=r"no room for a word|the chat template alone has"):
        split(tokenize, ChatParts("many words", system="y" * 30), 53)
