"""Which axes a sweep's grids have."""

from __future__ import annotations

from llm_dit.study.grids.grid import Tile, choose_layout
from llm_dit.study.grids.pages import fold_sparse_axes, labels_of_axes


def tiles(arms, axes=("sampler.name", "sampler.steps")):
    return [Tile(None, dict(zip(axes, arm, strict=True)) | {"prompt": p, "seed": "0"}) for arm in arms for p in "ab"]


def test_axes_that_go_together_are_one():
    zipped = fold_sparse_axes(tiles([("euler", "7"), ("euler", "11"), ("heun", "4"), ("heun", "6")]))
    arm = "sampler.name / sampler.steps"
    assert labels_of_axes(zipped)[arm] == ["euler / 7", "euler / 11", "heun / 4", "heun / 6"]
    assert choose_layout(labels_of_axes(zipped)) == (["prompt"], [arm])
    assert [tile.place["prompt"] for tile in zipped] == list("abababab"), "the tiles keep their order"


def test_a_full_table_and_one_with_a_single_cell_beside_it_stay():
    full = [(name, steps) for name in ("euler", "heun") for steps in ("4", "8", "12")]
    assert fold_sparse_axes(tiles(full)) == tiles(full)
    beside = [*full, ("unipc", "4")]
    assert fold_sparse_axes(tiles(beside)) == tiles(beside)


def test_an_axis_of_one_value_is_left_out():
    arms = [("cfg", a, b) for a, b in (("1", "x"), ("2", "y"), ("3", "z"))]
    folded = fold_sparse_axes(tiles(arms, ("guidance", "slg.scale", "slg.layers")))
    assert labels_of_axes(folded)["slg.scale / slg.layers"] == ["1 / x", "2 / y", "3 / z"]
    assert labels_of_axes(folded)["guidance"] == ["cfg"]
