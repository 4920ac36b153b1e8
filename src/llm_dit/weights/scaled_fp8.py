"""Scaled float8 weights, as ComfyUI and musubi-tuner write them, read exactly: weight x scale, in float32.

Beside NAME.weight stands NAME.scale_weight (marked by a tensor scaled_fp8) or NAME.weight_scale (marked by
NAME.comfy_quant, JSON as bytes, or by _quantization_metadata in the header). Scales of activations, which only products
in float8 need, are passed over. Other quantizations (nvfp4, mxfp8, int8) are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError

if TYPE_CHECKING:
    import torch

FORMATS = ("float8_e4m3fn", "float8_e5m2")
HEADER_KEY = "_quantization_metadata"
_SCALE = re.compile(r"(.+)\.(?:scale_weight|weight_scale)")
_UNUSED = re.compile(r"(?:.+\.)?(?:scaled_fp8|scale_input|input_scale|comfy_quant)")
# What a description may hold beside its format without a change of what the weights mean.
_HARMLESS = {"format", "full_precision_matrix_mult", "orig_dtype", "orig_shape"}


def is_beside(name: str) -> bool:
    """Whether a tensor of that name only describes a weight that stands beside it."""
    return bool(_SCALE.fullmatch(name) or _UNUSED.fullmatch(name))


def unscaled(
    path: Path, tensors: Mapping[str, Any], header: Mapping[str, str] | None = None, dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """The tensors with each scale multiplied into its weight; those that only describe others left out.

    dtype: of the weights that had a scale; None keeps float32. Raises ModelError for another quantization, a scale
    without its weight, and one whose shape is not understood.
    """
    _check_formats(path, tensors, header or {})
    kept = {name: tensor for name, tensor in tensors.items() if not is_beside(name)}
    for name, scale in tensors.items():
        match = _SCALE.fullmatch(name)
        if match is None:
            continue
        weight = f"{match[1]}.weight"
        if weight not in kept:
            raise ModelError(f"{path}: '{name}' is the scale of '{weight}', which is not in the file.")
        value = _scaled(path, name, kept[weight].float(), scale.float())
        kept[weight] = value if dtype is None else value.to(dtype)
    return kept


def _scaled(path: Path, name: str, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Of the whole weight, of each row [out, 1], or of each stretch of a row [out, stretches, 1]."""
    if scale.numel() == 1:
        return weight * scale.reshape(())
    if weight.ndim == 2 and scale.shape == (len(weight), 1):
        return weight * scale
    if weight.ndim == 2 and scale.ndim == 3 and len(scale) == len(weight) and scale.shape[2] == 1:
        stretches = scale.shape[1]
        if weight.shape[1] % stretches == 0:
            return (weight.reshape(len(weight), stretches, -1) * scale).reshape(weight.shape)
    raise ModelError(
        f"{path}: scaled float8 whose scale '{name}' of shape {tuple(scale.shape)} does not fit a weight of "
        f"{tuple(weight.shape)}; scales of a whole weight, of its rows and of stretches of them are read."
    )


def _check_formats(path: Path, tensors: Mapping[str, Any], header: Mapping[str, str]) -> None:
    said: dict[str, Any] = {}
    try:
        if HEADER_KEY in header:
            said |= json.loads(header[HEADER_KEY])["layers"]
        for name, tensor in tensors.items():
            if name.endswith(".comfy_quant"):
                said[name.removesuffix(".comfy_quant")] = json.loads(bytes(tensor.tolist()).decode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{path}: quantized, and what it says of its quantization cannot be read.") from None
    for name, about in said.items():
        kind = about.get("format") if isinstance(about, dict) else about
        odd = sorted(about.keys() - _HARMLESS) if isinstance(about, dict) else []
        if kind not in FORMATS or odd:
            told = f"{kind} with {', '.join(odd)}" if odd else str(kind)
            raise ModelError(
                f"{path}: '{name}' is quantized as {told[:80]}, which is not read; of scaled weights, "
                f"{' and '.join(FORMATS)} are. Take the bfloat16 file, or a .gguf."
            )
