"""Where a picture's bytes are: a file, or a stretch of a .tar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm_dit.base.errors import ImageError

MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Source:
    """A file, or size bytes of it from offset on. name: for people, unique in the data."""

    path: Path
    name: str
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes. Raises ImageError."""
        try:
            size = self.path.stat().st_size if self.size is None else self.size
            if size > MAX_BYTES:
                raise ImageError(f"{size:,} bytes; at most {MAX_BYTES:,} are read")
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                content = file.read(size)
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror or error})") from error
        if len(content) < size:
            raise ImageError("the file is cut short")
        return content

    def stamp(self) -> list[int]:
        """What changes when the file does: size and time of change, and the stretch. Raises ImageError."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror or error})") from error
        return [status.st_size, status.st_mtime_ns, self.offset, self.size or 0]
