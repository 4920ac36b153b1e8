"""What can be told of a picture before it is drawn: a size the model draws badly, words it was never taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_dit.base.errors import ConfigError
from llm_dit.config import Config, parse_lora
from llm_dit.diffusion.dype import is_idle
from llm_dit.diffusion.highres import has_two_stages
from llm_dit.prompts.vocabulary import UNKNOWN, Reader, load_vocabulary

if TYPE_CHECKING:
    from PIL import Image

ADAPTED = 2  # dype and highres are trusted up to so many times the largest side that the model draws well
LIST_IT = "task=vocabulary lists what it knows"


def foreseen(config: Config, size: tuple[int, int]) -> list[str]:
    """One line for each thing. config: with its prompt settled. size: (height, width) of the picture in pixels."""
    return [*size_warnings(config, size), *prompt_warnings(config, reader_of(config))]


def size_warnings(config: Config, size: tuple[int, int]) -> list[str]:
    """A line for a size outside model.sizes, but for one that dype or highres at work makes up for."""
    model = config.model
    if not model.sizes:
        return []
    low, high = model.sizes
    height, width = size
    acting = []
    if not is_idle(config.dype, size, model.trained_size):
        acting.append("dype")
    if has_two_stages(config.highres, size, model.trained_size):
        acting.append("highres")
    if min(size) >= low and max(size) <= (ADAPTED * high if acting else high):
        return []
    if min(size) < low:
        why = "below them subjects are cut off"
    elif acting:
        why = f"{' and '.join(acting)} cannot be relied on above {ADAPTED * high} px"
    else:
        why = "above them subjects are repeated or fall apart"
    if max(size) > high and not acting:
        why += f"; dype=dy_yarn, or highres=two_stage highres.strength=0.3, helps up to about {ADAPTED * high} px"
    return [
        f"{width} x {height} is outside the sides of {low} to {high} px that {model.name} draws well (trained at "
        f"{model.trained_size} px): {why}."
    ]


def reader_of(config: Config) -> Reader | None:
    """The reader of the model's vocabulary; None where there is none, or where weights of somebody else's are in use.

    The words that another transformer or LoRA was trained on are not known.
    """
    model = config.model
    if model.vocabulary is None or not model.path.startswith("shipped:") or model.transformer_file:
        return None
    vocabulary = load_vocabulary(model.vocabulary)
    taught = {lora: word for word, lora in vocabulary.loras.items()}
    loras = [parse_lora(lora)[0] for lora in config.lora]
    if not set(loras) <= set(taught):
        return None
    return Reader(vocabulary, also=[taught[lora] for lora in loras])


def prompt_warnings(config: Config, reader: Reader | None) -> list[str]:
    """A line for each of prompt.text and mix.text that is empty, or that the model was not taught.

    The negative prompt is left alone: words that nothing is known of do no harm there.
    """
    texts = {"the prompt": config.prompt.text or ""}
    if config.mix.mode != "none":
        texts["mix.text"] = config.mix.text or ""
    return [line for name, text in texts.items() for line in _text_warnings(config, name, text, reader)]


def _text_warnings(config: Config, name: str, text: str, reader: Reader | None) -> list[str]:
    model, prompt = config.model.name, config.prompt
    if not text.strip():
        if prompt.system or prompt.thinking or prompt.assistant:
            return []
        return [f"{name} is empty: what is drawn follows from the seed alone."]
    if reader is None:
        return []
    said = reader.read(text)
    if said.subjects and not said.unknown:
        return []
    told = ", ".join(f"'{word}'" for word in said.unknown[:UNKNOWN]) + (" ..." if said.unknown[UNKNOWN:] else "")
    if not said.subjects:
        line = f"{name} names no subject that {model} was taught" + (f" ({told})" if told else "")
    else:
        line = f"{name} has words that {model} was never taught: {told}"
    if said.near:
        line += f"; nearest: {', '.join(said.near)}"
    elif not said.subjects:
        line += f"; it knows {', '.join(reader.vocabulary.subjects)}"
    teaching = [
        f"lora={lora} teaches '{word}'" for word, lora in reader.vocabulary.loras.items() if word in said.unknown
    ]
    return [f"{'; '.join([line, *teaching, LIST_IT])}."]


def asked_size(config: Config) -> tuple[int, int]:
    """(height, width) of the picture, from its start picture where no size is asked for. Raises ConfigError."""
    from llm_dit.images.read import read_picture

    start = read_picture(config.init_image) if config.init_image and not (config.width and config.height) else None
    return picture_size(config, start)


def picture_size(config: Config, start: Image.Image | None) -> tuple[int, int]:
    """(height, width): as asked, else the start picture's rounded to 16, else the model's own."""
    own_width = own_height = config.default_size
    if start is not None:
        own_width, own_height = (max(16, round(side / 16) * 16) for side in start.size)
    width, height = config.width or own_width, config.height or own_height
    if max(width, height) > 8192:
        raise ConfigError(f"init_image is {width} x {height} pixels; set width and height to at most 8192.")
    return height, width
