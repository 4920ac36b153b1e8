"""Where a model's files are: shipped in this package, in a folder in diffusers' layout, or on the hub.

Only finding and downloading; modules.py turns the files into modules.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from llm_dit.base.errors import ModelError, nearest, one_line
from llm_dit.base.inputs import is_special, read_bytes
from llm_dit.base.paths import user_path, visible

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"
RANDOM = "random:tiny"  # the model of random weights that is made in memory
MAX_JSON = 256 * 2**20  # bytes; an index of a large model has a few
COMMON = "nano"  # the shipped model whose VAE and scheduler the other shipped ones have, too
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
HUB_MESSAGE = 600  # characters; the hub names the address and the remedy late in its messages
LANGUAGE_MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


class NoComponentError(ModelError):
    """A model that is there has no folder of a component."""


def component_folder(
    path: str, component: str, revision: str | None = None, *, weights: bool = True, key: str = "model.path"
) -> Path:
    """The folder of one component (transformer, vae, text_encoder, tokenizer, scheduler) of a model.

    path: shipped:NAME, a folder in diffusers' layout, or a hub id, of which only that component is downloaded,
    and without weights only its JSON files. key: the setting that the path came from, for messages.
    Raises ModelError when it is not there.
    """
    if path.startswith("shipped:"):
        root = SHIPPED / path.removeprefix("shipped:")
        if not (root / "transformer").is_dir():
            shipped = [p.parent.name for p in SHIPPED.glob("*/transformer")]
            raise ModelError(f"{key}={path}: no such shipped model. {nearest(root.name, shipped)}".rstrip())
        if not (root / component).is_dir() and (SHIPPED / COMMON / component).is_dir():
            root = SHIPPED / COMMON
    else:
        files = f"{component}/*" if weights else f"{component}/*.json"
        root = _local_folder(path, key) or _download(path, [files, "model_index.json"], revision, key)
    folder = root / component
    if not folder.is_dir():
        there = [p.name for p in visible(root) if p.is_dir()]
        raise NoComponentError(
            f"{root}: no '{component}' folder in it (found: {', '.join(there[:12]) or 'no folders'}); "
            "a model folder holds transformer, vae, text_encoder, tokenizer and scheduler, as diffusers saves it."
        )
    return _of_files(folder)


def language_model_folder(source: str, component: str) -> Path:
    """The folder of a text encoder or its tokenizer, for model.text_encoder.

    source: a folder or hub id, either of a language model (config, weights and tokenizer side by side) or of an
    image model, whose component is then meant.
    """
    key = "model.text_encoder"
    root = _local_folder(source, key)
    if root is None:
        root = _download(source, ["config.json", "model_index.json"], None, key)
        if (root / "config.json").is_file():
            return _download(source, LANGUAGE_MODEL_FILES, None, key, ignore=["*/*", "consolidated*"])
    return _of_files(root) if (root / "config.json").is_file() else component_folder(source, component, key=key)


def _of_files(folder: Path) -> Path:
    """The folder, if nothing in it is a FIFO, a device or a socket: libraries open what they find and would block."""
    special = next((path for path in sorted(folder.iterdir()) if is_special(path)), None)
    if special:
        raise ModelError(f"{special}: a FIFO, a device or a socket, not a file of a model.")
    return folder


def _local_folder(path: str, key: str) -> Path | None:
    """The folder of that name, or None for what looks like a hub id."""
    local = user_path(path)
    if path and os.path.isdir(local):
        return local
    if path and os.path.exists(local):
        hint = "A single transformer file goes into model.transformer_file." if key == "model.path" else ""
        raise ModelError(f"{key}={path}: a file, not a model folder. {hint}".rstrip())
    if not HUB_ID.fullmatch(path):
        raise ModelError(f"{key}={path[:200]}: there is no such folder, and it is not a hub id (owner/name).")
    return None


def _download(repo: str, files: list[str], revision: str | None, key: str, ignore: list[str] | None = None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files, ignore_patterns=ignore))
    except Exception as error:  # the hub's own, those of the network and of the file system
        raise ModelError(
            f"{key}={repo}: no folder of that name here, and it could not be fetched from the hub "
            f"({_reason(error, revision)}). Give the folder of a downloaded model: {key}=/path/to/model."
        ) from error


def _reason(error: Exception, revision: str | None) -> str:
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if is_offline_mode():
        return "HF_HUB_OFFLINE is set and its files are not in the cache"
    if isinstance(error, GatedRepoError):
        return "its owner lets in only those who accept the terms: do so on its page, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "it is not there, or it is private"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision}"
    return one_line(error, HUB_MESSAGE)


def read_json(path: Path) -> dict:
    """A JSON file of a model folder, which must hold an object. Raises ModelError when it is missing or broken."""
    try:
        value = json.loads(read_bytes(path, str(path), ModelError, MAX_JSON).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({one_line(error)}).") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: must hold a JSON object, not a {type(value).__name__}.")
    return value
