"""Step distillation: the teacher's mean velocity against its sampler, and a student that becomes its teacher."""

from __future__ import annotations

import pytest
import torch
from small_training import log_of, make_data, settings

from llm_dit.base.errors import LabError
from llm_dit.config import GuidanceConfig
from llm_dit.diffusion.samplers import SAMPLERS
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.families.z_image.velocity import ZImageVelocity
from llm_dit.train.distill import Teacher
from llm_dit.train.forward import stack_captions
from llm_dit.train.task import train, training_folder


@pytest.mark.parametrize("empty", [5, 40])  # the empty prompt pads as the captions do, or to more
def test_the_teacher_goes_where_the_guided_sampler_goes(empty):
    torch.manual_seed(0)
    caption, negative, x = torch.randn(9, 32), torch.randn(empty, 32), torch.randn(1, 16, 8, 8)
    levels = [0.9, 0.8, 0.7]
    guided = ZImageVelocity(tiny_transformer(), caption, negative, GuidanceConfig(guidance_scale=2.0))
    with torch.inference_mode():
        there = SAMPLERS["flow_euler"](guided, x, levels, None)
    teacher = Teacher(tiny_transformer(), 2.0, negative, "cpu")
    mean = teacher.mean_velocity(x, torch.tensor(levels)[:, None], *stack_captions([caption]))
    assert torch.allclose(x + (levels[-1] - levels[0]) * mean, there, atol=1e-5)
    other = Teacher(tiny_transformer(), 1.0, negative, "cpu")
    assert not torch.allclose(
        mean, other.mean_velocity(x, torch.tensor(levels)[:, None], *stack_captions([caption])), atol=1e-3
    )


def test_a_student_of_one_substep_without_guidance_has_nothing_to_learn(tmp_path):
    config = settings(
        tmp_path, "train.method=distill", "train.steps=1", "train.distill.substeps=1", "guidance.guidance_scale=0"
    )
    train(config, dataset=make_data())
    assert log_of(tmp_path)[0]["loss"] < 1e-10


def test_a_student_learns_the_guided_mean_velocity(tmp_path):
    config = settings(
        tmp_path, "train.method=distill", "train.steps=12", "train.batch_size=4", "guidance.guidance_scale=3",
        "sampler.steps=2", "train.learning_rate=0.001", "train.log_every=3", "train.optimizer=muon",
    )  # fmt: skip
    saved = train(config, dataset=make_data())
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert losses[-1] < 0.5 * losses[0]
    assert (saved / "transformer" / "config.json").is_file()


def test_other_guidance_than_plain_is_refused(tmp_path):
    with pytest.raises(LabError, match="teaches plain guidance"):
        train(settings(tmp_path, "train.method=distill", "guidance=apg"), dataset=make_data())


@pytest.mark.parametrize(
    "given",
    ["guidance.sigma_low=0.2", "guidance.cfg_truncation=0.5", "slg.scale=1", "nag.scale=2", "prompt.negative=blurred"],
)
def test_guidance_that_the_teacher_would_not_have_is_refused_by_name(tmp_path, given):
    with pytest.raises(LabError, match=f"leave out {given.split('=')[0]}"):
        train(settings(tmp_path, "train.method=distill", given), dataset=make_data())


@pytest.mark.parametrize("other", ["guidance.guidance_scale=5", "sampler.steps=2", "sampler.shift=4"])
def test_another_teacher_or_grid_is_another_training(tmp_path, other):
    shared = [
        "train.method=distill",
        "train.steps=2",
        "guidance.guidance_scale=2",
        "sampler.steps=4",
        "sampler.shift=3",
    ]
    train(settings(tmp_path, *shared), dataset=make_data())
    key = other.split("=")[0]
    with pytest.raises(LabError, match=rf"{key} was \S+, is {other.split('=')[1]}"):
        train(settings(tmp_path, *shared, other), dataset=make_data())
    nameless = [training_folder(settings(tmp_path, *shared, "train.name=null", *more)) for more in ([], [other])]
    assert nameless[0] != nameless[1]


def test_idle_settings_are_told(tmp_path, capsys):
    train(settings(tmp_path, "train.method=distill", "train.steps=1", "train.logit_mean=1"), dataset=make_data())
    assert "train.logit_mean has no effect: train.method is distill" in capsys.readouterr().err
