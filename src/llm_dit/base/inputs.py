"""Files that a user names as input: opened only if they are regular files, and read within a limit.

A FIFO, a device or a socket would block the reader or never end. `where` is the argument as typed, such as
prompt_file=PATH, and begins each message; `error` is the class of LabError that is raised.
"""

from __future__ import annotations

import os
import stat

from llm_dit.base.errors import LabError

MAX_TEXT = 16 * 2**20  # bytes of a file of text that a person wrote

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def is_special(path: str | os.PathLike) -> bool:
    """Whether something is there that is neither a regular file nor a folder; links are followed."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def refuse_special(path: str | os.PathLike, where: str, error: type[LabError]) -> None:
    """Raises `error` for what is there and is no regular file; one that is missing passes."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError):
        return
    if kind != stat.S_IFREG:
        raise error(f"{where}: {_KINDS.get(kind, 'a special file')}, not a file that can be read.")


def read_bytes(path: str | os.PathLike, where: str, error: type[LabError], limit: int) -> bytes:
    """A regular file's bytes, at most `limit` of them. Raises `error` for anything else, without blocking."""
    refuse_special(path, where, error)
    try:
        with open(path, "rb") as file:
            # The size is not asked first: some files, such as those of /proc, do not say it.
            content = file.read(limit + 1)
    except OSError as problem:
        raise error(f"{where}: cannot be read ({problem.strerror or problem}).") from problem
    except ValueError as problem:  # a NUL in the name
        raise error(f"{where}: cannot be read ({problem}).") from problem
    if len(content) > limit:
        raise error(f"{where}: more than {limit:,} bytes, the most that are read here.")
    return content


def read_text(path: str | os.PathLike, where: str, error: type[LabError], limit: int = MAX_TEXT) -> str:
    """A file of UTF-8 text without its byte-order mark, line ends as \\n. Raises `error` as read_bytes does."""
    return decoded(read_bytes(path, where, error, limit), where, error).replace("\r\n", "\n").replace("\r", "\n")


def decoded(content: bytes, where: str, error: type[LabError]) -> str:
    """UTF-8 text without its byte-order mark. Raises `error` that names the first byte that is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        # The codec counts behind the mark.
        start = problem.start + len(content) - len(problem.object)
        hint = ""
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = " It looks like UTF-16; save it as UTF-8."
        raise error(f"{where}: not UTF-8 text (byte {start}).{hint}") from problem
