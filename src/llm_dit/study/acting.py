"""What of a cell's settings acts: two cells that differ only in what cannot act draw the same pictures."""

from __future__ import annotations

from dataclasses import replace

from llm_dit.config import (
    Config,
    DypeConfig,
    EmphasisConfig,
    GuidanceConfig,
    HighresConfig,
    MixConfig,
    NagConfig,
    SamplerConfig,
    SlgConfig,
    TilingConfig,
)
from llm_dit.diffusion.sigmas import start_at_strength, steps_of


def acting(config: Config) -> Config:
    """The config with every setting that is switched off by another at its default, and strength as a share of steps.

    What only the model or the prompt's length can tell, such as a layer that is the trained one, is left as it is.
    """
    off = {
        "guidance": (config.guidance.guidance_scale == 0, GuidanceConfig()),
        "slg": (config.slg.scale == 0, SlgConfig()),
        "nag": (config.nag.scale == 1 or config.nag.alpha == 0, NagConfig()),
        "dype": (config.dype.method == "none", DypeConfig()),
        "highres": (config.highres.mode == "none", HighresConfig()),
        "mix": (config.mix.mode == "none", MixConfig()),
        "emphasis": (config.emphasis.mode == "none", EmphasisConfig()),
        "tiling": (not config.tiling.enabled, TilingConfig()),
    }
    plain = {name: default for name, (idle, default) in off.items() if idle}
    if {"guidance", "nag"} <= plain.keys():
        plain["prompt"] = replace(config.prompt, negative="")
    if config.sampler.sigmas:
        plain["sampler"] = SamplerConfig(name=config.sampler.name, sigmas=config.sampler.sigmas)
    if not config.lora:
        plain |= {"lora_scale": 1.0, "lora_fuse": False}
    run, all_steps = steps_run(config)
    plain["strength"] = run / all_steps if config.init_image else Config().strength
    return replace(config, **plain)


def steps_run(config: Config) -> tuple[int, int]:
    """(steps that img2img's strength leaves, steps of the whole schedule)."""
    steps = steps_of(config.sampler)
    strength = config.strength if config.init_image else 1.0
    return len(start_at_strength([0.0] * (steps + 1), strength)) - 1, steps
