"""What each picture is (hash, size, what is wrong with it), found by decoding it once and then remembered.

A file whose size and time of change are the same is not read again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llm_dit.base.errors import ImageError
from llm_dit.base.files import write_whole
from llm_dit.train.data.ahead import ahead
from llm_dit.train.data.pictures import open_picture
from llm_dit.train.data.source import Source

VERSION = 1
SAVE_EVERY = 30.0  # seconds
# A file changed within this time before it was read may change again without a new stamp.
SETTLED = 2.0


@dataclass(frozen=True)
class Facts:
    """sha256 of the bytes, the upright size, remarks, and what is wrong ('' if nothing is)."""

    sha256: str = ""
    height: int = 0
    width: int = 0
    remarks: list[str] = field(default_factory=list)
    problem: str = ""


def examine(source: Source) -> Facts:
    """The facts of one picture, by reading and decoding it."""
    try:
        content = source.read()
        image, remarks = open_picture(content)
    except ImageError as error:
        return Facts(problem=str(error))
    return Facts(hashlib.sha256(content).hexdigest(), image.height, image.width, remarks)


def scan(
    sources: Sequence[Source], memory: Path | None, tick: Callable[[], object] = lambda: None
) -> dict[Source, Facts]:
    """The facts of each different picture. memory: a JSON file that keeps them from run to run; None keeps nothing.

    tick is called for each picture. What an interrupted scan found is kept.
    """
    known = _read(memory)
    kept: dict[str, tuple[list[int], dict]] = {}
    saved = time.monotonic()
    begun = time.time_ns()

    def look(source: Source) -> tuple[str, list[int] | None, Facts]:
        key = f"{source.path}|{source.offset}"
        try:
            stamp = source.stamp()
        except ImageError as error:
            return key, None, Facts(problem=str(error))
        before = known.get(key)
        if before and before[0] == stamp:
            return key, stamp, Facts(**before[1])
        return key, stamp, examine(source)

    different = list(dict.fromkeys(sources))
    facts: dict[Source, Facts] = {}
    try:
        for source, (key, stamp, fact) in zip(different, ahead(look, different), strict=True):
            facts[source] = fact
            if stamp and stamp[1] < begun - SETTLED * 1e9:
                kept[key] = (stamp, asdict(fact))
            tick()
            if time.monotonic() - saved > SAVE_EVERY:
                _write(memory, {**known, **kept})
                saved = time.monotonic()
    finally:
        if len(facts) < len(different):
            kept = {**known, **kept}
        if kept != known:
            _write(memory, kept)
    return facts


def _read(memory: Path | None) -> dict[str, tuple[list[int], dict]]:
    """What is remembered; nothing when the file is missing, damaged or of another version."""
    if memory is None:
        return {}
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        if values["version"] != VERSION:
            return {}
        found = {key: (stamp, fact) for key, (stamp, fact) in values["pictures"].items()}
        for _, fact in found.values():
            Facts(**fact)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write(memory: Path | None, pictures: dict[str, tuple[list[int], dict]]) -> None:
    if memory is not None:
        write_whole({memory: json.dumps({"version": VERSION, "pictures": pictures}).encode()})
