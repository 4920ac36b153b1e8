"""The record of one picture: enough to draw it again, to know what was really said and run, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_dit.config import Config, to_dict
from llm_dit.denoise.guidance import cfg_is_on
from llm_dit.picture import RECORD_VERSION, file_sha256, pixels_sha256
from llm_dit.versions import versions

if TYPE_CHECKING:
    import numpy as np

    from llm_dit.render import Run


def describe(run: Run, seed: int, nfe: int, pixels: np.ndarray, seconds: dict[str, float]) -> dict[str, Any]:
    """The record as plain values. seconds: by stage; nfe: forwards of the transformer that this picture cost."""
    config, models = run.config, run.models
    scale = config.guidance.guidance_scale
    encoded = [e for e in (run.positive, run.negative) if e]
    return {
        "record_version": RECORD_VERSION,
        "config": to_dict(config),
        "seed": seed,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        **run.positive.record(),
        "negative": run.negative.record() if run.negative else None,
        "sigmas": run.sigmas,
        "shift": models.shift if config.sampler.shift is None else config.sampler.shift,
        "nfe": nfe,
        # The same strength in both conventions: s in pos + s (pos - neg), w = s + 1 in neg + w (pos - neg).
        "guidance": {"guidance_scale": scale, "cfg_weight": scale + 1.0},
        "model_fingerprint": {
            "transformer": models.transformer.weights_fingerprint,
            "vae": models.vae.weights_fingerprint,
            "text_encoder": run.positive.encoder_fingerprint,
        },
        "init_image_sha256": file_sha256(config.init_image) if config.init_image else None,
        "device": models.placement.device,
        "dtype": models.placement.dtype,
        "seconds": seconds,
        "warnings": [e.warning for e in encoded if e.warning] + idle_settings(config, run.sigmas),
        "versions": versions(),
        "pixels_sha256": pixels_sha256(pixels),
    }


def idle_settings(config: Config, sigmas: list[float]) -> list[str]:
    """Settings that were given and cannot act, one line each."""
    g = config.guidance
    if g.guidance_scale == 0:
        given = {
            "prompt.negative": bool(config.prompt.negative),
            "guidance.cfg_normalization": g.cfg_normalization > 0,
            "guidance.cfg_truncation": g.cfg_truncation < 1,
        }
        return [f"{key} has no effect: guidance.guidance_scale is 0." for key, is_given in given.items() if is_given]
    if not any(cfg_is_on(s, g.guidance_scale, g.cfg_truncation) for s in sigmas[:-1]):
        return [f"guidance has no effect: cfg_truncation={g.cfg_truncation:g} switches it off at every step."]
    return []
