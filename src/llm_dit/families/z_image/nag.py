"""Normalized attention guidance (Chen et al. 2025, 2505.21179) in a Z-Image transformer: negative prompts without CFG.

In every main layer the picture's tokens attend to themselves and the prompt, and once more to themselves and the
negative prompt; guidance.normalized_attention combines the two outputs. Each text attends to the picture and to
itself alone, as in the authors' processors for joint attention. The negative prompt rides at the end of the sequence,
so that a forward costs a second attention and some text tokens, not a second forward. The refiners are left alone.
A context changes the model itself, so one job at a time may use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from llm_dit.config import NagConfig
from llm_dit.diffusion.guidance import normalized_attention
from llm_dit.families.z_image.attention import attend, finished, projected, turned
from llm_dit.families.z_image.emphasis import Emphasis, key_bias
from llm_dit.families.z_image.skip import replaced
from llm_dit.families.z_image.velocity import padded_length

if TYPE_CHECKING:
    import torch


@contextmanager
def attending_away(
    transformer: Any,
    negative: torch.Tensor,
    positive_tokens: int,
    grid: tuple[int, int],
    settings: NagConfig,
    emphasis: Emphasis | None = None,
) -> Iterator[None]:
    """Within, the transformer's attention is guided away from the negative caption; afterwards it is as before.

    negative: embeddings [tokens, features] in the model's dtype. positive_tokens: of the caption that forwards inside
    will get, one length for the whole batch. grid: (rows, columns) of the picture in tokens. emphasis: weights of the
    words of both, which act in the attention to prompt and negative prompt each.
    """
    text, text_rotary = refine_caption(transformer, negative)
    own_length, length = text.shape[1], padded_length(positive_tokens)
    # The picture's position on the text axis follows the caption's length, so a negative prompt of another padded
    # length sees the picture at another place.
    picture_rotary = None
    if own_length != length:
        picture_rotary = transformer.rope_embedder(picture_ids(grid, own_length, text.device))[None]
    picture_tokens = padded_length(grid[0] * grid[1])

    weights = emphasis or Emphasis()
    biases = [
        None if w is None else key_bias(w, tokens, picture_tokens, text.device)[None]
        for w, tokens in ((weights.positive, positive_tokens), (weights.negative, len(negative)))
    ]
    rows = picture_tokens if weights.queries == "picture" else None

    def append(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        import torch

        x, mask, *rest = args
        if mask is not None:
            raise ValueError("NAG needs captions of one length in a batch")
        return (torch.cat([x, text.to(x.dtype).expand(len(x), -1, -1)], dim=1), None, *rest)

    with ExitStack() as stack:
        stack.callback(transformer.layers[0].register_forward_pre_hook(append).remove)
        for block in transformer.layers:
            stock = block.attention.processor
            processor = NagAttention(stock, picture_tokens, picture_rotary, text_rotary, settings, biases, rows)
            stack.enter_context(replaced(block.attention, "processor", processor))
        yield


def refine_caption(transformer: Any, caption: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A caption as the main layers get it: (features [1, padded, dim], rotary frequencies [1, padded, half])."""
    import torch

    length = padded_length(len(caption))
    ids = torch.zeros(length, 3, dtype=torch.int32, device=caption.device)
    ids[:, 0] = torch.arange(1, length + 1)
    rotary = transformer.rope_embedder(ids)[None]
    features = transformer.cap_embedder(caption)
    padding = transformer.cap_pad_token.to(features.dtype).expand(length - len(caption), -1)
    features = torch.cat([features, padding])[None]
    for layer in transformer.context_refiner:
        features = layer(features, None, rotary)
    return features, rotary


def picture_ids(grid: tuple[int, int], caption_length: int, device: Any) -> torch.Tensor:
    """Position ids [padded tokens, 3] of a picture after a caption of this padded length; its padding is at 0, 0, 0."""
    import torch

    rows, columns = grid
    ids = torch.zeros(padded_length(rows * columns), 3, dtype=torch.int32, device=device)
    ids[: rows * columns, 0] = caption_length + 1
    ids[: rows * columns, 1] = torch.arange(rows, device=device).repeat_interleave(columns)
    ids[: rows * columns, 2] = torch.arange(columns, device=device).repeat(rows)
    return ids


class NagAttention:
    """Attention processor for sequences of picture, caption, negative caption. stock: the one it stands in for.

    picture_rotary: the picture's frequencies beside the negative caption, None when they are the caption's own.
    biases: of the keys [1, picture + text] beside the caption and the negative caption, for the first `rows` queries.
    """

    def __init__(
        self,
        stock: Any,
        picture_tokens: int,
        picture_rotary: torch.Tensor | None,
        text_rotary: torch.Tensor,
        settings: NagConfig,
        biases: Sequence[torch.Tensor | None] = (None, None),
        rows: int | None = None,
    ):
        self.backend = stock._attention_backend
        self.picture_tokens = picture_tokens
        self.picture_rotary = picture_rotary
        self.text_rotary = text_rotary
        self.settings = settings
        self.biases = biases
        self.rows = rows

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """hidden_states [batch, picture + caption + negative, dim]; freqs_cis of the first two. Returns that shape."""
        import torch

        query, key, value = projected(attn, hidden_states)
        picture, shared = self.picture_tokens, freqs_cis.shape[1]

        ours = [turned(part[:, :shared], freqs_cis) for part in (query, key)]
        positive = attend(*ours, value[:, :shared], self.backend, self.biases[0], self.rows)
        seen = [
            o[:, :picture] if self.picture_rotary is None else turned(part[:, :picture], self.picture_rotary)
            for o, part in zip(ours, (query, key), strict=True)
        ]
        texts = [turned(part[:, shared:], self.text_rotary) for part in (query, key)]
        negative = attend(
            *(torch.cat(pair, dim=1) for pair in zip(seen, texts, strict=True)),
            torch.cat([value[:, :picture], value[:, shared:]], dim=1),
            self.backend,
            self.biases[1],
            self.rows,
        )
        s = self.settings
        guided = normalized_attention(positive[:, :picture], negative[:, :picture], s.scale, s.tau, s.alpha)
        out = torch.cat([guided, positive[:, picture:], negative[:, picture:]], dim=1)
        return finished(attn, out)
