"""Leaving layers of a Z-Image transformer out for a while: the worse prediction that skip-layer guidance needs.

Only the main layers can be left out; the refiners of noise and text are never skipped. What is left out is not
computed. A context changes the model itself, so one job at a time may use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Where SD3.5-medium skips, as shares of the depth: layers 7 to 9 of its 24.
FIRST_SHARE, LAST_SHARE = 7 / 24, 9 / 24


def layers_to_skip(layers: Sequence[int], depth: int) -> list[int]:
    """The layers asked for, sorted, each once; of an empty list those at the depth where SD3.5-medium skips.

    depth: the model's count of main layers. Raises ConfigError for a layer that the model does not have.
    """
    for layer in layers:
        if not 0 <= layer < depth:
            raise ConfigError(f"slg.layers={list(layers)}: this model has layers 0 to {depth - 1}.")
    if layers:
        return sorted(set(layers))
    return list(range(round(FIRST_SHARE * depth), round(LAST_SHARE * depth) + 1))


@contextmanager
def skipping(transformer: Any, layers: Sequence[int], kind: str) -> Iterator[None]:
    """Within, the transformer runs without these main layers, or without a part of each; afterwards it is as before.

    kind: block leaves the whole layer out, which is the same to the bit as a model without it; attention and ff leave
    one of its two residual branches out; attention_identity replaces the attention map by the identity, so that every
    token, of text too, gets its own value (PAG, 2403.17377).
    """
    with ExitStack() as stack:
        for layer in layers:
            block = transformer.layers[layer]
            if kind == "block":
                stack.enter_context(replaced(block, "forward", _unchanged))
            elif kind == "ff":
                stack.enter_context(replaced(block.feed_forward, "forward", _nothing))
            elif kind == "attention":
                stack.enter_context(replaced(block.attention, "forward", _nothing))
            elif kind == "attention_identity":
                stack.enter_context(replaced(block.attention, "forward", _OwnValue(block.attention)))
            else:
                raise ValueError(f"unknown kind {kind!r}")
        yield


@contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of one object, replaced; afterwards it is what it was, or its class's again."""
    own = vars(thing)
    before = [own[name]] if name in own else []
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before:
            setattr(thing, name, before[0])
        else:
            delattr(thing, name)


def _unchanged(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return x


def _nothing(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """Zeros, which the norm and the gate after it keep: the residual branch adds nothing."""
    import torch

    return torch.zeros_like(hidden_states)


class _OwnValue:
    """Attention whose map is the identity: neither queries nor keys are needed."""

    def __init__(self, attention: Any):
        self.attention = attention

    def __call__(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        out = self.attention.to_v(hidden_states)
        for part in self.attention.to_out:
            out = part(out)
        return out
