"""Chat formatting: golden strings, and equality with Qwen3's own template over combinations of parts."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from llm_dit.base.errors import PromptError
from llm_dit.encoders.tiny import tiny_tokenizer
from llm_dit.text.chat import ChatParts, clean_whitespace, format_prompt, strip_quotes

# Of Qwen3-4B's tokenizer_config.json, unchanged; see NOTICE.
TEMPLATE = (Path(__file__).parent / "qwen3_chat_template.jinja").read_text(encoding="utf-8")
TOKENIZER = tiny_tokenizer()
EMPTY_BLOCK = "<think>\n\n</think>\n\n"
USER = "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"

QWEN3 = [
    (ChatParts("a cat"), USER),
    (ChatParts(""), "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"),
    (ChatParts("a cat", system="Be brief."), "<|im_start|>system\nBe brief.<|im_end|>\n" + USER),
    (ChatParts("a cat", force_think_block=True), USER + EMPTY_BLOCK),
    (ChatParts("a cat", thinking="It sleeps."), USER + "<think>\nIt sleeps.\n</think>\n\n"),
    (
        ChatParts("a cat", thinking="It sleeps.", assistant="A grey cat"),
        USER + "<think>\nIt sleeps.\n</think>\n\nA grey cat",
    ),
    (ChatParts("a cat", assistant="A grey cat"), USER + "A grey cat"),
    (ChatParts("a cat", assistant="A grey cat", force_think_block=True), USER + EMPTY_BLOCK + "A grey cat"),
    (
        ChatParts("a cat", assistant="<think>\nIt sleeps.\n</think>\n\nA grey cat"),
        USER + "<think>\nIt sleeps.\n</think>\n\nA grey cat",
    ),
]


@pytest.mark.parametrize(("parts", "expected"), QWEN3)
def test_qwen3_format(parts, expected):
    formatted = format_prompt(parts, "qwen3")
    assert formatted.text == expected
    assert formatted.text[formatted.user_start : formatted.user_end] == parts.user


def by_the_template(parts):
    """What Qwen3's template renders for the parts, but for the three points that chat.py names."""
    messages = [{"role": "system", "content": parts.system}] if parts.system else []
    messages += [{"role": "user", "content": parts.user}]
    if not parts.thinking and not parts.assistant:
        return TOKENIZER.apply_chat_template(
            messages,
            chat_template=TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=not parts.force_think_block,
        )
    answer = {"role": "assistant", "content": parts.assistant}
    if parts.thinking:
        answer["reasoning_content"] = parts.thinking
    text = TOKENIZER.apply_chat_template([*messages, answer], chat_template=TEMPLATE, tokenize=False)
    assert text.endswith("<|im_end|>\n")
    text = text.removesuffix("<|im_end|>\n")
    if not parts.thinking and not parts.force_think_block and "</think>" not in parts.assistant:
        assert EMPTY_BLOCK in text
        text = text.replace(EMPTY_BLOCK, "")
    return text


TEXTS = ["", "a cat", "\n\na\n\ncat\n\n", " \n ", "\n", "\t猫 \u00a0é\u2028 \U0001f408\n", '{"a": "<b>"}', "{{ user }}"]
ANSWERS = [*TEXTS, "<think>\n\nhm\n\n</think>\n\n\nA cat\n", "</think>A", "<think>a</think>b</think>\nc"]


@pytest.mark.parametrize("force_think_block", [False, True])
@pytest.mark.parametrize("thinking", TEXTS)
def test_every_combination_equals_qwen3s_template(thinking, force_think_block):
    for assistant, system, user in product(ANSWERS, TEXTS[:4], TEXTS):
        parts = ChatParts(user, system, thinking, assistant, force_think_block)
        assert format_prompt(parts, "qwen3").text == by_the_template(parts), parts


def test_chatml_leaves_the_beginning_of_an_answer_open_and_as_it_is():
    assert format_prompt(ChatParts("a cat", assistant="\nA grey "), "chatml").text == USER + "\nA grey "


@pytest.mark.parametrize("field", ["thinking", "force_think_block"])
@pytest.mark.parametrize("chat_format", ["chatml", "tokenizer"])
def test_think_blocks_belong_to_qwen3(field, chat_format):
    parts = ChatParts("a cat", **{field: "hm" if field == "thinking" else True})
    with pytest.raises(PromptError, match=r"needs model\.chat_format=qwen3"):
        format_prompt(parts, chat_format, lambda messages: "")


def test_chatml_adds_no_system_message_of_its_own():
    assert format_prompt(ChatParts("a cat"), "chatml").text == USER


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
