"""What conditioning needs of a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class TextEncoder(Protocol):
    """What conditioning needs of an LLM."""

    num_layers: int
    hidden_size: int
    fingerprint: str

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and the character span (start, end) of each in text."""

    def apply_chat_template(self, messages: list[dict]) -> str:
        """Messages as text by the tokenizer's own chat template, with a generation prompt."""

    def encode(
        self, token_ids: Sequence[int], hidden_layers: Sequence[int], pre_norm: bool = False
    ) -> list[torch.Tensor]:
        """Hidden states of the asked layers in one forward, each [tokens, hidden_size].

        pre_norm: the last layer as it is before the model's final norm.
        """

    def encode_many(
        self, texts: Sequence[Sequence[int]], hidden_layers: Sequence[int], pre_norm: bool = False
    ) -> list[list[torch.Tensor]]:
        """encode for several texts at once."""
