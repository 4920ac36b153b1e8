"""Rows whose pictures have been looked at: which can be used, the shape each is cut to, and remarks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_dit.base.errors import PromptError
from llm_dit.config import Config, DataConfig
from llm_dit.train.data.buckets import bucket_sizes, nearest_bucket
from llm_dit.train.data.embeddings import Text, row_texts
from llm_dit.train.data.latents import Wanted
from llm_dit.train.data.pictures import MAX_ENLARGED, enlarged
from llm_dit.train.data.progress import Bar
from llm_dit.train.data.rows import Row
from llm_dit.train.data.scan import Facts, scan

ROUNDING = 1.01  # a picture of 127 pixels for 128 is not worth a remark


@dataclass(frozen=True)
class Item:
    """A row that can be used: its picture's facts, the shape (height, width) it is cut to, its phrasings."""

    row: Row
    facts: Facts
    shape: tuple[int, int]
    texts: tuple[Text, ...]

    def picture(self, mirrored: bool = False) -> Wanted:
        return Wanted(self.row.picture, self.facts.sha256, self.shape, mirrored)


def usable_items(
    rows: Sequence[Row], data: DataConfig, config: Config, memory: Path | None
) -> tuple[list[Item], list[str], list[str]]:
    """Items in the order of their rows, what is wrong with the other rows, and remarks.

    memory: the file that keeps what pictures were found to be; None keeps nothing.
    """
    shapes = bucket_sizes(data.size or config.model.trained_size, data.buckets)
    items: list[Item] = []
    problems: list[str] = []
    remarks: dict[str, list[str]] = defaultdict(list)
    with Bar("looking at pictures", len({row.picture for row in rows})) as bar:
        found = scan([row.picture for row in rows], memory, bar.tick)
    for row in rows:
        facts = found[row.picture]
        place = row.where if row.where.endswith(row.picture.name) else f"{row.where}: {row.picture.name}"
        if facts.problem:
            problems.append(f"{place}: {facts.problem}.")
            continue
        shape = shapes[nearest_bucket(facts.height, facts.width, shapes)]
        grows = enlarged(facts.height, facts.width, shape)
        if grows > MAX_ENLARGED:
            problems.append(
                f"{place}: {facts.width} x {facts.height} pixels would have to grow {grows:.1f} times to fill "
                f"{shape[1]} x {shape[0]}, at most {MAX_ENLARGED:g} are taken; use a smaller data.size."
            )
            continue
        try:
            texts = tuple(row_texts(row, config))
        except PromptError as error:
            problems.append(f"{place}: {error}")
            continue
        for remark in [*facts.remarks, *(["smaller than its bucket, so it was enlarged"] if grows > ROUNDING else [])]:
            remarks[remark].append(row.picture.name)
        items.append(Item(row, facts, shape, texts))
    return items, problems, [_remark(text, names) for text, names in remarks.items()]


def _remark(text: str, names: list[str]) -> str:
    return f"{names[0]}: {text}." if len(names) == 1 else f"{len(names)} pictures, such as {names[0]}: {text}."
