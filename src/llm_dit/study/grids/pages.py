"""The grid pictures of a sweep, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from llm_dit.base.errors import OutputError
from llm_dit.metrics.registry import METRICS, metric_of
from llm_dit.study.grids.grid import Tile, choose_layout, draw_grids
from llm_dit.study.grids.sheet import is_own_sheet
from llm_dit.study.score import scores_of
from llm_dit.study.store import SweepFolder

PICTURE_AXES = ("prompt", "the prompt", "prompt id", "seed", "cell")  # what a picture is of, not what is swept
SPARSE = 0.6  # share of a table's places that are taken
FOUND = 0.5  # probability from which a judge sees a part of what was asked for
JUDGES = ("nano_judge", "vqa")  # metrics whose parts are probabilities that something asked for is there
WORDS = {"nano_judge_colour": "ground"}  # nano's prompts ask for the ground's colour alone


def write_grids(folder: SweepFolder) -> list[Path]:
    """Draw the sweep's grids into grids/; returns their paths, none when no picture is there yet."""
    sweep = folder.read()
    primary = primary_of(folder, sweep.get("primary"))
    tiles = tiles_of(folder, sweep.get("cells", []), primary)
    if not tiles:
        return []
    below = f"below each: {primary}{', and what it does not see' if primary in JUDGES else ''}" if primary else ""
    tiles = fold_sparse_axes(tiles)
    row_axes, column_axes = choose_layout(labels_of_axes(tiles))
    grids = folder.path / "grids"
    if grids.is_symlink():
        raise OutputError(f"{grids}: a link, which is not written through; move it away.")
    before = set(grids.glob("grid*.png"))
    drawn = draw_grids(
        tiles,
        rows=row_axes,
        columns=column_axes,
        folder=grids,
        name="grid",
        title=sweep.get("question") or folder.path.name,
        subtitle="  ·  ".join(filter(None, [f"{len(tiles)} pictures", below])),
    )
    for stale in before - set(drawn):  # a grid that has since been split, or pages that are now one
        if is_own_sheet(stale):
            stale.unlink(missing_ok=True)
    return drawn


def labels_of_axes(tiles: list[Tile]) -> dict[str, list[str]]:
    """The labels of each axis, in the order in which the tiles have them."""
    return {axis: list(dict.fromkeys(tile.place[axis] for tile in tiles)) for axis in tiles[0].place}


def fold_sparse_axes(tiles: list[Tile]) -> list[Tile]:
    """Tiles whose swept axes are one, 'sampler.name / sampler.steps', where apart they would leave a table half empty.

    So it is with axes that go together, as a study's zip and cells have them.
    """
    swept = [a for a, labels in labels_of_axes(tiles).items() if a not in PICTURE_AXES and len(labels) > 1]
    arms = {tuple(tile.place[axis] for axis in swept) for tile in tiles}
    places = math.prod(len(labels) for axis, labels in labels_of_axes(tiles).items() if axis in swept)
    if len(swept) < 2 or len(arms) > SPARSE * places:
        return tiles
    name = " / ".join(swept)

    def folded(place: dict[str, str]) -> dict[str, str]:
        rest = {axis: label for axis, label in place.items() if axis not in swept}
        return {name: " / ".join(place[axis] for axis in swept)} | rest

    return [replace(tile, place=folded(tile.place)) for tile in tiles]


