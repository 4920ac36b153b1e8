"""The whole config of one run: the plain settings and the groups."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from llm_dit.base.errors import ConfigError
from llm_dit.config.data import DataConfig
from llm_dit.config.denoise import (
    DiversityConfig,
    DypeConfig,
    GuidanceConfig,
    HighresConfig,
    NagConfig,
    SamplerConfig,
    SlgConfig,
)
from llm_dit.config.lora import check_loras
from llm_dit.config.metrics import MetricsConfig
from llm_dit.config.model import HardwareConfig, ModelConfig, TilingConfig
from llm_dit.config.rule import MAX_SEED, Group, param
from llm_dit.config.study import OutputConfig, PromptsConfig, ReportConfig, SweepConfig, TrackerConfig
from llm_dit.config.text import EmphasisConfig, EncoderLayerConfig, LongPromptConfig, MixConfig, PromptConfig
from llm_dit.config.train import TrainConfig

TAKE_A_BIAS = ("native", "flex", "_native_math", "_native_efficient")  # attention kernels that add a bias to logits


@dataclass
class Config:
    """One picture, or a batch of seeds of it, described completely."""

    task: str = param(
        "render",
        "render draws; preview shows the formatted prompt and its tokens; grid draws a sweep's table and grids again "
        "from its records; score adds metrics to it; report writes its report.html; sync sends it to a tracker; "
        "train trains; vocabulary lists what the model was taught, a bare argument searches it.",
        image=False,
        choices=("render", "preview", "grid", "score", "report", "sync", "train", "vocabulary"),
    )
    prompt: PromptConfig = field(default_factory=PromptConfig)
    prompt_file: str | None = param(None, "UTF-8 text file with the prompt, in place of prompt.text.", place=True)
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
    init_image: str | None = param(None, "Picture to start from (img2img).", place=True)
    strength: float = param(0.6, "How far init_image is noised: 1 ignores it, near 0 keeps it.", gt=0, le=1)
    from_image: str | None = param(
        None, "A picture made here: draw it again from its own record, with any other key=value changed.",
        image=False, place=True,
    )  # fmt: skip
    trust_record: bool = param(
        False, "from_image: also read and fetch the paths and hub ids in the record that are not the shipped ones.",
        image=False,
    )  # fmt: skip
    lora: list[str] = param(
        [], "LoRA files on the transformer, each PATH or PATH:SCALE; several as [A:0.5,B]. docs/lora.md", place=True
    )
    lora_scale: float = param(
        1.0, "What the scale of every LoRA is multiplied by: the axis of a sweep over strength.", ge=-100, le=100
    )
    lora_fuse: bool = param(
        False, "Sum the LoRAs into the weights: no cost a step, but another scale loads the transformer again."
    )
    resume: bool = param(
        True, "Sweeps: continue what is there; false draws everything anew in a new folder.", image=False
    )
    dry_run: bool = param(
        False, "render and sweeps: only list what would be drawn, with an estimate of time and memory.", image=False
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    encoder_layer: EncoderLayerConfig = field(default_factory=EncoderLayerConfig)
    long_prompt: LongPromptConfig = field(default_factory=LongPromptConfig)
    emphasis: EmphasisConfig = field(default_factory=EmphasisConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    diversity: DiversityConfig = field(default_factory=DiversityConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    slg: SlgConfig = field(default_factory=SlgConfig)
    nag: NagConfig = field(default_factory=NagConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    dype: DypeConfig = field(default_factory=DypeConfig)
    highres: HighresConfig = field(default_factory=HighresConfig)
    tiling: TilingConfig = field(default_factory=TilingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def check(self) -> None:
        """Raises ConfigError for the first contradiction: between groups, then within each."""
        if self.prompt.text is not None and self.prompt_file is not None:
            raise ConfigError("two prompts: prompt_file and prompt.text are both given; leave one out.")
        if self.prompts.set is not None and (self.prompt.text is not None or self.prompt_file is not None):
            raise ConfigError("a prompt and a set of prompts are both given; leave one out (prompts=none).")
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds={self.seeds}: a seed stands twice, and would draw the same picture twice.")
        if not self.seeds and self.seed + self.num_images - 1 > MAX_SEED:
            raise ConfigError("seed + num_images runs past the largest seed, 2^63 - 1.")
        check_loras(self.lora)
        if self.emphasis.mode == "attention" and self.hardware.attention_backend not in TAKE_A_BIAS:
            raise ConfigError(
                f"emphasis.mode=attention adds to the attention's logits, which hardware.attention_backend="
                f"{self.hardware.attention_backend} does not take: use hardware.attention_backend=native, or "
                "emphasis=from_empty."
            )
        if (self.prompt.thinking or self.prompt.force_think_block) and self.model.chat_format != "qwen3":
            raise ConfigError(f"a think block needs model.chat_format=qwen3; this model uses {self.model.chat_format}.")
        for group in fields(self):
            value = getattr(self, group.name)
            if isinstance(value, Group):
                value.check()


def seeds_of(config: Config) -> list[int]:
    """The seeds to draw, in order."""
    return list(config.seeds) or list(range(config.seed, config.seed + config.num_images))
