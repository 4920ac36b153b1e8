"""output.dir may hold other files: none is written over."""

from __future__ import annotations

import pytest

from llm_dit.base.errors import OutputError
from llm_dit.cli.tasks import ProgressBars, render_task
from llm_dit.records.picture import identity


def draw(tiny, *overrides):
    return render_task(tiny("output.name=holiday", "output.dir=.", "sampler.steps=1", *overrides))


@pytest.mark.parametrize("name", ["holiday.png", "holiday.json"])
def test_a_file_that_is_not_ours_stays(tiny, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("theirs")
    with pytest.raises(OutputError, match="is not this picture"):
        draw(tiny)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["theirs"]


def test_the_same_picture_is_drawn_again_and_another_one_is_not(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tiny)
    draw(tiny)
    assert identity(tiny()) != identity(tiny("sampler.shift=2"))
    with pytest.raises(OutputError, match="is not this picture"):
        draw(tiny, "sampler.shift=2")
    with pytest.raises(OutputError, match="is not this picture"):
        draw(tiny, "seed=5")


def test_a_dangling_link_is_told_before_drawing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday.png").symlink_to(tmp_path / "nowhere" / "x.png")
    with pytest.raises(OutputError, match="is not this picture"):
        draw(tiny)


def test_a_file_that_appears_while_drawing_stays(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = ProgressBars.step

    def saved_by_the_user(*arguments):
        (tmp_path / "holiday.json").write_text("theirs")
        step(*arguments)

    monkeypatch.setattr(ProgressBars, "step", saved_by_the_user)
    with pytest.raises(OutputError, match="is not this picture"):
        draw(tiny)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["theirs"]
