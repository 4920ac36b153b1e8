"""The core on tiny random weights: determinism, batches, img2img, records, and runs that break down."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from llm_dit.base.errors import ImageError, ModelError, PromptError, RenderError
from llm_dit.diffusion.noise import seeded_generator
from llm_dit.images.pixels import as_pixels
from llm_dit.models.cache import PARTS
from llm_dit.render.draw import first_latents, prepare, render


def pixels(picture):
    return np.array(picture.image)


def test_the_same_config_gives_the_same_bytes(tiny):
    first, second = render(tiny("seed=5"))[0], render(tiny("seed=5"))[0]
    PARTS.clear()
    reloaded = render(tiny("seed=5"))[0]
    assert pixels(first).tobytes() == pixels(second).tobytes() == pixels(reloaded).tobytes()
    assert first.record["pixels_sha256"] == reloaded.record["pixels_sha256"]
    assert pixels(render(tiny("seed=6"))[0]).tobytes() != pixels(first).tobytes()


def test_a_seeds_picture_does_not_depend_on_the_seeds_beside_it(tiny):
    alone = {seed: pixels(render(tiny(f"seed={seed}"))[0]).tobytes() for seed in (3, 4, 5)}
    together = render(tiny("seeds=[5,3,4]"))
    assert [p.record["seed"] for p in together] == [5, 3, 4]
    for picture in together:
        assert pixels(picture).tobytes() == alone[picture.record["seed"]]


@pytest.mark.parametrize("guidance", ["guidance.guidance_scale=0", "guidance.guidance_scale=2"])
def test_pictures_of_one_forward_equal_those_drawn_alone(tiny, guidance):
    alone = render(tiny("seeds=[1,2,3]", guidance))
    batched = render(tiny("seeds=[1,2,3]", guidance, "hardware.batch_size=2"))
    for one, other in zip(alone, batched, strict=True):
        assert torch.allclose(one.latents, other.latents, atol=1e-5)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (48, 80), (208, 32)])
def test_any_multiple_of_16_is_drawn(tiny, width, height):
    (picture,) = render(tiny(f"width={width}", f"height={height}", "sampler.steps=1"))
    assert picture.image.size == (width, height)
    assert (picture.record["width"], picture.record["height"]) == (width, height)


def test_the_record_says_what_was_run(tiny):
    (picture,) = render(tiny("guidance.guidance_scale=2", "guidance.cfg_truncation=0.2", "seed=3"))
    record = json.loads(json.dumps(picture.record))
    assert record["sigmas"] == [1.0, 0.9, 0.75, 0.5, 0.0]
    # Guidance stops once 1 - sigma > 0.2: two guided steps of two forwards, two plain ones.
    assert record["nfe"] == 6
    assert record["guidance"] == {
        "guidance_scale": 2.0, "cfg_weight": 3.0, "method": "cfg",
        "sigmas": [1.0, 0.9], "zero_sigmas": [], "slg": None, "nag": None,
    }  # fmt: skip
    assert record["formatted_prompt"] == "<|im_start|>user\na red apple<|im_end|>\n<|im_start|>assistant\n"
    assert (record["token_count"], record["padded_length"]) == (30, 32)
    assert record["negative"]["formatted_prompt"] == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    assert record["config"]["prompt"]["text"] == "a red apple"
    assert (record["seed"], record["shift"], record["device"], record["dtype"]) == (3, 3.0, "cpu", "float32")
    assert {"encode", "denoise", "decode"} <= set(record["seconds"])
    assert set(record["model_fingerprint"]) == {"transformer", "vae", "text_encoder"}
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_seconds_are_counted_once(tiny):
    """What pictures share is divided among those of a batch, and no later picture counts it again."""
    PARTS.clear()
    seconds = [p.record["seconds"] for p in render(tiny("num_images=4", "hardware.batch_size=2"))]
    assert seconds[0]["load"] == seconds[1]["load"] > 0
    assert seconds[0]["denoise"] == seconds[1]["denoise"]
    assert [set(s) for s in seconds[2:]] == [{"denoise", "decode"}] * 2
    assert "load" not in render(tiny())[0].record["seconds"]


@pytest.fixture
def start_pictures(tmp_path):
    """Two different start pictures, as overrides."""
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    Image.fromarray(255 - ramp).save(tmp_path / "fall.png")
    return [f"init_image={tmp_path / name}" for name in ("ramp.png", "fall.png")]


def test_strength_one_forgets_the_start_picture_and_less_does_not(tiny, start_pictures):
    forgotten = [render(tiny(start, "strength=1"))[0] for start in start_pictures]
    assert torch.equal(forgotten[0].latents, forgotten[1].latents)
    kept = [render(tiny(start, "strength=0.5"))[0] for start in start_pictures]
    assert not torch.allclose(kept[0].latents, kept[1].latents, atol=1e-3)
    assert [p.record["nfe"] for p in (*forgotten, *kept)] == [4, 4, 2, 2]
    assert kept[0].record["init_image_sha256"] != kept[1].record["init_image_sha256"]


def test_less_strength_starts_nearer_to_the_start_picture(tiny, start_pictures):
    from llm_dit.families.autoencoder_kl.codec import encode

    def distance(strength):
        run = prepare(tiny(start_pictures[0], f"strength={strength}", "sampler.steps=20"))
        pixels = as_pixels(run.start, run.size)
        clean = encode(run.models.vae, pixels, seeded_generator(0), run.config.tiling)
        return float((first_latents(run, [0])[0] - clean).abs().mean())

    assert 0 < distance(0.1) < distance(0.5) < distance(1.0)


def test_the_start_pictures_size_is_rounded_to_16(tiny, tmp_path):
    Image.new("RGB", (70, 41), "red").save(tmp_path / "start.png")
    start = f"init_image={tmp_path / 'start.png'}"
    assert render(tiny(start))[0].image.size == (64, 48)
    assert render(tiny(start, "width=32"))[0].image.size == (32, 48)


def test_a_cut_prompt_is_told_in_the_record(tiny):
    record = render(tiny("long_prompt.max_tokens=32", prompt="many words " * 20))[0].record
    assert "the prompt was cut from 239 to" in record["warnings"][0]
    assert record["formatted_prompt"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(PromptError, match="has 239 tokens"):
        render(tiny("long_prompt=refuse", "long_prompt.max_tokens=32", prompt="many words " * 20))


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (["prompt.negative=blur"], "prompt.negative has no effect"),
        (["guidance.cfg_normalization=1"], "guidance.cfg_normalization has no effect"),
        (["guidance.cfg_truncation=0.5"], "guidance.cfg_truncation has no effect"),
        (
            ["guidance.guidance_scale=2", "guidance.cfg_truncation=0", "init_image=start.png", "strength=0.2"],
            "guidance has no effect",
        ),
    ],
)
def test_a_setting_that_cannot_act_is_told(tiny, tmp_path, monkeypatch, overrides, warning):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("start.png")
    assert warning in render(tiny(*overrides))[0].record["warnings"][0]


def test_more_than_1504_tokens_are_drawn(tiny):
    record = render(tiny("long_prompt.max_tokens=2000", "sampler.steps=1", prompt="x" * 1800))[0].record
    assert (record["token_count"], record["warnings"]) == (1819, [])


def test_latents_that_are_not_finite_are_an_error_not_a_picture(tiny):
    render(tiny())
    weight = PARTS.get("transformer", PARTS._parts["transformer"][0], None).layers[0].attention.to_q.weight
    weight.data[0, 0] = float("nan")
    try:
        with pytest.raises(RenderError, match="latents are not finite"):
            render(tiny())
    finally:
        PARTS.clear()


def test_a_picture_of_one_colour_is_an_error(tiny):
    render(tiny())
    decoder = PARTS.get("vae", PARTS._parts["vae"][0], None).decoder
    decoder.conv_out.weight.data.zero_()
    try:
        with pytest.raises(RenderError, match="one single colour"):
            render(tiny())
    finally:
        PARTS.clear()


def test_pictures_finished_before_an_error_are_handed_over(tiny):
    done = []

    def on_picture(picture):
        done.append(picture.record["seed"])
        if len(done) == 2:
            raise RenderError("stop here")

    with pytest.raises(RenderError, match="stop here"):
        render(tiny("num_images=4"), on_picture=on_picture)
    assert done == [0, 1]


def test_progress_counts_every_step_of_every_batch(tiny):
    seen = []
    render(tiny("num_images=3", "hardware.batch_size=2"), on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 8) for i in range(1, 9)]


def test_an_encoder_of_another_width_is_named(tiny):
    with pytest.raises(ModelError, match="576 features a token, the transformer takes 32"):
        render(tiny("model.text_encoder=shipped:smollm2"))
    PARTS.clear()


def test_no_prompt_is_an_error_and_an_empty_one_is_not(tiny):
    with pytest.raises(PromptError, match="no prompt"):
        render(tiny(prompt=None))
    assert render(tiny(prompt=""))[0].record["token_count"] == 19


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such picture"),
        (b"", "not a picture"),
        (b"GIF89a\x00", "picture"),
        (b"text", "not a picture"),
    ],
)
def test_a_start_picture_that_is_none_is_named(tiny, tmp_path, content, message):
    path = tmp_path / "start.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        render(tiny(f"init_image={path}"))
