"""Text to hidden states: what the rest of the project expects of a text encoder, and the transformers one.

Formatting and cutting happen before (chat.py, length.py); the choice of layer comes from the caller.
Loading weights is models/load.py's job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llm_dit.errors import ConfigError, ModelError, PromptError

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

    def encode(self, token_ids: Sequence[int], hidden_layers: Sequence[int]) -> list[torch.Tensor]:
        """Hidden states of the asked layers in one forward, each [tokens, hidden_size]."""


class TransformersTextEncoder:
    """A decoder-only transformers model with its tokenizer.

    One text per forward and no padding: with causal attention padding changes nothing but the cost
    (512 padded positions against about 30 real ones).
    """

    def __init__(self, model: Any, tokenizer: Any, fingerprint: str = ""):
        self.model = model
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.num_layers: int = model.config.num_hidden_layers
        self.hidden_size: int = model.config.hidden_size

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [tuple(span) for span in encoded["offset_mapping"]]

    def apply_chat_template(self, messages: list[dict]) -> str:
        if not self.tokenizer.chat_template:
            raise PromptError("this tokenizer has no chat template of its own; use model.chat_format=chatml or qwen3.")
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def encode(self, token_ids: Sequence[int], hidden_layers: Sequence[int]) -> list[torch.Tensor]:
        """Hidden states [tokens, hidden_size] in the model's dtype, in the order asked.

        Indices follow transformers: 0 is the embeddings, num_layers (or -1) the last layer after the final
        norm. Only the asked states are kept. Raises ConfigError for a layer the model does not have.
        """
        import torch

        wanted = [self._index(layer) for layer in hidden_layers]
        rows = self.model.get_input_embeddings().num_embeddings
        if max(token_ids) >= rows:  # on CUDA this would end the process
            raise ModelError(
                f"token {max(token_ids)} is not among the encoder's {rows}: the tokenizer is another model's."
            )
        device = next(self.model.parameters()).device
        ids = torch.tensor([list(token_ids)], dtype=torch.long, device=device)
        with torch.inference_mode():
            states = self.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                use_cache=False,
                output_hidden_states=sorted(set(wanted)),
            ).hidden_states
        return [states[layer][0] for layer in wanted]

    def _index(self, layer: int) -> int:
        count = self.num_layers + 1
        if not -count <= layer < count:
            raise ConfigError(f"encoder_layer.index={layer}: this encoder has hidden states {-count} to {count - 1}.")
        return layer % count
