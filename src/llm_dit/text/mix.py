"""Two prompts' embeddings to one: aligned part by part, then mixed token by token.

The chat template's tokens meet each other, the user's words each other's. Mixing of predictions, which needs no
alignment, is velocity.py's; which prompt acts at which noise level is prompts_at.py's. docs/conditioning.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_dit.errors import PromptError
from llm_dit.text.layers import slerp, weighted

if TYPE_CHECKING:
    import torch

    Words = tuple[torch.Tensor, tuple[int, int]]  # embeddings [tokens, features], and which tokens are the user's

MIX = {"slerp": slerp, "lerp": weighted}


def mix_words(first: Words, second: Words, mode: str, amount: float) -> Words:
    """Embeddings at the share `amount` of the second prompt, in the first one's dtype; as many tokens as the longer.

    mode: slerp (directions along the great circle, lengths linearly) or lerp. amount 0 and 1 are the prompts
    themselves, at their own lengths. Raises PromptError where one has no words to meet the other's.
    """
    import torch

    if amount in (0, 1):
        return second if amount else first
    (a, (start, end)), (b, (b_start, b_end)) = first, second
    if start == end or b_start == b_end:
        raise PromptError(
            f"mix.mode={mode} mixes two prompts word by word, and {'prompt.text' if start == end else 'mix.text'} has "
            "no words; mix.mode=velocity and switch take any prompt."
        )
    pairs = [(a[:start], b[:b_start]), (a[start:end], b[b_start:b_end]), (a[end:], b[b_end:])]
    mixed = []
    for pair in pairs:
        longer = max(map(len, pair))
        mixed.append(MIX[mode]([repeated(part, longer) for part in pair], [1 - amount, amount]))
    count = len(mixed[1])
    return torch.cat(mixed).to(a.dtype), (len(mixed[0]), len(mixed[0]) + count)


def repeated(x: torch.Tensor, count: int) -> torch.Tensor:
    """Tokens [n, features] to [count, features], count at least n: each repeated over its share of the places.

    No token is a blend of its neighbours, so that a text that was only stretched still says its words.
    """
    import torch

    if len(x) == count:
        return x
    places = (torch.arange(count, device=x.device) * 2 + 1) * len(x) // (2 * count)
    return x[places]
