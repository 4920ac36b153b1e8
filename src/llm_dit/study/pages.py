"""The grid pictures of a sweep, from its records alone."""

from __future__ import annotations

from pathlib import Path

from llm_dit.study.grid import Tile, choose_layout, draw_grids
from llm_dit.study.store import SweepFolder
from llm_dit.study.table import rows


def write_grids(folder: SweepFolder) -> list[Path]:
    """Draw the sweep's grids into grids/; returns their paths, none when no picture is there yet."""
    table = rows(folder)
    if not table:
        return []
    sweep = folder.read()
    axes = [key for key in sweep.get("axes", []) if key in table[0]]
    tiles = [Tile(folder.path / row["path"], place_of(row, axes), f"{row['nfe']} forwards") for row in table]
    labels = {axis: list(dict.fromkeys(t.place[axis] for t in tiles)) for axis in tiles[0].place}
    row_axes, column_axes = choose_layout(labels)
    grids = folder.path / "grids"
    before = set(grids.glob("grid*.png"))
    drawn = draw_grids(
        tiles,
        rows=row_axes,
        columns=column_axes,
        folder=grids,
        name="grid",
        title=sweep.get("question") or folder.path.name,
        subtitle=subtitle(table),
    )
    for stale in before - set(drawn):  # a grid that has since been split, or pages that are now one
        stale.unlink()
    return drawn


def place_of(row: dict, axes: list[str]) -> dict[str, str]:
    """A picture's labels: the swept keys, its prompt, its seed."""
    return {axis: str(row.get(axis, "")) for axis in axes} | {"prompt": row["prompt"], "seed": str(row["seed"])}


def subtitle(table: list[dict]) -> str:
    """What all pictures share."""
    models = ", ".join(dict.fromkeys(row["model"] for row in table))
    return f"{models}, {len(table)} pictures"
