"""Bytes of a picture to pixels: PNG, JPEG and WebP, upright, opaque, RGB, cut to a bucket.

Errors are ImageErrors that say what is wrong and leave it to the caller to say where. Colour profiles are not applied.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from llm_dit.errors import ImageError
from llm_dit.picture import MAX_INPUT_PIXELS

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_ENLARGED = 4.0  # times; a picture that would have to grow by more has nothing to teach
CROP_AREA = (0.5, 1.0)  # of the largest crop of its shape, for random crops


def open_picture(content: bytes) -> tuple[Image.Image, list[str]]:
    """An RGB image and remarks on what was done to make it one (turned, laid on white, first frame and so on)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise ImageError("an empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.width * file.height > MAX_INPUT_PIXELS:
                raise ImageError(f"{file.width} x {file.height} pixels; at most {MAX_INPUT_PIXELS:,} are read")
            remarks = ["only the first of its frames is used"] if getattr(file, "n_frames", 1) > 1 else []
            file.load()
            image = ImageOps.exif_transpose(file)
            if file.getexif().get(0x0112, 1) not in (0, 1):
                remarks.append("turned upright as its EXIF says")
            return _rgb(image, remarks), remarks
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not a picture in PNG, JPEG or WebP") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_INPUT_PIXELS:,} pixels") from error
    except Exception as error:  # broken files raise nearly anything from within Pillow's decoders
        raise ImageError(f"broken ({' '.join(str(error).split())[:100] or type(error).__name__})") from error


def _rgb(image: Image.Image, remarks: list[str]) -> Image.Image:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        remarks.append("16 bits a pixel were made 8")
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            remarks.append("its transparent parts were laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in ("RGB", "L", "P", "1"):
        remarks.append(f"its colours were converted from {image.mode} without a profile")
    return image.convert("RGB")


def enlarged(height: int, width: int, shape: tuple[int, int]) -> float:
    """How many times a picture of that size has to grow to cover the shape; below 1 it shrinks."""
    return max(shape[0] / height, shape[1] / width)


def cut(image: Image.Image, shape: tuple[int, int], mirrored: bool = False) -> torch.Tensor:
    """The middle of the image at shape (height, width), as float32 [3, H, W] in -1..1; as much of it as fits."""
    wide, tall = _largest(image, shape)
    left, top = (image.width - wide) / 2, (image.height - tall) / 2
    return _pixels(image, (left, top, left + wide, top + tall), shape, mirrored)


def random_cut(image: Image.Image, shape: tuple[int, int], generator: np.random.Generator, flip: bool) -> torch.Tensor:
    """Like cut, of a random place, a half to the whole of the largest area, and mirrored half of the time if flip."""
    wide, tall = _largest(image, shape)
    share = generator.uniform(*CROP_AREA) ** 0.5
    left = generator.uniform(0, image.width - wide * share)
    top = generator.uniform(0, image.height - tall * share)
    mirrored = flip and bool(generator.integers(2))
    return _pixels(image, (left, top, left + wide * share, top + tall * share), shape, mirrored)


def _largest(image: Image.Image, shape: tuple[int, int]) -> tuple[float, float]:
    """Width and height of the largest part of the image that has the shape's aspect."""
    grow = enlarged(image.height, image.width, shape)
    return min(shape[1] / grow, image.width), min(shape[0] / grow, image.height)


def _pixels(
    image: Image.Image, box: tuple[float, float, float, float], shape: tuple[int, int], mirrored: bool
) -> torch.Tensor:
    import numpy as np
    import torch
    from PIL import Image

    whole = (0, 0, image.width, image.height)
    if image.size != (shape[1], shape[0]) or box != whole:
        # One resampling from the box; Lanczos in Pillow widens with the scale, which is what keeps out aliasing.
        image = image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS, box=box)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0).permute(2, 0, 1) * 2.0 - 1.0
    return pixels.flip(2) if mirrored else pixels
