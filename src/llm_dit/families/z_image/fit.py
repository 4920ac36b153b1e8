"""Do a text encoder, a transformer and a VAE belong together? By the widths that they hand to each other alone."""

from __future__ import annotations

from typing import Any

from llm_dit.base.errors import ModelError


def check_features(given: int, transformer: Any, combine: str, layers: int) -> None:
    """Raises ModelError unless the transformer takes `given` features a token. layers: how many were combined."""
    taken = transformer.cap_embedder[0].weight.shape[0]
    if given == taken:
        return
    if combine == "concat":
        raise ModelError(
            f"encoder_layer.combine=concat gives {layers} x {given // layers} = {given} features a token, this "
            f"transformer takes {taken}; another combine or encoder_layer.align=ridge fits it."
        )
    raise ModelError(
        f"the text encoder gives {given} features a token, the transformer takes {taken}: "
        "model.text_encoder does not belong to this model."
    )


def check_channels(transformer: Any, given: int) -> None:
    """Raises ModelError unless the transformer's latents have the VAE's `given` channels."""
    if transformer.in_channels != given:
        raise ModelError(
            f"the transformer draws {transformer.in_channels} latent channels, the VAE decodes {given}: not one model."
        )
