"""The one declaration of every parameter: type, default, help, range or choices, and whether it changes the picture.

Hydra's validation, the docs table (docs/parameters.md), a picture's identity and the error messages all
come from these dataclasses. Values for a given model or machine live in conf/. Nothing here imports torch,
and nothing here knows how a config was composed (compose.py does).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_SEED = 2**63 - 1

FLOAT16_REASON = (
    "float16 overflows in Z-Image's activations and gives black pictures; "
    "use bfloat16 (same memory) or float32, or 'auto' to choose by device"
)


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy, and what it is for.

    help: one line for people. image: whether the value can change the pixels beyond rounding.
    ge, gt, le: bounds, inclusive but for gt; for a list they hold for each item. multiple_of: for pixel sizes.
    choices: the allowed strings. refused: strings that are refused with a reason of their own.
    """

    help: str
    image: bool = True
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    multiple_of: int | None = None
    choices: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def describe_range(self) -> str:
        """The rule as a person reads it, such as '1 to 1000' or 'auto, cpu, cuda'; empty if anything goes."""
        if self.choices:
            return ", ".join(self.choices)
        words = []
        if self.ge is not None and self.le is not None:
            words.append(f"{self.ge:g} to {self.le:g}" if self.le != MAX_SEED else f"{self.ge:g} to 2^63 - 1")
        elif self.ge is not None:
            words.append(f"at least {self.ge:g}")
        elif self.gt is not None and self.le is not None:
            words.append(f"above {self.gt:g}, up to {self.le:g}")
        elif self.gt is not None:
            words.append(f"above {self.gt:g}")
        elif self.le is not None:
            words.append(f"at most {self.le:g}")
        if self.multiple_of:
            words.append(f"a multiple of {self.multiple_of}")
        return ", ".join(words)


