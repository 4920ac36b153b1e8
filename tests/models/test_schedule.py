"""scheduler_config.json: what is followed equals diffusers' scheduler of the same file, the rest is refused."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift, get_default_z_image_sigmas

from llm_dit.base.errors import ModelError
from llm_dit.compose import compose
from llm_dit.config import ModelConfig, SamplerConfig
from llm_dit.diffusion.samplers import sample_lcm
from llm_dit.diffusion.sigmas import noise_levels
from llm_dit.models.cache import PARTS, PartCache
from llm_dit.render.draw import render
from llm_dit.train.jobs import Where, make_job
from llm_dit.weights.schedule import BY_RESOLUTION, SPACINGS, load_shift, read_schedule

# What diffusers writes for Z-Image-Turbo: every field of the class.
ZIMAGE = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1", "num_train_timesteps": 1000,
    "shift": 3.0, "use_dynamic_shifting": False, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
    "max_image_seq_len": 4096, "invert_sigmas": False, "shift_terminal": None, "use_karras_sigmas": False,
    "use_exponential_sigmas": False, "use_beta_sigmas": False, "time_shift_type": "exponential",
    "stochastic_sampling": False,
}  # fmt: skip
FLUX = {"use_dynamic_shifting": True}
OWN_POINTS = FLUX | {"base_shift": 0.25, "max_shift": 0.9, "base_image_seq_len": 128, "max_image_seq_len": 8192}
SET_POINTS = {"base_shift": 0.25, "max_shift": 0.9, "base_image_tokens": 128, "max_image_tokens": 8192}


@pytest.fixture
def file(tmp_path):
    def write(changes):
        path = tmp_path / "scheduler_config.json"
        path.write_text(json.dumps(ZIMAGE | changes))
        return path

    return write


def test_every_field_of_the_class_is_known():
    """A field that a later diffusers adds must be followed or refused here, too."""
    assert set(inspect.signature(FlowMatchEulerDiscreteScheduler.__init__).parameters) - {"self"} == {
        name for name in ZIMAGE if not name.startswith("_")
    }


FOLLOWED = [
    ({}, {}),
    ({"shift": 6.0}, {}),
    *(({field: True}, {"spacing": name}) for field, name in SPACINGS.items()),
    (FLUX, {"shift_mode": "resolution"}),
    (OWN_POINTS, {"shift_mode": "resolution", **SET_POINTS}),
    (FLUX | {"use_karras_sigmas": True}, {"shift_mode": "resolution", "spacing": "karras"}),
    ({"time_shift_type": "linear", "max_shift": 7.0, "shift_terminal": 0}, {}),  # no effect
]


@pytest.mark.parametrize(("changes", "settings"), FOLLOWED)
@pytest.mark.parametrize("steps", [1, 8, 33])
def test_levels_equal_diffusers_scheduler_of_the_same_file(file, changes, settings, steps):
    path = file(changes)
    schedule, sampler = read_schedule(path), SamplerConfig(steps=steps, **settings)
    schedule.refuse_ignored(sampler)
    ours, _ = noise_levels(sampler, schedule.static_shift, (1024, 768))
    theirs = FlowMatchEulerDiscreteScheduler.from_config(json.loads(path.read_text()))
    mu = calculate_shift(64 * 48, *(theirs.config[f] for f in ("base_image_seq_len", "max_image_seq_len", "base_shift",
                                                               "max_shift")))  # fmt: skip
    theirs.set_timesteps(sigmas=get_default_z_image_sigmas(steps), mu=mu)
    assert torch.tensor(ours, dtype=torch.float32).tolist() == theirs.sigmas.tolist()


def test_stochastic_sampling_is_the_lcm_sampler(file):
    path, sampler = file({"stochastic_sampling": True}), SamplerConfig(name="lcm", steps=6)
    schedule = read_schedule(path)
    schedule.refuse_ignored(sampler)
    sigmas, _ = noise_levels(sampler, schedule.static_shift, (64, 64))
    theirs = FlowMatchEulerDiscreteScheduler.from_config(json.loads(path.read_text()))
    theirs.set_timesteps(sigmas=get_default_z_image_sigmas(6))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    ours = sample_lcm(lambda x, s: torch.sin(x) * s, x, sigmas, noise=lambda: torch.randn(x.shape, generator=one))
    for t, s in zip(theirs.timesteps, sigmas, strict=False):
        x = theirs.step(torch.sin(x) * s, t, x, generator=other, return_dict=False)[0]
    assert torch.allclose(ours, x, atol=1e-6)


REFUSED = [
    ({"shift_terminal": 0.02}, {}, r"shift_terminal is 0\.02, .* give the levels in sampler\.sigmas"),
    ({"shift_terminal": 0.02}, {"shift": 3.0}, "shift_terminal"),
    ({"use_karras_sigmas": True}, {}, r"use_karras_sigmas is true, .* set sampler\.spacing=karras"),
    ({"use_exponential_sigmas": True}, {"shift": 1.0}, r"use_exponential_sigmas .* sampler\.spacing=exponential"),
    ({"use_beta_sigmas": True}, {}, r"use_beta_sigmas .* sampler\.spacing=beta"),
    ({"use_beta_sigmas": True, "use_karras_sigmas": True}, {}, "use_karras_sigmas and use_beta_sigmas are both true"),
    ({"invert_sigmas": True}, {"sigmas": [1.0, 0.5]}, "invert_sigmas is true"),
    ({"stochastic_sampling": True}, {}, r"stochastic_sampling is true, .* set sampler\.name=lcm"),
    ({"stochastic_sampling": True}, {"sigmas": [1.0, 0.5]}, "stochastic_sampling"),
    ({"num_train_timesteps": 500}, {}, "num_train_timesteps is 500"),
    ({"_class_name": "UniPCMultistepScheduler"}, {}, "_class_name is 'UniPCMultistepScheduler'"),
    ({"time_shift_type": "cubic"}, {}, "time_shift_type is 'cubic'"),
    (FLUX | {"time_shift_type": "linear"}, {"shift_mode": "resolution"}, "time_shift_type is linear"),
    (FLUX | {"time_shift_type": "linear"}, {}, r"use_dynamic_shifting is true; set sampler\.shift\."),
    (FLUX, {}, r"use_dynamic_shifting is true; set sampler\.shift_mode=resolution, or sampler\.shift\."),
    (OWN_POINTS, {}, r"sampler\.shift_mode=resolution sampler\.base_shift=0\.25 sampler\.max_shift=0\.9 "),
    (OWN_POINTS, {"shift_mode": "resolution"}, r"points of its own, .* set sampler\.base_shift=0\.25 "),
    ({"use_karras_sigmas": "yes"}, {}, "use_karras_sigmas is 'yes'; it must be true or false"),
    ({"max_shift": "x"}, {}, "max_shift is 'x'; it must be a number"),
    ({"shift": float("inf")}, {}, "shift is inf"),
]  # fmt: skip


def shift_of(path, sampler):
    schedule = read_schedule(path)
    schedule.refuse_ignored(sampler)
    return schedule.static_shift()


@pytest.mark.parametrize(("changes", "settings", "says"), REFUSED)
def test_what_would_be_ignored_is_refused_by_name(file, changes, settings, says):
    with pytest.raises(ModelError, match=says):
        shift_of(file(changes), SamplerConfig(**settings))


@pytest.mark.parametrize(
    ("changes", "settings"),
    [({"shift_terminal": 0.02, "use_karras_sigmas": True}, {"sigmas": [1.0, 0.5]}), (FLUX, {"shift": 3.0}),
     ({"use_karras_sigmas": True}, {"spacing": "beta"}), ({"stochastic_sampling": True}, {"name": "unipc"}),
     (OWN_POINTS, {"shift_mode": "resolution", "max_shift": 2.0})],
)  # fmt: skip
def test_what_the_user_sets_holds_against_the_file(file, changes, settings):
    read_schedule(file(changes)).refuse_ignored(SamplerConfig(**settings))


def test_the_points_by_resolution_are_the_settings_defaults():
    plain = SamplerConfig()
    assert {name: getattr(plain, name) for name, _ in BY_RESOLUTION.values()} == dict(BY_RESOLUTION.values())


def test_a_render_refuses_before_it_draws(own_folder):
    path = own_folder / "scheduler" / "scheduler_config.json"
    settings = ["a cat", "model=tiny", f"model.path={own_folder}", "sampler.steps=1", "width=64", "height=64"]
    path.write_text(json.dumps({"shift": 3.0, "shift_terminal": 0.02}))
    PARTS.clear()
    with pytest.raises(ModelError, match=r"scheduler_config\.json: shift_terminal is 0\.02"):
        render(compose([*settings, "sampler.shift=3"]))
    path.unlink()
    path.parent.rmdir()
    PARTS.clear()
    assert len(render(compose([*settings, "sampler.shift=3"]))) == 1  # nothing of the model's own is needed
    with pytest.raises(ModelError, match="no 'scheduler' folder"):
        load_shift(ModelConfig(path=str(own_folder)))


def training(own_folder, changes, *settings):
    (own_folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(ZIMAGE | changes))
    config = compose(["task=train", "model=tiny", f"model.path={own_folder}", *settings])
    return make_job(config, None, PartCache(), Where(torch.device("cpu"), autocast=False))


@pytest.mark.parametrize("method", ["full", "lora", "distill"])
def test_a_training_refuses_what_its_validations_would(own_folder, method):
    with pytest.raises(ModelError, match="use_beta_sigmas is true"):
        training(own_folder, {"use_beta_sigmas": True}, f"train={method}", "train.shift=3", "sampler.shift=3")


def test_a_training_under_a_shift_by_resolution_asks_for_its_own_shift(own_folder):
    with pytest.raises(ModelError, match=r"use_dynamic_shifting is true; set train\.shift\."):
        training(own_folder, FLUX)
