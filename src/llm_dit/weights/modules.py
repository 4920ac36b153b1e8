"""Weights of files to modules: every weight must land, on the right device, in memory of its own.

Loading is diffusers' and transformers' own; a failure of theirs becomes one line. Which classes a model has is its
family's.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError, one_line
from llm_dit.base.inputs import refuse_special
from llm_dit.base.paths import user_path
from llm_dit.config import ModelConfig
from llm_dit.weights.fingerprint import fingerprint
from llm_dit.weights.folder import RANDOM, component_folder, read_json
from llm_dit.weights.place import Placement
from llm_dit.weights.tensors import (
    check_weights,
    diffusers_layout,
    folder_shapes,
    read_single_file,
    restore_small_gguf_weights,
    tensor_shape,
)


def settle(module: Any, placement: Placement) -> Any:
    """Placed, frozen, and named by its weights."""
    import torch

    try:
        module = module.to(placement.resting_device).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{type(module).__name__} does not fit into the memory of {placement.device} beside what is there. "
            "Try hardware.offload=true, a .gguf in model.transformer_file, or hardware.device=cpu."
        ) from error
    module.weights_fingerprint = fingerprint(module)
    return module


def own_memory(module: Any, placement: Placement) -> Any:
    """The module with weights of its own on the CPU, instead of views into the mapped file.

    Views change or crash when the file is overwritten, and start at odd addresses, where kernels round differently:
    a picture would depend on the length of the file's header.
    """
    if placement.resting_device == "cpu":
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            tensor.data = tensor.data.clone()
    return module


def load_diffusers(cls: type, folder: Path, placement: Placement) -> Any:
    wanted = shapes(skeleton(cls, folder))
    check_weights(folder, cls.__name__, folder_shapes(folder, "diffusion_pytorch_model"), wanted)
    with loading(folder, cls.__name__):
        module = cls.from_pretrained(str(folder), torch_dtype=placement.torch_dtype, use_safetensors=True)
    return own_memory(module, placement)


def load_single_file(cls: type, model: ModelConfig, placement: Placement) -> Any:
    """A transformer from one .safetensors file (original or diffusers' names) or a quantized .gguf file."""
    path = user_path(str(model.transformer_file))
    refuse_special(path, f"model.transformer_file={path}", ModelError)
    if not path.is_file():
        raise ModelError(f"model.transformer_file={path}: there is no such file.")
    if path.suffix not in (".safetensors", ".gguf"):
        raise ModelError(f"model.transformer_file={path}: must end in .safetensors or .gguf (pickles are not read).")
    if model.path == RANDOM:
        raise ModelError(
            f"model.transformer_file={path}: {RANDOM} has no config for it; set model.path to the model it belongs to."
        )
    folder = component_folder(model.path, "transformer", model.revision, weights=False)
    empty = skeleton(cls, folder)
    wanted = shapes(empty)
    options: dict[str, Any] = {"config": str(folder), "torch_dtype": placement.torch_dtype}
    with loading(path, cls.__name__):
        checkpoint = diffusers_layout(read_single_file(path, placement.torch_dtype))
        if path.suffix == ".gguf":
            from diffusers import GGUFQuantizationConfig

            options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=placement.torch_dtype)
            restore_small_gguf_weights(checkpoint, wanted, linear_weights(empty))
        check_weights(path, cls.__name__, {k: tensor_shape(v) for k, v in checkpoint.items()}, wanted)
        module = cls.from_single_file(checkpoint, **options)
    return module if path.suffix == ".gguf" else own_memory(module, placement)


def skeleton(cls: type, folder: Path) -> Any:
    """The module that a folder's config.json describes, on the meta device: names and shapes, no memory."""
    from accelerate import init_empty_weights

    config = read_json(folder / "config.json")
    if config.get("_class_name") != cls.__name__:
        raise ModelError(f"{folder}: holds {config.get('_class_name')}, where {cls.__name__} is needed.")
    with loading(folder / "config.json", cls.__name__), init_empty_weights():
        return cls.from_config(config)


def shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def linear_weights(module: Any) -> set[str]:
    from torch.nn import Linear

    return {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Linear)}


@contextmanager
def loading(where: Path, what: str) -> Iterator[None]:
    """Quiet libraries, and whatever they raise as one line: safetensors, torch and the loaders have a dozen types."""
    try:
        with quiet():
            yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{where}: cannot be loaded as {what} ({one_line(error)}).") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings or progress bars from diffusers and transformers: what matters in them is an error here."""
    names = ("diffusers.utils.logging", "transformers.utils.logging")
    libraries = [sys.modules[name] for name in names if name in sys.modules]
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity(CRITICAL)
            library.disable_progress_bar()
        yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
