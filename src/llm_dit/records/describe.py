"""The record of one picture: enough to draw it again, to know what was really said and run, and what it cost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_dit.base.versions import versions
from llm_dit.config import Config, GuidanceConfig, NagConfig, SamplerConfig, SlgConfig, to_dict
from llm_dit.diffusion.dype import describe_dype, idle_positions
from llm_dit.diffusion.guidance import cfg_is_on, forwards_at, in_window, nag_is_given, zero_init_above
from llm_dit.diffusion.highres import idle_highres
from llm_dit.diffusion.samplers import is_euler
from llm_dit.diffusion.sigmas import steps_of
from llm_dit.families.z_image.skip import layers_to_skip
from llm_dit.families.z_image.text_axis import describe_text_axis
from llm_dit.images.pixels import file_sha256, pixels_sha256
from llm_dit.records.describe_prompts import (
    describe_diversity,
    describe_mix,
    idle_on_picture,
    idle_prompts,
    text_warnings,
)
from llm_dit.records.schema import RECORD_VERSION
from llm_dit.text.emphasis import has_weights
from llm_dit.weights.lora import describe_loras, idle_loras

if TYPE_CHECKING:
    import numpy as np

    from llm_dit.conditioning.encode import Encoded
    from llm_dit.records.run import Run


def describe(run: Run, seed: int, nfe: int, pixels: np.ndarray, seconds: dict[str, float]) -> dict[str, Any]:
    """The record as plain values. seconds: by stage; nfe: forwards of the transformer that this picture cost."""
    config, models = run.config, run.models
    last, trained = run.second or run, config.model.trained_size
    positions = describe_text_axis(config.long_prompt, run.longest_text)
    return {
        "record_version": RECORD_VERSION,
        "config": to_dict(config),
        "seed": seed,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        **run.positive.record(positions),
        "negative": run.negative.record(positions) if run.negative else None,
        "mix": describe_mix(run, positions),
        "diversity": describe_diversity(run, positions),
        "sigmas": run.sigmas,
        "shift": run.shift,
        "sampler": config.sampler.name,
        "nfe": nfe,
        "guidance": describe_guidance(config, run.sigmas, len(models.transformer.layers)),
        "dype": describe_dype(config.dype, last.size, trained, last.sigmas),
        "highres": describe_second(run, run.second) if run.second else None,
        "model_fingerprint": {
            "transformer": models.transformer.weights_fingerprint,
            "vae": models.vae.weights_fingerprint,
            "text_encoder": run.positive.encoder_fingerprint,
        },
        "lora": describe_loras(models.wanted_loras, models.loras, models.fused),
        "init_image_sha256": file_sha256(config.init_image) if config.init_image else None,
        "device": models.placement.device,
        "dtype": models.placement.dtype,
        "seconds": seconds,
        "warnings": list(run.foreseen)
        + text_warnings(run)
        + idle_prompts(config, run.levels)
        + idle_on_picture(run, seed)
        + idle_settings(config, run.levels)
        + idle_emphasis(config, [run.positive, run.negative, run.mixed])
        + idle_sampling(config.sampler, run.sigmas, run.start is not None)
        + idle_positions(config.dype, last.size, trained)
        + idle_highres(config.highres, config.sampler, last.size, trained)
        + idle_loras(config, models.wanted_loras, models.loras)
        + idle_plain(config, last.size),
        "versions": versions(),
        "pixels_sha256": pixels_sha256(pixels),
    }


def describe_second(run: Run, second: Run) -> dict[str, Any]:
    """The second stage of highres: the first one's size, and this one's noise levels and guidance. nfe counts both."""
    plain = replace(run.config.guidance, zero_init_steps=0)  # it begins with a picture, so nothing is left out
    guided = describe_guidance(replace(run.config, guidance=plain), second.sigmas, len(run.models.transformer.layers))
    return {
        "base_width": run.size[1],
        "base_height": run.size[0],
        "strength": run.config.highres.strength,
        "upscale": run.config.highres.upscale,
        "sigmas": second.sigmas,
        "shift": second.shift,
        "guidance": guided,
    }


def describe_guidance(config: Config, sigmas: list[float], depth: int) -> dict[str, Any]:
    """What guidance did, and at which of the run's noise levels; slg and nag are None when they were off.

    guidance_scale and cfg_weight are the same strength in both conventions: s in pos + s (pos - neg), w = s + 1 in
    neg + w (pos - neg). depth: of the transformer's main layers.
    """
    g, slg, nag = config.guidance, config.slg, config.nag
    zero_above = zero_init_above(g, sigmas)
    needs = {s: forwards_at(s, g, slg, nag, zero_above) for s in sigmas[:-1]}
    skipped = {"scale": slg.scale, "kind": slg.kind, "rescale": slg.rescale}
    attended = {"scale": nag.scale, "tau": nag.tau, "alpha": nag.alpha}
    return {
        "guidance_scale": g.guidance_scale,
        "cfg_weight": g.guidance_scale + 1.0,
        "method": g.method if g.guidance_scale > 0 else "none",
        "sigmas": [s for s, need in needs.items() if need.negative],
        "zero_sigmas": [s for s, need in needs.items() if not need.positive],
        "slg": skipped
        | {"layers": layers_to_skip(slg.layers, depth), "sigmas": [s for s, need in needs.items() if need.skipped]}
        if slg.scale > 0
        else None,
        "nag": attended | {"sigmas": [s for s, need in needs.items() if need.nag]} if nag_is_given(nag) else None,
    }


def idle_settings(config: Config, sigmas: list[float]) -> list[str]:
    """Settings that were given and cannot act, one line each."""
    g, slg, nag = config.guidance, config.slg, config.nag
    lines = []
    if config.prompt.negative and g.guidance_scale == 0 and not nag_is_given(nag):
        lines.append("prompt.negative has no effect: guidance.guidance_scale is 0 and nag is off.")
    if g.guidance_scale == 0:
        lines += [f"{key} has no effect: guidance.guidance_scale is 0." for key in given("guidance", g)]
    else:
        for method, prefix in (("apg", "apg_"), ("cfg_zero", "zero_init_")):
            if g.method != method:
                idle = [key for key in given("guidance", g) if key.startswith(f"guidance.{prefix}")]
                lines += [f"{key} has no effect: guidance.method is {g.method}." for key in idle]
        if not any(cfg_is_on(s, g.guidance_scale, 1.0, g.sigma_low, g.sigma_high) for s in sigmas[:-1]):
            lines.append(f"guidance has no effect: {no_step(g, sigmas)}")
        elif not any(cfg_is_on(s, g.guidance_scale, g.cfg_truncation, g.sigma_low, g.sigma_high) for s in sigmas[:-1]):
            lines.append(f"guidance has no effect: cfg_truncation={g.cfg_truncation:g} switches it off at every step.")
    if slg.scale == 0:
        lines += [f"{key} has no effect: slg.scale is 0." for key in given("slg", slg)]
    elif not any(in_window(s, slg.sigma_low, slg.sigma_high) for s in sigmas[:-1]):
        lines.append(f"slg has no effect: {no_step(slg, sigmas)}")
    if nag.scale == 1:
        lines += [f"{key} has no effect: nag.scale is 1." for key in given("nag", nag)]
    elif nag.alpha == 0:
        lines.append("nag has no effect: nag.alpha is 0.")
    elif not any(in_window(s, nag.sigma_low, nag.sigma_high) for s in sigmas[:-1]):
        lines.append(f"nag has no effect: {no_step(nag, sigmas)}")
    return lines


def idle_plain(config: Config, size: tuple[int, int]) -> list[str]:
    """The start's strength and the tiles, where given and without effect, one line each. size: (height, width)."""
    lines, tiling = [], config.tiling
    if config.strength != Config().strength and not config.init_image:
        lines.append("strength has no effect: there is no init_image.")
    if not tiling.enabled:
        lines += [f"{key} has no effect: tiling.enabled is false." for key in given("tiling", tiling)]
    elif max(size) <= tiling.tile_size:
        lines.append(f"tiling has no effect: the picture is no larger than tiling.tile_size={tiling.tile_size}.")
    return lines


