"""Two prompts' embeddings to one: aligned part by part, then mixed token by token.

The chat template's tokens meet each other, the user's words each other's. Mixing of predictions, which needs no
alignment, is a family's velocity.py's; which prompt acts at which noise level is diffusion/prompts_at.py's.
docs/conditioning.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llm_dit.base.errors import PromptError
from llm_dit.text.layers import slerp, weighted

if TYPE_CHECKING:
    import torch

MIX = {"slerp": slerp, "lerp": weighted}


class Words(NamedTuple):
    """A text's embeddings [tokens, features], which of the tokens are the user's, and the weights [tokens] of its words
    in attention, None where all are 1."""

    embeds: torch.Tensor
    users: tuple[int, int]
    weights: torch.Tensor | None = None


def mix_words(first: Words, second: Words, mode: str, amount: float) -> Words:
    """Embeddings at the share `amount` of the second prompt, in the first one's dtype; as many tokens as the longer.

    mode: slerp (directions along the great circle, lengths linearly) or lerp. Weights of words are mixed linearly.
    amount 0 and 1 are the prompts themselves, at their own lengths. Raises PromptError where one has no words to meet
    the other's.
    """
    import torch

    if amount in (0, 1):
        return second if amount else first
    (start, end), (b_start, b_end) = first.users, second.users
    if start == end or b_start == b_end:
        raise PromptError(
            f"mix.mode={mode} mixes two prompts word by word, and {'prompt.text' if start == end else 'mix.text'} has "
            "no words; mix.mode=velocity and switch take any prompt."
        )
    mixed = [MIX[mode](pair, [1 - amount, amount]) for pair in _met(first, second, first.embeds, second.embeds)]
    embeds, users = torch.cat(mixed).to(first.embeds.dtype), (len(mixed[0]), len(mixed[0]) + len(mixed[1]))
    if first.weights is None and second.weights is None:
        return Words(embeds, users)
    weights = [torch.ones(len(t.embeds)) if t.weights is None else t.weights for t in (first, second)]
    return Words(embeds, users, torch.cat([torch.lerp(*pair, amount) for pair in _met(first, second, *weights)]))


def _met(first: Words, second: Words, a: torch.Tensor, b: torch.Tensor) -> list[list[torch.Tensor]]:
    """Values [tokens, ...] of both texts part by part - before, in and after the user's words - at one length each."""
    cuts = [(x[: t.users[0]], x[slice(*t.users)], x[t.users[1] :]) for t, x in ((first, a), (second, b))]
    return [[repeated(part, max(map(len, pair))) for part in pair] for pair in zip(*cuts, strict=True)]


def repeated(x: torch.Tensor, count: int) -> torch.Tensor:
    """Tokens [n, ...] to [count, ...], count at least n: each repeated over its share of the places.

    No token is a blend of its neighbours, so that a text that was only stretched still says its words.
    """
    import torch

    if len(x) == count:
        return x
    places = (torch.arange(count, device=x.device) * 2 + 1) * len(x) // (2 * count)
    return x[places]
