"""Parameters of the weights that draw, and of the machine they run on."""

from __future__ import annotations

from dataclasses import dataclass

from llm_dit.base.errors import ConfigError, nearest
from llm_dit.base.paths import shipped_vocabularies, user_path
from llm_dit.config.rule import FLOAT16_REASON, Group, param


@dataclass
class ModelConfig(Group):
    """Which weights draw. A model option also sets the size, steps, shift and guidance the model was made for."""

    name: str = param("nano", "Label of the model in records and grids.", image=False)
    path: str = param(
        "shipped:nano",
        "shipped:NAME (in this package), random:tiny (random weights), a diffusers folder, or a hub id.",
        place=True,
    )
    revision: str | None = param(None, "Branch, tag or commit of a hub id.", place=True)
    transformer_file: str | None = param(
        None,
        "A single .safetensors or .gguf file with the transformer, in place of the folder's own.",
        place=True,
    )
    text_encoder: str | None = param(
        None,
        "Text encoder other than the model's own: shipped:smollm2, a folder, a hub id, or a .gguf file.",
        place=True,
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
    sizes: list[int] = param(
        [], "Smallest and largest side that the model draws well, in pixels; outside a picture is warned about. [] for "
        "any size; set by the model.",
        image=False, ge=16, le=8192,
    )  # fmt: skip
    vocabulary: str | None = param(
        None, "The words that the model was taught, a name in prompts/vocabulary; prompts of others are warned about.",
        image=False,
    )  # fmt: skip

    def check(self) -> None:
        if self.revision is not None and (":" in self.path or user_path(self.path).is_dir()):
            raise ConfigError(f"model.revision={self.revision}: only a hub id has one; model.path={self.path} is none.")
        if self.sizes and (len(self.sizes) != 2 or self.sizes[0] > self.sizes[1]):
            raise ConfigError(f"model.sizes={self.sizes}: must be [smallest,largest] in pixels, or [] for any size.")
        if self.vocabulary is not None:
            check_vocabulary(self.vocabulary)


@dataclass
class HardwareConfig(Group):
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
        "Attention kernel of the transformer, by diffusers' names; flash, _flash_3, sage, xformers need a package.",
        image=False,
        choices=("native", "flex", "flash", "_flash_3", "sage", "xformers", "_native_math", "_native_efficient"),
    )
    threads: int | None = param(None, "CPU threads for torch; null leaves torch's choice.", image=False, ge=1, le=1024)


@dataclass
class TilingConfig(Group):
    """Decoding and encoding in overlapping tiles: bounded memory, slightly different pixels. docs/high_resolution.md"""

    enabled: bool = param(False, "Use tiles when the picture is larger than one.")
    tile_size: int = param(512, "Side of a tile in pixels.", ge=64, le=4096, multiple_of=64)
    overlap: float = param(0.25, "Share of a tile that is blended with its neighbour.", ge=0.05, le=0.5)


def check_vocabulary(name: str) -> None:
    """Raises ConfigError for a vocabulary that does not ship."""
    names = shipped_vocabularies()
    if name not in names:
        raise ConfigError(f"model.vocabulary={name}: no such vocabulary. {nearest(name, names)}")