def idle_emphasis(config: Config, encoded: list[Encoded | None]) -> list[str]:
    """Weights that are not read, and settings of emphasis that were given and cannot act, one line each.

    encoded: prompt, negative prompt and second prompt, None for one that does not act.
    """
    e = config.emphasis
    keys = [key for key in given("emphasis", e) if key != "emphasis.mode"]
    if e.mode == "none":
        lines = [f"{key} has no effect: emphasis.mode is none." for key in keys]
        texts = (config.prompt.text, config.prompt.negative, config.mix.text)
        said = zip(("the prompt", "prompt.negative", "mix.text"), texts, encoded, strict=True)
        unread = [name for name, text, is_read in said if is_read and has_weights(text or "")]
        return lines + [
            f"{name} holds weights such as (words:1.3), which emphasis.mode=none reads as text; emphasis=attention or "
            "emphasis=from_empty reads them as weights."
            for name in unread
        ]
    read = [text.emphasis for text in encoded if text]
    if not any(r["groups"] for r in read):
        return [f"emphasis.mode={e.mode} has no effect: no words in the prompt have a weight, as (words:1.3) has."]
    lines = []
    if not any(r["tokens"] for r in read):
        cut = any(text and text.length["tokens_asked"] > text.length["tokens_read"] for text in encoded)
        why = "the weighted words were cut off, or weigh 1" if cut else "every weight is 1"
        lines.append(f"emphasis.mode={e.mode} has no effect: {why}.")
    if "emphasis.weight" in keys and not any(r["plain"] for r in read):
        lines.append("emphasis.weight has no effect: every weight in the prompt has a number of its own.")
    if "emphasis.queries" in keys and e.mode != "attention":
        lines.append(f"emphasis.queries has no effect: emphasis.mode is {e.mode}.")
    return lines


