"""Prompt parts to the exact text that the encoder reads.

Three formats: 'qwen3' (Qwen3's own chat template, with its think block), 'chatml' (the same turns without think blocks
and without the default system message some templates insert, every part as it is), and 'tokenizer' (whatever chat
template the tokenizer carries). Nothing here knows tokens or models.

'qwen3' is what the template renders for these messages, in all but four points, which are meant:
- The assistant's turn stays open: the template's closing <|im_end|> and line break are left out, as by transformers'
  continue_final_message. The assistant part is the beginning of an answer.
- An assistant part without thinking gets an empty think block only with force_think_block; in the template the last
  turn always has one.
- An empty system message is left out; the template writes one where it is given.
- Words of the user that begin with <tool_response> and end with </tool_response> are words like others; the template
  takes them for a tool's and drops the thinking after them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_dit.base.errors import PromptError


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
        return _qwen3(parts)
    if parts.thinking or parts.force_think_block:
        raise PromptError(f"a think block needs model.chat_format=qwen3; this model uses {chat_format}.")
    if chat_format == "chatml":
        return _turns(parts, parts.assistant)
    if chat_format == "tokenizer" and chat_template is not None:
        return _by_template(parts, chat_template)
    raise PromptError(f"no chat format '{chat_format}'; there are qwen3, chatml and tokenizer.")


def _qwen3(parts: ChatParts) -> FormattedPrompt:
    """The template's handling of an answer: its think block taken apart, line breaks around both dropped."""
    thinking, answer = parts.thinking, parts.assistant
    before, mark, _ = answer.partition("</think>")
    if mark and not thinking:
        thinking = before.rstrip("\n").split("<think>")[-1]
        answer = answer.split("</think>")[-1]
    opening = answer.lstrip("\n")
    if mark or parts.thinking or parts.force_think_block:
        thinking = thinking.strip("\n")
        opening = f"<think>\n{thinking}\n</think>\n\n{opening}"
    return _turns(parts, opening)


def _turns(parts: ChatParts, opening: str) -> FormattedPrompt:
    """System and user turn, and the assistant's, which begins with the opening and is not closed."""
    head = f"<|im_start|>system\n{parts.system}<|im_end|>\n" if parts.system else ""
    head += "<|im_start|>user\n"
    tail = f"<|im_end|>\n<|im_start|>assistant\n{opening}"
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
