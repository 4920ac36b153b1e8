"""The chunks of a PNG, taken before Pillow sees them.

Pillow refuses a sound PNG whose compressed text or colour profile unpacks to more than 1 MB.
https://www.w3.org/TR/png-3/#5Chunk-layout
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 1_000_000
MAX_TEXT = 2**20  # bytes of one text, unpacked; what Pillow takes of a compressed one
_UNNEEDED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# Texts that can say how a picture is turned.
_ORIENTATION = (b"XML:com.adobe.xmp", b"Raw profile type exif")


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the chunk, length of its data) of each whole chunk; the file stands anywhere afterwards."""
    at = len(SIGNATURE)
    end = file.seek(0, io.SEEK_END)
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if at + 12 + length > end:
            return
        yield kind, at, length
        if kind == b"IEND":
            return
        at += 12 + length


def without_texts(content: bytes) -> bytes:
    """A PNG's bytes without the texts and colour profiles that no pixel depends on; the same object if it has none."""
    file = io.BytesIO(content)
    parts, kept_from = [], 0
    for kind, start, length in chunks(file):
        if kind in _UNNEEDED and not _tells_orientation(kind, content[start + 8 : start + 8 + min(length, MAX_TEXT)]):
            parts.append(content[kept_from:start])
            kept_from = start + 12 + length
    return b"".join([*parts, content[kept_from:]]) if parts else content


def text_of(file: BinaryIO, keyword: str, limit: int) -> str | None:
    """The text under a keyword, '' for one that is broken or longer than limit bytes; None where there is none."""
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    wanted = keyword.encode("latin-1")
    for kind, start, length in chunks(file):
        if kind in _UNNEEDED[:3]:
            file.seek(start + 8)
            data = file.read(min(length, limit))
            if data.partition(b"\0")[0] == wanted:
                text = _unpacked(kind, data, limit) if length <= limit else None
                try:
                    return (text or b"").decode("utf-8" if kind == b"iTXt" else "latin-1")
                except UnicodeDecodeError:
                    return ""
    return None


def _tells_orientation(kind: bytes, data: bytes) -> bool:
    name = data.partition(b"\0")[0]
    return name in _ORIENTATION and kind != b"iCCP" and len(data) < MAX_TEXT and _unpacked(kind, data) is not None


def _unpacked(kind: bytes, data: bytes, limit: int = MAX_TEXT) -> bytes | None:
    """The text in a chunk's data; None for one that is broken or unpacks to more than limit bytes."""
    rest, packed = data.partition(b"\0")[2], kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        fields = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        rest = fields[-1] if len(fields) == 3 else b""
    elif packed:
        rest = rest[1:]  # the method
    if not packed:
        return rest
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(rest, limit)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text
