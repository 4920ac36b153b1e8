"""Fitting a prompt into a token limit by cutting the user's words, never the chat template around them.

Cutting is done on text, so that what is encoded is always a whole, valid chat. compress.py shortens embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_dit.base.errors import PromptError
from llm_dit.text.chat import ChatParts, FormattedPrompt


@dataclass(frozen=True)
class FittedPrompt:
    """A formatted prompt within the limit: its tokens, and what was cut (empty if nothing was).

    user: the tokens that are wholly the user's words, as (start, end); all others belong to the chat template.
    asked: how many tokens it had before it was cut.
    """

    formatted: FormattedPrompt
    token_ids: list[int]
    warning: str = ""
    user: tuple[int, int] = (0, 0)
    asked: int = 0


def truncate_user(
    parts: ChatParts,
    format_parts: Callable[[ChatParts], FormattedPrompt],
    tokenize: Callable[[str], tuple[list[int], list[tuple[int, int]]]],
    max_tokens: int,
    refuse: bool = False,
    key: str = "long_prompt.max_tokens",
    name: str = "the prompt",
) -> FittedPrompt:
    """Format and tokenize, cutting the end of the user's words until at most max_tokens remain.

    tokenize: text to (token ids, character span of each token). refuse: raise PromptError instead of cutting.
    key: the setting that max_tokens comes from, for messages; name: of the text.
    The result is the tokenization of a whole, valid chat text, so it equals what a shorter prompt would give.
    """
    formatted = format_parts(parts)
    token_ids, spans = tokenize(formatted.text)
    asked = len(token_ids)
    if asked <= max_tokens:
        return FittedPrompt(formatted, token_ids, user=users_tokens(formatted, spans), asked=asked)
    if refuse:
        raise PromptError(f"{name} has {asked} tokens, the limit is {key}={max_tokens}.")
    user = parts.user
    while len(token_ids) > max_tokens and user:
        excess = len(token_ids) - max_tokens
        start, end = users_tokens(formatted, spans)
        inside = spans[start:end]
        # Cutting text can merge tokens anew at the seam, so cut, format again and count again.
        keep = inside[-excess][0] - formatted.user_start if excess < len(inside) else 0
        user = user[: min(keep, len(user) - 1)].rstrip()
        formatted = format_parts(replace(parts, user=user))
        token_ids, spans = tokenize(formatted.text)
    if len(token_ids) > max_tokens:
        raise PromptError(
            f"the chat template alone has {len(token_ids)} tokens, the limit is {key}={max_tokens}; "
            "shorten prompt.system, prompt.thinking or prompt.assistant."
        )
    warning = (
        f"{name} was cut from {asked} to {len(token_ids)} tokens ({key}={max_tokens}); "
        f"{len(parts.user) - len(user)} of its {len(parts.user)} characters were dropped, "
        f"it now ends in {user[-30:]!r}."
    )
    return FittedPrompt(formatted, token_ids, warning, users_tokens(formatted, spans), asked)


def split_user(
    parts: ChatParts,
    format_parts: Callable[[ChatParts], FormattedPrompt],
    tokenize: Callable[[str], tuple[list[int], list[tuple[int, int]]]],
    max_tokens: int,
) -> list[FittedPrompt]:
    """The user's words in pieces, each in a chat of its own of at most max_tokens tokens, in order.

    A piece ends at white space where it has any in its second half. Raises PromptError when the template alone is too
    long to leave a word.
    """
    pieces, rest = [], parts.user
    while rest:
        piece = truncate_user(replace(parts, user=rest), format_parts, tokenize, max_tokens)
        said = piece.formatted.text[piece.formatted.user_start : piece.formatted.user_end]
        if len(said) < len(rest.rstrip()):
            if not said.strip():
                raise PromptError(
                    f"the chat template leaves no room for a word in segments of long_prompt.max_tokens={max_tokens}."
                )
            blank = max(said.rfind(" "), said.rfind("\n"))
            # A word that the cut has halved goes to the next piece; where the cut fell between words, none is moved.
            if not rest[len(said)].isspace() and blank > len(said) // 2:
                said = said[:blank]
            piece = truncate_user(replace(parts, user=said), format_parts, tokenize, max_tokens)
            said = piece.formatted.text[piece.formatted.user_start : piece.formatted.user_end]
        pieces.append(replace(piece, warning=""))
        rest = rest[len(said) :].lstrip()
    return pieces


def users_tokens(formatted: FormattedPrompt, spans: list[tuple[int, int]]) -> tuple[int, int]:
    """The tokens (start, end) that are wholly the user's words; a token shared with the template is the template's."""
    inside = [
        i for i, s in enumerate(spans) if s[1] > s[0] and s[0] >= formatted.user_start and s[1] <= formatted.user_end
    ]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
