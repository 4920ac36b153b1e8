"""What weight files hold, read from their headers, and whether a module can take it.

Checked before a module is filled: a file that is cut short, belongs to another model or lacks a tensor is then one
line of error, where the libraries print pages and leave random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError, one_line
from llm_dit.base.inputs import refuse_special
from llm_dit.base.paths import visible
from llm_dit.weights.folder import read_json
from llm_dit.weights.scaled_fp8 import is_beside, unscaled

Shapes = dict[str, tuple[int, ...]]

# Prefixes that single files put before the transformer's names, and what else such a file may carry.
TRANSFORMER_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
OTHER_COMPONENTS = ("vae.", "first_stage_model.", "text_encoders.", "cond_stage_model.")


def folder_shapes(folder: Path, stem: str, *, integers: bool = False) -> Shapes:
    """Names and shapes of a component's weights: STEM.safetensors, or the shards that its index names.

    integers: take whole-number tensors too, which language models may carry as buffers.
    Raises ModelError when a file is missing or cut short. Pickled weights (.bin) are not read.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{index}: has no weight_map; it is not an index of weights.")
        shards = sorted(set(weight_map.values()))
        absent = [name for name in shards if not (folder / name).is_file()]
        if absent:
            raise ModelError(
                f"{folder}: {len(absent)} of its {len(shards)} weight files are missing, the first is "
                f"'{absent[0]}'. The download is not complete."
            )
        return {k: v for name in shards for k, v in safetensors_shapes(folder / name, integers=integers).items()}
    single = folder / f"{stem}.safetensors"
    if not single.is_file():
        there = ", ".join([p.name for p in visible(folder)][:8]) or "nothing"
        raise ModelError(f"{folder}: no weights in it. It must hold {single.name} or its shards (found: {there}).")
    return safetensors_shapes(single, integers=integers)


def safetensors_shapes(path: Path, *, integers: bool = False) -> Shapes:
    """Names and shapes in a .safetensors file. Raises ModelError when it is damaged, or holds integers unasked."""
    from safetensors import SafetensorError, safe_open

    refuse_special(path, str(path), ModelError)
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: tuple(s.get_shape()) for name, s in slices.items()}
            kinds = {name: s.get_dtype() for name, s in slices.items()}
            integer = [k for k, kind in kinds.items() if not kind.startswith(("F", "BF")) and not is_beside(k)]
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: {_damage(path)} ({one_line(error)}).") from error
    if integer and not integers:
        raise ModelError(
            f"{path}: holds integer weights ({len(integer)}, the first is '{integer[0]}'), a quantization that is not "
            "read. Take the bfloat16 file, or a .gguf."
        )
    if not shapes:
        raise ModelError(f"{path}: holds no weights.")
    return shapes


def _damage(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return "cannot be read"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
    return "cut short, damaged, or not a safetensors file; download it again"


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """Shape of a tensor; of a quantized GGUF one, the shape it decodes to."""
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def check_weights(where: Path, class_name: str, found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """Raises ModelError unless the names and shapes found are exactly those wanted."""
    missing = sorted(wanted.keys() - found.keys())
    unexpected = sorted(found.keys() - wanted.keys())
    wrong = sorted(name for name in wanted.keys() & found.keys() if tuple(wanted[name]) != tuple(found[name]))
    if len(missing) == len(wanted):
        raise ModelError(
            f"{where}: none of its {len(found)} weights belongs to {class_name}, the first is '{unexpected[0]}'."
        )
    faults = []
    if missing:
        faults.append(f"{_count(missing, 'missing weight')}, the first is '{missing[0]}'")
    if unexpected:
        faults.append(f"{_count(unexpected, 'unexpected weight')}, the first is '{unexpected[0]}'")
    if wrong:
        name = wrong[0]
        faults.append(
            f"{_count(wrong, 'weight')} of another shape, the first is '{name}': {tuple(found[name])}, "
            f"where {tuple(wanted[name])} is needed"
        )
    if faults:
        raise ModelError(f"{where}: {'; '.join(faults)}. It is incomplete, or made for another model or config.json.")


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''}"


def read_single_file(path: Path, dtype: Any = None) -> dict[str, Any]:
    """The tensors of a .safetensors or .gguf file by name, scaled float8 in dtype. Raises ModelError when damaged."""
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    if path.suffix == ".safetensors":
        safetensors_shapes(path)
    try:
        tensors = load_single_file_checkpoint(str(path))
    except Exception as error:  # the GGUF reader takes the file apart unchecked and fails in many ways
        raise ModelError(f"{path}: cut short, damaged, or of an unknown kind ({one_line(error)}).") from error
    return tensors if path.suffix == ".gguf" else unscaled(path, tensors, safetensors_header(path), dtype)


def safetensors_header(path: Path) -> dict[str, str]:
    """The text in a .safetensors file's header."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def diffusers_layout(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A single file's transformer weights under diffusers' names: without prefixes, qkv split, other parts left out."""
    from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers

    for prefix in TRANSFORMER_PREFIXES:
        if any(name.startswith(prefix) for name in checkpoint):
            checkpoint = {
                name.removeprefix(prefix): tensor
                for name, tensor in checkpoint.items()
                if not name.startswith(OTHER_COMPONENTS)
            }
            break
    # diffusers' own names must not be converted: 'all_x_embedder.2-1' contains 'x_embedder.'.
    if any(name.startswith("x_embedder.") or ".attention.qkv." in name for name in checkpoint):
        return convert_z_image_transformer_checkpoint_to_diffusers(checkpoint)
    return checkpoint


def restore_small_gguf_weights(checkpoint: dict[str, Any], wanted: Mapping[str, tuple], linear: set[str]) -> None:
    """In place: decode what only a linear layer could take quantized, and give flattened tokens their shape back.

    GGUF writers drop leading ones from shapes and keep norms and pad tokens in any type, bfloat16 among them.
    """
    import torch
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    for name, tensor in checkpoint.items():
        if isinstance(tensor, GGUFParameter) and name not in linear:
            tensor = dequantize_gguf_tensor(tensor)
            tensor = tensor.as_tensor() if isinstance(tensor, GGUFParameter) else tensor
            checkpoint[name] = tensor.to(torch.float32)
        shape = tuple(wanted.get(name, ()))
        if shape[:1] == (1,) and tuple(checkpoint[name].shape) == shape[1:]:
            checkpoint[name] = checkpoint[name].reshape(shape)
