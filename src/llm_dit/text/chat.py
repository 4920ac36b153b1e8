"""Prompt parts to the exact text that the encoder reads.

Three formats: 'qwen3' (equal to Qwen3's own chat template, with its think block), 'chatml' (the same turns
without think blocks and without the default system message some templates insert), and 'tokenizer' (whatever
chat template the tokenizer carries). Nothing here knows tokens or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_dit.errors import PromptError


@dataclass(frozen=True)
class ChatParts:
    """The parts of one exchange. Empty system, thinking or assistant parts are left out."""

    user: str
    system: str = ""
    thinking: str = ""
    assistant: str = ""
    force_think_block: bool = False

    def map(self, function: Callable[[str], str]) -> ChatParts:
        """The parts with a function applied to each text."""
        return replace(
            self,
            user=function(self.user),
            system=function(self.system),
            thinking=function(self.thinking),
            assistant=function(self.assistant),
        )


@dataclass(frozen=True)
class FormattedPrompt:
    """The formatted text, and where the user's words stand in it (start and end character)."""

    text: str
    user_start: int
    user_end: int


def format_prompt(
    parts: ChatParts, chat_format: str, chat_template: Callable[[list[dict]], str] | None = None
) -> FormattedPrompt:
    """The text for the encoder, ending where the assistant would go on.

    chat_template: renders messages with a generation prompt; needed for 'tokenizer' only.
    Raises PromptError for a think block outside the qwen3 format, and for an unknown format.
    """
    if chat_format == "qwen3":
        return _chatml(parts, think=bool(parts.thinking or parts.force_think_block))
    if parts.thinking or parts.force_think_block:
        raise PromptError(f"a think block needs model.chat_format=qwen3; this model uses {chat_format}.")
    if chat_format == "chatml":
        return _chatml(parts, think=False)
    if chat_format == "tokenizer" and chat_template is not None:
        return _by_template(parts, chat_template)
    raise PromptError(f"no chat format '{chat_format}'; there are qwen3, chatml and tokenizer.")


def _chatml(parts: ChatParts, think: bool) -> FormattedPrompt:
    head = f"<|im_start|>system\n{parts.system}<|im_end|>\n" if parts.system else ""
    head += "<|im_start|>user\n"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    if think:
        tail += f"<think>\n{parts.thinking}\n</think>\n\n"
    # The turn stays open for the model to continue; given content closes it.
    if parts.assistant:
        tail += f"{parts.assistant}<|im_end|>"
    return FormattedPrompt(head + parts.user + tail, len(head), len(head) + len(parts.user))


_MARK = "\u2e3auser\u2e3a"  # stands in for the user's words, so that they can be found after templating


def _by_template(parts: ChatParts, chat_template: Callable[[list[dict]], str]) -> FormattedPrompt:
    if parts.assistant:
        raise PromptError("prompt.assistant needs model.chat_format=qwen3 or chatml.")
    messages = [{"role": "system", "content": parts.system}] if parts.system else []
    rendered = chat_template([*messages, {"role": "user", "content": _MARK}])
    head, mark, tail = rendered.partition(_MARK)
    if not mark:
        raise PromptError("the tokenizer's chat template hides the user's message; use model.chat_format=chatml.")
    return FormattedPrompt(head + parts.user + tail, len(head), len(head) + len(parts.user))


def strip_quotes(text: str) -> str:
    """Text without double quotes: models tend to draw quoted words as lettering."""
    return text.replace('"', "")


def clean_whitespace(text: str) -> str:
    """Text stripped, runs of blanks folded to one, at most one empty line between paragraphs."""
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
