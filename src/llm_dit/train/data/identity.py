"""Which weights a cache was made with, known without loading them.

The name is the weights' fingerprint (weights/fingerprint.py). It is remembered for the files it was taken from, by
their sizes and times of change, so that a second run does not load a text encoder only to learn its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from llm_dit.base.errors import OutputError
from llm_dit.base.files import write_whole
from llm_dit.base.paths import user_path
from llm_dit.config import ModelConfig
from llm_dit.models.cache import Models
from llm_dit.weights.folder import RANDOM, component_folder, language_model_folder

MODELS_FILE = "llm-dit-models.json"
KIND = ("llm_dit", "fingerprints of models")  # the entry that tells the file for ours
PROBE = "A red fox, 2 owls; <|im_start|> über 狐"


def vae_identity(models: Models, memory: Path | None) -> str:
    """16 hex digits for a VAE with its scaling, and the precision it runs in."""

    def load() -> str:
        vae = models.vae
        return f"{vae.weights_fingerprint} {vae.config.scaling_factor} {vae.config.shift_factor}"

    model = models.model
    folders = [] if model.path == RANDOM else [component_folder(model.path, "vae", model.revision)]
    return _remembered(models, folders, load, memory)


def encoder_identity(models: Models, memory: Path | None) -> str:
    """16 hex digits for a text encoder with its tokenizer, and the precision it runs in."""
    own_chat = models.model.chat_format == "tokenizer"  # else the chat is this project's, and part of a text's key

    def load() -> str:
        encoder = models.text_encoder
        said = f"{encoder.fingerprint} {encoder.tokenize(PROBE)[0]}"
        if own_chat:
            said += encoder.apply_chat_template([{"role": "user", "content": PROBE}])
        return said

    return _remembered(models, _encoder_files(models.model), load, memory, "chat" if own_chat else "")


def _encoder_files(model: ModelConfig) -> list[Path]:
    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        return []
    if source == "shipped:smollm2":
        from llm_dit.encoders.smollm2 import smollm2_gguf_path

        return [smollm2_gguf_path()]
    if source and source.endswith(".gguf"):
        return [user_path(source)]
    parts = ("text_encoder", "tokenizer")
    if source is None:
        return [component_folder(model.path, part, model.revision) for part in parts]
    return [language_model_folder(source, part) for part in parts]


def _remembered(
    models: Models, places: list[Path], load: Callable[[], str], memory: Path | None, also: str = ""
) -> str:
    """A short name of what load() says and of the precision. places: the files and folders it comes from.

    also: what else load() looks at.
    """
    stamp = _stamp(places) + also
    known = _read(memory)
    if not places or memory is None or stamp not in known:
        said = load()
        if places and memory is not None:
            write_whole({memory: json.dumps({**dict([KIND]), **known, stamp: said}, indent=1).encode()})
    else:
        said = known[stamp]
    return hashlib.sha256(f"{said} {models.placement.dtype}".encode()).hexdigest()[:16]


def _stamp(places: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                status = path.stat()
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _read(memory: Path | None) -> dict[str, str]:
    """What is remembered. Raises OutputError for a file of that name that is not ours."""
    if memory is None or not os.path.lexists(memory):
        return {}
    try:
        values = {} if memory.is_symlink() else json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = {}
    if not isinstance(values, dict) or values.get(KIND[0]) != KIND[1]:
        raise OutputError(f"{memory}: was not written by llm-dit; move it away, or take another data.cache.")
    return values
