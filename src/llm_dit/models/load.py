"""Model files to modules: Z-Image transformers, VAEs, text encoders, and the schedule's shift.

Every weight must land: a missing or unexpected key is an error, never a silent random layer. Loading is
diffusers' and transformers' own; this module finds the files, picks the dtype and turns their failures into
one line. What is loaded stays in cache.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_dit.config import ModelConfig
from llm_dit.errors import ModelError
from llm_dit.models.fingerprint import fingerprint
from llm_dit.models.folder import component_folder, read_json
from llm_dit.models.place import Placement
from llm_dit.text.encoder import TransformersTextEncoder

TRANSFORMER_CLASS = "ZImageTransformer2DModel"
VAE_CLASS = "AutoencoderKL"
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
        transformer = _load_diffusers(ZImageTransformer2DModel, TRANSFORMER_CLASS, folder, placement)
    install_computed_rotary(transformer)
    if attention_backend != "native":
        _set_attention(transformer, attention_backend)
    return _settle(transformer, placement)


def load_vae(model: ModelConfig, placement: Placement) -> Any:
    """The AutoencoderKL of a model, in eval mode."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    if model.path == RANDOM:
        from llm_dit.models.tiny import tiny_vae

        return _settle(tiny_vae().to(placement.torch_dtype), placement)
    folder = component_folder(model.path, "vae", model.revision)
    return _settle(_load_diffusers(AutoencoderKL, VAE_CLASS, folder, placement), placement)


def load_text_encoder(model: ModelConfig, placement: Placement) -> TransformersTextEncoder:
    """The text encoder of a model with its tokenizer; model.text_encoder replaces the model's own."""
    source = model.text_encoder
    if (source is None and model.path == RANDOM) or source == RANDOM:
        from llm_dit.models.tiny import tiny_text_encoder

        language_model, tokenizer = tiny_text_encoder()
    elif source and (source == "shipped:smollm2" or source.endswith(".gguf")):
        from llm_dit.models.gguf_lm import load_gguf_llm, smollm2_gguf_path

        path = smollm2_gguf_path() if source == "shipped:smollm2" else Path(source).expanduser()
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
        from llm_dit.models.gguf_lm import load_gguf_tokenizer, smollm2_gguf_path

        tokenizer = load_gguf_tokenizer(
            smollm2_gguf_path() if source == "shipped:smollm2" else Path(source).expanduser()
        )
    else:
        tokenizer = _load_hf_tokenizer(model)
    return TransformersTextEncoder(
        SimpleNamespace(config=SimpleNamespace(num_hidden_layers=0, hidden_size=0)), tokenizer
    )


def load_shift(model: ModelConfig) -> float:
    """The shift that the model's own schedule uses. Raises ModelError for a schedule that depends on resolution."""
    if model.path == RANDOM:
        return 3.0
    scheduler = read_json(component_folder(model.path, "scheduler", model.revision) / "scheduler_config.json")
    if scheduler.get("use_dynamic_shifting"):
        raise ModelError(
            f"{model.path}: its schedule shifts with resolution, which is not supported; set sampler.shift to a number."
        )
    return float(scheduler.get("shift", 1.0))


def _settle(module: Any, placement: Placement) -> Any:
    """Placed, frozen, and named by its weights."""
    module = module.to(placement.resting_device).eval().requires_grad_(False)
    module.weights_fingerprint = fingerprint(module)
    return module


def _load_diffusers(cls: type, class_name: str, folder: Path, placement: Placement) -> Any:
    found = read_json(folder / "config.json").get("_class_name")
    if found != class_name:
        raise ModelError(f"{folder}: holds a {found}, not a {class_name}.")
    try:
        module, info = cls.from_pretrained(str(folder), torch_dtype=placement.torch_dtype, output_loading_info=True)
    except ModelError:
        raise
    except Exception as error:  # safetensors, torch and diffusers raise a dozen types here
        raise ModelError(f"{folder}: cannot be loaded as {class_name} ({_one_line(error)}).") from error
    _refuse_key_mismatch(folder, info["missing_keys"], info["unexpected_keys"])
    return module


def _load_single_file(cls: type, model: ModelConfig, placement: Placement) -> Any:
    """A transformer from one .safetensors file (original or diffusers keys) or a quantized .gguf file."""
    from safetensors import SafetensorError, safe_open

    path = Path(str(model.transformer_file)).expanduser()
    if not path.is_file():
        raise ModelError(f"model.transformer_file={path}: there is no such file.")
    config = component_folder(model.path, "transformer", model.revision)
    options: dict[str, Any] = {"config": str(config), "torch_dtype": placement.torch_dtype}
    if path.suffix == ".gguf":
        from diffusers import GGUFQuantizationConfig

        options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=placement.torch_dtype)
    elif path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                keys = len(file.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: not a readable safetensors file ({_one_line(error)}).") from error
        if keys == 0:
            raise ModelError(f"{path}: holds no weights.")
    else:
        raise ModelError(f"model.transformer_file={path}: must end in .safetensors or .gguf (pickles are not read).")
    try:
        module = cls.from_single_file(str(path), **options)
    except Exception as error:
        raise ModelError(f"{path}: cannot be loaded as {TRANSFORMER_CLASS} ({_one_line(error)}).") from error
    on_meta = [name for name, p in module.named_parameters() if p.device.type == "meta"]
    _refuse_key_mismatch(path, on_meta, [])
    return module


def _load_language_model(model: ModelConfig, placement: Placement) -> tuple[Any, Any]:
    from transformers import AutoModel

    folder = _language_model_folder(model, "text_encoder")
    try:
        language_model, info = AutoModel.from_pretrained(
            str(folder), dtype=placement.torch_dtype, output_loading_info=True, local_files_only=True
        )
    except Exception as error:
        raise ModelError(f"{folder}: cannot be loaded as a text encoder ({_one_line(error)}).") from error
    # Checkpoints saved with the token-predicting head carry one tensor that hidden states do not need.
    unexpected = [k for k in info["unexpected_keys"] if not k.startswith("lm_head.")]
    _refuse_key_mismatch(folder, info["missing_keys"], unexpected)
    return language_model, _load_hf_tokenizer(model)


def _load_hf_tokenizer(model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    folder = _language_model_folder(model, "tokenizer")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise ModelError(f"{folder}: cannot be loaded as a tokenizer ({_one_line(error)}).") from error


def _language_model_folder(model: ModelConfig, component: str) -> Path:
    """The folder of the text encoder or tokenizer; a model.text_encoder folder may hold both side by side."""
    source = model.text_encoder
    if source is None:
        return component_folder(model.path, component, model.revision)
    root = Path(source).expanduser()
    if (root / "config.json").is_file():
        return root
    if root.exists() and not root.is_dir():
        raise ModelError(f"model.text_encoder={source}: must be shipped:smollm2, a folder, a hub id or a .gguf file.")
    return component_folder(source, component)


def _set_attention(transformer: Any, backend: str) -> None:
    try:
        transformer.set_attention_backend(backend)
    except Exception as error:
        raise ModelError(f"hardware.attention_backend={backend}: not usable here ({_one_line(error)}).") from error


def _refuse_key_mismatch(where: Path, missing: Any, unexpected: Any) -> None:
    for word, keys in (("missing", sorted(missing)), ("unexpected", sorted(unexpected))):
        if keys:
            raise ModelError(f"{where}: {len(keys)} {word} weights, the first is '{keys[0]}'.")


def _one_line(error: Exception, limit: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
