"""A picture and its record: reading pictures in, writing results out, and telling one render from another.

The record describes a picture completely: the config, the seed, what was really said to the encoder, the
sigmas, what it cost. It is written into the PNG and, the same, into a JSON file beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ImageError
from llm_dit.base.files import write_whole
from llm_dit.base.inputs import refuse_special
from llm_dit.base.paths import user_path
from llm_dit.config import Config, get, parameters
from llm_dit.images.pixels import file_sha256
from llm_dit.images.png import text_of
from llm_dit.images.read import upright_size
from llm_dit.records.schema import RECORD_VERSION, PictureRecord, check_version, checked, parse

if TYPE_CHECKING:
    import torch
    from PIL import Image

PNG_KEY = "llm_dit"
MAX_RECORD = 16 * 2**20  # bytes


@dataclass
class Picture:
    """One rendered picture. latents: float32 [16, h, w] on the CPU, before decoding."""

    image: Image.Image
    record: dict[str, Any]
    latents: torch.Tensor


def identity(config: Config) -> str:
    """10 hex digits over every setting that can change the pixels, but for the seed.

    A picture or a LoRA given as input counts by its content, not by its path.
    """
    values = {p.key: get(config, p.key) for p in parameters() if p.rule.image and p.key not in ("seed", "seeds")}
    if config.init_image:
        values["init_image"] = file_sha256(config.init_image)
    if config.lora:
        from llm_dit.weights.lora import wanted_loras

        values["lora"] = [[want.sha256, want.scale] for want in wanted_loras(config)]
        values["lora_scale"] = None  # it is in the scales
    if config.prompt_file:  # the text itself is in prompt.text by the time it matters
        values["prompt_file"] = None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def read_record(path: str | Path) -> dict[str, Any]:
    """The record inside a PNG made here. Raises ImageError when there is none or it is of another version."""
    path = user_path(path)
    text = _text_in(path, PNG_KEY)
    if text is None:
        upright_size(path)  # says so where it is no picture at all
        raise ImageError(f"{path}: carries no record of llm-dit, so it cannot be drawn again from itself.")
    where = f"{path}: its record"
    record = parse(text, dict, where, ImageError)
    check_version(record, "record_version", RECORD_VERSION, where, ImageError)
    return checked(record, PictureRecord, where, ImageError)


def is_own_picture(path: Path) -> bool:
    """Whether this is a PNG, and no link to one, that carries a record of llm-dit."""
    return holds_text(path, PNG_KEY)


def holds_text(path: Path, keyword: str) -> bool:
    """Whether this is a PNG, and no link to one, with a text under that keyword."""
    try:
        return not path.is_symlink() and _text_in(path, keyword) is not None
    except ImageError:
        return False


def _text_in(path: Path, keyword: str) -> str | None:
    if not os.path.lexists(path):
        raise ImageError(f"{path}: there is no such picture.")
    refuse_special(path, str(path), ImageError)
    try:
        with open(path, "rb") as file:
            return text_of(file, keyword, MAX_RECORD)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from error


def picture_name(config: Config, seed: int, alone: bool) -> str:
    """File name without ending: output.name, or words of the prompt, the seed and the settings' identity."""
    if config.output.name:
        return config.output.name if alone else f"{config.output.name}_s{seed}"
    words = re.sub(r"[^\w]+", "-", (config.prompt.text or "").lower()).strip("-_")[:48].strip("-_")
    return f"{words or 'picture'}_s{seed}_{identity(config)}"


def save_picture(picture: Picture, folder: Path, name: str) -> Path:
    """Write NAME.png and NAME.json; both appear whole or not at all. Returns the PNG's path."""
    target = folder / f"{name}.png"
    text = json.dumps(picture.record, indent=2, ensure_ascii=False)
    write_whole({target: png_bytes(picture), folder / f"{name}.json": text.encode()})
    return target


def png_bytes(picture: Picture) -> bytes:
    """The picture as a PNG file with its record inside."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(PNG_KEY, json.dumps(picture.record, ensure_ascii=False))
    png = io.BytesIO()
    picture.image.save(png, "PNG", pnginfo=info)
    return png.getvalue()