def tiles_of(folder: SweepFolder, asked: list[dict[str, str]], primary: str | None = None) -> list[Tile]:
    """A tile for every picture, in the order the values were asked for, and one for what a failed cell lacks.

    Under each stands its score by the primary metric and what of its prompt is missing, or what it cost while it has
    no score.

    Pictures that share all their labels (one folder used for two commands, two prompts of one text) get the
    cell and the prompt's id as labels too, so that none hides another.
    """
    cells = [(cell, cell.records(whole=True)) for cell in folder.cells()]
    pictures = [(cell, record) for cell, records in cells for record in records]
    axes = list(dict.fromkeys(axis for _, record in pictures for axis in record["axes"]))
    order = {axis: list(dict.fromkeys(cell[axis] for cell in asked if axis in cell)) for axis in axes}
    pictures.sort(key=lambda pair: [position(order[a], pair[1]["axes"].get(a, "")) for a in axes])
    places = [place_of(record, axes) for _, record in pictures]
    if len({tuple(p.values()) for p in places}) < len(places):
        for (cell, record), place in zip(pictures, places, strict=True):
            place.update({"cell": cell.id, "prompt id": record["prompt_id"]})
    scores = {(cell.id, *key): values for cell, rs in cells for key, values in scores_of(cell, rs).items()}
    decimals = decimals_of([found.get(primary) for found in scores.values()], primary)
    tiles = [
        Tile(
            cell.path / r["path"],
            place,
            caption(r, scores.get((cell.id, r["prompt_id"], r["seed"]), {}), primary, decimals),
        )
        for (cell, r), place in zip(pictures, places, strict=True)
    ]
    short = short_names([p["lora"] for p in places if p.get("lora")])
    wanted = list(dict.fromkeys((r["prompt"], str(r["seed"]), r["prompt_id"]) for _, r in pictures))
    for cell, records in cells:
        failure = cell.read("failed.json") if cell.status == "failed" else None
        if failure:
            have = {(r["prompt"], str(r["seed"]), r["prompt_id"]) for r in records}
            for prompt, seed, prompt_id in [w for w in wanted if w not in have]:
                place = place_of({"axes": failure["labels"], "prompt": prompt, "seed": seed}, axes)
                if tiles and "cell" in tiles[0].place:
                    place.update({"cell": cell.id, "prompt id": prompt_id})
                tiles.append(Tile(None, place, reason="failed"))
    for tile in tiles:
        if "lora" in tile.place:
            tile.place["lora"] = short.get(tile.place["lora"], tile.place["lora"])
    return tiles


def short_names(labels: list[str]) -> dict[str, str]:
    """Labels of swept LoRAs, 'PATH:SCALE + PATH', without the folders that all have in common and the ending.

    Labels that would be mistaken for each other stay as they are.
    """
    entries = [entry for label in labels if label != "none" for entry in label.split(" + ")]
    folders = [entry.split("/")[:-1] for entry in entries] if len(set(labels)) > 1 else []
    levels = list(takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False)))
    short = {}
    for label in labels:
        names = ["/".join(entry.split("/")[len(levels) :]) for entry in label.split(" + ")]
        short[label] = label if label == "none" else " + ".join(name.replace(".safetensors", "") for name in names)
    return short if len(set(short.values())) == len(set(labels)) else {}


def primary_of(folder: SweepFolder, named: str | None) -> str | None:
    """The score that stands under pictures: the one named before the run, else the registry's first, as in reports."""
    if named:
        return named
    found = [scores_of(cell, cell.records(whole=True)) for cell in folder.cells()]
    return next((name for name in METRICS if any(name in one for scores in found for one in scores.values())), None)


def decimals_of(values: Sequence[float | None], metric: str | None) -> int:
    """Decimals that tell apart the hundredth part of what a score spans: 2 for a probability, 0 to 5."""
    known = [value for value in values if value is not None]
    span = (max(known) - min(known) or abs(known[0])) if known and metric_of(metric or "") not in JUDGES else 1.0
    return max(0, min(5, 2 - math.ceil(math.log10(span)))) if span > 0 else 2


def caption(record: dict[str, Any], scores: dict[str, Any], primary: str | None, decimals: int = 2) -> str:
    """The line under a picture: its score and the parts that failed, '0.04 · no style', else the forwards it cost."""
    score = scores.get(primary) if primary else None
    if score is None:
        return f"{record['nfe']} forwards"
    failed = [
        WORDS.get(name, name.removeprefix(f"{primary}_"))
        for name, value in scores.items()
        if primary in JUDGES
        and name.startswith(f"{primary}_")
        and isinstance(value, float)
        and value < FOUND
        and not name.endswith(("_min", "_geometric"))  # of all parts together
    ]
    return f"{score:.{decimals}f}" + (f" · no {', '.join(failed)}" if failed else "")


def place_of(record: dict[str, Any], axes: list[str]) -> dict[str, str]:
    """A picture's labels: the swept keys, its prompt, its seed."""
    swept = {axis: str(record["axes"].get(axis, "")) for axis in axes}
    # The group `prompt` can be swept too; its options are then told apart from the prompts themselves.
    return swept | {"prompt" if "prompt" not in axes else "the prompt": record["prompt"], "seed": str(record["seed"])}


def position(values: list[str], label: str) -> int:
    """Where a label stands among the values asked for; labels of an earlier command come last."""
    return values.index(label) if label in values else len(values)
