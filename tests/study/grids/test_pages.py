"""Which axes a sweep's grids have."""

from __future__ import annotations

from llm_dit.study.grids.grid import Tile, choose_layout
from llm_dit.study.grids.pages import caption, decimals_of, fold_sparse_axes, labels_of_axes


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


def test_a_caption_has_two_digits_and_says_what_is_missing():
    parts = {"nano_judge_subject": 0.3, "nano_judge_style": 0.7, "nano_judge_colour": 0.0001, "nano_judge_size": None}
    told = {"identity_nano_judge": "v3", "truncated_nano_judge": False, "sharpness": 0.1}
    assert caption({"nfe": 24}, {"nano_judge": 2.99e-09} | parts | told, "nano_judge") == "0.00 · no subject, ground"
    assert caption({"nfe": 24}, {"nano_judge": 0.5353} | told, "nano_judge") == "0.54"
    vqa = {"vqa": 0.5, "vqa_subject": 0.9, "vqa_count": 0.1, "vqa_min": 0.1, "vqa_geometric": 0.3}
    assert caption({"nfe": 24}, vqa, "vqa") == "0.50 · no count"
    assert caption({"nfe": 24}, {"clip": 31.251, "clip_part": 0.2}, "clip", 1) == "31.3"
    assert caption({"nfe": 24}, {"nano_judge": None}, "nano_judge") == "24 forwards"
    assert caption({"nfe": 24}, {}, None) == "24 forwards"


def test_captions_have_as_many_decimals_as_the_scores_differ_by():
    assert decimals_of([1e-9, 2e-9], "nano_judge") == 2, "a probability"
    assert decimals_of([28.1, 33.4, None], "clip") == 1
    assert decimals_of([3.0, 1204.0], "sharpness") == 0
    assert decimals_of([0.0012, 0.0034], "diversity") == 4
    assert decimals_of([5.0, 5.0], "aesthetic") == 1
    assert [decimals_of(values, "clip") for values in ([], [None], [0.0])] == [2, 2, 2]
