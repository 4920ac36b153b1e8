"""What the project reads of its own files of JSON, as types, and the one reader that checks them.

A file may come from a stranger, another version or a damaged disk. read_object and parse_line give values whose keys
below have the types given here; keys that are not named are kept as they are. Keys that version 0.2.0 did not write
are NotRequired. The files are written elsewhere, as plain dicts.
"""

import json
import math
import stat
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from llm_dit.base.errors import LabError, RecordError

RECORD_VERSION = 1
DEEPEST = 64  # containers in one another; a record has 6
LARGEST_FILE = 1 << 30  # bytes
WHOLE = range(-(1 << 63), 1 << 63)  # what a table and a random number generator hold


class ModelOfRecord(TypedDict):
    name: str


class ConfigOfRecord(TypedDict):
    model: ModelOfRecord


class GuidanceOfRecord(TypedDict):
    cfg_weight: float


class EmphasisOfRecord(TypedDict):
    text: str


class LoraOfRecord(TypedDict):
    sha256: str


class PictureRecord(TypedDict):
    """The record in a PNG or beside it, of version 1."""

    record_version: NotRequired[int]  # read first, by check_version
    config: ConfigOfRecord
    seed: int
    width: int
    height: int
    nfe: float
    token_count: int
    padded_length: int
    shift: float
    guidance: GuidanceOfRecord
    seconds: dict[str, float]
    model_fingerprint: dict[str, str]
    device: str
    dtype: str
    versions: dict[str, str | None]
    pixels_sha256: str
    init_image_sha256: NotRequired[str | None]
    emphasis: NotRequired[EmphasisOfRecord | None]
    lora: NotRequired[list[LoraOfRecord]]
    warnings: NotRequired[list[str]]


class SweepLine(PictureRecord):
    """A line of records.jsonl: a picture's record and its place in the sweep. path: from the cell's folder."""

    path: str
    prompt_id: str
    category: str
    prompt: str
    axes: dict[str, str]
    elements: NotRequired[list[dict[str, str]]]


# What tells a picture of a sweep; more is needed where pictures are compared.
OF_EVERY_LINE = frozenset({"path", "prompt_id", "seed", "pixels_sha256", "axes"})


class ScoreLine(TypedDict):
    """A line of scores.jsonl. values: name to score, null for none."""

    metric: str
    identity: str
    prompt_id: str
    seed: int
    input: str
    grouped: bool
    values: dict[str, float | None]
    truncated: bool


class Run(TypedDict):
    """One command that a sweep was drawn with."""

    arguments: NotRequired[list[str]]


class Sweep(TypedDict):
    """sweep.json."""

    sweep_version: NotRequired[int]
    name: NotRequired[str]
    study: NotRequired[str]
    question: NotRequired[str]
    axes: NotRequired[list[str]]
    baseline: NotRequired[dict[str, Any]]
    primary: NotRequired[str | None]
    cells: NotRequired[list[dict[str, str]]]
    runs: NotRequired[list[Run]]
    search: NotRequired[bool]


class Cell(TypedDict):
    """cell.json."""

    labels: NotRequired[dict[str, str]]
    config: NotRequired[ConfigOfRecord]
    prompts: NotRequired[list[str]]
    seeds: NotRequired[list[int]]
    pictures: NotRequired[int]


class Failure(TypedDict):
    """failed.json."""

    error: str
    labels: dict[str, str]


class TrainState(TypedDict):
    """state.json of a checkpoint. meter: rows of numbers since the last line of the log."""

    state_version: int
    step: int
    settings: dict[str, Any]
    data_fingerprint: str
    base_fingerprint: str
    processes: int
    meter: list[list[float]]
    seconds: float
    cpu_seconds: float


class LogLine(TypedDict):
    """A line of a training's log."""

    step: int


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises FileNotFoundError, and RecordError for what is no plain file, too large or unreadable."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
            raise RecordError(f"{path}: is {kind}, not a file.")
        if status.st_size > LARGEST_FILE:
            raise RecordError(f"{path}: {status.st_size >> 20} MiB; at most {LARGEST_FILE >> 20} MiB are read.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error}).") from error


