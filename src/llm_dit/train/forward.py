"""The transformer's forward for training: a batch of one size and one padded caption length, without Python lists.

It computes what ZImageTransformer2DModel.forward computes (tests compare outputs and gradients), with real numbers in
the rotary embedding, so that it can be compiled. Guidance and pictures of several sizes at once are not its business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from llm_dit.base.errors import ConfigError
from llm_dit.diffusion.positions import rotary_frequencies, stock_axis
from llm_dit.families.z_image.velocity import padded_length
from llm_dit.weights.tensors import one_line

if TYPE_CHECKING:
    from diffusers import ZImageTransformer2DModel

Turns = tuple[torch.Tensor, torch.Tensor]


class RealRotary:
    """Attention processor that takes (cos, sin), each [tokens, 1, channel pairs], where the stock one takes complex."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: Turns | None = None,
    ) -> torch.Tensor:
        query, key, value = (
            layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            query, key = attn.norm_q(query), attn.norm_k(key)
        query, key = (rotate(x, *freqs_cis) for x in (query, key))
        if self._attention_backend is None:
            parts = (x.to(value.dtype).transpose(1, 2) for x in (query, key, value))
            out = F.scaled_dot_product_attention(*parts).transpose(1, 2)
        else:
            from diffusers.models.attention_dispatch import dispatch_attention_fn

            parts = (x.to(value.dtype) for x in (query, key, value))
            out = dispatch_attention_fn(*parts, backend=self._attention_backend)
        return attn.to_out[0](out.flatten(2))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The channel pairs (0, 1), (2, 3), ... of the last axis turned, in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


@contextmanager
def stock_attention(model: ZImageTransformer2DModel) -> Iterator[None]:
    """Within, the model's blocks have the processors that its own forward needs."""
    from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor

    ours = [(block.attention, block.attention.processor) for block in blocks_of(model)]
    for attention, before in ours:
        attention.processor = ZSingleStreamAttnProcessor()
        attention.processor._attention_backend = before._attention_backend
    try:
        yield
    finally:
        for attention, before in ours:
            attention.processor = before


def blocks_of(model: ZImageTransformer2DModel) -> list[nn.Module]:
    """Every block with attention that takes part in training."""
    return [*model.noise_refiner, *model.context_refiner, *model.layers]


class TrainingForward(nn.Module):
    """velocity() of a model, with its rotary angles remembered by size. Changes the model's processors."""

    def __init__(self, model: ZImageTransformer2DModel, compiled: bool = False):
        super().__init__()
        self.model = model
        for block in blocks_of(model):
            before = block.attention.processor
            block.attention.processor = RealRotary()
            block.attention.processor._attention_backend = before._attention_backend
        self._run = torch.compile(velocity) if compiled else velocity
        self._angles: dict[tuple, tuple[Turns, Turns]] = {}

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, texts: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """Velocity float32 [batch, C, H, W] at x, sigma [batch]; texts and padding as stack_captions gives them."""
        key = (texts.shape[1], *x.shape[-2:], x.device)
        if key not in self._angles:
            patch = self.model.all_patch_size[0]
            self._angles[key] = angles(self.model, texts.shape[1], x.shape[-2] // patch, x.shape[-1] // patch, x.device)
        try:
            return self._run(self.model, x, sigma, texts, padding, *self._angles[key])
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ConfigError(f"train.compile=true does not work here ({one_line(error)}); leave it out.") from error


def stack_captions(captions: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions, [tokens, features] each, that pad to one length, as [batch, padded tokens, features] with zeros
    behind each, and where those are, bool [batch, padded tokens].
    """
    lengths = {padded_length(len(c)) for c in captions}
    if len(lengths) != 1:
        raise ValueError(f"captions of several padded lengths in one forward: {sorted(lengths)}")
    (length,) = lengths
    texts = captions[0].new_zeros(len(captions), length, captions[0].shape[1])
    for text, caption in zip(texts, captions, strict=True):
        text[: len(caption)] = caption
    counts = torch.tensor([len(c) for c in captions])
    return texts, torch.arange(length) >= counts[:, None]


def angles(model: ZImageTransformer2DModel, caption: int, rows: int, columns: int, device: Any) -> tuple[Turns, Turns]:
    """(cos, sin) of the picture's tokens, padded to a multiple of 32 at position 0, and of the caption's tokens."""
    axes = [stock_axis(size, model.rope_theta) for size in model.axes_dims]
    text = torch.zeros(caption, 3, dtype=torch.int32)
    text[:, 0] = torch.arange(1, caption + 1)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    image = torch.stack([torch.full_like(row, caption + 1), row, column], -1).flatten(0, 1).int()
    image = F.pad(image, (0, 0, 0, padded_length(len(image)) - len(image)))
    found = []
    for positions in (image, text):
        turned = rotary_frequencies(positions, axes).unsqueeze(1).to(device)
        found.append((turned.real.contiguous(), turned.imag.contiguous()))
    return found[0], found[1]


def velocity(
    model: ZImageTransformer2DModel,
    x: torch.Tensor,
    sigma: torch.Tensor,
    captions: torch.Tensor,
    padding: torch.Tensor,
    image_turns: Turns,
    text_turns: Turns,
) -> torch.Tensor:
    """Velocity float32 [b, C, H, W] at x [b, C, H, W], sigma [b]; captions [b, tokens, features], anything in padding.

    The residual stream is float32 also under autocast.
    """
    patch, f_patch = model.all_patch_size[0], model.all_f_patch_size[0]
    name = f"{patch}-{f_patch}"
    # The model's time 1 - sigma by way of diffusers' 1000 timesteps, as velocity.py has it.
    time = model.t_embedder((1000 - sigma.float() * 1000) / 1000 * model.t_scale).float()
    b, c, h, w = x.shape
    tokens = x.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    count = tokens.shape[1]
    tokens = model.all_x_embedder[name](tokens).float()
    room = image_turns[0].shape[0] - count
    if room:
        tokens = torch.cat([tokens, model.x_pad_token.float().expand(b, room, -1)], 1)
    for block in model.noise_refiner:
        tokens = call(model, block, tokens, None, image_turns, time)
    texts = model.cap_embedder(captions.float()).float()
    texts = torch.where(padding.unsqueeze(-1), model.cap_pad_token.float(), texts)
    for block in model.context_refiner:
        texts = call(model, block, texts, None, text_turns)
    both = (torch.cat([image_turns[0], text_turns[0]]), torch.cat([image_turns[1], text_turns[1]]))
    tokens = torch.cat([tokens, texts], 1)
    for block in model.layers:
        tokens = call(model, block, tokens, None, both, time)
    out = model.all_final_layer[name](tokens, c=time)[:, :count].float()
    out = out.reshape(b, h // patch, w // patch, patch, patch, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
    return -out


def call(model: ZImageTransformer2DModel, block: nn.Module, *arguments: Any) -> torch.Tensor:
    """One block, its activations kept or computed again in the backward pass, as the model is set."""
    if model.gradient_checkpointing and torch.is_grad_enabled():
        return model._gradient_checkpointing_func(block, *arguments)
    return block(*arguments)
