"""Trainings in odd places: broken metrics, models kept as links, data that do not fit, other programs' settings."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_training import make_data, same, settings, state_of

from llm_dit.base.errors import LabError
from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.trackers.base import GuardedTracker, NoTracker
from llm_dit.train.forward import blocks_of
from llm_dit.train.start import start_transformer
from llm_dit.train.task import refuse_small, train


@pytest.mark.parametrize("raised", [RuntimeError("no room"), OSError("disk full")])
def test_a_metric_that_breaks_is_one_warning(tmp_path, monkeypatch, capsys, raised):
    from llm_dit.metrics.image_statistics import Sharpness

    monkeypatch.setattr(Sharpness, "score", lambda *_: (_ for _ in ()).throw(raised))
    drawn = ["prompt.text=x", "sampler.steps=1", "train.validate_every=1", "metrics=sharpness"]
    train(settings(tmp_path, "train.steps=1", *drawn), dataset=make_data())
    assert f"the validation of step 1 failed, training goes on: {type(raised).__name__}" in capsys.readouterr().err


def test_validations_of_steps_that_are_trained_again_are_drawn_again(tmp_path):
    drawn = ["prompt.text=x", "sampler.steps=1", "train.validate_every=1", "metrics=sharpness"]
    train(settings(tmp_path, "train.steps=2", *drawn), dataset=make_data())
    cell = tmp_path / "t" / "validation" / "cells" / "step-00000002" / "records.jsonl"
    before = json.loads(cell.read_text())["pixels_sha256"]
    shutil.rmtree(tmp_path / "t" / "checkpoints")
    train(settings(tmp_path, "train.steps=2", "train.learning_rate=0.1", *drawn), dataset=make_data())
    assert json.loads(cell.read_text())["pixels_sha256"] != before


def test_a_training_that_goes_on_shows_its_earlier_validations_too(tmp_path, monkeypatch):
    from llm_dit.train import tracking

    shown = []

    class Noting(NoTracker):
        def log_image(self, path, caption, values):
            shown.append((path.name, caption))

    monkeypatch.setattr(tracking, "make_tracker", lambda *_: GuardedTracker("x", Noting()))
    drawn = ["prompt.text=x", "sampler.steps=1", "train.validate_every=1", "tracker=trackio"]
    train(settings(tmp_path, "train.steps=2", *drawn), dataset=make_data())
    train(settings(tmp_path, "train.steps=3", *drawn), dataset=make_data())
    assert shown[2:] == [(f"step-0000000{i}.png", f"step {i}") for i in (1, 2, 3)]


def test_pictures_that_are_repeated_fill_a_batch(tmp_path):
    with pytest.raises(LabError, match=r"or data\.repeat"):
        train(settings(tmp_path, "train.batch_size=8"), dataset=make_data())
    refuse_small(make_data(), settings(tmp_path, "train.batch_size=8", "data.repeat=2"))


def test_after_a_validation_the_model_is_where_it_was(tmp_path, monkeypatch):
    """With hardware.offload drawing leaves what it used on the CPU."""
    from llm_dit.train import validate

    model, moved = tiny_transformer(), []
    monkeypatch.setattr(model, "to", lambda place: moved.append(place))
    monkeypatch.setattr(validate, "run_cell", lambda *_, parts, **__: parts.get("transformer", (), None).to("cpu"))
    validation = validate.Validation(settings(tmp_path), model, tmp_path, contextlib.nullcontext)
    validation.draw(settings(tmp_path), None, {})
    assert moved == ["cpu", torch.device("cpu")]


def test_precision_and_accumulation_are_the_settings_own(tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState

    train(settings(tmp_path / "plain", "train.steps=2", "train.accumulation=2"), dataset=make_data())
    for key, value in (("MIXED_PRECISION", "bf16"), ("GRADIENT_ACCUMULATION_STEPS", "4")):
        monkeypatch.setenv(f"ACCELERATE_{key}", value)
    AcceleratorState._reset_state()
    try:
        train(settings(tmp_path, "train.steps=2", "train.accumulation=2"), dataset=make_data())
    finally:
        AcceleratorState._reset_state()
    assert same(state_of(tmp_path), state_of(tmp_path / "plain"))


def test_a_model_whose_files_are_links_is_saved_whole(tmp_path):
    """As the hub's cache keeps them: names that point to blobs elsewhere."""
    save_tiny_folder(tmp_path / "real")
    real, linked = tmp_path / "real", tmp_path / "snapshots" / "linked"
    for path in (p for p in real.rglob("*") if p.is_file()):
        link = linked / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(path, link.parent))
    saved = train(settings(tmp_path, "train.steps=1", f"model.path={linked}"), dataset=make_data())
    files = [p for p in saved.rglob("*.safetensors") if "checkpoints" not in p.parts]
    assert len({p.parent.name for p in files}) == 3
    assert not any(p.is_symlink() for p in files)
    assert load_file(saved / "vae" / "diffusion_pytorch_model.safetensors")


def test_a_model_is_not_trained_into_its_own_folder(tmp_path):
    folder = tmp_path / "t"
    save_tiny_folder(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(LabError, match="saved over the model it starts from"):
        train(settings(tmp_path, f"model.path={folder}"), dataset=make_data())
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("method", ["full", "distill"])
def test_data_that_do_not_fit_the_transformer_are_told(tmp_path, method):
    for name, data in (
        ("features a token", replace(make_data(), empty_embeds=torch.randn(5, 24))),
        ("latent channels", replace(make_data(), latents=torch.randn(4, 4, 8, 8))),
    ):
        with pytest.raises(LabError, match=name):
            train(settings(tmp_path, f"train.method={method}"), dataset=data)


def test_notes_on_files_whose_names_are_no_text_are_written(tmp_path):
    train(settings(tmp_path, "train.steps=1"), dataset=replace(make_data(), notes=("caf\udce9.png: small",)))
    assert json.loads((tmp_path / "t" / "train.json").read_text())["notes"] == ["caf\udce9.png: small"]


def test_the_attention_kernel_is_the_one_asked_for(tmp_path):
    save_tiny_folder(tmp_path / "tiny")
    for start in ([], ["train.start=random"], [f"train.init={tmp_path / 'tiny'}"]):
        config = settings(tmp_path, "hardware.attention_backend=_native_math", *start)
        model = start_transformer(config, "cpu", "float32")
        assert {b.attention.processor._attention_backend.value for b in blocks_of(model)} == {"_native_math"}
