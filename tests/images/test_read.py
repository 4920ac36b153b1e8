"""One reader of pictures: every mode gives the same pixels to init_image, training and grids."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llm_dit.base.errors import ImageError
from llm_dit.images.read import decode, read_picture, read_told, upright_size
from llm_dit.records.picture import is_own_picture, read_record
from llm_dit.study.grids.sheet import gallery, paint, picture_size
from llm_dit.train.data.pictures import open_picture

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMP16 = RAMP.astype(np.uint16) * 257


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of raw rows (each with its filter byte); more: chunks before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def wide(values: np.ndarray) -> bytes:
    """Rows of 16-bit big-endian samples, with filter bytes."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


def pixel_of(content: bytes, at=(0, 0)) -> tuple[int, ...]:
    return decode(content)[0].getpixel(at)


GREY16 = {
    "png": saved(Image.fromarray(RAMP16), "PNG"),
    "little-endian tiff": saved(Image.fromarray(RAMP16), "TIFF"),
    "big-endian tiff": saved(Image.frombytes("I;16B", (16, 16), RAMP16.astype(">u2").tobytes()), "TIFF"),
    "32-bit tiff": saved(Image.fromarray(RAMP16.astype(np.int32)), "TIFF"),
    "pgm": b"P5 16 16 65535\n" + RAMP16.astype(">u2").tobytes(),
    "float tiff": saved(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"),
    "grey with alpha png": png(16, 16, 16, 4, wide(np.stack([RAMP16, np.full_like(RAMP16, 65535)], 2).reshape(16, -1))),
    "rgb png": png(16, 16, 16, 2, wide(np.repeat(RAMP16, 3, axis=1))),
}


@pytest.mark.parametrize("case", GREY16)
def test_more_than_eight_bits_are_divided_and_never_clipped(case):
    image, remarks = decode(GREY16[case])
    assert np.array_equal(np.asarray(image)[..., 0], RAMP)
    assert np.array_equal(np.asarray(image), np.repeat(RAMP[..., None], 3, axis=2))
    assert len(remarks) == 1
    assert "made 8" in remarks[0]


def test_a_tiff_whose_white_is_zero_is_not_read_as_its_negative():
    content = saved(Image.fromarray(RAMP16), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(np.asarray(decode(content)[0])[..., 0], 255 - RAMP)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 255.0]], np.float32), "floats from 0 to 255; they must be from 0"),
        (np.array([[-0.5, 1.0]], np.float32), "floats from -0.5 to 1"),
        (np.array([[np.nan, 1.0]], np.float32), "floats from nan to nan"),
        (np.array([[0, 70000]], np.int32), "whole numbers from 0 to 70000"),
        (np.array([[-1, 5]], np.int32), "whole numbers from -1 to 5"),
        (np.array([[0, 200]], np.int32), "whole numbers from 0 to 200"),
    ],
)
def test_numbers_of_an_unknown_range_are_refused_in_a_line(values, message, tmp_path):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=f"a.tif: the picture cannot be read: {message}"):
        read_picture(tmp_path / "a.tif")


def palette(mode: str = "P", pixel: int | tuple[int, int] = 3) -> Image.Image:
    image = Image.new(mode, (4, 4), pixel)
    image.putpalette(list(range(30)))
    return image


RED = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
TRANSPARENT = {
    "RGBA": saved(RED, "PNG"),
    "LA": saved(Image.new("LA", (4, 4), (7, 0)), "PNG"),
    "palette": saved(palette(), "PNG", transparency=3),
    "gif": saved(palette(), "GIF", transparency=3),
    "grey level": saved(Image.new("L", (4, 4), 9), "PNG", transparency=9),
    "colour": saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
    "16-bit grey level": png(4, 1, 16, 0, wide(np.full((1, 4), 300)), chunk(b"tRNS", struct.pack(">H", 300))),
    "16-bit colour": png(1, 1, 16, 2, wide(np.array([[300, 2, 3]])), chunk(b"tRNS", struct.pack(">HHH", 300, 2, 3))),
    "16-bit grey and alpha": png(1, 1, 16, 4, wide(np.array([[300, 0]]))),
    "16-bit RGBA": png(1, 1, 16, 6, wide(np.array([[300, 0, 0, 0]]))),
    "webp": saved(RED, "WEBP", lossless=True, exact=True),
    "tiff": saved(RED, "TIFF"),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_what_is_transparent_is_white(case):
    image, remarks = decode(TRANSPARENT[case])
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert "its transparent parts were laid on white" in remarks


def test_only_the_transparent_level_of_sixteen_bits_is_white():
    content = png(2, 1, 16, 0, wide(np.array([[300, 301]])), chunk(b"tRNS", struct.pack(">H", 300)))
    image, _ = decode(content)
    assert [image.getpixel((x, 0))[0] for x in (0, 1)] == [255, 1]


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_modes_of_pillow_with_alpha_are_laid_on_white_in_a_grid(mode):
    clear = palette("PA", (3, 0)) if mode == "PA" else (RED.convert("LA") if mode == "La" else RED).convert(mode)
    sheet = gallery([("", clear)], [(4, 4)], 1)
    left, top, _, _ = sheet.spots[0].box
    assert paint(sheet).getpixel((left, top)) == (255, 255, 255)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("1", "TIFF"),
     ("CMYK", "TIFF"), ("LAB", "TIFF"), ("CMYK", "JPEG"), ("RGB", "JPEG"), ("L", "JPEG")],
)  # fmt: skip
def test_eight_bits_are_as_pillow_converts_them(mode, kind):
    content = saved(NOISE.convert("RGB").convert(mode) if mode != "LAB" else lab(), kind)
    with Image.open(io.BytesIO(content)) as file:
        wanted = np.asarray(file.convert("RGB"))
    assert np.array_equal(np.asarray(decode(content)[0]), wanted)


