"""Model files to modules: Z-Image transformers, VAEs, text encoders, and the schedule's shift.

Every weight must land: a missing or unexpected key is an error, never a silent random layer. Loading is
diffusers' and transformers' own; this module finds the files, picks the dtype and turns their failures into
one line. What is loaded stays in cache.py.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

from llm_dit.config import ModelConfig
from llm_dit.errors import ModelError, one_line
from llm_dit.inputs import refuse_special
from llm_dit.models.fingerprint import fingerprint
from llm_dit.models.folder import NoComponentError, component_folder, language_model_folder, read_json
from llm_dit.models.place import Placement
from llm_dit.models.schedule import Schedule, read_schedule
from llm_dit.models.vae import VAE_FACTOR
from llm_dit.models.weights import (
    check_weights,
    diffusers_layout,
    folder_shapes,
    read_single_file,
    restore_small_gguf_weights,
    tensor_shape,
)
from llm_dit.paths import user_path, visible
from llm_dit.text.encoder import TransformersTextEncoder

RANDOM = "random:tiny"


def load_transformer(model: ModelConfig, placement: Placement, attention_backend: str = "native") -> Any:
    """The ZImageTransformer2DModel of a model, in eval mode, with computed rotary positions."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.denoise.rotary import install_computed_rotary

    if model.path == RANDOM and not model.transformer_file:
        from llm_dit.models.tiny import tiny_transformer

        transformer = tiny_transformer().to(placement.torch_dtype)
    elif model.transformer_file:
        transformer = _load_single_file(ZImageTransformer2DModel, model, placement)
    else:
        folder = component_folder(model.path, "transformer", model.revision)
        transformer = _load_diffusers(ZImageTransformer2DModel, folder, placement)
    install_computed_rotary(transformer)
    set_attention(transformer, attention_backend)
    return _settle(transformer, placement)


def load_transformer_folder(folder: Path, placement: Placement) -> Any:
    """The ZImageTransformer2DModel of a transformer's own folder, whatever model it belongs to."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.denoise.rotary import install_computed_rotary

    transformer = _load_diffusers(ZImageTransformer2DModel, folder, placement)
    install_computed_rotary(transformer)
    return _settle(transformer, placement)


def load_vae(model: ModelConfig, placement: Placement) -> Any:
    """The AutoencoderKL of a model, in eval mode."""
    if model.path == RANDOM:
        from llm_dit.models.tiny import tiny_vae

        return _settle(tiny_vae().to(placement.torch_dtype), placement)
    return load_vae_folder(component_folder(model.path, "vae", model.revision), placement)


def load_vae_folder(folder: Path, placement: Placement) -> Any:
    """The AutoencoderKL of a VAE's own folder, whatever model it belongs to."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = _load_diffusers(AutoencoderKL, folder, placement)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise ModelError(f"{folder}: shrinks pictures {factor} times; this project needs {VAE_FACTOR} times.")
    return _settle(vae, placement)


def load_text_encoder(model: ModelConfig, placement: Placement) -> TransformersTextEncoder:
    """The text encoder of a model with its tokenizer; model.text_encoder replaces the model's own."""
    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        from llm_dit.models.tiny import tiny_text_encoder

        language_model, tokenizer = tiny_text_encoder()
    elif source and (source == "shipped:smollm2" or source.endswith(".gguf")):
        from llm_dit.models.gguf_lm import load_gguf_llm
        from llm_dit.models.smollm2 import smollm2_gguf_path

        path = smollm2_gguf_path() if source == "shipped:smollm2" else user_path(source)
        language_model, tokenizer = load_gguf_llm(path)
    else:
        language_model, tokenizer = _load_language_model(model, placement)
    language_model = _settle(language_model.to(placement.torch_dtype), placement)
    return TransformersTextEncoder(language_model, tokenizer, language_model.weights_fingerprint)


def load_tokenizer(model: ModelConfig) -> TransformersTextEncoder:
    """A text encoder that can only tokenize: enough to preview a prompt without loading the language model."""
    from types import SimpleNamespace

    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        from llm_dit.models.tiny import tiny_tokenizer

        tokenizer = tiny_tokenizer()
    elif source and (source == "shipped:smollm2" or source.endswith(".gguf")):
        from llm_dit.models.gguf_lm import load_gguf_tokenizer
        from llm_dit.models.smollm2 import smollm2_gguf_path

        tokenizer = load_gguf_tokenizer(smollm2_gguf_path() if source == "shipped:smollm2" else user_path(source))
    else:
        tokenizer = _load_hf_tokenizer(model)
    return TransformersTextEncoder(
        SimpleNamespace(config=SimpleNamespace(num_hidden_layers=0, hidden_size=0)), tokenizer
    )


def load_schedule(model: ModelConfig) -> Schedule:
    """The model's own schedule. Raises ModelError for one that is missing or cannot be followed."""
    if model.path == RANDOM:
        return Schedule(RANDOM, shift=3.0)
    return read_schedule(component_folder(model.path, "scheduler", model.revision) / "scheduler_config.json")


def find_schedule(model: ModelConfig) -> Schedule | None:
    """The model's own schedule, None where it has none: enough for a run whose settings say everything."""
    try:
        return load_schedule(model)
    except NoComponentError:
        return None


