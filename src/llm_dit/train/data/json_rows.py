"""Rows of a .jsonl file (an object a line) and of a .json file (a list of objects, bare or as "items" or "data")."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llm_dit.base.errors import DataError
from llm_dit.base.inputs import decoded, read_bytes
from llm_dit.train.data.rows import Found

MAX_LINE = 4 * 2**20  # bytes
MAX_ROWS_FILE = 2**30  # bytes of a file that is read at once; a .jsonl may be longer
_BLANK = re.compile(r"[ \t\r\n]*")
_LISTS = ("items", "data")


class RepeatedKeyError(ValueError):
    """A key stands twice in one object, where json would drop the first."""


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise RepeatedKeyError(f"the key '{twice}' stands twice.")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats)


def jsonl_rows(path: Path) -> Iterator[Found]:
    """One row a line; empty lines are passed over, and a broken line costs itself alone."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(_lines(file), 1):
                if len(line) > MAX_LINE:
                    yield f"{path.name}:{number}", f"a line of more than {MAX_LINE:,} bytes."
                elif line.strip():
                    yield f"{path.name}:{number}", json_object(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long its beginning, a byte more than is taken."""
    while line := file.readline(MAX_LINE + 1):
        rest = line
        while len(rest) > MAX_LINE:
            rest = file.readline(MAX_LINE + 1)
        yield line


def json_object(line: bytes) -> dict[str, Any] | str:
    """The object that some bytes hold, or what is wrong with them."""
    try:
        value = _DECODER.decode(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        return f"not UTF-8 text (byte {error.start})."
    except RepeatedKeyError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({_reason(error)})."
    return value if isinstance(value, dict) else 'must be an object such as {"image": ..., "prompt": ...}.'


def json_rows(path: Path) -> Iterator[Found]:
    """The items of the list, each at the line it begins on. Raises DataError: past a broken item nothing is sure."""
    text = decoded(read_bytes(path, str(path), DataError, MAX_ROWS_FILE), str(path), DataError)
    breaks = [match.start() for match in re.finditer("\n", text)]

    def place(at: int) -> str:
        return f"{path.name}:{bisect.bisect_left(breaks, at) + 1}"

    at = _list_start(text, path)
    at = _BLANK.match(text, at + 1).end()
    while text[at : at + 1] != "]":
        try:
            value, end = _DECODER.raw_decode(text, at)
            yield place(at), value if isinstance(value, dict) else "must be an object with image and prompt."
        except RepeatedKeyError as error:
            yield place(at), str(error)
            _, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {place(at).rsplit(':')[-1]}: not valid JSON ({_reason(error)}).") from error
        at = _BLANK.match(text, end).end()
        if text[at : at + 1] == ",":
            at = _BLANK.match(text, at + 1).end()
        elif text[at : at + 1] != "]":
            raise DataError(f"{path}, line {place(at).rsplit(':')[-1]}: not valid JSON (a comma or ] is missing).")


def _list_start(text: str, path: Path) -> int:
    """Where the list of rows begins: at the top, or as the value of items or data."""
    start = _BLANK.match(text, 0).end()
    if text[start : start + 1] == "[":
        return start
    wanted = f"{path}: must be a list of objects, or an object with such a list as 'items' or 'data'"
    if text[start : start + 1] != "{":
        raise DataError(f"{wanted}.")
    at, keys = start + 1, []
    decoder = json.JSONDecoder()
    try:
        while True:
            at = _BLANK.match(text, at).end()
            key, at = decoder.raw_decode(text, at)
            at = _BLANK.match(text, at).end() + 1  # the colon
            at = _BLANK.match(text, at).end()
            if key in _LISTS and text[at : at + 1] == "[":
                return at
            keys.append(str(key))
            _, at = decoder.raw_decode(text, at)
            at = _BLANK.match(text, at).end()
            if text[at : at + 1] != ",":
                break
            at += 1
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({_reason(error)}).") from error
    raise DataError(f"{wanted} (found: {', '.join(keys[:8])}).")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
