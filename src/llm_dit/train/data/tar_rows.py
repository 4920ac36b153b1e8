"""Rows of .tar shards as webdataset lays them out: KEY.jpg beside KEY.txt or KEY.json, all of one KEY one row.

Nothing is unpacked: a picture is a stretch of the shard. KEY is the member's path up to the first dot of its name.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from llm_dit.base.errors import DataError
from llm_dit.train.data.rows import Found
from llm_dit.train.data.sidecar import MAX_BYTES, OTHER_PICTURES, PICTURES, TEXTS, row_values
from llm_dit.train.data.source import Source


def tar_rows(shards: Sequence[Path], captions: bool = True, lines: bool = True) -> Iterator[Found]:
    """One row a KEY, in the order of shards and of members. A shard that is cut short gives what stands before.

    Raises DataError for what is no uncompressed .tar.
    """
    for shard in shards:
        groups, cut = _members(shard)
        for key, members in groups.items():
            yield f"{shard.name}:{key}", _row(shard, key, members, captions, lines)
        if cut:
            yield shard.name, cut


def _members(shard: Path) -> tuple[dict[str, dict[str, tarfile.TarInfo | str]], str]:
    """Members by KEY and ending, and what is wrong with the shard's end."""
    groups: dict[str, dict[str, tarfile.TarInfo | str]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            while True:
                try:
                    member = tar.next()
                except (tarfile.TarError, OSError, ValueError) as error:
                    return groups, f"broken after {len(groups)} rows ({error})."
                if member is None:
                    break
                folder, _, name = member.name.rpartition("/")
                if not name or name.startswith(".") or member.isdir():
                    continue
                stem, _, kind = name.partition(".")
                files = groups.setdefault(f"{folder}/{stem}" if folder else stem, {})
                kind = kind.lower()
                if kind in files:
                    files[kind] = f"{member.name} stands twice."
                elif not member.isreg() or member.issparse():
                    files[kind] = f"{member.name} is a link or no plain file."
                else:
                    files[kind] = member
                tar.members = []  # tarfile keeps all it has seen
    except tarfile.TarError as error:
        raise DataError(
            f"{shard}: not a .tar, or a compressed one ({error}). Unpack a .tar.gz to .tar first."
        ) from error
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror or error}).") from error
    size = shard.stat().st_size
    for files in groups.values():
        for kind, member in files.items():
            if not isinstance(member, str) and member.offset_data + member.size > size:
                files[kind] = f"{member.name} is cut short."
    return groups, ""


def _row(shard: Path, key: str, members: dict[str, tarfile.TarInfo | str], captions: bool, lines: bool) -> dict | str:
    pictures = [kind for kind in members if kind in PICTURES]
    if not pictures:
        other = next((kind for kind in members if kind in OTHER_PICTURES), None)
        return f"a .{other} is not read; make it {', '.join(PICTURES)}." if other else "no picture."
    if len(pictures) > 1:
        return f"{len(pictures)} pictures of one name."
    needed = {kind: members[kind] for kind in (*pictures, *TEXTS, "json") if kind in members}
    for member in needed.values():
        if isinstance(member, str):
            return member
    picture = needed.pop(pictures[0])
    if any(member.size > MAX_BYTES for member in needed.values()):
        return f"its caption has more than {MAX_BYTES:,} bytes."
    with open(shard, "rb") as file:
        contents = {}
        for kind, member in needed.items():
            file.seek(member.offset_data)
            contents[kind] = file.read(member.size)
    values = row_values(contents, captions, lines)
    if isinstance(values, str):
        return values
    return {**values, "image": Source(shard, f"{key}.{pictures[0]}", picture.offset_data, picture.size)}
