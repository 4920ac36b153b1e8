"""Parameters of the way from noise to latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from llm_dit.base.errors import ConfigError, short
from llm_dit.base.float32 import in_float32
from llm_dit.config.rule import MAX_SEED, Group, check_window, param


@dataclass
class GuidanceConfig(Group):
    """Guidance away from the negative prompt (CFG, Ho and Salimans 2022): pos + s (pos - neg). docs/guidance.md"""

    guidance_scale: float = param(
        0.0, "s in pos + s (pos - neg); 0 is off. The usual CFG weight is w = s + 1.", ge=0, le=100
    )
    method: str = param(
        "cfg",
        "cfg; apg projects the difference (2410.02416); cfg_zero scales the negative prediction first (2503.18886).",
        choices=("cfg", "apg", "cfg_zero"),
    )
    cfg_normalization: float = param(
        0.0, "Cap on |guided| / |positive| (norm of the whole picture); 0 is off, 1 keeps the norm.", ge=0, le=100
    )
    cfg_truncation: float = param(1.0, "Guidance stops once 1 - sigma is above this; 1 never stops it.", ge=0, le=1)
    sigma_high: float = param(1.0, "Guidance acts at sigma up to this (limited interval, 2404.07724).", gt=0, le=1)
    sigma_low: float = param(0.0, "Guidance acts at sigma above this.", ge=0, le=1)
    apg_eta: float = param(
        0.0, "apg: how much of the difference along the positive prediction stays; 1 all, as in CFG.", ge=0, le=10
    )
    apg_momentum: float = param(
        -0.5, "apg: share of the running difference that is added; below 0 turns away from it, 0 is off.", ge=-1, le=1
    )
    apg_norm_threshold: float = param(
        0.0, "apg: most norm of the difference, over the whole picture; 0 is off. Grows with the size.", ge=0, le=1e6
    )
    apg_space: str = param(
        "denoised",
        "apg: what is projected: the clean latents x - sigma v, as in the paper, or the velocity, as in diffusers.",
        choices=("denoised", "velocity"),
    )
    zero_init_steps: int = param(
        0, "cfg_zero: the first steps in which the velocity is 0, at no cost; the paper has 4 % of 28.", ge=0, le=1000
    )

    def check(self) -> None:
        check_window("guidance.", self.sigma_low, self.sigma_high)


@dataclass
class SlgConfig(Group):
    """Guidance away from the same model with layers left out (SD3.5, PAG, STG): v + s (pos - skipped)."""

    scale: float = param(
        0.0, "s in v + s (pos - skipped), with or without CFG; 0 is off. One more forward a step.", ge=0, le=100
    )
    kind: str = param(
        "block",
        "What is left out of a layer: block all of it (SLG, STG), attention or ff that branch; attention_identity "
        "makes every token attend to itself alone (PAG).",
        choices=("block", "attention", "ff", "attention_identity"),
    )
    layers: list[int] = param(
        [], "Main layers, from 0; an empty list takes those at the depth where SD3.5 skips, 7 to 9 of 24.", ge=0
    )
    sigma_high: float = param(1.0, "Acts at sigma up to this.", gt=0, le=1)
    sigma_low: float = param(0.0, "Acts at sigma above this.", ge=0, le=1)
    rescale: float = param(
        0.0, "How far the result's standard deviation is moved back to the positive one's; 0 is off.", ge=0, le=1
    )

    def check(self) -> None:
        check_window("slg.", self.sigma_low, self.sigma_high)


@dataclass
class NagConfig(Group):
    """Normalized attention guidance (2505.21179): a negative prompt inside attention, for models without CFG."""

    scale: float = param(
        1.0, "s in z = pos + (s - 1)(pos - neg), of attention outputs; 1 is off. The paper's number is s - 1.",
        ge=1, le=100,
    )  # fmt: skip
    tau: float = param(2.5, "Cap on |z| / |pos| in each token (L1 norm).", ge=1, le=100)
    alpha: float = param(0.25, "Share of z in alpha z + (1 - alpha) pos; 0 is off.", ge=0, le=1)
    sigma_high: float = param(1.0, "Acts at sigma up to this.", gt=0, le=1)
    sigma_low: float = param(0.0, "Acts at sigma above this.", ge=0, le=1)

    def check(self) -> None:
        check_window("nag.", self.sigma_low, self.sigma_high)


@dataclass
class DiversityConfig(Group):
    """More difference between the seeds of one prompt, or less. docs/diversity.md"""

    embed_strength: float = param(
        0.0, "Noise on the prompt's embeddings, in standard deviations of each token; 0 is off.", ge=0, le=100
    )
    embed_share: float = param(0.5, "Share of the user's tokens, or of their values, that get it.", ge=0, le=1)
    embed_unit: str = param(
        "values", "What the share is of: single values of a token, or whole tokens.", choices=("values", "tokens")
    )
    embed_sigma_high: float = param(1.0, "The noise on the embeddings acts at sigma up to this.", gt=0, le=1)
    embed_sigma_low: float = param(0.0, "It acts at sigma above this; below, the embeddings are clean.", ge=0, le=1)
    variation_seed: int | None = param(
        None, "Another seed, towards whose noise every picture's is moved.", ge=0, le=MAX_SEED
    )
    variation_strength: float = param(0.0, "How far: 0 is the picture's own noise, 1 the other seed's.", ge=0, le=1)
    blank_sigma: float = param(
        1.0, "At sigma above this the prompt is empty, so that the seed decides the composition; 1 is off.", ge=0, le=1
    )

    def check(self) -> None:
        check_window("diversity.embed_", self.embed_sigma_low, self.embed_sigma_high)
        if self.variation_strength > 0 and self.variation_seed is None:
            raise ConfigError(
                f"diversity.variation_strength={self.variation_strength:g} needs diversity.variation_seed, the seed "
                "towards whose noise the picture's is moved."
            )


@dataclass
class SamplerConfig(Group):
    """How the velocity field is integrated from noise (sigma 1) to the picture (sigma 0)."""

    name: str = param(
        "flow_euler",
        "Integrator: flow_euler, order 1; flow_heun, order 2 at two forwards a step; dpm_solver (2M) and unipc, higher "
        "order at one; lcm adds new noise after each step. docs/samplers.md",
        choices=("flow_euler", "flow_heun", "dpm_solver", "unipc", "lcm"),
    )
    steps: int = param(8, "Denoising steps; each is one forward of the transformer, two with guidance.", ge=1, le=1000)
    spacing: str = param(
        "uniform",
        "How sigmas lie between the first and the last above 0: evenly before the shift, by Karras et al., evenly in "
        "their logarithm, or as quantiles of a beta distribution.",
        choices=("uniform", "karras", "exponential", "beta"),
    )
    sigmas: list[float] = param(
        [], "The sigmas themselves, falling to 0, as they are: steps, spacing and shift then do nothing.", ge=0, le=1
    )
    shift: float | None = param(
        None, "Shift of the sigmas, s sigma / (1 + (s - 1) sigma); null takes the model's own.", gt=0, le=100
    )
    shift_mode: str = param(
        "static",
        "static takes sampler.shift; resolution takes exp(mu), mu linear in the picture's tokens of 16 x 16 pixels.",
        choices=("static", "resolution"),
    )
    base_shift: float = param(0.5, "resolution: mu at base_image_tokens; 0.5 is a shift of 1.65.", ge=-5, le=5)
    max_shift: float = param(1.15, "resolution: mu at max_image_tokens; 1.15 is a shift of 3.16.", ge=-5, le=5)
    base_image_tokens: int = param(256, "resolution: tokens at which mu is base_shift; 256 px square.", ge=1, le=262144)
    max_image_tokens: int = param(4096, "resolution: tokens at which mu is max_shift; 1024 px square.", ge=1, le=262144)

    def check(self) -> None:
        problem = problem_of(self.sigmas)
        if problem:
            raise ConfigError(f"sampler.sigmas={short(self.sigmas)}: {problem}")
        if self.base_image_tokens >= self.max_image_tokens:
            raise ConfigError("sampler.base_image_tokens must be below sampler.max_image_tokens.")


@dataclass
class DypeConfig(Group):
    """Rotary positions for pictures larger than model.trained_size (DyPE, 2510.20766). docs/high_resolution.md"""

    method: str = param(
        "none",
        "pi slows every channel, ntk the slow ones most, yarn by ramps; dy_ fades with sigma, and so does vision_yarn.",
        choices=("none", "pi", "ntk", "yarn", "vision_yarn", "dy_pi", "dy_ntk", "dy_yarn"),
    )
    lambda_s: float | None = param(
        None,
        "In kappa = lambda_s sigma^lambda_t, how much of the method acts; null is the paper's, 2 for dy_pi and dy_ntk, "
        "else 1.",
        ge=0, le=100,
    )  # fmt: skip
    lambda_t: float = param(2.0, "In the same: how fast it fades as the noise falls; 0 never fades.", ge=0, le=100)
    scaling: str = param(
        "per_axis",
        "per_axis stretches height and width each by its own excess, isotropic both by the larger.",
        choices=("per_axis", "isotropic"),
    )
    alpha: float = param(
        1.0, "yarn, dy_yarn: channels with fewer turns than this over trained_size are slowed fully.", ge=0, le=1000
    )
    beta: float = param(32.0, "yarn, dy_yarn: channels with more turns than this stay as they are.", gt=0, le=1000)
    attention_scale: float = param(
        0.1, "yarns: c in m = 1 + c ln(stretch), by which queries and keys are multiplied; 0 is off.", ge=0, le=1
    )

    def check(self) -> None:
        if self.alpha >= self.beta:
            raise ConfigError("dype.alpha must be below dype.beta.")


@dataclass
class HighresConfig(Group):
    """Two stages: a picture at the trained size, then the same larger, noised and drawn again."""

    mode: str = param("none", "two_stage draws small first, then refines the upscaled.", choices=("none", "two_stage"))
    base_size: int | None = param(
        None, "Longer side of the first stage in pixels; null takes model.trained_size.", ge=16, le=8192, multiple_of=16
    )
    strength: float = param(0.6, "How far the upscaled picture is noised: 1 ignores it, near 0 keeps it.", gt=0, le=1)
    upscale: str = param(
        "pixel",
        "pixel decodes, enlarges by Lanczos and encodes; latent enlarges the latents by bicubic interpolation.",
        choices=("pixel", "latent"),
    )
    steps: int | None = param(
        None, "Steps of the second stage's whole schedule, of which strength is run; null takes sampler.steps.",
        ge=1, le=1000,
    )  # fmt: skip


def explicit_sigmas(levels: Sequence[float]) -> list[float]:
    """Levels as they are given, with a 0 behind them if they do not end in one. Never shifted."""
    return [*levels] if levels[-1] == 0 else [*levels, 0.0]


def problem_of(levels: Sequence[float]) -> str | None:
    """What is wrong with an explicit list of noise levels, or None. An empty one is none."""
    if not levels:
        return None
    rounded = [in_float32(level) for level in explicit_sigmas(levels)]
    if rounded[0] == 0:
        return "no step is left: the first level must be above 0 in float32."
    if any(not a > b for a, b in pairwise(rounded)):
        return "each level must be below the one before it, in float32."
    return None
