"""Pictures in and out: transparency and rotation, records, names, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llm_dit.base.errors import ImageError, OutputError
from llm_dit.base.files import check_writable, write_whole
from llm_dit.images.pixels import pixels_sha256
from llm_dit.images.read import read_picture
from llm_dit.records.picture import identity, picture_name, read_record, save_picture
from llm_dit.render.draw import render


def test_a_saved_picture_carries_its_record_twice(tiny, tmp_path):
    (picture,) = render(tiny(prompt='漢字 "quoted" ${x}'))
    path = save_picture(picture, tmp_path / "new" / "folder", "a")
    assert read_record(path) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == picture.record
    pixels = np.array(Image.open(path))
    assert pixels_sha256(pixels) == picture.record["pixels_sha256"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.json", "a.png"]


def test_transparency_is_laid_on_white_and_exif_rotation_applied(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # camera turned by 90 degrees
    Image.new("RGB", (8, 4), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (4, 8)


def test_palette_and_grey_pictures_are_read_as_rgb(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.new("P", (4, 4)).save(tmp_path / "palette.gif")
    assert read_picture(tmp_path / "grey.png").getpixel((0, 0)) == (7, 7, 7)
    assert read_picture(tmp_path / "palette.gif").mode == "RGB"


def test_a_truncated_picture_is_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="cannot be read"):
        read_picture(tmp_path / "half.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "carries no record"),
        ("{", "its record: cannot be read as JSON"),
        ("{}", "its record: lacks 'config'"),
        ('{"record_version": 99}', "its record: of version 99; this release reads version 1"),
    ],
)
def test_a_picture_without_a_readable_record_is_named(tmp_path, text, message):
    info = PngInfo()
    if text is not None:
        info.add_itxt("llm_dit", text)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ImageError, match=message):
        read_record(tmp_path / "a.png")


def test_names_hold_the_prompt_the_seed_and_the_settings(tiny):
    config = tiny(prompt='A cat / dog: "x"?')
    assert picture_name(config, 7, alone=True) == f"a-cat-dog-x_s7_{identity(config)}"
    assert picture_name(tiny(prompt="!!"), 0, alone=True).startswith("picture_s0_")
    assert len(picture_name(tiny(prompt="word " * 100), 0, alone=True)) < 80
    named = tiny("output.name=mine")
    assert [picture_name(named, 1, alone) for alone in (True, False)] == ["mine", "mine_s1"]


def test_identity_follows_what_changes_the_picture_and_nothing_else(tiny, tmp_path):
    base = identity(tiny())
    for same in ("hardware.threads=1", "output.dir=elsewhere", "seed=9", "num_images=3", "hardware.dtype=bfloat16"):
        assert identity(tiny(same)) == base, same
    for other in ("sampler.steps=5", "prompt.system=x", "guidance.guidance_scale=1", "encoder_layer.index=-1"):
        assert identity(tiny(other)) != base, other
    start = tmp_path / "start.png"
    Image.new("RGB", (4, 4), "red").save(start)
    red = identity(tiny(f"init_image={start}"))
    Image.new("RGB", (4, 4), "blue").save(start)
    assert identity(tiny(f"init_image={start}")) != red


def test_checking_a_folder_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "below")


def test_a_full_disk_leaves_no_half_written_file(tmp_path):
    """A file size limit stands in for the full disk: the second file of the pair fails in the middle of its write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError, match=f"{tmp_path}: cannot be written"):
            write_whole({tmp_path / "a.json": b"x" * 100, tmp_path / "a.png": b"x" * 20_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_files_get_the_usual_permissions(tmp_path):
    write_whole({tmp_path / "a": b""})
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
