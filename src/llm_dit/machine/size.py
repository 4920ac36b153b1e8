"""How many parameters a model has, from the headers of its files: nothing is loaded, nothing is downloaded."""

from __future__ import annotations

import os.path
from math import prod
from pathlib import Path

from llm_dit.base.paths import user_path, visible
from llm_dit.config import ModelConfig
from llm_dit.weights.folder import RANDOM, SHIPPED, component_folder
from llm_dit.weights.tensors import safetensors_shapes


def count_parameters(model: ModelConfig) -> dict[str, int] | None:
    """Parameters of transformer, vae and text_encoder; None when the model's files are not on this machine.

    A single transformer file counts in place of the folder's own. A quantized GGUF file counts its values, which
    take less memory than the dtype says.
    """
    if model.path == RANDOM:
        from llm_dit.encoders.tiny import tiny_text_encoder
        from llm_dit.families.z_image.tiny import tiny_transformer, tiny_vae

        parts = {"transformer": tiny_transformer(), "vae": tiny_vae(), "text_encoder": tiny_text_encoder()[0]}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    shipped = model.path.startswith("shipped:")
    root = SHIPPED / model.path.removeprefix("shipped:") if shipped else user_path(model.path)
    if not root.is_dir():
        return None
    sources = {
        "transformer": user_path(model.transformer_file) if model.transformer_file else root / "transformer",
        "vae": component_folder(model.path, "vae") if shipped else root / "vae",
        "text_encoder": _text_encoder(model, root),
    }
    if not all(path and os.path.exists(path) for path in sources.values()):  # a text encoder given by hub id, say
        return None
    return {name: count_in(path) for name, path in sources.items()}


def _text_encoder(model: ModelConfig, root: Path) -> Path | None:
    if model.text_encoder == "shipped:smollm2":
        from llm_dit.encoders.smollm2 import smollm2_in_place

        return smollm2_in_place()
    if model.text_encoder is None:
        return root / "text_encoder"
    own = user_path(model.text_encoder)
    return own / "text_encoder" if (own / "text_encoder").is_dir() else own


def count_in(path: Path) -> int:
    """Values in a .gguf file, a .safetensors file, or all .safetensors files of a folder."""
    if path.suffix == ".gguf":
        from llm_dit.encoders.gguf import opened, read_header

        with opened(path) as data:
            return sum(prod(record.shape) for record in read_header(path, data)[1].values())
    files = [path] if path.is_file() else visible(path, "*.safetensors")
    return sum(prod(shape) for file in files for shape in safetensors_shapes(file, integers=True).values())
