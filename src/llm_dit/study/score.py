"""Scores of a sweep's pictures: which are missing, what the metrics say, kept beside the records.

    cells/ID/scores.jsonl   one line a picture and metric, appended; the last one of each counts

A score belongs to the pixels, the prompt and the metric's identity that it was made from: a picture drawn anew or a
metric with other weights is scored again, everything else is kept. Metrics themselves are in metrics/.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llm_dit.base.errors import ImageError
from llm_dit.prompts.sets import Element
from llm_dit.records.schema import ScoreLine
from llm_dit.study.store import CellFolder

if TYPE_CHECKING:
    from llm_dit.metrics.base import Metric, Sample

FILE = "scores.jsonl"
Key = tuple[str, int]


@dataclass
class Scored:
    """What score_cell did: new scores, scores that were there, one line for each picture that could not be read."""

    new: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def score_cell(
    cell: CellFolder, metrics: Sequence[Metric], on_scored: Callable[[int], None] = lambda n: None
) -> Scored:
    """Score what is missing of a cell's pictures; nothing while another process is at it.

    on_scored(n) after n pictures have a metric's score, or had it already. Raises LabError: weights that are not there.
    """
    if not cell.path.is_dir():
        return Scored()
    with cell.lock("score.lock") as mine:
        if not mine:
            return Scored()
        done, records = Scored(), cell.records(whole=True)
        lines = cell.lines(FILE, ScoreLine)
        for metric in metrics:
            # A grouped metric is given all seeds of a prompt at once, any other one as many pictures as fit a batch.
            size = metric.batch_size
            parts = (
                by_prompt(records) if metric.grouped else [records[i : i + size] for i in range(0, len(records), size)]
            )
            for part in parts:
                _score_part(cell, metric, part, lines, done)
                on_scored(len(part))
    return done


def _score_part(
    cell: CellFolder, metric: Metric, part: list[dict[str, Any]], lines: list[dict[str, Any]], done: Scored
) -> None:
    inputs = {(r["prompt_id"], r["seed"]): input_hash(part if metric.grouped else [r], r) for r in part}
    mine = [line for line in lines if line["metric"] == metric.name and (line["prompt_id"], line["seed"]) in inputs]
    last = {(line["prompt_id"], line["seed"]): line for line in mine}
    same = {
        key: line for line in mine
        if line["identity"] == metric.identity and line["input"] == inputs[key := (line["prompt_id"], line["seed"])]
    }  # fmt: skip
    done.kept += len(same)
    # The last line counts: a score that another version of the metric came after is said again.
    cell.append(*(line for key, line in same.items() if last[key] is not line), name=FILE)
    missing = [r for r in part if (r["prompt_id"], r["seed"]) not in same]
    asked = part if metric.grouped and missing else missing
    samples = {}
    for record in asked:
        try:
            samples[record["prompt_id"], record["seed"]] = sample_of(cell, record)
        except ImageError as error:
            done.problems.append(f"{error} Delete it and run the sweep again to have it drawn anew.")
    readable = [r for r in asked if (r["prompt_id"], r["seed"]) in samples]
    if not readable:
        return
    scores = metric.score([samples[r["prompt_id"], r["seed"]] for r in readable])
    cell.append(
        *(
            {
                "metric": metric.name,
                "identity": metric.identity,
                "prompt_id": record["prompt_id"],
                "seed": record["seed"],
                "input": inputs[record["prompt_id"], record["seed"]],
                "grouped": metric.grouped,
                "values": {k: finite(v) for k, v in score.values.items()},
                "tokens": score.tokens,
                "truncated": score.truncated,
            }
            for record, score in zip(readable, scores, strict=True)
        ),
        name=FILE,
    )
    done.new += len(readable)


def sample_of(cell: CellFolder, record: dict[str, Any]) -> Sample:
    """A record's picture and prompt as a metric takes them. Raises ImageError."""
    from llm_dit.images.read import read_picture
    from llm_dit.metrics.base import Sample

    elements = tuple(Element(tag, value) for e in record.get("elements", ()) for tag, value in e.items())
    # A metric reads what the model read, not the signs of emphasis around it.
    said = (record.get("emphasis") or {}).get("text", record["prompt"])
    return Sample(read_picture(cell.path / record["path"]), said, elements)


def by_prompt(records: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Records in groups of one prompt, in order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["prompt_id"], []).append(record)
    return list(groups.values())


def input_hash(group: Sequence[dict[str, Any]], record: dict[str, Any]) -> str:
    """What a score is made from: the pixels of the group and of the picture, its prompt and elements."""
    pixels = sorted(r["pixels_sha256"] for r in group)
    said = [record["pixels_sha256"], pixels, record["prompt"], record.get("elements", [])]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def finite(value: float | None) -> float | None:
    """The value, or None for what JSON cannot hold: a metric that gives NaN has no answer."""
    return None if value is None or not math.isfinite(value) else float(value)


def scores_of(cell: CellFolder, records: Sequence[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """(prompt id, seed) -> columns of the table: values by name, and identity_METRIC and truncated_METRIC.

    Lines of pictures that were drawn anew since are left out; of several identities the last one counts.
    """
    valid = {}
    for group in by_prompt(records):
        for r in group:
            key = (r["prompt_id"], r["seed"])
            valid[key] = {True: input_hash(group, r), False: input_hash([r], r)}
    columns: dict[Key, dict[str, Any]] = {}
    for line in cell.lines(FILE, ScoreLine):
        key = (line["prompt_id"], line["seed"])
        if key in valid and line["input"] == valid[key][line["grouped"]]:
            told = {f"identity_{line['metric']}": line["identity"], f"truncated_{line['metric']}": line["truncated"]}
            columns.setdefault(key, {}).update(line["values"] | told)
    return columns


def mean_scores(columns: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Mean of every score over pictures that have it."""
    from llm_dit.metrics.registry import info

    found: dict[str, list[float]] = {}
    for column in columns:
        for name, value in column.items():
            if isinstance(value, float) and info(name):
                found.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in found.items()}
