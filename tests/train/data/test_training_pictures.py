"""Every kind of picture file to pixels, and what is said of those that cannot be used."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from made_pictures import as_bytes, noise
from PIL import Image

from llm_dit.base.errors import ImageError
from llm_dit.images.pixels import as_pixels
from llm_dit.train.data.pictures import cut, enlarged, open_picture, random_cut

PICTURE = noise(40, 60)


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_their_pixels(format, options):
    image, remarks = open_picture(as_bytes(PICTURE, format, **options))
    assert np.array_equal(np.asarray(image), np.asarray(PICTURE))
    assert remarks == []


def test_a_jpeg_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    image, remarks = open_picture(as_bytes(PICTURE, "JPEG", quality=95, exif=exif))
    assert image.size == (40, 60)
    turned = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270), float)
    assert np.abs(np.asarray(image, float) - turned).mean() < 4
    assert remarks == ["turned upright as its EXIF says"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_laid_on_white(mode):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 4, 8))
    clear = clear.quantize(4) if mode == "P" else clear.convert(mode)
    image, remarks = open_picture(as_bytes(clear))
    assert image.getpixel((7, 0)) == (255, 255, 255)
    assert image.getpixel((0, 0)) != (255, 255, 255)
    assert remarks == ["its transparent parts were laid on white"]


def test_an_opaque_alpha_channel_is_no_remark():
    image, remarks = open_picture(as_bytes(PICTURE.convert("RGBA")))
    assert np.array_equal(np.asarray(image), np.asarray(PICTURE))
    assert remarks == []


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_pictures_become_rgb(mode):
    given = PICTURE.convert(mode)
    image, remarks = open_picture(as_bytes(given))
    assert np.array_equal(np.asarray(image), np.asarray(given.convert("RGB")))
    assert remarks == []


def test_sixteen_bits_are_scaled_and_not_clipped():
    steps = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    image, remarks = open_picture(as_bytes(Image.fromarray(steps)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert remarks == ["16 bits a pixel were made 8"]


def test_cmyk_is_converted_and_told():
    image, remarks = open_picture(as_bytes(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = image.getpixel((8, 8))
    assert red > 200 > 60 > max(green, blue)
    assert remarks == ["its colours were converted from CMYK without a profile"]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(format):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue", "lime")]
    image, remarks = open_picture(as_bytes(frames[0], format, save_all=True, append_images=frames[1:], lossless=True))
    assert image.getpixel((8, 8)) == (255, 0, 0)
    assert remarks == ["only the first of its frames is used"]


def huge_png() -> bytes:
    """A PNG of 100,000 x 100,000 pixels in 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JPEG = as_bytes(noise(256, 256), "JPEG")
BROKEN = {
    "empty": (b"", "an empty file"),
    "garbage": (bytes(range(256)) * 8, "not a picture in PNG, JPEG or WebP"),
    "encrypted": (b"Salted__" + np.random.default_rng(0).bytes(4000), "not a picture in PNG, JPEG or WebP"),
    "text": (b"<html>404 not found</html>", "not a picture in PNG, JPEG or WebP"),
    "other format": (as_bytes(PICTURE, "GIF"), "not a picture in PNG, JPEG or WebP"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "broken (image file is truncated"),
    "truncated png": (as_bytes(PICTURE)[:-900], "broken ("),
    "truncated webp": (as_bytes(PICTURE, "WEBP")[:200], "broken (|not a picture"),
    "one bad byte": (as_bytes(PICTURE)[:100] + b"\xff\x00" + as_bytes(PICTURE)[102:], "broken ("),
    "bomb": (huge_png(), "pixels"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_told_in_a_line(case):
    content, message = BROKEN[case]
    with pytest.raises(ImageError) as error:
        open_picture(content)
    assert any(part in str(error.value) for part in message.split("|"))
    assert "\n" not in str(error.value)


def test_a_picture_above_our_own_limit_is_refused(monkeypatch):
    monkeypatch.setattr("llm_dit.images.read.MAX_INPUT_PIXELS", 2000)
    with pytest.raises(ImageError, match="60 x 40 pixels; at most 2,000 are read"):
        open_picture(as_bytes(PICTURE))


def test_a_picture_of_its_buckets_size_is_left_alone():
    assert torch.equal(cut(PICTURE, (40, 60)), as_pixels(PICTURE, (40, 60)))
    assert torch.equal(cut(PICTURE, (40, 60), mirrored=True), as_pixels(PICTURE, (40, 60)).flip(2))


def test_the_middle_is_cut_at_the_shapes_aspect():
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("blue", (32, 0, 64, 32))
    assert torch.allclose(cut(wide, (32, 32)), as_pixels(Image.new("RGB", (32, 32), "blue"), (32, 32)))


def test_shrinking_does_not_alias():
    """Lines a pixel wide become the grey of their mean, where picking every fourth pixel would give stripes."""
    lines = np.zeros((256, 256, 3), np.uint8)
    lines[:, ::2] = 255
    small = cut(Image.fromarray(lines), (64, 64))
    assert small[:, :, 4:-4].abs().max() < 0.05


def test_how_much_a_picture_has_to_grow():
    assert enlarged(32, 64, (64, 64)) == 2
    assert enlarged(128, 256, (64, 64)) == 0.5


def test_random_crops_lie_within_and_differ():
    ramp = np.zeros((64, 128, 3), np.uint8)
    ramp[..., 0] = np.arange(128)
    ramp[..., 1] = np.arange(64)[:, None]
    image = Image.fromarray(ramp)
    starts = set()
    for seed in range(40):
        crop = (random_cut(image, (32, 32), np.random.default_rng(seed), False) + 1) * 127.5
        across = float(crop[0, 0, -1] - crop[0, 0, 0])
        assert 0.65 * 64 < across + 64 / 32 * 1.5 < 70  # a half to the whole of the area 64 x 64
        starts.add(round(float(crop[0, 0, 0])))
    assert len(starts) > 20
    mirrored = [
        bool((crop := random_cut(image, (32, 32), np.random.default_rng(seed), True))[0, 0, 0] > crop[0, 0, -1])
        for seed in range(40)
    ]
    assert 10 < sum(mirrored) < 30
