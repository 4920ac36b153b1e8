"""Parameters of the metrics, one class each, and of which of them score a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_dit.config.rule import Group, param


@dataclass
class ClipMetric(Group):
    """CLIP similarity, through open_clip."""

    enabled: bool = param(False, "Score with CLIP: 100 x the cosine of picture and prompt.", image=False)
    model: str = param(
        "ViT-L-14",
        "Architecture by open_clip's name, or a folder or hub id of model and weights.",
        image=False,
        place=True,
    )
    weights: str = param("openai", "One of open_clip's tags for the model, or a file.", image=False, place=True)


@dataclass
class SiglipMetric(Group):
    """SigLIP logit, through open_clip."""

    enabled: bool = param(False, "Score with SigLIP: the logit, which does not saturate.", image=False)
    model: str = param(
        "ViT-B-16-SigLIP2",
        "Architecture by open_clip's name, or a folder or hub id of model and weights.",
        image=False,
        place=True,
    )
    weights: str = param("webli", "One of open_clip's tags for the model, or a file.", image=False, place=True)


@dataclass
class PickScoreMetric(Group):
    """PickScore (Kirstain and others 2023): CLIP ViT-H-14 tuned on people's choices."""

    enabled: bool = param(False, "Score with PickScore.", image=False)
    weights: str = param(
        "yuvalkirstain/PickScore_v1", "Hub id, folder or file of the weights.", image=False, place=True
    )


@dataclass
class HpsMetric(Group):
    """HPSv2.1 (Wu and others 2023): CLIP ViT-H-14 tuned on people's preferences."""

    enabled: bool = param(False, "Score with HPSv2.1.", image=False)
    weights: str = param("xswu/HPSv2", "Hub id, folder or file of the weights.", image=False, place=True)


@dataclass
class ImageRewardMetric(Group):
    """ImageReward (Xu and others 2023), on transformers' BLIP."""

    enabled: bool = param(False, "Score with ImageReward.", image=False)
    weights: str = param(
        "zai-org/ImageReward", "Hub id, folder or file of the weights (ImageReward.pt).", image=False, place=True
    )
    tokenizer: str = param(
        "google-bert/bert-base-uncased", "Hub id or folder of the BERT tokenizer.", image=False, place=True
    )


@dataclass
class VqaMetric(Group):
    """Questions to a vision language model, one for each element of the prompt (VQAScore, Lin and others 2024)."""

    enabled: bool = param(False, "Score by asking Qwen3-VL whether each element of the prompt is there.", image=False)
    model: str = param("Qwen/Qwen3-VL-2B-Instruct", "Hub id or folder of a Qwen3-VL model.", image=False, place=True)


@dataclass
class AestheticMetric(Group):
    """LAION's aesthetic predictor: a small network over CLIP ViT-L-14."""

    enabled: bool = param(False, "Score with the aesthetic predictor.", image=False)
    weights: str = param(
        "trl-lib/ddpo-aesthetic-predictor",
        "Hub id, folder or file of the predictor (sac+logos+ava1-l14-linearMSE.pth).",
        image=False,
        place=True,
    )
    clip_weights: str = param(
        "openai", "ViT-L-14: one of open_clip's tags, OpenAI's file, or local-dir:FOLDER.", image=False, place=True
    )


@dataclass
class OcrMetric(Group):
    """Words asked for in the picture, read by RapidOCR (needs the extra `ocr`)."""

    enabled: bool = param(False, "Score the rendering of text.", image=False)


@dataclass
class DiversityMetric(Group):
    """How much the seeds of one prompt differ."""

    enabled: bool = param(False, "Score the distance between the pictures of one prompt.", image=False)
    features: str = param(
        "nano_judge", "What distance is measured between.", image=False, choices=("nano_judge", "clip")
    )
    model: str = param("ViT-L-14", "Of features=clip, as metrics.clip.model.", image=False, place=True)
    weights: str = param("openai", "Of features=clip, as metrics.clip.weights.", image=False, place=True)


@dataclass
class NanoJudgeMetric(Group):
    """The judge shipped with nano: subjects, style, background, relation, count, size, in nano's domain alone."""

    enabled: bool = param(False, "Score with nano's judge.", image=False)


@dataclass
class SharpnessMetric(Group):
    """Variance of the Laplacian."""

    enabled: bool = param(False, "Measure sharpness.", image=False)


@dataclass
class EntropyMetric(Group):
    """Entropy of the grey values."""

    enabled: bool = param(False, "Measure entropy.", image=False)


@dataclass
class UniformMetric(Group):
    """A guard against empty pictures."""

    enabled: bool = param(False, "Flag pictures that are nearly one colour.", image=False)


@dataclass
class MetricsConfig(Group):
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