def load_shift(model: ModelConfig) -> float:
    """The shift that the model's own schedule uses. Raises ModelError for a schedule that depends on resolution."""
    return load_schedule(model).static_shift()


def _settle(module: Any, placement: Placement) -> Any:
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


def _own_memory(module: Any, placement: Placement) -> Any:
    """The module with weights of its own on the CPU, instead of views into the mapped file.

    Views change or crash when the file is overwritten, and start at odd addresses, where kernels round differently:
    a picture would depend on the length of the file's header.
    """
    if placement.resting_device == "cpu":
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            tensor.data = tensor.data.clone()
    return module


def _load_diffusers(cls: type, folder: Path, placement: Placement) -> Any:
    wanted = _shapes(_skeleton(cls, folder))
    check_weights(folder, cls.__name__, folder_shapes(folder, "diffusion_pytorch_model"), wanted)
    with _loading(folder, cls.__name__):
        module = cls.from_pretrained(str(folder), torch_dtype=placement.torch_dtype, use_safetensors=True)
    return _own_memory(module, placement)


def _load_single_file(cls: type, model: ModelConfig, placement: Placement) -> Any:
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
    skeleton = _skeleton(cls, folder)
    wanted = _shapes(skeleton)
    options: dict[str, Any] = {"config": str(folder), "torch_dtype": placement.torch_dtype}
    with _loading(path, cls.__name__):
        checkpoint = diffusers_layout(read_single_file(path, placement.torch_dtype))
        if path.suffix == ".gguf":
            from diffusers import GGUFQuantizationConfig

            options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=placement.torch_dtype)
            restore_small_gguf_weights(checkpoint, wanted, _linear_weights(skeleton))
        check_weights(path, cls.__name__, {k: tensor_shape(v) for k, v in checkpoint.items()}, wanted)
        module = cls.from_single_file(checkpoint, **options)
    return module if path.suffix == ".gguf" else _own_memory(module, placement)


def _skeleton(cls: type, folder: Path) -> Any:
    """The module that a folder's config.json describes, on the meta device: names and shapes, no memory."""
    from accelerate import init_empty_weights

    config = read_json(folder / "config.json")
    if config.get("_class_name") != cls.__name__:
        raise ModelError(f"{folder}: holds {config.get('_class_name')}, where {cls.__name__} is needed.")
    with _loading(folder / "config.json", cls.__name__), init_empty_weights():
        return cls.from_config(config)


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _linear_weights(module: Any) -> set[str]:
    from torch.nn import Linear

    return {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, Linear)}


def _load_language_model(model: ModelConfig, placement: Placement) -> tuple[Any, Any]:
    from transformers import AutoModel

    folder = _language_model_folder(model, "text_encoder")
    read_json(folder / "config.json")
    folder_shapes(folder, "model", integers=True)
    with _loading(folder, "text encoder"):
        language_model, info = AutoModel.from_pretrained(
            str(folder),
            dtype=placement.torch_dtype,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,  # left open, transformers asks a question on the terminal
            ignore_mismatched_sizes=True,  # reported in info, and refused below
        )
    # Checkpoints saved with the token-predicting head carry one tensor that hidden states do not need.
    unexpected = [k for k in info["unexpected_keys"] if not k.startswith("lm_head.")]
    found = dict.fromkeys(unexpected, ()) | {name: found for name, found, _ in info["mismatched_keys"]}
    wanted = _shapes(language_model)
    found |= {k: shape for k, shape in wanted.items() if k not in info["missing_keys"] and k not in found}
    check_weights(folder, type(language_model).__name__, found, wanted)
    config = language_model.config
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise ModelError(
            f"{folder}: holds {type(language_model).__name__}; the text encoder must be a decoder-only language model."
        )
    return _own_memory(language_model, placement), _load_hf_tokenizer(model)


def _load_hf_tokenizer(model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    folder = _language_model_folder(model, "tokenizer")
    there = [p.name for p in visible(folder)]
    if not any(name.startswith(("tokenizer.", "vocab.")) for name in there):
        raise ModelError(f"{folder}: no tokenizer in it; it must hold tokenizer.json (found: {', '.join(there[:8])}).")
    with _loading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer does not report positions in the text; it needs a tokenizer.json.")
    return tokenizer


def _language_model_folder(model: ModelConfig, component: str) -> Path:
    """The folder of the text encoder or tokenizer; a model.text_encoder folder may hold both side by side."""
    if model.text_encoder is None:
        return component_folder(model.path, component, model.revision)
    return language_model_folder(model.text_encoder, component)


def set_attention(transformer: Any, backend: str) -> None:
    """Choose the attention kernel. Also for native: diffusers keeps the last choice for the whole process."""
    try:
        with _quiet():
            transformer.set_attention_backend(backend)
    except Exception as error:
        raise ModelError(f"hardware.attention_backend={backend}: not usable here ({one_line(error)}).") from error


@contextmanager
def _loading(where: Path, what: str) -> Iterator[None]:
    """Quiet libraries, and whatever they raise as one line: safetensors, torch and the loaders have a dozen types."""
    try:
        with _quiet():
            yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{where}: cannot be loaded as {what} ({one_line(error)}).") from error


@contextmanager
def _quiet() -> Iterator[None]:
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