def read_object(path: Path, shape: type, remedy: str = "") -> dict[str, Any] | None:
    """A file of one JSON object, None when it is not there. Raises RecordError, which ends with the remedy."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    try:
        return parse(data, shape, str(path))
    except RecordError as error:
        raise RecordError(f"{error} {remedy}".rstrip()) from error


def lines_of(path: Path, shape: type, required: frozenset[str] | None = None) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines, none when it is not there.

    What a killed process left, half a line, is left out. Raises RecordError for other faults, with the line's number.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip() and not is_half(line):
            where = f"{path}:{number}"
            values = parse(line, dict, where)
            if shape is SweepLine:
                check_version(values, "record_version", RECORD_VERSION, where)
            checked(values, shape, where, required=required)
            if shape is SweepLine and not stays_inside(values["path"]):
                raise RecordError(f"{where}: the path {values['path'][:80]!r} leads out of the cell's folder.")
            found.append(values)
    return found


def check_version(
    values: Mapping[str, Any], key: str, version: int, where: str, fault: type[LabError] = RecordError
) -> None:
    """Raises fault for values of another version than this release reads. Without the key they are of this one."""
    if (found := values.get(key, version)) != version or type(found) is not int:
        told = str(found) if type(found) in (int, float) else named(found)
        raise fault(f"{where}: of version {told}; this release reads version {version}.")


def stays_inside(path: str) -> bool:
    """Whether a path that a file gives leads to something below its folder, links aside."""
    parts = PurePath(path).parts
    return bool(parts) and not PurePath(path).is_absolute() and ".." not in parts and "\0" not in path


def is_half(line: bytes) -> bool:
    """Whether a line is what a killed process left of one: no JSON, whatever its last character is."""
    try:
        json.loads(line.decode(errors="replace"))
    except RecursionError:
        return False
    except ValueError as error:
        return isinstance(error, json.JSONDecodeError)
    return False


def parse(data: str | bytes, shape: type, where: str, fault: type[LabError] = RecordError) -> dict[str, Any]:
    """JSON text as an object of a shape. where: how an error begins. Raises fault."""
    try:
        values = json.loads(data if isinstance(data, str) else data.decode())
    except UnicodeDecodeError as error:
        raise fault(f"{where}: not valid UTF-8.") from error
    except RecursionError as error:
        raise fault(f"{where}: nested more than {DEEPEST} levels deep.") from error
    except ValueError as error:
        raise fault(f"{where}: cannot be read as JSON ({error}).") from error
    return checked(values, shape, where, fault)


def checked(
    values: Any,
    shape: type,
    where: str,
    fault: type[LabError] = RecordError,
    required: frozenset[str] | None = None,
) -> dict[str, Any]:
    """The values, an object of a shape. required: the keys that must be there, if not all. Raises fault."""
    if not isinstance(values, dict):
        raise fault(f"{where}: holds {named(values)} where an object belongs.")
    refuse_odd(values, where, fault)
    try:
        check_type(values, shape, "", required)
    except TypeError as error:
        raise fault(f"{where}: {error}.") from error
    return values


def refuse_odd(values: Any, where: str, fault: type[LabError]) -> None:
    """Raises fault for what no writer here makes and no reader bears: depth, half characters, numbers out of range."""
    waiting = [(values, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict):
            waiting += [(v, depth + 1) for v in value.values()] + [(k, depth + 1) for k in value]
        elif isinstance(value, list):
            waiting += [(v, depth + 1) for v in value]
        elif isinstance(value, str):
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise fault(f"{where}: holds half a character ({ascii(value)[:40]}).")
        elif (type(value) is int and value not in WHOLE) or (type(value) is float and not math.isfinite(value)):
            raise fault(f"{where}: holds a number that is not finite or too large.")
        if depth > DEEPEST:
            raise fault(f"{where}: nested more than {DEEPEST} levels deep.")


@cache
def fields(shape: type) -> tuple[dict[str, Any], frozenset[str]]:
    """A shape's types by key, and the keys that must be there."""
    return get_type_hints(shape), shape.__required_keys__  # get_type_hints() takes NotRequired off


def check_type(value: Any, shape: Any, key: str, needed: frozenset[str] | None = None) -> None:
    """Raises TypeError, which names the dotted key, for a value of another type."""
    origin = get_origin(shape)
    if is_typeddict(shape):
        expect(isinstance(value, dict), value, key, "an object")
        kinds, required = fields(shape)
        for name in sorted((required if needed is None else needed) - value.keys()):
            raise TypeError(f"lacks {dotted(key, name)!r}")
        for name in kinds.keys() & value.keys():
            check_type(value[name], kinds[name], dotted(key, name))
    elif origin in (types.UnionType, Union):
        inner = [part for part in get_args(shape) if part is not type(None)]
        if value is not None:
            check_type(value, inner[0], key)
    elif origin is list:
        expect(isinstance(value, list), value, key, "a list")
        for i, item in enumerate(value):
            check_type(item, get_args(shape)[0], f"{key}[{i}]")
    elif origin is dict:
        expect(isinstance(value, dict), value, key, "an object")
        for name, item in value.items():
            check_type(item, get_args(shape)[1], dotted(key, name[:40]))
    elif shape is int:
        expect(type(value) is int, value, key, "a whole number")
    elif shape is float:
        expect(type(value) in (int, float), value, key, "a number")
    elif shape is bool:
        expect(type(value) is bool, value, key, "true or false")
    elif shape is str:
        expect(isinstance(value, str), value, key, "text")


def expect(right: bool, value: Any, key: str, what: str) -> None:
    """Raises TypeError unless right."""
    if not right:
        raise TypeError(f"{key!r} must be {what}, got {named(value)}")


def dotted(key: str, name: str) -> str:
    """A key below a key."""
    return f"{key}.{name}" if key else name


def named(value: Any) -> str:
    """A JSON value as an error names it."""
    kinds: Mapping[type, str] = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return kinds.get(type(value)) or json.dumps(value)[:40]