def lab() -> Image.Image:
    return Image.frombytes("LAB", NOISE.size, NOISE.tobytes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_is_upright_everywhere(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    NOISE.save(path, kind, exif=exif)
    size = (12, 20) if orientation == 6 else (20, 12)
    assert read_picture(path).size == upright_size(path) == picture_size(path) == size


def test_a_turn_told_by_a_text_of_a_png_is_kept():
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    assert decode(saved(NOISE, "PNG", pnginfo=info))[0].size == (12, 20)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_taken(kind):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue", "lime")]
    image, remarks = decode(saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True))
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert remarks == ["only the first of its frames is used"]


SAME = {
    "sixteen.png": GREY16["png"],
    "sixteen_alpha.png": TRANSPARENT["16-bit grey and alpha"],
    "palette.png": TRANSPARENT["palette"],
    "cmyk.jpg": saved(NOISE.convert("CMYK"), "JPEG"),
    "one.png": saved(NOISE.convert("1"), "PNG"),
}


@pytest.mark.parametrize("name", SAME)
def test_training_start_pictures_and_grids_see_the_same_pixels(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(SAME[name])
    start = np.asarray(read_picture(path))
    assert np.array_equal(np.asarray(open_picture(SAME[name])[0]), start)
    sheet = gallery([("", path)], [start.shape[1::-1]], 1)
    left, top, width, height = sheet.spots[0].box
    assert np.array_equal(np.asarray(paint(sheet).crop((left, top, left + width, top + height))), start)


def long_texts() -> dict[str, bytes]:
    text = "long text " * 200_000  # 2 MB
    packed, international, profile = PngInfo(), PngInfo(), zlib.compress(bytes(3_000_000))
    packed.add_text("Comment", text, zip=True)
    international.add_itxt("Comment", text, zip=True)
    plain = saved(NOISE, "PNG")
    behind = plain[:-12] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text.encode())) + plain[-12:]
    return {
        "zTXt": saved(NOISE, "PNG", pnginfo=packed),
        "iTXt": saved(NOISE, "PNG", pnginfo=international),
        "iCCP": plain[:33] + chunk(b"iCCP", b"p\0\0" + profile) + plain[33:],
        "zTXt behind the pixels": behind,
    }


@pytest.mark.parametrize("case", ["zTXt", "iTXt", "iCCP", "zTXt behind the pixels"])
def test_a_sound_png_with_long_text_is_read(case, tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(long_texts()[case])
    assert np.array_equal(np.asarray(read_picture(path)), np.asarray(NOISE))
    assert open_picture(path.read_bytes())[1] == []
    assert picture_size(path) == NOISE.size
    with pytest.raises(ImageError, match=r"long\.png: carries no record"):
        read_record(path)
    assert not is_own_picture(path)


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"zTXt", b"llm_dit\0\0" + zlib.compress(bytes(200_000_000))),
        chunk(b"iTXt", b"llm_dit\0\1\0\0\0" + zlib.compress(bytes(200_000_000))),
        chunk(b"iTXt", b"llm_dit\0\0\0\0\0" + b"\xff{"),
        chunk(b"iTXt", b"llm_dit\0\0"),
        chunk(b"zTXt", b"llm_dit\0\0no zlib"),
    ],
)
def test_a_record_that_is_a_bomb_or_broken_is_one_line(text, tmp_path):
    plain = saved(NOISE, "PNG")
    (tmp_path / "a.png").write_bytes(plain[:33] + text + plain[33:])
    with pytest.raises(ImageError, match=r"a\.png: its record: cannot be read as JSON"):
        read_record(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), np.asarray(NOISE))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [9_000, 50_000])
def test_a_bomb_is_one_line(side, tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, 8, 2, b""))
    with pytest.raises(ImageError, match=r"bomb\.png: the picture cannot be read: .*pixels") as error:
        read_picture(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ImageError):
        read_record(path)


def test_a_program_that_draws_is_no_picture(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="not a picture in a format that can be read"):
        read_picture(tmp_path / "a.eps")


def specials(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "fifo.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    return {"a FIFO": folder / "fifo.png", "a device": folder / "zero.png", "a folder": folder / "folder.png"}


@pytest.mark.parametrize("read", [read_picture, read_record, read_told, upright_size])
def test_what_is_no_file_is_refused_without_blocking(read, tmp_path):
    for kind, path in specials(tmp_path).items():
        said: list[str] = []

        def attempt(path=path, said=said):
            try:
                read(path)
            except ImageError as error:
                said.append(str(error))

        thread = threading.Thread(target=attempt, daemon=True)
        began = time.monotonic()
        thread.start()
        thread.join(10)
        assert said == [f"{path}: {kind}, not a file that can be read."], f"{time.monotonic() - began:.0f} s"
        assert not is_own_picture(path)


def test_the_sixteen_bit_start_picture_is_told(tiny, tmp_path):
    from llm_dit.render.draw import prepare

    (tmp_path / "a.png").write_bytes(GREY16["png"])
    run = prepare(tiny(f"init_image={tmp_path / 'a.png'}", "width=32", "height=32"))
    assert np.array_equal(np.asarray(run.start)[..., 0], RAMP)
    assert any("16 bits a pixel were made 8" in line for line in run.foreseen)
