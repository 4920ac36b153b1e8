"""Weights in a prompt: '(words:1.3)' read into plain text and a weight for each token. Also e' = e_0 + w (e - e_0).

The signs are those of AUTOMATIC1111 and ComfyUI. Reading is pure text work; what the weights do in attention is
families/z_image/emphasis.py's. docs/conditioning.md has the formulae and their sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import PromptError
from llm_dit.text.layers import EPS, rms

if TYPE_CHECKING:
    import torch

    from llm_dit.text.length import FittedPrompt

LARGEST = 10.0
LONGEST_NUMBER = 32  # characters of a weight, its colon among them
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_NEARLY = re.compile(r"[-+.,\d][-+.,\d\s%x]*|")  # what was probably meant as a number, or left out
_MARKED = re.compile(r"(?<!\\)\([^()]*:\s*(\d+\.?\d*|\.\d+)\s*\)")


@dataclass(frozen=True)
class Said:
    """A prompt without its signs. weights: one for each character of text.

    groups, plain: how many parts were read as weighted, and how many of them without a number.
    """

    text: str
    weights: tuple[float, ...]
    groups: int = 0
    plain: int = 0
    warnings: tuple[str, ...] = ()


def as_said(text: str) -> Said:
    """Text taken literally."""
    return Said(text, (1.0,) * len(text))


def has_weights(text: str) -> bool:
    """Whether a part of the text looks like '(words:1.3)'."""
    return _MARKED.search(text) is not None


def read_weights(text: str, plain: float, key: str = "the prompt") -> Said:
    """The text without its signs, and the weight of each character: the product of those it stands in.

    '(words:1.3)' weighs 1.3, '(words)' weighs `plain`, also one in the other; '\\(' and '\\)' are parentheses. What
    is no such sign stays as it is, and a warning tells it. key: what the text is, for messages.
    Raises PromptError for a weight, or a product of them, outside 0 to LARGEST.
    """
    partners, lonely, escapes = _pairs(text)
    starts = {end: start for start, end in partners.items()}
    drop, weight_at = set(escapes), {}  # characters to leave out; opening parenthesis -> the weight of its part
    odd, unnumbered = [text[i : i + 12] for i in lonely], 0
    for start, end in sorted(partners.items()):
        tail = max(start + 1, end - LONGEST_NUMBER)
        colon = re.search(r":([^:()\\]*)$", text[tail:end])
        given = colon[1].strip() if colon else "words"
        number = _NUMBER.fullmatch(given)
        stop = tail + colon.start() if number else end
        if not text[start + 1 : stop].strip() or (not number and _NEARLY.fullmatch(given)):
            odd.append(text[start : end + 1])
            continue
        weight_at[start] = float(given) if number else plain
        unnumbered += number is None
        drop |= {start, *range(stop, end + 1)}
    kept, weights, around = [], [], [1.0]
    for i, char in enumerate(text):
        if i in weight_at:
            around.append(_in_range(around[-1] * weight_at[i], text[i : partners[i] + 1], key))
        elif starts.get(i) in weight_at:
            around.pop()
        if i not in drop:
            kept.append(char)
            weights.append(around[-1])
    told = ", ".join(map(_short, odd[:3])) + (" and more" if len(odd) > 3 else "")
    warning = f"{key}: {told} is no weight and was read as it stands; write \\( and \\) for parentheses that are meant."
    return Said("".join(kept), tuple(weights), len(weight_at), unnumbered, (warning,) if odd else ())


def _pairs(text: str) -> tuple[dict[int, int], list[int], list[int]]:
    """Opening parenthesis -> its closing one; those without a partner; backslashes before one that is text."""
    waiting: list[int] = []
    partners: dict[int, int] = {}
    lonely: list[int] = []
    escapes: list[int] = []
    for i, char in enumerate(text):
        if char in "()" and escapes and escapes[-1] == i - 1:
            continue
        if char == "\\" and text[i + 1 : i + 2] in ("(", ")"):
            escapes.append(i)
        elif char == "(":
            waiting.append(i)
        elif char == ")" and waiting:
            partners[waiting.pop()] = i
        elif char == ")":
            lonely.append(i)
    return partners, sorted(lonely + waiting), escapes


def _in_range(weight: float, words: str, key: str) -> float:
    if 0 <= weight <= LARGEST:
        return weight
    raise PromptError(
        f"{key}: {_short(words)} weighs {weight:g}; a weight is 0 to {LARGEST:g}, also of parts within parts. "
        "Parentheses that are text are written \\( and \\)."
    )


def _short(words: str) -> str:
    return repr(words if len(words) < 40 else words[:37] + "...")


def carried(said: Said, cleaned: str) -> list[float]:
    """The weight of each character of cleaned: said.text after characters were left out and blanks were folded."""
    found, at = [], 0
    for char in cleaned:
        while said.text[at] != char and not (said.text[at].isspace() and char.isspace()):
            at += 1
        found.append(said.weights[at])
        at += 1
    return found


def weights_of_tokens(
    cleaned: str,
    weights: Sequence[float],
    pieces: Iterable[FittedPrompt],
    tokenize: Callable[[str], tuple[list[int], list[tuple[int, int]]]],
) -> list[list[tuple[str, float]]]:
    """For each piece of the user's words, in its chat, its tokens as (characters, weight).

    cleaned, weights: the user's words and a weight for each character. pieces: in order, without gaps but for blanks.
    """
    found, at = [], 0
    for piece in pieces:
        text, start, end = piece.formatted.text, piece.formatted.user_start, piece.formatted.user_end
        first = cleaned.index(text[start:end], at)
        at = first + end - start
        every = [1.0] * start + list(weights[first:at]) + [1.0] * (len(text) - end)
        found.append([(text[a:b], weight_of_token(text, every, (a, b))) for a, b in tokenize(text)[1]])
    return found


def weight_of_token(text: str, weights: Sequence[float], span: tuple[int, int]) -> float:
    """The mean weight of a token's characters; blanks count only in a token that is nothing else.

    A tokenizer joins a word with the blank before it, which stands outside of '(word:1.3)'.
    """
    inside = range(*span)
    heard = [weights[i] for i in inside if not text[i].isspace()] or [weights[i] for i in inside]
    if not heard:
        return 1.0
    return heard[0] if min(heard) == max(heard) else sum(heard) / len(heard)


def from_empty(x: torch.Tensor, empty: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """e' = s (e_0 + w (e/s - e_0)), s the rms of e: tokens x [tokens, features] of weight 1 keep their bits.

    empty: [features], at rms 1. weights: [tokens]. Lengths are kept, so that what compresses tokens sees equals.
    """
    import torch

    unit, zero = rms(x), empty.float().to(x.device)
    size = (x.float().square().mean(-1, keepdim=True) + EPS).sqrt()
    moved = size * (zero + weights.to(x.device)[:, None] * (unit - zero))
    return torch.where((weights.to(x.device) == 1)[:, None], x, moved.to(x.dtype))


def empty_token(states: torch.Tensor, spans: Sequence[tuple[int, int]], user_start: int) -> torch.Tensor:
    """e_0 [features] at rms 1: the mean of the empty prompt's tokens from where the user's words would stand.

    states: [tokens, features] of the chat without the user's words; spans: the characters of each token. Those before
    the place are left out, because every prompt has them, the attention sink among them.
    """
    behind = [i for i, (start, _) in enumerate(spans) if start >= user_start]
    return rms(rms(states[behind or [len(states) - 1]]).mean(0))


def describe_emphasis(mode: str, said: Said, tokens: list[list[tuple[str, float]]]) -> dict[str, Any]:
    """What was read, for the record: the text without signs, and every token that does not weigh 1."""
    weighted = [[words, round(w, 6)] for piece in tokens for words, w in piece if w != 1]
    return {"mode": mode, "text": said.text, "groups": said.groups, "plain": said.plain, "tokens": weighted}
