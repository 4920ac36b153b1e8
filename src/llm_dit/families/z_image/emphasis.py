"""Weighted words in a Z-Image transformer: log(weight) on the logits towards the keys of their tokens.

Softmax makes of it w exp(q k) / sum of w exp(q k): a key of weight 2 counts as if it stood there twice, one of weight 0
as if it did not stand there, for the picture's tokens (or for all that ask). It acts in every main layer; the refiners
are left alone. Where weights come from is text/emphasis.py's. A context changes the model itself, so one job at a time
may use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_dit.families.z_image.attention import attend, finished, projected, turned
from llm_dit.families.z_image.skip import replaced
from llm_dit.families.z_image.velocity import padded_length

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Emphasis:
    """Weights [tokens] of the prompt and of the negative prompt; None where all are 1, and nothing is to be done.

    queries: picture, whose tokens alone hear the weights, or all, those of the texts too.
    """

    positive: torch.Tensor | None = None
    negative: torch.Tensor | None = None
    queries: str = "picture"


def key_bias(weights: torch.Tensor | None, tokens: int, before: int, device: Any) -> torch.Tensor:
    """What is added to the logits [before + padded tokens], float32: log w at the caption's keys, 0 at all others.

    before: keys in front of the caption's, which are the picture's. The caption's padding keeps its weight of 1.
    """
    import torch

    bias = torch.zeros(before + padded_length(tokens), device=device)
    if weights is not None:
        bias[before : before + len(weights)] = weights.to(device, torch.float32).log()
    return bias


@contextmanager
def emphasising(
    transformer: Any, captions: Sequence[tuple[torch.Tensor, torch.Tensor | None]], picture_tokens: int, queries: str
) -> Iterator[None]:
    """Within, words are heard by their weights; afterwards the model is as before. Without any weight, nothing is done.

    captions: (embeddings [tokens, features], weights [tokens] or None) of each caption of the batch, in its order; one
    alone serves a whole batch. All have one padded length. picture_tokens: of each picture, padding included.
    """
    import torch

    if all(weights is None for _, weights in captions):
        yield
        return
    bias = torch.stack([key_bias(w, len(c), picture_tokens, c.device) for c, w in captions])
    rows = picture_tokens if queries == "picture" else None
    with ExitStack() as stack:
        for block in transformer.layers:
            processor = EmphasisAttention(block.attention.processor, bias, rows)
            stack.enter_context(replaced(block.attention, "processor", processor))
        yield


class EmphasisAttention:
    """Attention processor that adds bias [batch or 1, keys] for the first `rows` queries. stock: the one replaced."""

    def __init__(self, stock: Any, bias: torch.Tensor, rows: int | None):
        self.backend = stock._attention_backend
        self.bias = bias
        self.rows = rows

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """hidden_states [batch, picture + caption, dim] to the same shape. Raises ValueError for unequal captions."""
        if attention_mask is not None:
            raise ValueError("emphasis needs captions of one length in a batch")
        query, key, value = projected(attn, hidden_states)
        query, key = turned(query, freqs_cis), turned(key, freqs_cis)
        return finished(attn, attend(query, key, value, self.backend, self.bias, self.rows))
