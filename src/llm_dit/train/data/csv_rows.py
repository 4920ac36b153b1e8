"""Rows of a .csv (commas) or .tsv (tabs) file with a line of column names on top."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_dit.base.errors import DataError, nearest
from llm_dit.base.inputs import read_bytes
from llm_dit.train.data.json_rows import MAX_ROWS_FILE
from llm_dit.train.data.rows import KEYS, NAMES, Found


def csv_rows(path: Path) -> Iterator[Found]:
    """One row a record, at the line it begins on; empty cells are absent, and several captions are a JSON list.

    Raises DataError for a head without the columns that every row needs.
    """
    # Bytes that are not UTF-8 are kept apart, so that they cost their own row alone.
    text = read_bytes(path, str(path), DataError, MAX_ROWS_FILE).decode("utf-8-sig", errors="surrogateescape")
    records = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        head = [name.strip() for name in next(records, [])]
        _check_head(head, path)
        line = records.line_num + 1
        for record in records:
            if record:
                yield f"{path.name}:{line}", _cells(head, record)
            line = records.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {records.line_num}: not valid CSV ({error}).") from error


def _check_head(head: list[str], path: Path) -> None:
    twice = [name for name, count in Counter(head).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the column '{twice[0]}' stands twice.")
    if not any(NAMES.get(name) == "image" for name in head):
        hint = next((f" {h}" for name in KEYS["image"] if (h := nearest(name, head)).startswith("Did")), "")
        raise DataError(f"{path}: no column 'image'; its first line must name the columns, such as image,prompt.{hint}")


def _cells(head: list[str], record: list[str]) -> dict[str, Any] | str:
    if len(record) != len(head):
        return f"{len(record)} cells, where the first line names {len(head)} columns; quote cells that hold commas."
    values: dict[str, Any] = {name: cell for name, cell in zip(head, record, strict=True) if cell != ""}
    for name, cell in values.items():
        try:
            cell.encode()
        except UnicodeEncodeError:
            return f"not UTF-8 text (column '{name}')."
        if NAMES.get(name) == "prompts":
            try:
                values[name] = json.loads(cell)
            except (ValueError, RecursionError):
                values[name] = None
            if not isinstance(values[name], list):
                return f'\'{name}\' must be a JSON list such as ["a red fox", "a fox, red"].'
    return values
