"""A training writes into folders of its own alone, and removes only what it wrote."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_training import make_data, settings

from llm_dit.base.errors import OutputError
from llm_dit.base.files import PREFIX, this_machine
from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.study.grids.sheet import Sheet, write_sheet
from llm_dit.train.checkpoint import checkpoints
from llm_dit.train.outputs import add_files
from llm_dit.train.task import alone_in, make_folder, train
from llm_dit.train.validate import drop_later


def test_another_models_folder_is_refused_and_stays_whole(tmp_path):
    folder = tmp_path / "model"
    save_tiny_folder(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(OutputError, match=r"no training of llm-dit.*another train\.name"):
        make_folder(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "files",
    [{"lock": ""}, {"lock": "llm-dit: a training\n", "log.jsonl": "", "validation/a": ""},
     {"checkpoints/step-00000001/state.json": "{}", "vae/config.json": ""},
     {"train.json": '{"config": {}, "saved": "", "trained_parameters": 1}', "transformer/config.json": ""}],
)  # fmt: skip
def test_a_folder_that_a_training_made_is_continued_however_far_it_came(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    make_folder(tmp_path)


def test_a_data_set_called_train_json_is_no_training(tmp_path):
    (tmp_path / "train.json").write_text('[{"image": "a.png"}]')
    with pytest.raises(OutputError, match=r"holds 'train\.json' and no training"):
        make_folder(tmp_path)


def test_an_empty_file_called_lock_makes_no_training_of_other_files(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "log.jsonl").write_text("theirs")
    with pytest.raises(OutputError, match="no training of llm-dit"):
        make_folder(tmp_path)


def test_a_training_marks_its_lock(tmp_path):
    with alone_in(tmp_path):
        pass
    (tmp_path / "log.jsonl").write_text("{}")
    make_folder(tmp_path)


@pytest.mark.parametrize("name", ["log.jsonl", "lock", "train.json"])
def test_a_linked_file_is_refused_before_training(tmp_path, name):
    (tmp_path / "t" / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "t" / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
    (tmp_path / "t" / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputError, match=f"{name}: a link"):
        make_folder(tmp_path / "t")


@pytest.mark.parametrize(
    ("method", "name"),
    [("lora", "lora.safetensors"), ("full", "transformer/diffusion_pytorch_model.safetensors"),
     ("vae", "vae/diffusion_pytorch_model.safetensors"), ("full", "transformer/model-00001-of-00002.safetensors")],
)  # fmt: skip
def test_weights_of_another_origin_are_refused_before_the_first_step(tmp_path, method, name):
    path = tmp_path / "t" / name
    path.parent.mkdir(parents=True)
    (tmp_path / "t" / "lock").write_text("llm-dit: a training\n")
    save_file({"a": torch.zeros(1)}, path, {"format": "pt"})
    before = path.read_bytes()
    with pytest.raises(OutputError, match="weights of another origin"):
        train(settings(tmp_path, f"train.method={method}", "train.steps=1"), dataset=make_data())
    assert path.read_bytes() == before
    assert not (tmp_path / "t" / "checkpoints").exists()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_that_a_training_wrote_are_replaced(tmp_path, method):
    for steps in (1, 2):
        train(settings(tmp_path, f"train.method={method}", f"train.steps={steps}"), dataset=make_data())


def test_leftovers_inside_the_models_parts_are_cleared(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = [tmp_path / p / f"{PREFIX}{this_machine()}-{process.pid}-{'0' * 8}" for p in ("vae", "text_encoder/sub")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("")
    (tmp_path / "vae" / "config.json").write_text("{}")
    with alone_in(tmp_path):
        assert [p.exists() for p in left] == [False, False]
    assert (tmp_path / "vae" / "config.json").exists()


@pytest.mark.parametrize("steps", [2, 3])
def test_a_training_whose_folder_is_removed_ends_in_one_line(tmp_path, steps):
    class RemovedAtTheSecondBatch(type(make_data())):
        def batch(self, step, *arguments):
            if step == 1:
                (tmp_path / "t").rename(tmp_path / "away")
            return super().batch(step, *arguments)

    data = make_data()
    data = RemovedAtTheSecondBatch(data.latents, data.captions, data.empty_embeds)
    every = "train.log_every=1" if steps == 3 else "train.log_every=100"
    with pytest.raises(OutputError, match=str(tmp_path / "t")):
        train(settings(tmp_path, f"train.steps={steps}", "train.checkpoint_every=100", every), dataset=data)
    assert not (tmp_path / "t").exists()


def test_a_linked_component_is_refused_before_training(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "lock").write_text("llm-dit: a training\n")
    (tmp_path / "t" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="checkpoints: a link"):
        make_folder(tmp_path / "t")


def test_the_models_other_parts_are_added_beside_what_is_there(tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    (tmp_path / "source" / "weights").write_text("source")
    add_files(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "config.json").read_text() == "target"
    assert (tmp_path / "target" / "weights").read_text() == "source"


def test_checkpoints_are_those_with_a_training_s_names(tmp_path):
    for name in ("step-00000001", "step-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000001"]


def test_only_sheets_of_later_validations_are_dropped(tmp_path):
    own, theirs, named = (tmp_path / "validation" / f"step-{n}.png" for n in ("00000009", "00000010", "best"))
    write_sheet(Sheet((8, 8)), own)
    Image.new("RGB", (8, 8)).save(theirs)
    write_sheet(Sheet((8, 8)), named)
    drop_later(tmp_path, 5)
    assert (own.exists(), theirs.exists(), named.exists()) == (False, True, True)
