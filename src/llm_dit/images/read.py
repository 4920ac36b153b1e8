"""The one reader of pictures: init_image, training data, grids, pages and metrics see the same pixels of a file.

A picture becomes RGB of 8 bits: upright as its EXIF says, transparency laid on white, 16-bit grey and floats divided
and never clipped, the first frame of several. Colour profiles are not applied. Pixels of 8 bits stay as they are.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from llm_dit.base.errors import ImageError
from llm_dit.base.inputs import read_bytes
from llm_dit.base.paths import user_path
from llm_dit.images.png import SIGNATURE, without_texts

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MAX_INPUT_PIXELS = 64_000_000
MAX_INPUT_BYTES = 512 * 2**20
# Not EPS, WMF and the like: these are programs or drawings, and are run or drawn by something else.
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "ICNS", "PSD",
    "PCX", "SGI", "QOI", "DDS",
)  # fmt: skip
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_PHOTOMETRIC = 262  # TIFF's; of 0, white is 0, which Pillow acts on for 8 bits alone
_WARNINGS = threading.Lock()  # warnings' filters are of the process


def read_picture(path: str | Path) -> Image.Image:
    """A picture file as RGB. Raises ImageError."""
    return read_told(path)[0]


def read_told(path: str | Path) -> tuple[Image.Image, list[str]]:
    """A picture file as RGB, and remarks as decode gives them. Raises ImageError."""
    path = user_path(path)
    content = picture_bytes(path)
    try:
        return decode(content, FORMATS)
    except ImageError as error:
        raise ImageError(f"{path}: the picture cannot be read: {error}.") from error


def picture_bytes(path: Path) -> bytes:
    """The bytes of a picture file. Raises ImageError where there is none, or too much."""
    if not os.path.lexists(path):
        raise ImageError(f"{path}: there is no such picture.")
    return read_bytes(path, str(path), ImageError, MAX_INPUT_BYTES)


def upright_size(path: str | Path) -> tuple[int, int]:
    """(width, height) as read_picture gives it, from the file's head. Raises ImageError."""
    path = user_path(path)
    try:
        with _opened(picture_bytes(path), FORMATS) as file:
            # Of a PNG, Pillow would decode the pixels to look for EXIF behind them; a TIFF's size is upright already.
            known = "exif" in file.info if file.format == "PNG" else file.format != "TIFF"
            turned = known and file.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
            return (file.height, file.width) if turned else file.size
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{path}: the picture cannot be read: {_reason(error)}.") from error


def decode(content: bytes, formats: tuple[str, ...] = FORMATS) -> tuple[Image.Image, list[str]]:
    """An RGB image of a file's bytes, and remarks on what was done to make it one (turned, laid on white and so on).

    Raises ImageError that says what is wrong and leaves it to the caller to say where.
    """
    from PIL import ImageOps

    if not content:
        raise ImageError("not a picture, as the file is empty")
    try:
        with _opened(content, formats) as file:
            if file.width * file.height > MAX_INPUT_PIXELS:
                raise ImageError(f"{file.width} x {file.height} pixels; at most {MAX_INPUT_PIXELS:,} are read")
            stored = _stored(file)
            file.load()
            remarks = []
            if file.getexif().get(_ORIENTATION, 1) not in (0, 1):
                remarks.append("turned upright as its EXIF says")
            image = to_rgb(ImageOps.exif_transpose(file), stored, remarks)
            if _has_more_frames(file):
                remarks.append("only the first of its frames is used")
            return image, remarks
    except ImageError:
        raise
    except Exception as error:  # broken files raise nearly anything from within Pillow's decoders
        raise ImageError(_reason(error, formats)) from error


def _opened(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Pillow's image, its pixels not read; without a warning about sizes below its limit, as ours is lower."""
    from PIL import Image

    if formats == FORMATS:
        Image.init()
    known = [name for name in formats if name in Image.OPEN]  # AVIF, for one, is not in every build of Pillow
    file = io.BytesIO(without_texts(content) if content.startswith(SIGNATURE) else content)
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=known)


def _has_more_frames(file: Image.Image) -> bool:
    try:
        return getattr(file, "n_frames", 1) > 1
    except Exception:  # a frame behind the first is broken, and that one is sound
        return True


def _reason(error: Exception, formats: tuple[str, ...] = FORMATS) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture in " + ("a format that can be read" if formats == FORMATS else _names(formats))
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_INPUT_PIXELS:,} pixels"
    return f"broken ({' '.join(str(error).split())[:100] or type(error).__name__})"


def _names(formats: tuple[str, ...]) -> str:
    """'PNG, JPEG or WebP'."""
    names = ["WebP" if name == "WEBP" else name for name in formats]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _stored(file: Image.Image) -> str:
    """How the file stores its pixels, in Pillow's words: 'RGB;16B', 'I;12', and '~' in front where 0 is white."""
    tile = file.tile[0].args if file.tile else ""
    raw = tile if isinstance(tile, str) else str(next(iter(tile or ()), ""))
    negative = getattr(file, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return f"~{raw}" if negative else raw


def to_rgb(image: Image.Image, stored: str = "", remarks: list[str] | None = None) -> Image.Image:
    """An upright image of any mode as RGB; what was done is added to remarks. stored: as the file held it.

    Raises ImageError for floats outside 0..1 and whole numbers outside 0..65535.
    """
    from PIL import Image

    told = [] if remarks is None else remarks
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _grey(image, stored, told)
    elif ";16" in stored and image.mode in ("RGB", "RGBA", "LA", "CMYK"):
        told.append("16 bits a channel were made 8")
        see_through = image.info.get("transparency")
        if isinstance(see_through, tuple):  # Pillow keeps the high bytes of the pixels, but not of this
            image.info["transparency"] = tuple(value >> 8 for value in see_through)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            told.append("its transparent parts were laid on white")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode not in ("RGB", "L", "P", "1"):
        told.append(f"its colours were converted from {image.mode} without a profile")
    return image.convert("RGB")


def _grey(image: Image.Image, stored: str, remarks: list[str]) -> Image.Image:
    """Grey of more than 8 bits as L or, with a see-through level, LA."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())  # of NaN, NaN
        if not (low >= 0 and high <= 1):
            raise ImageError(f"floats from {low:g} to {high:g}; they must be from 0 (black) to 1 (white)")
        grey = np.round(values * np.float32(255)).astype(np.uint8)
        remarks.append("floats of 0 to 1 were made 8 bits")
    else:
        grey = _eight_bits(values, stored)
        remarks.append("16 bits a pixel were made 8")
    if stored.startswith("~"):
        grey = 255 - grey
    level = image.info.get("transparency")
    light = Image.fromarray(grey)
    if not isinstance(level, int):
        return light
    return Image.merge("LA", (light, Image.fromarray(np.where(values == level, 0, 255).astype(np.uint8))))


def _eight_bits(values: np.ndarray, stored: str) -> np.ndarray:
    """Whole numbers, uint16 or int32, as uint8: divided by 257, or what the file's own depth asks for."""
    import numpy as np

    low, high = int(values.min()), int(values.max())
    # 32 bits with nothing above 255 may be 8-bit levels as well, and would come out black.
    if low < 0 or high > 65535 or (";32" in stored and high < 256):
        raise ImageError(f"whole numbers from {low} to {high}, of which the range is not known; save 8 or 16 bits")
    top = 4095 if ";12" in stored else 65535
    levels = ((np.arange(65536) * 255 + top // 2) // top).clip(0, 255).astype(np.uint8)
    return levels[values]
