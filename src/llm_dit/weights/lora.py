"""LoRAs on a transformer: added while it runs, or summed into its weights.

W x + sum over LoRAs of s alpha / rank B A x (Hu et al. 2021, 2106.09685), s is the scale. Added as it runs, nothing of
the model changes: afterwards it is what it was, to the bit, and another scale or file costs no reload. Fused, the
model is changed for good; models/cache.py then keeps it as another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ConfigError, ModelError
from llm_dit.config import Config, parse_lora
from llm_dit.weights.lora_file import find_lora, lora_sha256, read_lora
from llm_dit.weights.lora_keys import normalise
from llm_dit.weights.lora_updates import Decomposed, Pair, Update, Weights, delta_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WantedLora:
    """An entry of the config. path: as typed. scale: its own times lora_scale. sha256: of the file's bytes."""

    path: str
    scale: float
    sha256: str


@dataclass(frozen=True)
class Lora:
    """A LoRA file whose every tensor has its place in the transformer. layout: in words, for the record."""

    sha256: str
    updates: dict[str, Update]
    layout: str

    @property
    def is_zero(self) -> bool:
        """Whether it updates nothing, as a LoRA does before its first training step."""
        return all(update.is_zero for update in self.updates.values())


def wanted_loras(config: Config) -> list[WantedLora]:
    """The LoRAs a config asks for, in order. Raises LabError when a file is missing, or is given twice."""
    wanted: list[WantedLora] = []
    for typed in config.lora:
        path, scale = parse_lora(typed)
        sha256 = lora_sha256(find_lora(path))
        twin = next((w for w in wanted if w.sha256 == sha256), None)
        if twin:
            raise ConfigError(
                f"lora: {twin.path} and {path} are the same LoRA; give it once, with the sum of the scales."
            )
        wanted.append(WantedLora(path, scale * config.lora_scale, sha256))
    return wanted


def load_lora(path: str, transformer: Any) -> Lora:
    """Read a LoRA and fit it to the transformer. Raises ModelError."""
    file = find_lora(path)
    updates, layout = normalise(read_lora(file), linear_shapes(transformer))
    return Lora(lora_sha256(file), updates, layout)


def linear_shapes(transformer: Any) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer by name, quantized ones included."""
    from torch.nn import Linear

    return {
        name: (part.out_features, part.in_features)
        for name, part in transformer.named_modules()
        if isinstance(part, Linear)
    }


@contextmanager
def adapted(transformer: Any, loras: Sequence[tuple[Lora, float]]) -> Iterator[None]:
    """Within, the transformer runs with these LoRAs, each at its scale; afterwards it is as before.

    Several LoRAs of one layer cost one pair of products, of the sum of their ranks. Scale 0 adds nothing at all.
    """
    parts = dict(transformer.named_modules())
    # Quantized layers have no float weights; the embedder tells what the model computes in.
    like = transformer.cap_embedder[0].weight
    with ExitStack() as stack:
        for module, (a, b) in stacked(loras).items():
            down, up = a.to(like.device, like.dtype), b.to(like.device, like.dtype)
            stack.callback(parts[module].register_forward_hook(_Added(down, up)).remove)
        for module, delta in whole_updates(loras, weights_of(parts), like.device):
            hook = _AddedWhole(delta.to(like.device, like.dtype))
            stack.callback(parts[module].register_forward_hook(hook).remove)
        yield


def stacked(loras: Iterable[tuple[Lora, float]]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{module: (A [ranks, in], B [out, ranks])} of all LoRAs with a scale; B float32, times scale and alpha / rank."""
    import torch

    found: dict[str, list[tuple[Pair, float]]] = {}
    for lora, scale in loras:
        for module, pair in lora.updates.items():
            if isinstance(pair, Pair) and scale * pair.strength:
                found.setdefault(module, []).append((pair, scale))
    return {
        module: (
            torch.cat([pair.a.float() for pair, _ in pairs]),
            torch.cat([pair.b.float() * (scale * pair.strength) for pair, scale in pairs], dim=1),
        )
        for module, pairs in found.items()
    }


def whole_updates(
    loras: Iterable[tuple[Lora, float]], weights: Weights, device: torch.device | str
) -> Iterator[tuple[str, torch.Tensor]]:
    """(module, update float32 [out, in]) of what is no pair, scales in it; of several LoRAs, their sum."""
    found: dict[str, list[tuple[Update, float]]] = {}
    for lora, scale in loras:
        for module, update in lora.updates.items():
            if scale and not isinstance(update, Pair):
                found.setdefault(module, []).append((update, scale))
    for module, updates in found.items():
        yield module, sum(scale * delta_of(update, weights, device) for update, scale in updates)