def param(default: Any, help: str, **rule: Any) -> Any:
    """A dataclass field with its Rule."""
    metadata = {"rule": Rule(help, **rule)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class PromptConfig:
    """What is said to the text encoder, as the parts of a chat."""

    text: str | None = param(None, "The prompt: the user's message. A bare argument on the command line sets it.")
    negative: str = param("", "What to steer away from; it acts only while guidance or nag is on.")
    system: str = param("", "System message put before the prompt; empty leaves the system turn out.")
    thinking: str = param("", "Text of the think block that opens the assistant's turn (Qwen3 format only).")
    assistant: str = param("", "Beginning of the assistant's answer, after the think block.")
    force_think_block: bool = param(False, "Write a think block even when prompt.thinking is empty.")
    strip_quotes: bool = param(False, 'Delete every " from all parts: quoted words tend to be drawn as text.')
    clean_whitespace: bool = param(False, "Strip the parts, fold runs of blanks, keep at most one empty line.")
    template: str | None = param(
        None, "Name of a template in templates/ (or a path to one) that fills the parts left empty here."
    )


@dataclass
class ModelConfig:
    """Which weights draw. A model option also sets the size, steps, shift and guidance the model was made for."""

    name: str = param("nano", "Label of the model in records and grids.", image=False)
    path: str = param(
        "shipped:nano",
        "shipped:NAME (in this package), random:tiny (random weights), a diffusers folder, or a hub id.",
    )
    revision: str | None = param(None, "Branch, tag or commit of a hub id.")
    transformer_file: str | None = param(
        None, "A single .safetensors or .gguf file with the transformer, in place of the folder's own."
    )
    text_encoder: str | None = param(
        None, "Text encoder other than the model's own: shipped:smollm2, a folder, a hub id, or a .gguf file."
    )
    chat_format: str = param(
        "qwen3",
        "How the prompt is dressed: as Qwen3 does, as plain ChatML, or by the tokenizer's own template.",
        choices=("qwen3", "chatml", "tokenizer"),
    )
    trained_size: int = param(
        1024,
        "Side of the pictures the model was trained on, in pixels: what dype and highres start from; set by the model.",
        ge=16, le=8192, multiple_of=16,
    )  # fmt: skip


@dataclass
class EncoderLayerConfig:
    """Which hidden states of the text encoder condition the picture."""

    index: int = param(
        -2, "Index into hidden_states: 0 the embeddings, -1 the last layer after the final norm, -2 the one before."
    )
    layers: list[int] = param([], "Several hidden states to combine, as [-2,-8,-16]; empty takes index alone.")
    layer_range: list[int] = param(
        [], "The same as a range: [first, last] or [first, last, step], both ends included; [-24,-2,2]."
    )
    weights: list[float] = param(
        [], "One for each layer, in their order; divided by their sum. Empty is equal weights.", ge=-1000, le=1000
    )
    pre_norm: bool = param(False, "Take the last layer (-1) as it is before the encoder's final norm.")
    norm: str = param(
        "none",
        "Of each layer before it is combined: rms and layernorm within a token, per_channel over fit_prompts.",
        choices=("none", "rms", "layernorm", "per_channel"),
    )
    combine: str = param(
        "mean",
        "Several layers to one. concat puts them side by side, for a transformer (or align=ridge) of that width.",
        choices=("mean", "weighted", "norm_mean", "slerp", "concat"),
    )
    align: str = param(
        "none",
        "Map the result to the layer the model was trained on: match moments, ridge regression, or a rotation.",
        choices=("none", "moments", "ridge", "procrustes"),
    )
    ridge: float = param(0.01, "Penalty of align=ridge, as a share of the mean variance of a feature.", ge=0, le=1000)
    fit_prompts: str = param("standard", "Set of prompts (name or .yaml) that align and per_channel are fitted on.")
    trained_index: int | None = param(None, "The layer the model was trained on; set by the model option.")
    tokens: str = param(
        "all", "Which tokens condition the picture: all, or the user's without the chat template.",
        choices=("all", "user"),
    )  # fmt: skip


@dataclass
class LongPromptConfig:
    """What happens to a prompt with more tokens than max_tokens (template included)."""

    mode: str = param(
        "truncate",
        "truncate cuts the user's words and warns; refuse is an error; interpolate, pool, attention_pool and merge "
        "press the user's tokens into max_tokens; segments encodes pieces of max_tokens apart, extend the text as a "
        "whole, and both give the transformer all tokens.",
        choices=("truncate", "refuse", "interpolate", "pool", "attention_pool", "merge", "segments", "extend"),
    )
    max_tokens: int = param(512, "Most text tokens, template included; Z-Image was trained with 512.", ge=16, le=32768)
    encoder_max_tokens: int = param(
        8192, "Most tokens that the LLM reads, template included; what is over is cut.", ge=16, le=32768
    )
    positions: str = param(
        "plain",
        "With segments and extend, positions of the text beyond max_tokens: as they come, or slowed by position "
        "interpolation (pi) or NTK scaling until they lie within.",
        choices=("plain", "pi", "ntk"),
    )


@dataclass
class GuidanceConfig:
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


@dataclass
class SlgConfig:
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


@dataclass
class NagConfig:
    """Normalized attention guidance (2505.21179): a negative prompt inside attention, for models without CFG."""

    scale: float = param(
        1.0, "s in z = pos + (s - 1)(pos - neg), of attention outputs; 1 is off. The paper's number is s - 1.",
        ge=1, le=100,
    )  # fmt: skip
    tau: float = param(2.5, "Cap on |z| / |pos| in each token (L1 norm).", ge=1, le=100)
    alpha: float = param(0.25, "Share of z in alpha z + (1 - alpha) pos; 0 is off.", ge=0, le=1)
    sigma_high: float = param(1.0, "Acts at sigma up to this.", gt=0, le=1)
    sigma_low: float = param(0.0, "Acts at sigma above this.", ge=0, le=1)


@dataclass
class SamplerConfig:
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


@dataclass
class DypeConfig:
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


@dataclass
class HighresConfig:
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


@dataclass
class TilingConfig:
    """Decoding and encoding in overlapping tiles: bounded memory, slightly different pixels. docs/high_resolution.md"""

    enabled: bool = param(False, "Use tiles when the picture is larger than one.")
    tile_size: int = param(512, "Side of a tile in pixels.", ge=64, le=4096, multiple_of=64)
    overlap: float = param(0.25, "Share of a tile that is blended with its neighbour.", ge=0.05, le=0.5)


@dataclass
class HardwareConfig:
    """Where and how it runs. None of this changes what is drawn beyond rounding."""

    device: str = param(
        "auto", "auto takes cuda, then mps, then cpu.", image=False, choices=("auto", "cpu", "cuda", "mps")
    )
    dtype: str = param(
        "auto",
        "auto takes bfloat16 on an accelerator and float32 on the CPU.",
        image=False,
        choices=("auto", "bfloat16", "float32"),
        refused={"float16": FLOAT16_REASON, "fp16": FLOAT16_REASON, "half": FLOAT16_REASON},
    )
    batch_size: int = param(
        1, "Pictures per forward. 1 makes a seed's picture the same to the bit whatever runs beside it.",
        image=False, ge=1, le=256,
    )  # fmt: skip
    offload: bool = param(
        False, "Keep each part on the accelerator only while it works: less memory, slower.", image=False
    )
    attention_backend: str = param(
        "native",
        "Attention kernel of the transformer, by diffusers' names; all but native need their own package.",
        image=False,
        choices=("native", "flex", "flash", "_flash_3", "sage", "xformers", "_native_math", "_native_efficient"),
    )
    threads: int | None = param(None, "CPU threads for torch; null leaves torch's choice.", image=False, ge=1, le=1024)


@dataclass
class OutputConfig:
    """Where results go."""

    dir: str = param("outputs/images", "Folder for pictures and their records; made when missing.", image=False)
    name: str | None = param(
        None, "File name without ending; null makes one from prompt, seed and settings.", image=False
    )


@dataclass
class PromptsConfig:
    """A set of prompts for a sweep: every cell draws all of them. Without one, a sweep draws prompt.text."""

    set: str | None = param(
        None, "Name of a set in prompts/, or a path to a .yaml file; null uses prompt.text.", image=False
    )
    ids: list[str] = param([], "Only the prompts with these ids.", image=False)
    categories: list[str] = param([], "Only the prompts of these categories.", image=False)
    difficulties: list[str] = param([], "Only the prompts of these difficulties.", image=False)
    count: int | None = param(None, "Only the first so many, after the other filters.", image=False, ge=1)


@dataclass
class TrackerConfig:
    """Where a sweep's pictures and numbers are shown as they come. The sweep's own folder holds them all anyway."""

    name: str = param("none", "Tracker of a sweep.", image=False, choices=("none", "trackio", "wandb"))
    project: str = param("llm-dit", "Project in W&B; in Trackio every sweep is a project.", image=False)


@dataclass
class SweepConfig:
    """Where a sweep is kept and what it compares. sweep=NAME runs the study in sweeps/NAME.yaml."""

    name: str | None = param(
        None, "Folder in sweep.dir; null makes one from the axes and the fixed settings, so a command finds its own.",
        image=False,
    )  # fmt: skip
    dir: str = param("outputs/sweeps", "Folder of all sweeps.", image=False)
    file: str | None = param(None, "The study being run: a name in sweeps/, or a path; set by sweep=NAME.", image=False)
    axes: list[str] = param([], "The keys that are swept; set by the sweeper for each cell.", image=False)
    metric: str = param(
        "seconds", "What hydra/sweeper=optuna is given of a cell: the mean of a column of the table.", image=False
    )


@dataclass
class ClipMetric:
    """CLIP similarity, through open_clip."""

    enabled: bool = param(False, "Score with CLIP: 100 x the cosine of picture and prompt.", image=False)
    model: str = param(
        "ViT-L-14", "Architecture by open_clip's name, or a folder or hub id of model and weights.", image=False
    )
    weights: str = param("openai", "One of open_clip's tags for the model, or a file.", image=False)


@dataclass
class SiglipMetric:
    """SigLIP logit, through open_clip."""

    enabled: bool = param(False, "Score with SigLIP: the logit, which does not saturate.", image=False)
    model: str = param(
        "ViT-B-16-SigLIP2", "Architecture by open_clip's name, or a folder or hub id of model and weights.", image=False
    )
    weights: str = param("webli", "One of open_clip's tags for the model, or a file.", image=False)


@dataclass
class PickScoreMetric:
    """PickScore (Kirstain and others 2023): CLIP ViT-H-14 tuned on people's choices."""

    enabled: bool = param(False, "Score with PickScore.", image=False)
    weights: str = param("yuvalkirstain/PickScore_v1", "Hub id, folder or file of the weights.", image=False)


@dataclass
class HpsMetric:
    """HPSv2.1 (Wu and others 2023): CLIP ViT-H-14 tuned on people's preferences."""

    enabled: bool = param(False, "Score with HPSv2.1.", image=False)
    weights: str = param("xswu/HPSv2", "Hub id, folder or file of the weights.", image=False)


@dataclass
class ImageRewardMetric:
    """ImageReward (Xu and others 2023), on transformers' BLIP."""

    enabled: bool = param(False, "Score with ImageReward.", image=False)
    weights: str = param("zai-org/ImageReward", "Hub id, folder or file of the weights (ImageReward.pt).", image=False)
    tokenizer: str = param("google-bert/bert-base-uncased", "Hub id or folder of the BERT tokenizer.", image=False)


@dataclass
class VqaMetric:
    """Questions to a vision language model, one for each element of the prompt (VQAScore, Lin and others 2024)."""

    enabled: bool = param(False, "Score by asking Qwen3-VL whether each element of the prompt is there.", image=False)
    model: str = param("Qwen/Qwen3-VL-2B-Instruct", "Hub id or folder of a Qwen3-VL model.", image=False)


@dataclass
class AestheticMetric:
    """LAION's aesthetic predictor: a small network over CLIP ViT-L-14."""

    enabled: bool = param(False, "Score with the aesthetic predictor.", image=False)
    weights: str = param(
        "trl-lib/ddpo-aesthetic-predictor",
        "Hub id, folder or file of the predictor (sac+logos+ava1-l14-linearMSE.pth).",
        image=False,
    )
    clip_weights: str = param(
        "openai", "ViT-L-14: one of open_clip's tags, OpenAI's file, or local-dir:FOLDER.", image=False
    )


@dataclass
class OcrMetric:
    """Words asked for in the picture, read by RapidOCR (needs the extra `ocr`)."""

    enabled: bool = param(False, "Score the rendering of text.", image=False)


@dataclass
class DiversityMetric:
    """How much the seeds of one prompt differ."""

    enabled: bool = param(False, "Score the distance between the pictures of one prompt.", image=False)
    features: str = param(
        "nano_judge", "What distance is measured between.", image=False, choices=("nano_judge", "clip")
    )
    model: str = param("ViT-L-14", "Of features=clip, as metrics.clip.model.", image=False)
    weights: str = param("openai", "Of features=clip, as metrics.clip.weights.", image=False)


@dataclass
class NanoJudgeMetric:
    """The judge shipped with nano: subject, style and background colour, in nano's domain alone."""

    enabled: bool = param(False, "Score with nano's judge.", image=False)


@dataclass
class SharpnessMetric:
    """Variance of the Laplacian."""

    enabled: bool = param(False, "Measure sharpness.", image=False)


@dataclass
class EntropyMetric:
    """Entropy of the grey values."""

    enabled: bool = param(False, "Measure entropy.", image=False)


@dataclass
class UniformMetric:
    """A guard against empty pictures."""

    enabled: bool = param(False, "Flag pictures that are nearly one colour.", image=False)


@dataclass
class MetricsConfig:
    """What pictures of a sweep are scored by: metrics=clip, or several as metrics=[nano_judge,clip]. docs/metrics.md"""

    primary: str | None = param(
        None,
        "The one score that decides, named before the run; null takes the first metric chosen. Others are exploratory.",
        image=False,
    )
    batch_size: int = param(16, "Pictures scored at once.", image=False, ge=1, le=1024)
    nano_judge: NanoJudgeMetric = field(default_factory=NanoJudgeMetric)
    clip: ClipMetric = field(default_factory=ClipMetric)
    siglip: SiglipMetric = field(default_factory=SiglipMetric)
    pick_score: PickScoreMetric = field(default_factory=PickScoreMetric)
    hps: HpsMetric = field(default_factory=HpsMetric)
    image_reward: ImageRewardMetric = field(default_factory=ImageRewardMetric)
    vqa: VqaMetric = field(default_factory=VqaMetric)
    aesthetic: AestheticMetric = field(default_factory=AestheticMetric)
    ocr: OcrMetric = field(default_factory=OcrMetric)
    diversity: DiversityMetric = field(default_factory=DiversityMetric)
    sharpness: SharpnessMetric = field(default_factory=SharpnessMetric)
    entropy: EntropyMetric = field(default_factory=EntropyMetric)
    uniform: UniformMetric = field(default_factory=UniformMetric)


@dataclass
class ReportConfig:
    """The page of evidence that a sweep ends with, and task=report makes again."""

    baseline: str | None = param(
        None,
        "The arm that others are compared with, as 'encoder_layer.index=-2'; null takes the study's, else the first.",
        image=False,
    )
    sweeps: list[str] = param([], "Further sweeps, by name, whose arms stand in the same report.", image=False)
    resamples: int = param(
        10_000,
        "Resamples of intervals; sign flips are never fewer than 10,000.",
        image=False, ge=100, le=1_000_000,
    )  # fmt: skip
    thumbnail_size: int = param(
        256, "Longest side of the pictures inside the page, in pixels.", image=False, ge=32, le=2048
    )
    max_pictures: int = param(
        4000, "Most pictures inside the page; the rest are read from the sweep's folder.", image=False, ge=0
    )


@dataclass
class Config:
    """One picture, or a batch of seeds of it, described completely."""

    task: str = param(
        "render",
        "render draws; preview shows the formatted prompt and its tokens; grid draws a sweep's table and grids again "
        "from its records; score adds metrics to it; report writes its report.html; sync sends it to a tracker.",
        image=False,
        choices=("render", "preview", "grid", "score", "report", "sync"),
    )
    prompt: PromptConfig = field(default_factory=PromptConfig)
    prompt_file: str | None = param(None, "UTF-8 text file with the prompt, in place of prompt.text.")
    seed: int = param(0, "Seed of the first picture.", ge=0, le=MAX_SEED)
    num_images: int = param(1, "How many pictures: seed, seed + 1, and so on.", image=False, ge=1, le=100_000)
    seeds: list[int] = param([], "Explicit seeds, in place of seed and num_images.", ge=0, le=MAX_SEED)
    width: int | None = param(
        None, "Pixels; null takes init_image's width, else the model's own.", ge=16, le=8192, multiple_of=16
    )
    height: int | None = param(
        None, "Pixels; null takes init_image's height, else the model's own.", ge=16, le=8192, multiple_of=16
    )
    default_size: int = param(
        1024, "Side of a picture when no size is asked for; set by the model.", ge=16, le=8192, multiple_of=16
    )
    init_image: str | None = param(None, "Picture to start from (img2img).")
    strength: float = param(0.6, "How far init_image is noised: 1 ignores it, near 0 keeps it.", gt=0, le=1)
    from_image: str | None = param(
        None, "A picture made here: draw it again from its own record, with any other key=value changed.", image=False
    )
    resume: bool = param(
        True, "Sweeps: continue what is there; false draws everything anew in a new folder.", image=False
    )
    dry_run: bool = param(False, "Only list what would be drawn, with an estimate of time and memory.", image=False)
    model: ModelConfig = field(default_factory=ModelConfig)
    encoder_layer: EncoderLayerConfig = field(default_factory=EncoderLayerConfig)
    long_prompt: LongPromptConfig = field(default_factory=LongPromptConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    slg: SlgConfig = field(default_factory=SlgConfig)
    nag: NagConfig = field(default_factory=NagConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    dype: DypeConfig = field(default_factory=DypeConfig)
    highres: HighresConfig = field(default_factory=HighresConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


@dataclass(frozen=True)
class Parameter:
    """A leaf of the config: its dotted key, type, default and Rule."""

    key: str
    type: type
    optional: bool
    default: Any
    rule: Rule


def type_hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of a config dataclass."""
    return typing.get_type_hints(cls)


def is_group(annotation: Any) -> bool:
    """Whether an annotation is itself a config dataclass."""
    return dataclasses.is_dataclass(annotation)


def parameters(cls: type = Config, prefix: str = "") -> Iterator[Parameter]:
    """Every leaf parameter below cls, in declaration order."""
    hints = type_hints(cls)
    for f in dataclasses.fields(cls):
        annotation = hints[f.name]
        if is_group(annotation):
            yield from parameters(annotation, f"{prefix}{f.name}.")
            continue
        optional = isinstance(annotation, types.UnionType) and type(None) in annotation.__args__
        if optional:
            annotation = next(a for a in annotation.__args__ if a is not type(None))
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()
        yield Parameter(f"{prefix}{f.name}", annotation, optional, default, f.metadata["rule"])


def get(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts."""
    *groups, leaf = key.split(".")
    for group in groups:
        values = values[group]
    values[leaf] = value


def value_at(values: dict[str, Any], key: str) -> Any:
    """The value at a dotted key of nested dicts, such as a recorded config; None where it has none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)
