"""Every parameter of the config, perturbed, changes something that can be seen, or is refused by name.

PIXELS, REFUSED or OWN_TEST must name each: a new parameter without an entry fails the first test.
"""

from __future__ import annotations

import re

import pytest
import torch

from llm_dit.base.errors import LabError
from llm_dit.cli.tasks import run_task
from llm_dit.compose import compose
from llm_dit.config import parameters
from llm_dit.records.picture import picture_name
from llm_dit.render.draw import render
from perturbations import BASE, PIXELS, REFUSED, both_sides, make_workplace

# What has an effect of its own, tested below.
OWN_TEST = {
    "task",
    "from_image",
    "num_images",
    "model.name",
    # In tests/test_foreseen.py:
    "model.sizes",
    "model.vocabulary",
    "hardware.dtype",
    "hardware.batch_size",
    "hardware.offload",
    "hardware.attention_backend",
    "hardware.threads",
    "output.dir",
    "output.name",
    "dry_run",
    # In tests/test_replay_trust.py:
    "trust_record",
    # In tests/study and tests/trackers:
    "resume",
    "prompts.set",
    "prompts.ids",
    "prompts.categories",
    "prompts.difficulties",
    "prompts.count",
    "tracker.name",
    "tracker.project",
    "sweep.name",
    "sweep.dir",
    "sweep.file",
    "sweep.axes",
    "sweep.metric",
    # In tests/train/data:
    "data.path",
    "data.images",
    "data.caption_lines",
    "data.size",
    "data.buckets",
    "data.bad_rows",
    "data.flip",
    "data.repeat",
    "data.posterior",
    "data.cache",
    "data.cache_dtype",
    # In tests/train/test_train_settings.py:
    *(p.key for p in parameters() if p.key.startswith("train.")),
    # In tests/study/test_score.py and test_report.py:
    "metrics.primary",
    "metrics.batch_size",
    "report.baseline",
    "report.sweeps",
    "report.resamples",
    "report.thumbnail_size",
    "report.max_pictures",
    # In tests/metrics:
    *(p.key for p in parameters() if p.key.startswith("metrics.") and p.key.count(".") == 2),
}


def test_every_parameter_has_its_entry():
    assert {p.key for p in parameters()} == set(PIXELS) | set(REFUSED) | OWN_TEST


def test_what_changes_the_pixels_is_declared_so():
    declared = {p.key for p in parameters() if p.rule.image}
    assert set(PIXELS) <= declared
    assert declared - set(PIXELS) <= set(REFUSED)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the perturbations name."""
    root = tmp_path_factory.mktemp("workplace")
    make_workplace(root)
    return root


def draw(*overrides):
    return render(compose([*BASE, *overrides], prompt=None))[0]


@pytest.mark.parametrize("key", PIXELS)
def test_a_declared_setting_changes_the_picture(key, workplace, monkeypatch, check_golden):
    monkeypatch.chdir(workplace)
    before, after = (render(compose(overrides)) for overrides in both_sides(key))
    assert before[0].record["pixels_sha256"] != after[0].record["pixels_sha256"]
    check_golden(f"before {key}", before)
    check_golden(f"after {key}", after)


@pytest.mark.parametrize("key", REFUSED)
def test_a_setting_with_no_other_value_here_is_refused_by_name(key):
    overrides, message = REFUSED[key]
    with pytest.raises(LabError, match=re.escape(message)):
        draw("prompt.text=a_red_apple", *([overrides] if isinstance(overrides, str) else overrides))


def test_settings_of_the_run_act(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    base = draw("prompt.text=x")
    assert draw("prompt.text=x", "hardware.dtype=bfloat16").record["dtype"] == "bfloat16"
    assert draw("prompt.text=x", "model.name=mine").record["config"]["model"]["name"] == "mine"
    assert [p.record["seed"] for p in render(compose([*BASE, "x", "num_images=2"]))] == [0, 1]
    threads = torch.get_num_threads()
    draw("prompt.text=x", f"hardware.threads={threads + 1}")
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    math = draw("prompt.text=x", "hardware.attention_backend=_native_math").latents
    assert torch.allclose(math, base.latents, atol=1e-4)
    assert not torch.equal(math, base.latents)
    run_task(compose(["model=tiny", "x", "task=preview"]))
    assert capsys.readouterr().out.startswith("<|im_start|>")
    assert run_task(compose(["model=tiny", "x", "output.name=mine", "dry_run=true"])) == ["outputs/images/mine.png"]
    assert not (workplace / "outputs" / "images" / "mine.png").exists()
    named = compose(["model=tiny", "x", "output.name=mine", "output.dir=there"])
    assert picture_name(named, 0, alone=True) == "mine"
    (path,) = run_task(named)
    assert path == "there/mine.png"
    (path,) = run_task(
        compose([f"from_image={path}", "output.name=again"]), [f"from_image={path}", "output.name=again"]
    )
    assert path == "outputs/images/again.png"


def test_batches_and_offloading_change_how_it_runs_and_not_what_is_drawn(monkeypatch):
    from llm_dit.families.z_image import velocity
    from llm_dit.weights import place

    batches, moves = [], []
    predict, at_work = velocity.ZImageVelocity._predict, place.Placement.resting_device.fget
    monkeypatch.setattr(
        velocity.ZImageVelocity, "_predict", lambda self, x, *a: batches.append(len(x)) or predict(self, x, *a)
    )
    monkeypatch.setattr(
        place.Placement, "resting_device", property(lambda self: moves.append(self.offload) or at_work(self))
    )
    pictures = [
        render(compose([*BASE, "x", "num_images=2", *more]))
        for more in ([], ["hardware.batch_size=2"], ["hardware.offload=true"])
    ]
    assert batches == [1] * 6 + [2] * 3 + [1] * 6
    assert True in moves
    for other in pictures[1:]:
        assert torch.allclose(other[1].latents, pictures[0][1].latents, atol=1e-5)