def weights_of(parts: Mapping[str, Any]) -> Weights:
    """Weights of layers in float32, decoded where they are quantized."""

    def weight(name: str) -> torch.Tensor:
        found = parts[name].weight
        if not found.is_floating_point():
            from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

            found = dequantize_gguf_tensor(found)
        return getattr(found, "as_tensor", lambda: found)().float()

    return weight


class _AddedWhole:
    """A forward hook that adds D x to a linear layer's output."""

    def __init__(self, delta: torch.Tensor):
        self.delta = delta

    def __call__(self, _: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        import torch

        return output + torch.nn.functional.linear(args[0].to(self.delta.dtype), self.delta).to(output.dtype)


class _Added:
    """A forward hook that adds B A x to a linear layer's output."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor):
        self.a, self.b = a, b

    def __call__(self, _: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        import torch

        down = torch.nn.functional.linear(args[0].to(self.a.dtype), self.a).to(output.dtype)
        # Product and sum in one go: a sum of its own would read and write the layer's whole output once more.
        rows = torch.addmm(
            output.reshape(-1, output.shape[-1]), down.reshape(-1, down.shape[-1]), self.b.t().to(output.dtype)
        )
        return rows.view_as(output)


def fuse(transformer: Any, loras: Sequence[tuple[Lora, float]]) -> None:
    """Sum the LoRAs into the weights, in float32, for good. Raises ModelError for quantized weights."""
    import torch

    parts = dict(transformer.named_modules())
    pairs = stacked(loras)
    wholes = {name for lora, scale in loras if scale for name, u in lora.updates.items() if not isinstance(u, Pair)}
    for module in {**pairs, **dict.fromkeys(sorted(wholes))}:
        if not parts[module].weight.is_floating_point():
            raise ModelError(
                f"lora_fuse=true: '{module}' is quantized, and nothing can be summed into it; use lora_fuse=false."
            )
    # DoRA of a fused qkv looks at three layers, so that they are kept as they were until all are done.
    together = {
        name for lora, _ in loras for u in lora.updates.values() if isinstance(u, Decomposed) and len(u.modules) > 1
        for name in u.modules
    }  # fmt: skip
    own = weights_of(parts)
    with torch.no_grad():
        kept = {name: own(name).clone() for name in together}
        for module, delta in whole_updates(loras, lambda name: kept.get(name, own(name)), _device(transformer)):
            weight = parts[module].weight
            low_rank = 0 if module not in pairs else _product_of(pairs.pop(module), weight.device)
            weight.copy_(weight.float() + (delta.to(weight.device) + low_rank))
        for module, pair in pairs.items():
            weight = parts[module].weight
            weight.copy_(weight.float() + _product_of(pair, weight.device))


def _product_of(pair: tuple[torch.Tensor, torch.Tensor], device: torch.device) -> torch.Tensor:
    a, b = pair
    return b.to(device) @ a.to(device)


def _device(transformer: Any) -> torch.device:
    return transformer.cap_embedder[0].weight.device


def describe_loras(wanted: Sequence[WantedLora], loras: Sequence[Lora], fused: bool) -> list[dict[str, Any]]:
    """The record's entry: what was added, how strongly, from which file. rank, alpha: [least, most] where mixed."""
    return [
        {
            "path": want.path,
            "sha256": want.sha256[:16],
            "scale": want.scale,
            "rank": _one_or_span(u.rank for u in lora.updates.values()),
            "alpha": _one_or_span(u.alpha for u in lora.updates.values()),
            "modules": len(lora.updates),
            "algorithm": " + ".join(sorted({u.kind for u in lora.updates.values()})),
            "layout": lora.layout,
            "fused": fused,
        }
        for want, lora in zip(wanted, loras, strict=True)
    ]


def _one_or_span(values: Iterable[float | None]) -> float | list[float] | None:
    values = sorted({value for value in values if value is not None})
    if not values:
        return None
    return values[0] if len(values) == 1 else [values[0], values[-1]]


def idle_loras(config: Config, wanted: Sequence[WantedLora], loras: Sequence[Lora]) -> list[str]:
    """LoRAs, and settings of them, that were given and cannot act, one line each."""
    lines = []
    if not wanted:
        idle = [key for key, plain in (("lora_scale", 1.0), ("lora_fuse", False)) if getattr(config, key) != plain]
        return [f"{key} has no effect: no lora is given." for key in idle]
    for want, lora in zip(wanted, loras, strict=True):
        if want.scale == 0:
            lines.append(f"lora {want.path} has no effect: its scale is 0.")
        elif lora.is_zero:
            lines.append(f"lora {want.path} has no effect: all its updates are 0, as before training.")
    return lines
