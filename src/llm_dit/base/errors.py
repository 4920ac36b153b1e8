"""Errors meant for a person: one line that says what was wrong, where, and what would be right.

The command line prints the message alone and ends with exit code 2; Python callers catch LabError.
Bugs are not LabErrors: they keep their traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LabError(Exception):
    """Base of every error that a user can cause and mend. exit_code: of the command line."""

    exit_code = 2


class ConfigError(LabError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class ModelError(LabError):
    """A model file or folder is missing, broken, or does not fit."""


class PromptError(LabError):
    """The prompt cannot be encoded as asked."""


class ImageError(LabError):
    """A picture cannot be read, or is not what was asked for."""


class DataError(LabError):
    """Training data that cannot be read, or of which nothing is left."""


class RenderError(LabError):
    """The numbers went wrong: not finite, or a picture of one colour."""


class RecordError(LabError):
    """What a sweep has on disk cannot be read: damaged, or written by another version."""


class OutputError(LabError):
    """The result cannot be written."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """' Did you mean X?' for the closest of the valid names, or the list of them when none is close."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return "Valid: " + ", ".join(valid) + "." if valid else ""


def short(value: object, limit: int = 60) -> str:
    """A value as messages show it: text in quotes, cut at `limit` characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(error: BaseException, limit: int = 200) -> str:
    """An exception's message on one line, cut at limit; its type where it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """str(text) with its control characters, but for tabs and ends of lines, as escapes such as \\x1b.

    For all that is printed of a file's content: a terminal takes them as orders to move, to hide or to rename.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def told(error: BaseException, limit: int = 500) -> str:
    """one_line, with the error's type in front unless it is meant for people."""
    text = one_line(error, limit)
    return text if isinstance(error, LabError) or not str(error).strip() else f"{type(error).__name__}: {text}"
