"""Chat formatting. The expected strings are what Qwen3's published chat template renders, but for two wishes of ours.

An assistant turn without content stays open after its think block, and a given answer without thinking gets no
empty think block in front (the template adds one to the last turn).
"""

from __future__ import annotations

import pytest

from llm_dit.errors import PromptError
from llm_dit.text.chat import ChatParts, clean_whitespace, format_prompt, strip_quotes

QWEN3 = [
    (ChatParts("a cat"), "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"),
    (ChatParts(""), "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"),
    (
        ChatParts("a cat", system="Be brief."),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n",
    ),
    (
        ChatParts("a cat", force_think_block=True),
        "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    (
        ChatParts("a cat", thinking="It sleeps."),
        "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n<think>\nIt sleeps.\n</think>\n\n",
    ),
    (
        ChatParts("a cat", thinking="It sleeps.", assistant="A grey cat."),
        "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"
        "<think>\nIt sleeps.\n</think>\n\nA grey cat.<|im_end|>",
    ),
    (
        ChatParts("a cat", assistant="A grey cat."),
        "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\nA grey cat.<|im_end|>",
    ),
]


@pytest.mark.parametrize(("parts", "expected"), QWEN3)
def test_qwen3_format(parts, expected):
    formatted = format_prompt(parts, "qwen3")
    assert formatted.text == expected
    assert formatted.text[formatted.user_start : formatted.user_end] == parts.user


@pytest.mark.parametrize("field", ["thinking", "force_think_block"])
@pytest.mark.parametrize("chat_format", ["chatml", "tokenizer"])
def test_think_blocks_belong_to_qwen3(field, chat_format):
    parts = ChatParts("a cat", **{field: "hm" if field == "thinking" else True})
    with pytest.raises(PromptError, match=r"needs model\.chat_format=qwen3"):
        format_prompt(parts, chat_format, lambda messages: "")


def test_chatml_adds_no_system_message_of_its_own():
    assert format_prompt(ChatParts("a cat"), "chatml").text == QWEN3[0][1]


def test_the_tokenizers_own_template_is_used_and_the_users_words_found_in_it():
    def template(messages):
        return "".join(f"[{m['role']}] {m['content']}\n" for m in messages) + "[assistant]"

    formatted = format_prompt(ChatParts("user", system="sys"), "tokenizer", template)
    assert formatted.text == "[system] sys\n[user] user\n[assistant]"
    assert (formatted.user_start, formatted.user_end) == (20, 24)


def test_a_template_that_drops_the_user_is_an_error():
    with pytest.raises(PromptError, match="hides the user's message"):
        format_prompt(ChatParts("a"), "tokenizer", lambda messages: "always the same")


def test_strip_quotes_touches_only_double_quotes():
    assert strip_quotes('{"a": "it\'s"}') == "{a: it's}"


def test_clean_whitespace():
    assert clean_whitespace("  a \t b \n\n\n\n c  \n d ") == "a b\n\nc\nd"
