"""A training writes into folders of its own alone, and removes only what it wrote."""

from __future__ import annotations

import pytest
from PIL import Image

from llm_dit.errors import OutputError
from llm_dit.models.tiny import save_tiny_folder
from llm_dit.study.grids.sheet import Sheet, write_sheet
from llm_dit.train.checkpoint import checkpoints
from llm_dit.train.outputs import add_files
from llm_dit.train.task import make_folder
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
    [{"lock": ""}, {"lock": "", "log.jsonl": ""}, {"checkpoints/step-00000001/state.json": "{}", "vae/config.json": ""},
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


def test_a_linked_component_is_refused_before_training(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "lock").write_text("")
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
