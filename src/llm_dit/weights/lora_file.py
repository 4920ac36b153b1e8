"""LoRA files: from what a user typed to tensors, and the one writer of them.

Only finding, reading and writing; lora_keys.py says which module each tensor belongs to. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError, nearest, one_line
from llm_dit.base.files import write_whole
from llm_dit.base.inputs import refuse_special
from llm_dit.base.paths import user_path, visible
from llm_dit.weights.folder import SHIPPED, read_json
from llm_dit.weights.scaled_fp8 import unscaled
from llm_dit.weights.tensors import safetensors_shapes

if TYPE_CHECKING:
    import torch

# Where peft and diffusers keep a LoRA's settings: an entry of the file's header, or a file beside it.
METADATA_KEY = "lora_adapter_metadata"
PEFT_CONFIG = "adapter_config.json"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def find_lora(typed: str) -> Path:
    """The .safetensors file of a path as typed: the file itself, the only one in a folder, or shipped:NAME's.

    Raises ModelError.
    """
    if typed.startswith("shipped:"):
        return _shipped_lora(typed)
    path = user_path(typed)
    if path.is_dir():
        there = visible(path, "*.safetensors")
        if len(there) == 1:
            return there[0]
        names = ", ".join(p.name for p in there[:6])
        raise ModelError(
            f"lora={typed}: a folder with several LoRA files ({names}); name one of them."
            if there
            else f"lora={typed}: a folder without a .safetensors file in it."
        )
    refuse_special(path, f"lora={typed}", ModelError)
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"lora={typed}: {path.suffix} is a pickle, which can run code when it is opened, and is not read; "
            "take or convert it to .safetensors."
        )
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise ModelError(f"lora={typed}: there is no such file; there is no folder {folder} either.")
        there = [p.name for p in visible(folder) if p.is_dir() or p.suffix == ".safetensors"]
        hint = nearest(path.name, there) if len(there) <= 200 else ""
        if "," in typed:
            hint = "Several are lora=[A,B]; to draw with one after the other, add -m."
        raise ModelError(f"lora={typed}: there is no such file. {hint}".rstrip())
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"lora={typed}: must be a .safetensors file, or a folder with one.")
    return path


def _shipped_lora(typed: str) -> Path:
    name, folder = typed.removeprefix("shipped:"), SHIPPED / "loras"
    there = {path.stem: path for path in visible(folder, "*.safetensors")}
    if name not in there:
        raise ModelError(f"lora={typed}: no such shipped LoRA. {nearest(name, list(there))}".rstrip())
    return there[name]


def lora_sha256(path: Path) -> str:
    """Hash of a LoRA file's bytes, taken again only when the file has changed."""
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"lora={path}: cannot be read ({error.strerror or error}).") from error


@lru_cache(maxsize=256)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class LoraFile:
    """What a file holds. tensors: by the file's own names. header: its metadata. settings: peft's, {} if none."""

    path: Path
    tensors: dict[str, torch.Tensor]
    header: dict[str, str]
    settings: dict[str, Any]


def read_lora(path: Path) -> LoraFile:
    """A LoRA file whole, in memory of its own. Raises ModelError when it is cut short, empty or not safetensors."""
    from safetensors import SafetensorError, safe_open

    safetensors_shapes(path, integers=True)  # an alpha may well be a whole number
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: cannot be read ({one_line(error)}).") from error
    tensors = unscaled(path, tensors, header)
    return LoraFile(path, tensors, header, _peft_settings(path, header))


def _peft_settings(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """peft's LoraConfig of a file: from its header, as diffusers writes it, or from the file beside it."""
    if METADATA_KEY in header:
        try:
            settings = json.loads(header[METADATA_KEY])
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path}: {METADATA_KEY} in its header is not JSON ({one_line(error)}).") from error
        if not isinstance(settings, dict):
            raise ModelError(f"{path}: {METADATA_KEY} in its header must be an object.")
        return {key.removeprefix("transformer."): value for key, value in settings.items()}
    beside = path.with_name(PEFT_CONFIG)
    return read_json(beside) if path.name == "adapter_model.safetensors" and beside.is_file() else {}


def save_lora(
    path: str | os.PathLike,
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor, float]],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a LoRA in diffusers' layout, transformer.MODULE.lora_A.weight and lora_B.weight; whole or not at all.

    pairs: {module of ZImageTransformer2DModel: (A [rank, in], B [out, rank], alpha)}; the update is alpha / rank B A.
    metadata: further text for the header. B is written times alpha / rank, so that the stored alpha is the rank:
    programs that do not know diffusers' header then read the same strength as those that do. Returns the path.
    Raises ValueError for pairs that do not fit together, OutputError when the file cannot be written.
    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for module, (a, b, alpha) in sorted(pairs.items()):
        if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1] or not len(a) or not isfinite(alpha):
            raise ValueError(f"{module}: A {tuple(a.shape)}, B {tuple(b.shape)} and alpha {alpha} are no LoRA")
        ranks[module] = len(a)
        tensors[f"transformer.{module}.lora_A.weight"] = a.detach().cpu().contiguous()
        scaled = b.detach().float() * (alpha / len(a))
        tensors[f"transformer.{module}.lora_B.weight"] = scaled.to("cpu", b.dtype).contiguous()
    if not ranks:
        raise ValueError("a LoRA of no modules")
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{module}": r for module, r in ranks.items() if r != rank}
    settings = {
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted(ranks),
        "rank_pattern": others,
        "alpha_pattern": others,
    }
    header = {"format": "pt", METADATA_KEY: json.dumps({f"transformer.{k}": v for k, v in settings.items()})}
    target = user_path(path)
    write_whole({target: save(tensors, {**(metadata or {}), **header})})
    return target
