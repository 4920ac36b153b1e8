"""An entry of `lora` as typed: PATH or PATH:SCALE."""

from __future__ import annotations

import re

from llm_dit.base.errors import ConfigError

MAX_SCALE = 100.0
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def parse_lora(typed: str) -> tuple[str, float]:
    """(path, scale) of an entry PATH or PATH:SCALE; the scale is 1 where none is given.

    Only a number behind the last colon is a scale, so a path may have colons of its own (C:\\blob.safetensors).
    Raises ConfigError for an empty path or a scale that is not within -100 to 100.
    """
    path, colon, tail = typed.rpartition(":")
    if colon and tail.strip().lower().lstrip("+-") in ("nan", "inf", "infinity", ""):
        raise ConfigError(f"lora={typed}: {tail.strip() or 'nothing'} is not a scale; write PATH:0.8.")
    if not colon or not _NUMBER.fullmatch(tail.strip()):
        path, tail = typed, "1"
    if not path.strip():
        raise ConfigError(f"lora={typed!r}: no file in it; write PATH or PATH:SCALE.")
    scale = float(tail)
    if abs(scale) > MAX_SCALE:
        raise ConfigError(f"lora={typed}: scale {scale:g} is out of range; -{MAX_SCALE:g} to {MAX_SCALE:g}.")
    return path.strip(), scale


def check_loras(entries: list[str]) -> None:
    """Raises ConfigError for an entry that cannot be read, and for a path that is given twice."""
    paths = [parse_lora(entry)[0] for entry in entries]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"lora: {path} is given twice; give it once, with the sum of the scales.")
