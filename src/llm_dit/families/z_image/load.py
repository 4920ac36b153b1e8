"""Model files to modules: Z-Image transformers, VAEs, text encoders, and the schedule's shift.

Every weight must land: a missing or unexpected key is an error, never a silent random layer. Loading is
diffusers' and transformers' own; this module finds the files, picks the dtype and turns their failures into
one line. What is loaded stays in models/cache.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_dit.base.errors import ModelError, one_line
from llm_dit.config import ModelConfig
from llm_dit.families.autoencoder_kl.codec import VAE_FACTOR
from llm_dit.weights.folder import RANDOM, component_folder
from llm_dit.weights.modules import load_diffusers, load_single_file, quiet, settle
from llm_dit.weights.place import Placement


def load_transformer(model: ModelConfig, placement: Placement, attention_backend: str = "native") -> Any:
    """The ZImageTransformer2DModel of a model, in eval mode, with computed rotary positions."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.families.z_image.rotary import install_computed_rotary

    if model.path == RANDOM and not model.transformer_file:
        from llm_dit.families.z_image.tiny import tiny_transformer

        transformer = tiny_transformer().to(placement.torch_dtype)
    elif model.transformer_file:
        transformer = load_single_file(ZImageTransformer2DModel, model, placement)
    else:
        folder = component_folder(model.path, "transformer", model.revision)
        transformer = load_diffusers(ZImageTransformer2DModel, folder, placement)
    install_computed_rotary(transformer)
    set_attention(transformer, attention_backend)
    return settle(transformer, placement)


def load_transformer_folder(folder: Path, placement: Placement) -> Any:
    """The ZImageTransformer2DModel of a transformer's own folder, whatever model it belongs to."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    from llm_dit.families.z_image.rotary import install_computed_rotary

    transformer = load_diffusers(ZImageTransformer2DModel, folder, placement)
    install_computed_rotary(transformer)
    return settle(transformer, placement)


def load_vae(model: ModelConfig, placement: Placement) -> Any:
    """The AutoencoderKL of a model, in eval mode."""
    if model.path == RANDOM:
        from llm_dit.families.z_image.tiny import tiny_vae

        return settle(tiny_vae().to(placement.torch_dtype), placement)
    return load_vae_folder(component_folder(model.path, "vae", model.revision), placement)


def load_vae_folder(folder: Path, placement: Placement) -> Any:
    """The AutoencoderKL of a VAE's own folder, whatever model it belongs to."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = load_diffusers(AutoencoderKL, folder, placement)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise ModelError(f"{folder}: shrinks pictures {factor} times; this project needs {VAE_FACTOR} times.")
    return settle(vae, placement)


def set_attention(transformer: Any, backend: str) -> None:
    """Choose the attention kernel. Also for native: diffusers keeps the last choice for the whole process."""
    try:
        with quiet():
            transformer.set_attention_backend(backend)
    except Exception as error:
        raise ModelError(f"hardware.attention_backend={backend}: not usable here ({one_line(error)}).") from error
