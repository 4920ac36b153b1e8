"""The parts of a Z-Image attention layer, for processors that stand in for the model's own (nag.py, emphasis.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def projected(attn: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries and keys (normed, not yet turned) and values [batch, tokens, heads, channels] of [batch, tokens, dim]."""
    query, key, value = (part(x).unflatten(-1, (attn.heads, -1)) for part in (attn.to_q, attn.to_k, attn.to_v))
    return (
        query if attn.norm_q is None else attn.norm_q(query),
        key if attn.norm_k is None else attn.norm_k(key),
        value,
    )


def turned(x: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    """x [batch, tokens, heads, channels] with its channel pairs turned by frequencies [batch or 1, tokens, pairs]."""
    import torch

    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotary.unsqueeze(2)).flatten(3).type_as(x)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    backend: Any,
    bias: torch.Tensor | None = None,
    rows: int | None = None,
) -> torch.Tensor:
    """[batch, tokens, heads, channels] to [batch, tokens, heads x channels], by the model's own kernel.

    bias: [batch or 1, keys], added to the logits of the first `rows` queries, of all without `rows`. The other queries
    go by themselves and without a mask, so that no mask of queries x keys is ever made.
    """
    import torch
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    if bias is None:
        return dispatch_attention_fn(query, key, value, backend=backend).flatten(2, 3)
    mask = bias.to(query.dtype)[:, None, None, :]
    if rows is None:
        return dispatch_attention_fn(query, key, value, attn_mask=mask, backend=backend).flatten(2, 3)
    biased = dispatch_attention_fn(query[:, :rows], key, value, attn_mask=mask, backend=backend)
    rest = dispatch_attention_fn(query[:, rows:], key, value, backend=backend)
    return torch.cat([biased, rest], dim=1).flatten(2, 3)


def finished(attn: Any, out: torch.Tensor) -> torch.Tensor:
    """The layer's projection of what was attended to."""
    for part in attn.to_out:
        out = part(out)
    return out
