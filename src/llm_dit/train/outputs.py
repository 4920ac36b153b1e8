"""What a training leaves: a transformer as a folder in diffusers' layout, or a LoRA file.

Beside the transformer, the other parts of the model that it belongs to, where they are on this disk, so that the
training's folder is a whole model for model.path.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ModelError, OutputError
from llm_dit.base.files import put_in_place, temporary_beside, temporary_folder
from llm_dit.base.paths import user_path
from llm_dit.config import ModelConfig, TrainConfig
from llm_dit.train.checkpoint import header, write_tensors
from llm_dit.weights.folder import RANDOM, component_folder

if TYPE_CHECKING:
    import torch
    from diffusers import ZImageTransformer2DModel

WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


def save_component(model: Any, target: Path, facts: Mapping[str, Any], dtype: str) -> Path:
    """A diffusers model as a folder of its own; one of an earlier run is replaced. Raises OutputError."""
    import torch
    from safetensors import SafetensorError

    staged = temporary_beside(target)
    try:
        staged.mkdir()
        (staged / "config.json").write_text(portable_config(model), encoding="utf-8")
        weights = {name: p.detach().to("cpu", getattr(torch, dtype)) for name, p in model.state_dict().items()}
        write_tensors(staged / WEIGHTS, weights, header(facts))
        put_in_place(staged, target, last="config.json")
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}).") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def portable_config(model: Any) -> str:
    """A diffusers model's config.json without the folder it was read from, which means nothing on another machine."""
    values = json.loads(model.to_json_string())
    values.pop("_name_or_path", None)
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def add_other_parts(folder: Path, model: ModelConfig, trained: str) -> bool:
    """Put the model's other parts beside the trained one, hard links where the disk can. Returns whether all are there.

    trained: the component that is there. A model that lives on the hub is left there. Raises OutputError.
    """
    others = [part for part in PARTS if part != trained]
    if model.path == RANDOM:
        from llm_dit.encoders.tiny import save_tiny_folder

        with temporary_folder(folder) as staged:
            save_tiny_folder(staged)
            for part in others:
                add_files(staged / part, folder / part)
        return True
    if not model.path.startswith("shipped:") and not user_path(model.path).is_dir():
        return False
    for part in others:
        try:
            source = component_folder(model.path, part)
        except ModelError:
            continue  # shipped models take their text encoder from elsewhere
        try:
            add_files(source, folder / part)
        except OSError as error:  # shutil.Error is one
            raise OutputError(f"{folder / part}: cannot be written ({error.strerror or error}).") from error
    return True


def add_files(source: Path, target: Path) -> None:
    """Put the files of one folder into another, each whole; what is there already stays. Raises OSError."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        if os.path.lexists(place):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(place)
        link_or_copy(str(path), str(temporary))
        os.rename(temporary, place)


def link_or_copy(source: str, target: str) -> None:
    """A hard link to the file itself, never to a link to it, or a copy where the two are on different disks."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def lora_pairs(
    model: ZImageTransformer2DModel, settings: TrainConfig, adapter: str = "default"
) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """{module: (A [rank, in], B [out, rank], alpha)} of the adapter, as they are now."""
    alpha = settings.lora.rank if settings.lora.alpha is None else settings.lora.alpha
    found = {}
    for name, part in model.named_modules():
        if hasattr(part, "lora_A") and adapter in part.lora_A:
            found[name] = (part.lora_A[adapter].weight.detach(), part.lora_B[adapter].weight.detach(), float(alpha))
    return found


def save_adapter(model: ZImageTransformer2DModel, path: Path, settings: TrainConfig, facts: Mapping[str, Any]) -> Path:
    """The adapter as one file in diffusers' layout, by the project's own writer. Raises OutputError."""
    import torch

    from llm_dit.weights.lora_file import save_lora

    dtype = getattr(torch, settings.save_dtype)
    pairs = {name: (a.to(dtype), b.to(dtype), alpha) for name, (a, b, alpha) in lora_pairs(model, settings).items()}
    return save_lora(path, pairs, header(facts))
