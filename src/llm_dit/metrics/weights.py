"""Weights of metrics: where they are, what is in them, and their short hash for a metric's identity.

A setting names a file, a folder or a hub id. Only tensors are read: .safetensors, or torch files by their weights-only
reader, which refuses pickled code. Which tensors a model needs is models/weights.check_weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from llm_dit.base.errors import ModelError, one_line
from llm_dit.base.paths import user_path
from llm_dit.weights.folder import HUB_ID
from llm_dit.weights.tensors import check_weights, safetensors_shapes

T = TypeVar("T")

TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most size items."""
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def enough_memory(count: int, device: str) -> Iterator[None]:
    """For the forward of count pictures: running out of the device's memory is a ModelError that says what helps."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"metrics.batch_size={max(1, count // 4)}" if count > 1 else "a smaller model"
        raise ModelError(
            f"scoring {count} at once does not fit into the memory of {device}. Try {smaller}, or hardware.device=cpu."
        ) from error


def find_file(key: str, value: str, names: Sequence[str], also: Sequence[str] = ()) -> Path:
    """The weights file that a setting names: itself a file, or the first of names in a folder or hub repository.

    key: the setting, for messages. also: files that may lie beside it and are fetched with it.
    Raises ModelError when it is not on this machine and cannot be downloaded.
    """
    local = _local(value)
    if _is_file(local):
        if local.suffix not in (".safetensors", *TORCH_ENDINGS):
            raise ModelError(f"{key}={value}: must end in .safetensors or {', '.join(TORCH_ENDINGS)}.")
        return local
    folder = local if _is_folder(local) else _download(key, value, also, names)
    return find_file_in(folder, *names, of=f"{key}={value}")


def find_file_in(folder: Path, *names: str, of: str = "") -> Path:
    """The first of names in a folder. of: what named the folder, for messages. Raises ModelError when none is there."""
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ModelError(f"{of or folder}: holds none of {', '.join(names)}.")
    return found


def find_folder(key: str, value: str, patterns: Sequence[str], names: Sequence[str] = ()) -> Path:
    """The folder that a setting names: itself a folder, or a hub id, of which files are fetched.

    patterns: the files to fetch; names: of these, the first that the repository has.
    Raises ModelError when it is not on this machine and cannot be downloaded.
    """
    local = _local(value)
    if _is_folder(local):
        return local
    if _is_file(local):
        raise ModelError(f"{key}={value}: a file, where a folder or a hub id is needed.")
    return _download(key, value, patterns, names)


def download(key: str, value: str, repo: str, names: Sequence[str]) -> Path:
    """The first of names that a hub repository has, fetched. key, value: the setting that meant it, for messages."""
    return find_file_in(_fetch(key, value, repo, (), names), *names, of=f"{key}={value}")


def _local(value: str) -> Path | None:
    """The path that a setting may mean, None for an empty one."""
    name = value.removeprefix("local-dir:").strip()
    return user_path(name) if name else None


def _is_file(path: Path | None) -> bool:
    return path is not None and os.path.isfile(path)


def _is_folder(path: Path | None) -> bool:
    return path is not None and os.path.isdir(path)


def _download(key: str, value: str, patterns: Sequence[str], names: Sequence[str]) -> Path:
    repo = value.removeprefix("hf-hub:")
    if value.startswith("local-dir:") or not HUB_ID.fullmatch(repo) or value.endswith((".safetensors", *TORCH_ENDINGS)):
        raise ModelError(f"{key}={value[:200]}: there is no such file or folder, and it is not a hub id (owner/name).")
    return _fetch(key, value, repo, patterns, names)


def _fetch(key: str, value: str, repo: str, patterns: Sequence[str], names: Sequence[str]) -> Path:
    """A repository's folder in the hub's cache, with the files of patterns and the first of names that it has."""
    from huggingface_hub import model_info, snapshot_download

    if names:
        try:  # repositories often hold the same weights twice
            there = {file.rfilename for file in model_info(repo, timeout=20).siblings}
            names = [name for name in names if name in there][:1]
        except Exception:  # no network: what is in the cache counts, and what is wrong is said below
            names = list(names)
    try:
        return Path(snapshot_download(repo, allow_patterns=[*patterns, *names]))
    except Exception as error:  # the hub's own, those of the network and of the file system
        raise not_here(key, value, error) from error


def not_here(key: str, value: str, error: BaseException) -> ModelError:
    """The error for weights that are neither on this machine nor to be had."""
    from huggingface_hub import is_offline_mode

    reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else one_line(error, 160)
    return ModelError(
        f"{key}={value}: not on this machine and could not be downloaded ({reason}). "
        f"Give a local copy: {key}=/path/to/it."
    )


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a weights file by name, without a 'state_dict' around them or 'module.' before each.

    Raises ModelError when it is damaged, or holds anything but tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        safetensors_shapes(path, integers=True)
        return load_file(path)
    try:
        with quiet():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own
        raise ModelError(
            f"{path}: not a file of tensors alone, or damaged (pickled code and TorchScript are not read): "
            f"{one_line(error, 120)}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path}: holds no named tensors.")
    other = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ModelError(f"{path}: '{other[0][:60]}' in it is not a tensor.")
    if all(str(name).startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return content


def fill(module: Any, tensors: dict[str, Any], where: Path) -> Any:
    """The module with exactly these tensors, in float32, frozen, in eval mode.

    Raises ModelError, naming some, when weights are missing, unexpected or of another shape.
    """
    import torch

    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check_weights(where, type(module).__name__, {k: tuple(v.shape) for k, v in tensors.items()}, wanted)
    own = {k: v.to(torch.float32, copy=True) if v.is_floating_point() else v.clone() for k, v in tensors.items()}
    module.load_state_dict(own, assign=True)
    return module.eval().requires_grad_(False)


def files_hash(*paths: Path) -> str:
    """16 hex digits of the sha256 of files' names and contents, in the order given; of one file, of its contents."""
    digests = [_file_hash(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    if len(digests) == 1:
        return digests[0][:16]
    named = "".join(f"{path.name} {digest}\n" for path, digest in zip(paths, digests, strict=True))
    return hashlib.sha256(named.encode()).hexdigest()[:16]


@cache
def _file_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(name: str, version: int, **parts: Any) -> str:
    """A metric's identity: 'clip v1 model=ViT-L-14 ...'. Of a path only its last name stands in it."""
    words = [f"{key}={_last_name(value) if isinstance(value, str) else value}" for key, value in parts.items()]
    return " ".join([f"{name} v{version}", *words])


def _last_name(value: str) -> str:
    path = _local(value)
    return path.name if _is_file(path) or _is_folder(path) else value


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, warnings or progress bars from libraries while they build and load; what matters is an error.

    open_clip logs through the root logger, which would install a handler for the whole process.
    """
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    root, null, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    bars = transformers_logging.is_progress_bar_enabled()
    root.addHandler(null)
    logging.disable(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(null)
        if bars:
            transformers_logging.enable_progress_bar()
