"""The long table of a sweep: one row a picture, rebuilt from the records and scores alone, as Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from llm_dit.base.files import write_whole
from llm_dit.study.axes import axis_value
from llm_dit.study.score import scores_of
from llm_dit.study.store import CellFolder, SweepFolder


def rows(folder: SweepFolder) -> list[dict[str, Any]]:
    """One flat dict a picture, cell by cell, as rows_of makes them."""
    return [row for cell in folder.cells() for row in rows_of(cell)]


def rows_of(cell: CellFolder) -> list[dict[str, Any]]:
    """A cell's rows: row_of each record, and its scores."""
    records = cell.records(whole=True)
    scores = scores_of(cell, records)
    return [row_of(cell, r) | scores.get((r["prompt_id"], r["seed"]), {}) for r in records]


def row_of(cell: CellFolder, record: dict[str, Any]) -> dict[str, Any]:
    """A picture's row: axes by key, prompt, seed, cost, versions, and its path from the sweep's folder.

    seconds is the sum of its stages but loading, which a picture pays or not by its place in the sweep.
    """
    r = record
    row = {
        "cell": cell.id,
        "cell_status": cell.status,
        "prompt_id": r["prompt_id"],
        "category": r["category"],
        "prompt": r["prompt"],
        "seed": r["seed"],
        "width": r["width"],
        "height": r["height"],
        "nfe": r["nfe"],
        "token_count": r["token_count"],
        "padded_length": r["padded_length"],
        "shift": r["shift"],
        "cfg_weight": r["guidance"]["cfg_weight"],
        "seconds": round(sum(s for stage, s in r["seconds"].items() if stage != "load"), 4),
        **{f"seconds_{stage}": s for stage, s in r["seconds"].items()},
        "model": r["config"]["model"]["name"],
        **{f"{part}_fingerprint": mark for part, mark in r["model_fingerprint"].items()},
        "device": r["device"],
        "dtype": r["dtype"],
        **{f"version_{name}": v for name, v in r["versions"].items()},
        "pixels_sha256": r["pixels_sha256"],
        "path": str(Path("cells") / cell.id / r["path"]),
    }
    # A swept key that names a column already (width, the group prompt) stands beside it as axis_KEY.
    return {f"axis_{k}" if k in row else k: axis_value(r["config"], k, v) for k, v in r["axes"].items()} | row


def write_table(folder: SweepFolder) -> Path | None:
    """Write table.parquet; None when no picture is there yet."""
    import pyarrow
    from pyarrow import parquet

    table = rows(folder)
    if not table:
        return None
    columns = list(dict.fromkeys(key for row in table for key in row))
    target, data = folder.path / "table.parquet", io.BytesIO()
    parquet.write_table(pyarrow.table({c: column([row.get(c) for row in table]) for c in columns}), data)
    write_whole({target: data.getvalue()})
    return target


def column(values: list[Any]) -> list[Any]:
    """Values of one type: numbers and words in one column, as of sweeps continued with other axes, become words."""
    kinds = {float if type(v) is int else type(v) for v in values if v is not None}
    return values if len(kinds) <= 1 else [None if v is None else str(v) for v in values]
