"""The group encoder_layer at work: which hidden states are asked for, and how they become one.

norm each layer -> combine -> align to the layer the model was trained on. The operators are pure functions in
text/layers.py and text/align.py; here they get their settings, and what they are fitted on. Length is not handled
here (encode.py).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError, PromptError
from llm_dit.base.paths import user_path
from llm_dit.config import Config, EncoderLayerConfig

if TYPE_CHECKING:
    import torch

    from llm_dit.text.align import Affine, Moments
    from llm_dit.text.length import FittedPrompt

HOLD_OUT = 5  # every fifth prompt of the set is left out of a fit and tells how good it is
ENCODE_AT_ONCE = 16  # prompts of the set in one forward
REMEMBER_FITS = 4  # sums kept in memory; those of Z-Image's width take 200 MB


@dataclass(frozen=True)
class LayerFit:
    """What was fitted on a set of prompts. channels: (mean, std) for each asked layer; map: the alignment."""

    channels: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    map: Affine | None = None
    report: dict[str, Any] | None = None


_channels: OrderedDict[Hashable, Any] = OrderedDict()
_sums: OrderedDict[Hashable, tuple[Moments, Moments]] = OrderedDict()
_fits: OrderedDict[Hashable, LayerFit] = OrderedDict()


def asked_layers(el: EncoderLayerConfig, num_layers: int) -> list[int]:
    """The hidden states to combine, counted from 0 (embeddings) to num_layers. Raises ConfigError."""
    key = "layers" if el.layers else "layer_range" if el.layer_range else "index"
    named = el.layers or el.layer_range[:2] or [el.index]
    count = num_layers + 1
    for layer in named:
        if not -count <= layer < count:
            raise ConfigError(f"encoder_layer.{key}={layer}: this encoder has hidden states {-count} to {count - 1}.")
    found = [layer % count for layer in named]
    if key == "layer_range":
        step = el.layer_range[2] if len(el.layer_range) == 3 else 1
        found = list(range(found[0], found[1] + 1, step))
        if not found:
            raise ConfigError(
                f"encoder_layer.layer_range={el.layer_range}: empty; it goes from the lower layer to the higher one."
            )
    if el.weights and len(el.weights) != len(found):
        raise ConfigError(f"encoder_layer.weights: {len(el.weights)} weights for {len(found)} layers.")
    return found


def is_plain(el: EncoderLayerConfig, layers: list[int]) -> bool:
    """Whether the one state asked for is taken as it is: then it keeps its bits and its dtype."""
    return len(layers) == 1 and el.norm == "none" and el.align == "none"


def combine_layers(states: list[torch.Tensor], el: EncoderLayerConfig, fit: LayerFit) -> torch.Tensor:
    """Hidden states [tokens, features] of the asked layers to one [tokens, features'], float32."""
    from llm_dit.text import layers as operators

    if el.norm == "rms":
        states = [operators.rms(s) for s in states]
    elif el.norm == "layernorm":
        states = [operators.layer_norm(s) for s in states]
    elif el.norm == "per_channel":
        states = [
            operators.per_channel(s, mean.to(s.device), std.to(s.device))
            for s, (mean, std) in zip(states, fit.channels, strict=True)
        ]
    try:
        one = operators.COMBINE[el.combine](states, el.weights)
    except ValueError as error:
        raise ConfigError(f"encoder_layer.weights={el.weights}: {error}.") from error
    return fit.map(one) if fit.map else one


def choose_tokens(x: torch.Tensor, prompt: FittedPrompt, tokens: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """The tokens that go on to the transformer, and which of them are the user's, as (start, end).

    tokens=user keeps the user's alone. A text without any (an empty negative prompt) keeps its template, because the
    transformer needs something to read.
    """
    start, end = prompt.user
    if tokens == "user" and end > start:
        return x[start:end], (0, end - start)
    return x, (start, end)


def aligns_to_itself(el: EncoderLayerConfig, layers: list[int], num_layers: int) -> bool:
    """Whether the only layer is the trained one already, so that there is nothing to align."""
    trained = trained_layer(el, num_layers)
    same = layers == [trained] and not (el.pre_norm and trained == num_layers)
    return same and el.norm in ("none", "rms")


def trained_layer(el: EncoderLayerConfig, num_layers: int) -> int:
    """The layer the model was trained on, counted from 0. Raises ConfigError where it is not known."""
    if el.trained_index is None:
        raise ConfigError(
            f"encoder_layer.align={el.align} needs encoder_layer.trained_index, the layer the model was trained on."
        )
    count = num_layers + 1
    if not -count <= el.trained_index < count:
        raise ConfigError(
            f"encoder_layer.trained_index={el.trained_index}: this encoder has hidden states {-count} to {count - 1}."
        )
    return el.trained_index % count


def idle_layer_settings(el: EncoderLayerConfig, layers: list[int], num_layers: int) -> list[str]:
    """Settings of the group that were given and cannot act, one line each."""
    lines = []
    alone = len(layers) == 1
    if alone and el.combine != "mean":
        lines.append(f"encoder_layer.combine={el.combine} has no effect: there is only one layer.")
    if el.weights and alone:
        lines.append("encoder_layer.weights has no effect: there is only one layer.")
    elif el.weights and el.combine in ("mean", "concat"):
        lines.append(f"encoder_layer.weights has no effect: encoder_layer.combine is {el.combine}.")
    elif el.combine == "weighted" and not el.weights and not alone:
        lines.append("encoder_layer.combine=weighted without encoder_layer.weights is the plain mean.")
    if el.norm == "rms" and (alone or el.combine in ("norm_mean", "slerp")):
        why = "" if alone else f"encoder_layer.combine={el.combine} does not see the tokens' scales, and "
        lines.append(
            f"encoder_layer.norm=rms has no effect: {why}"
            "the transformer begins with an RMSNorm of each token, which cancels a token's scale."
        )
    if el.pre_norm and num_layers not in layers:
        lines.append("encoder_layer.pre_norm has no effect: the last layer (-1) is not asked for.")
    if el.align != "ridge" and el.ridge != EncoderLayerConfig().ridge:
        lines.append(f"encoder_layer.ridge has no effect: encoder_layer.align is {el.align}.")
    if el.align != "none" and aligns_to_itself(el, layers, num_layers):
        lines.append(f"encoder_layer.align={el.align} has no effect: the layer is the one the model was trained on.")
    return lines


def describe_layers(el: EncoderLayerConfig, layers: list[int], num_layers: int, fit: LayerFit) -> dict[str, Any]:
    """What was done, for the record. layers counts from 0 (embeddings) to `of` (the last layer)."""
    weighted = len(layers) > 1 and el.combine in ("weighted", "norm_mean", "slerp")
    return {
        "layers": layers,
        "of": num_layers,
        "final_norm": num_layers in layers and not el.pre_norm,
        "norm": el.norm,
        "combine": el.combine if len(layers) > 1 else None,
        "weights": el.weights or [1.0] * len(layers) if weighted else None,
        "align": fit.report,
    }


def fit_layers(
    config: Config, key: Hashable, encoder: Any, read: Callable[[str], FittedPrompt], layers: list[int]
) -> LayerFit:
    """What norm=per_channel and align need of the set of prompts, fitted once and kept for the process.

    key: whatever the hidden states of a text depend on beside the group's own settings. read: a user text as it goes
    to the encoder. Raises ConfigError and PromptError.
    """
    el = config.encoder_layer
    if el.norm != "per_channel" and el.align == "none":
        return LayerFit()
    source = (key, fit_set_stamp(el.fit_prompts), tuple(layers), el.pre_norm, el.tokens)
    fit = LayerFit()
    if el.norm == "per_channel":
        build = lambda: _channel_statistics(el, encoder, read, layers)  # noqa: E731
        fit = LayerFit(_remembered(_channels, source, build))
    if el.align == "none" or aligns_to_itself(el, layers, encoder.num_layers):
        return fit
    trained = trained_layer(el, encoder.num_layers)
    combined = (source, trained, el.norm, el.combine if len(layers) > 1 else "", tuple(el.weights))

    def build_fit() -> LayerFit:
        sums = _remembered(_sums, combined, lambda: _sums_over_prompts(el, encoder, read, layers, trained, fit))
        return _align(el, trained, *sums, fit)

    return _remembered(_fits, (combined, el.align, el.ridge), build_fit)


def fit_set_stamp(name: str) -> Hashable:
    """A set of prompts by name, and by date and size where it is a file that may change."""
    path = user_path(name)
    status = os.stat(path) if os.path.isfile(path) else None
    return (name, status.st_mtime_ns, status.st_size) if status else name


def _remembered(cache: OrderedDict[Hashable, Any], key: Hashable, build: Callable[[], Any]) -> Any:
    if key not in cache:
        cache[key] = build()
        if len(cache) > REMEMBER_FITS:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _encoded_set(
    el: EncoderLayerConfig,
    encoder: Any,
    read: Callable[[str], FittedPrompt],
    layers: list[int],
    trained: int | None = None,
) -> Iterator[tuple[FittedPrompt, bool, list[torch.Tensor]]]:
    """The fitting set: each prompt, whether it is held out, its states of the layers (and of the trained one last)."""
    from llm_dit.prompts.sets import load_prompts

    prompts = [read(p.prompt) for p in load_prompts(el.fit_prompts)]
    if len(prompts) < HOLD_OUT:
        raise PromptError(
            f"encoder_layer.fit_prompts={el.fit_prompts}: {len(prompts)} prompts are too few for a fit; at least "
            f"{HOLD_OUT}, better hundreds."
        )
    # A last layer that is asked for without the final norm and trained on with it takes a forward of its own.
    apart = trained is not None and el.pre_norm and trained == encoder.num_layers
    together = [*layers, trained] if trained is not None and not apart else layers
    for first in range(0, len(prompts), ENCODE_AT_ONCE):
        batch = prompts[first : first + ENCODE_AT_ONCE]
        texts = [prompt.token_ids for prompt in batch]
        found = encoder.encode_many(texts, together, el.pre_norm)
        if apart:
            found = [a + b for a, b in zip(found, encoder.encode_many(texts, [trained]), strict=True)]
        for number, (prompt, states) in enumerate(zip(batch, found, strict=True), first):
            yield prompt, number % HOLD_OUT == HOLD_OUT - 1, [state.cpu() for state in states]


def _channel_statistics(
    el: EncoderLayerConfig, encoder: Any, read: Callable[[str], FittedPrompt], layers: list[int]
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Mean and standard deviation of each feature of the rms-normed tokens, for each layer; float32 on the CPU."""
    from llm_dit.text.layers import rms

    count, total, square = 0, [0.0] * len(layers), [0.0] * len(layers)
    for fitted, _, states in _encoded_set(el, encoder, read, layers):
        for i, state in enumerate(states):
            x = rms(choose_tokens(state, fitted, el.tokens)[0]).double()
            total[i], square[i] = total[i] + x.sum(0), square[i] + x.square().sum(0)
        count += len(x)
    means = [t / count for t in total]
    stds = [(s / count - m.square()).clamp_min(0).sqrt() for s, m in zip(square, means, strict=True)]
    return tuple((m.float(), s.float()) for m, s in zip(means, stds, strict=True))


def _sums_over_prompts(
    el: EncoderLayerConfig,
    encoder: Any,
    read: Callable[[str], FittedPrompt],
    layers: list[int],
    trained: int,
    fit: LayerFit,
) -> tuple[Moments, Moments]:
    """Sums over the tokens of the set: those to fit on, and the user's of the prompts held out."""
    from llm_dit.text.align import Moments

    fitted_on, held_out = Moments(), Moments()
    unaligned = replace(fit, map=None)
    for prompt, is_held_out, states in _encoded_set(el, encoder, read, layers, trained):
        *given, wanted = states
        tokens = "user" if is_held_out else el.tokens
        x, y = combine_layers(given, el, unaligned), wanted
        sums = held_out if is_held_out else fitted_on
        sums.add(choose_tokens(x, prompt, tokens)[0], choose_tokens(y, prompt, tokens)[0])
    return fitted_on, held_out


def _align(
    el: EncoderLayerConfig, trained: int, fitted_on: Moments, held_out: Moments, unaligned: LayerFit
) -> LayerFit:
    from llm_dit.text.align import fit, r_squared

    try:
        map = fit(fitted_on, el.align, el.ridge)
    except ValueError as error:
        raise ConfigError(f"encoder_layer.align={el.align}: {error}; ridge maps any width.") from error
    same_width = len(fitted_on.x) == len(fitted_on.y)
    report = {
        "method": el.align,
        "to": trained,
        "prompts": el.fit_prompts,
        "tokens": fitted_on.count,
        "held_out_tokens": held_out.count,
        "r2": round(r_squared(held_out, map), 6),
        "r2_without": round(r_squared(held_out), 6) if same_width else None,
    }
    return replace(unaligned, map=map, report=report)


def encoding_settings(config: Config) -> Hashable:
    """The group's settings as one value that can be compared, with the state of the set they are fitted on."""
    el = config.encoder_layer
    fitted = el.norm == "per_channel" or el.align != "none"
    return (repr(astuple(el)), fit_set_stamp(el.fit_prompts) if fitted else None)