def idle_sampling(sampler: SamplerConfig, sigmas: list[float], from_image: bool) -> list[str]:
    """Settings of the sampler that were given and cannot act, and noise levels that no noise matches, one line each."""
    by_resolution = ("base_shift", "max_shift", "base_image_tokens", "max_image_tokens")
    idle: dict[str, str] = {}
    if sampler.sigmas:
        idle = dict.fromkeys(("spacing", "shift", "shift_mode", *by_resolution), "sampler.sigmas gives the levels")
    elif sampler.shift_mode == "resolution":
        idle = {"shift": "sampler.shift_mode is resolution"}
    else:
        idle = dict.fromkeys(by_resolution, "sampler.shift_mode is static")
    if not sampler.sigmas and sampler.steps == 1:
        idle |= dict.fromkeys(("spacing", "shift", "shift_mode"), "one step leads from 1 to 0")
    keys = given("sampler", sampler)
    lines = [f"sampler.{k} has no effect: {why}." for k, why in idle.items() if f"sampler.{k}" in keys]
    if sampler.sigmas and steps_of(sampler) != sampler.steps:
        lines.append(f"sampler.steps={sampler.steps} has no effect: sampler.sigmas has {steps_of(sampler)} steps.")
    if is_euler(sampler.name, sigmas):
        few = "1 step is" if len(sigmas) == 2 else f"{len(sigmas) - 1} steps are"
        lines.append(f"sampler.name={sampler.name} draws what flow_euler does: {few} too few.")
    if sampler.sigmas and not from_image and sigmas[0] < 1:
        lines.append(f"sampler.sigmas starts at {sigmas[0]:g}: pure noise is taken for a picture at that level.")
    return lines


def given(group: str, settings: Any) -> list[str]:
    """The keys of a group that are not at their default, without its scale."""
    values, plain = to_dict(settings), to_dict(type(settings)())
    return [f"{group}.{k}" for k in values if values[k] != plain[k] and k not in ("scale", "guidance_scale")]


def no_step(window: GuidanceConfig | SlgConfig | NagConfig, sigmas: list[float]) -> str:
    """Why a window does nothing, with the noise levels there are."""
    levels = ", ".join(f"{s:.3g}" for s in sigmas[:-1])
    return f"no step's sigma is above {window.sigma_low:g} and at most {window.sigma_high:g} (they are {levels})."
