"""The transformer that a training starts from, and which of its weights are trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_dit.base.errors import ConfigError, ModelError, nearest
from llm_dit.base.paths import user_path
from llm_dit.config import Config, ModelConfig, TrainConfig
from llm_dit.families.z_image import load
from llm_dit.train.flow import stream_seed
from llm_dit.weights.place import Placement

if TYPE_CHECKING:
    from diffusers import ZImageTransformer2DModel

ADAPTER = "default"
INIT_STREAM = 7  # uses of flow.stream_seed outside the steps


def start_transformer(config: Config, device: str, frozen_dtype: str) -> ZImageTransformer2DModel:
    """The transformer on a device with the trained weights in float32, and only those needing gradients.

    frozen_dtype: of the weights that method=lora leaves alone. Raises ModelError for quantized weights, ConfigError
    when nothing would be trained.
    """
    settings = config.train
    dtype = frozen_dtype if settings.method == "lora" else "float32"
    model = load_start(config.model, settings, Placement(device, dtype))
    refuse_quantized(model, config.model)
    if settings.start == "random":
        model = random_weights(model, settings.seed)
    load.set_attention(model, config.hardware.attention_backend)
    if settings.method == "lora":
        add_adapter(model, settings)
    else:
        choose_trained(model, settings.trainable)
    if settings.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model


def load_start(model: ModelConfig, settings: TrainConfig, placement: Placement) -> ZImageTransformer2DModel:
    """The model's transformer, or that of train.init: a model folder, or a transformer's own."""
    if settings.init is None:
        return load.load_transformer(model, placement)
    return load.load_transformer_folder(init_folder(settings.init, "transformer"), placement)


def start_vae(config: Config, device: str) -> Any:
    """The VAE that method=vae trains, in float32: the model's own, or that of train.init."""
    settings, placement = config.train, Placement(device, "float32")
    if settings.init is None:
        vae = load.load_vae(config.model, placement)
    else:
        vae = load.load_vae_folder(init_folder(settings.init, "vae"), placement)
    if settings.start == "random":
        vae = random_weights(vae, settings.seed)
    choose_trained(vae, settings.trainable)
    if settings.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    return vae


def init_folder(typed: str, component: str) -> Path:
    """The folder that train.init means: a component's own, or a model's. Raises ModelError."""
    folder = user_path(typed)
    if not folder.is_dir():
        raise ModelError(f"train.init={folder}: there is no such folder.")
    if (folder / "config.json").is_file():
        return folder
    if not (folder / component).is_dir():
        raise ModelError(f"train.init={folder}: no config.json in it, and no folder '{component}'.")
    return folder / component


def refuse_quantized(model: Any, named: ModelConfig) -> None:
    """Raises ModelError for a transformer whose weights cannot take gradients."""
    quantized = getattr(model, "is_quantized", False) or any(not p.is_floating_point() for p in model.parameters())
    if quantized or str(named.transformer_file or "").endswith(".gguf"):
        raise ModelError(
            f"model.transformer_file={named.transformer_file}: quantized weights cannot be trained; take the bfloat16 "
            "or float32 ones."
        )


def random_weights(model: Any, seed: int) -> Any:
    """A model of the same architecture with new weights, as diffusers starts them."""
    from llm_dit.families.z_image.rotary import install_computed_rotary

    example = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, 0, 0, 0, INIT_STREAM))
        fresh = type(model).from_config(model.config)
    if hasattr(fresh, "rope_embedder"):
        install_computed_rotary(fresh)
    return fresh.to(example.device, example.dtype).eval().requires_grad_(False)


def choose_trained(model: torch.nn.Module, pattern: str) -> None:
    """Let the weights whose whole names match need gradients. Raises ConfigError when none does."""
    matched = [p for name, p in model.named_parameters() if compiled("train.trainable", pattern).fullmatch(name)]
    if not matched:
        raise nothing_matches("train.trainable", pattern, [name for name, _ in model.named_parameters()])
    for p in matched:
        p.requires_grad_(True)


def add_adapter(model: ZImageTransformer2DModel, settings: TrainConfig) -> None:
    """A LoRA adapter on the linear layers whose whole names match, in float32, its output zero at first."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    lora = settings.lora
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    if not any(compiled("train.lora.targets", lora.targets).fullmatch(name) for name in linear):
        raise nothing_matches("train.lora.targets", lora.targets, linear)
    # Left to itself, peft takes what matches by name and fails on what is no linear layer.
    targets = [name for name in linear if re.fullmatch(lora.targets, name)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(settings.seed, 0, 0, 0, INIT_STREAM))
        model.add_adapter(
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=targets,
            ),
            adapter_name=ADAPTER,
        )
    cast_training_params(model, torch.float32)


def compiled(key: str, pattern: str) -> re.Pattern[str]:
    """A regular expression. Raises ConfigError for what is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{key}={pattern}: not a regular expression ({error}).") from error


def nothing_matches(key: str, pattern: str, names: list[str]) -> ConfigError:
    """The error for a pattern that no name matches whole."""
    plain = re.sub(r"\\d[+*]?", "0", pattern).replace("\\", "")
    partly = [name for name in names if re.search(pattern, name)]
    hint = f"It must match whole names, such as '{partly[0]}'." if partly else nearest(plain, names)
    return ConfigError(f"{key}={pattern}: nothing to train, no name matches. {hint[:300]}")


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What gets gradients, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
