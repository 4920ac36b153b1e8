"""A sweep's own folder: what is not ours in it stays, and a folder removed while the sweep runs is an error."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
from PIL import Image

from llm_dit.base.errors import OutputError
from llm_dit.study.grids.compare import create_comparison_grid, save_metadata
from llm_dit.study.grids.grid import save_image_grid


def test_a_sweep_whose_folder_is_removed_ends_in_an_error(sweep, tmp_path):
    root = tmp_path / "gone"
    over = threading.Event()

    def remove():
        while not over.is_set():
            if any(root.glob("s/cells/*/cell.json")):
                (root / "s").rename(tmp_path / "away")
                return
            time.sleep(0.001)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        code, out, err, _ = sweep("sampler.steps=1,2,3,4,5,6", "prompt.text=x", f"sweep.dir={root}", "sweep.name=s")
    finally:
        over.set()
        thread.join()
    assert (tmp_path / "away").is_dir()
    assert code == 2
    assert "6 cells (0 complete, 6 failed)" in out
    assert err.splitlines()[-1].startswith("error: ")
    assert "removed while the sweep ran" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (root / "s").exists()


@pytest.mark.parametrize("task", ["grid", "report", "sync", "score"])
def test_a_sweep_json_of_another_program_is_no_sweep(run_main, tmp_path, task):
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "sweep.json").write_text('{"method": "bayes"}')
    more = {"sync": ["tracker=trackio"], "score": ["metrics=sharpness"]}.get(task, [])
    code, _, err, _ = run_main(f"task={task}", "sweep.name=s", f"sweep.dir={tmp_path / 'sweeps'}", *more)
    assert code == 2
    assert "is not of a sweep of llm-dit" in err
    assert [p.name for p in (tmp_path / "sweeps" / "s").iterdir()] == ["sweep.json"]


def test_a_users_picture_with_a_grids_name_stays(sweep):
    _, _, _, folder = sweep("sampler.steps=1,2", "prompt.text=x")
    (grid,) = (folder.path / "grids").iterdir()
    Image.new("RGB", (3, 3)).save(grid)
    before = grid.read_bytes()
    _, _, err, _ = sweep("sampler.steps=1,2", "prompt.text=x", "seed=1")
    assert grid.read_bytes() == before
    assert "not a sheet that was drawn by llm-dit" in err


def test_a_linked_grids_folder_is_not_written_through(sweep, tmp_path):
    _, _, _, folder = sweep("sampler.steps=1,2", "prompt.text=x")
    shutil.rmtree(folder.path / "grids")
    (tmp_path / "album").mkdir()
    (folder.path / "grids").symlink_to(tmp_path / "album")
    _, _, err, _ = sweep("sampler.steps=1,2", "prompt.text=x")
    assert list((tmp_path / "album").iterdir()) == []
    assert "grids: a link" in err


@pytest.mark.parametrize(
    "write", [lambda p, a: create_comparison_grid({"a": a}, p), lambda p, a: save_image_grid([a], p)]
)
def test_functions_write_over_sheets_alone(tmp_path, write):
    picture, path = Image.new("RGB", (8, 8)), tmp_path / "x.png"
    write(path, picture)
    write(path, picture)
    picture.save(path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not a sheet"):
        write(path, picture)
    assert path.read_bytes() == before


@pytest.mark.parametrize("theirs", ["[1]", '{"name": "x"}', "no json", "null"])
def test_metadata_takes_no_place_of_a_json_that_is_no_record(tmp_path, theirs):
    (tmp_path / "x.json").write_text(theirs)
    with pytest.raises(OutputError, match="something else than a picture's record"):
        save_metadata(tmp_path / "x.png", {"seed": 1})
    assert (tmp_path / "x.json").read_text() == theirs


def test_metadata_is_written_again_over_itself_and_over_a_record(tmp_path):
    for record in ({"record_version": 1}, {"seed": 2}, {"seed": 2}):
        assert json.loads(save_metadata(tmp_path / "x.png", record).read_text()) == record
