"""The one declaration of every parameter: type, default, help, range or choices, and whether it changes the picture.

Hydra's validation, the docs table (docs/parameters.md), a picture's identity and the error messages all
come from these dataclasses. Values for a given model or machine live in conf/. Nothing here imports torch,
and nothing here knows how a config was composed (compose/ does).
"""

from llm_dit.config.data import DataConfig
from llm_dit.config.denoise import (
    DiversityConfig,
    DypeConfig,
    GuidanceConfig,
    HighresConfig,
    NagConfig,
    SamplerConfig,
    SlgConfig,
    explicit_sigmas,
    problem_of,
)
from llm_dit.config.lora import parse_lora
from llm_dit.config.metrics import (
    AestheticMetric,
    ClipMetric,
    DiversityMetric,
    EntropyMetric,
    HpsMetric,
    ImageRewardMetric,
    MetricsConfig,
    NanoJudgeMetric,
    OcrMetric,
    PickScoreMetric,
    SharpnessMetric,
    SiglipMetric,
    UniformMetric,
    VqaMetric,
)
from llm_dit.config.model import HardwareConfig, ModelConfig, TilingConfig
from llm_dit.config.root import Config, seeds_of
from llm_dit.config.rule import FLOAT16_REASON, MAX_PROMPT_CHARACTERS, MAX_SEED, Group, Rule, param
from llm_dit.config.study import OutputConfig, PromptsConfig, ReportConfig, SweepConfig, TrackerConfig
from llm_dit.config.text import (
    EmphasisConfig,
    EncoderLayerConfig,
    LongPromptConfig,
    MixConfig,
    PromptConfig,
)
from llm_dit.config.train import TrainConfig, TrainDistillConfig, TrainLoraConfig, TrainVaeConfig
from llm_dit.config.walk import Parameter, get, is_group, parameters, put, to_dict, type_hints, value_at

__all__ = [
    "FLOAT16_REASON",
    "MAX_PROMPT_CHARACTERS",
    "MAX_SEED",
    "AestheticMetric",
    "ClipMetric",
    "Config",
    "DataConfig",
    "DiversityConfig",
    "DiversityMetric",
    "DypeConfig",
    "EmphasisConfig",
    "EncoderLayerConfig",
    "EntropyMetric",
    "Group",
    "GuidanceConfig",
    "HardwareConfig",
    "HighresConfig",
    "HpsMetric",
    "ImageRewardMetric",
    "LongPromptConfig",
    "MetricsConfig",
    "MixConfig",
    "ModelConfig",
    "NagConfig",
    "NanoJudgeMetric",
    "OcrMetric",
    "OutputConfig",
    "Parameter",
    "PickScoreMetric",
    "PromptConfig",
    "PromptsConfig",
    "ReportConfig",
    "Rule",
    "SamplerConfig",
    "SharpnessMetric",
    "SiglipMetric",
    "SlgConfig",
    "SweepConfig",
    "TilingConfig",
    "TrackerConfig",
    "TrainConfig",
    "TrainDistillConfig",
    "TrainLoraConfig",
    "TrainVaeConfig",
    "UniformMetric",
    "VqaMetric",
    "explicit_sigmas",
    "get",
    "is_group",
    "param",
    "parameters",
    "parse_lora",
    "problem_of",
    "put",
    "seeds_of",
    "to_dict",
    "type_hints",
    "value_at",
]
