"""Two stages through the whole core, and what the record tells of them and of extrapolated positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_dit.base.errors import ConfigError
from llm_dit.config import HighresConfig
from llm_dit.diffusion.highres import base_size_of, enlarge_latents, second_stream
from llm_dit.diffusion.noise import seeded_generator
from llm_dit.images.pixels import as_image
from llm_dit.records.picture import save_picture
from llm_dit.render.draw import render
from llm_dit.study.dry_run import forwards_of

LARGE = ["width=128", "height=96", "sampler.steps=5"]


@pytest.mark.parametrize(
    ("size", "base"),
    [((256, 256), (128, 128)), ((256, 128), (128, 64)), ((144, 208), (96, 128)), ((128, 96), (128, 96))],
)
def test_the_first_stage_has_the_shape_and_no_side_above_the_base(size, base):
    assert base_size_of(HighresConfig(), size, 128) == base


@pytest.mark.parametrize("upscale", ["pixel", "latent"])
def test_two_stages_are_drawn_counted_and_recorded(tiny, upscale):
    config = tiny(*LARGE, "highres=two_stage", f"highres.upscale={upscale}", "highres.steps=10")
    steps = []
    (picture,) = render(config, on_step=lambda done, every: steps.append((done, every)))
    record = picture.record
    assert picture.image.size == (128, 96)
    assert (record["width"], record["height"], len(record["sigmas"])) == (128, 96, 6)
    second = record["highres"]
    assert (second["base_width"], second["base_height"], second["upscale"]) == (64, 48, upscale)
    assert len(second["sigmas"]) == 7  # 0.6 of 10 steps
    assert second["sigmas"][0] < 1
    assert record["nfe"] == forwards_of(config) == 11
    assert steps == [(i, 11) for i in range(1, 12)]
    assert record["warnings"] == []


def test_it_is_image_to_image_from_the_first_stage_but_for_the_noise(tiny, tmp_path, monkeypatch):
    """With the noise of img2img it is the same picture to the bit."""
    small = render(tiny("width=64", "height=48", "sampler.steps=5"))[0]
    path = save_picture(small, tmp_path, "small")
    img2img = render(tiny("width=128", "height=96", "sampler.steps=10", f"init_image={path}", "strength=0.6"))[0]
    two = [*LARGE, "highres=two_stage", "highres.steps=10"]
    assert render(tiny(*two))[0].record["pixels_sha256"] != img2img.record["pixels_sha256"]
    own = "llm_dit.diffusion.highres.second_stream"
    monkeypatch.setattr(own, seeded_generator)
    picture = render(tiny(*two))[0]
    assert picture.record["highres"]["sigmas"] == img2img.record["sigmas"]
    assert picture.record["pixels_sha256"] == img2img.record["pixels_sha256"]


def test_seeds_keep_their_picture_in_a_batch(tiny):
    both = render(tiny(*LARGE, "highres=two_stage", "num_images=2"))
    alone = render(tiny(*LARGE, "highres=two_stage", "seed=1"))[0]
    assert both[1].record["pixels_sha256"] == alone.record["pixels_sha256"]
    assert both[0].record["pixels_sha256"] != alone.record["pixels_sha256"]
    together = render(tiny(*LARGE, "highres=two_stage", "num_images=2", "hardware.batch_size=2"))
    assert torch.allclose(together[1].latents, alone.latents, atol=1e-4)


def test_the_second_stages_noise_is_not_the_firsts():
    assert not torch.equal(torch.randn(64, generator=second_stream(7)), torch.randn(64, generator=seeded_generator(7)))


def test_latents_enlarged_by_bicubic_keep_their_level():
    z = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
    large = enlarge_latents(z, (8, 12))
    assert large.shape == (1, 1, 8, 12)
    assert float(large.mean()) == pytest.approx(0.5, abs=1e-6)


def test_image_to_image_takes_a_second_stage_too(tiny, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    as_image(noise).save(tmp_path / "start.png")
    (picture,) = render(tiny(f"init_image={tmp_path / 'start.png'}", "sampler.steps=5", "highres=two_stage"))
    assert picture.record["nfe"] == 3 + 3
    assert picture.image.size == (128, 96)


def test_zero_init_is_of_the_first_stage(tiny):
    more = ["guidance=cfg_zero", "guidance.guidance_scale=2", "guidance.zero_init_steps=1"]
    record = render(tiny(*LARGE, "highres=two_stage", *more))[0].record
    assert record["nfe"] == 2 * 4 + 2 * 3
    assert record["guidance"]["zero_sigmas"] == [1.0]
    assert record["highres"]["guidance"]["zero_sigmas"] == []


def test_positions_that_follow_the_noise_are_recorded_and_leave_the_first_stage_alone(tiny):
    record = render(tiny(*LARGE, "dype=dy_ntk"))[0].record
    assert (record["dype"]["method"], record["dype"]["stretch"]) == ("dy_ntk", [1.5, 2.0])
    assert record["dype"]["kappa"] == [2 * s**2 for s in record["sigmas"][:-1]]
    second = render(tiny(*LARGE, "dype=dy_ntk", "highres=two_stage"))[0].record
    assert second["dype"]["kappa"] == [2 * s**2 for s in second["highres"]["sigmas"][:-1]]


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "vision_yarn", "dy_pi", "dy_ntk", "dy_yarn"])
def test_at_the_trained_size_no_method_changes_a_bit_and_each_says_so(tiny, method):
    plain = render(tiny("sampler.steps=2"))[0]
    picture = render(tiny("sampler.steps=2", f"dype={method}"))[0]
    assert picture.record["pixels_sha256"] == plain.record["pixels_sha256"]
    assert torch.equal(picture.latents, plain.latents)
    assert picture.record["dype"] is None
    assert any(w.startswith("dype has no effect: 64 x 64") for w in picture.record["warnings"])


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (["width=64", "height=64", "highres=two_stage"], "highres has no effect: 64 x 64 is no larger than model."),
        ([*LARGE, "highres=two_stage", "highres.base_size=128"], "highres has no effect: 128 x 96 is no larger"),
        ([*LARGE, "highres.strength=0.3"], "highres.strength has no effect: highres.mode is none."),
        ([*LARGE, "highres=two_stage", "highres.strength=1"], "highres' first stage has no effect"),
        ([*LARGE, "highres=two_stage", "highres.steps=3", "sampler.sigmas=[1,0.5]"], "highres.steps has no effect"),
    ],
)
def test_what_cannot_act_says_so(tiny, settings, warning):
    (picture,) = render(tiny("sampler.steps=2", *settings))
    assert any(w.startswith(warning) for w in picture.record["warnings"])


def test_guidance_that_acts_in_the_second_stage_alone_is_not_called_idle(tiny):
    window = ["guidance.guidance_scale=2", "guidance.sigma_high=0.1", "sampler.steps=2"]
    idle = render(tiny("width=128", *window))[0].record["warnings"]
    assert any(w.startswith("guidance has no effect") for w in idle)
    record = render(tiny("width=128", *window, "highres=two_stage", "highres.steps=60"))[0].record
    assert record["warnings"] == []
    assert record["highres"]["guidance"]["sigmas"]


def test_thresholds_the_wrong_way_round_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"dype\.alpha must be below dype\.beta"):
        tiny("dype=dy_yarn", "dype.alpha=32")


def test_a_second_stage_follows_its_own_size(tiny):
    config = tiny(*LARGE, "highres=two_stage", "sampler.shift_mode=resolution")
    record = render(config)[0].record
    assert record["highres"]["shift"] > record["shift"]
