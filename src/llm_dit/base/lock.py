"""One process at a time: a locked file, which the system frees when the process ends, however it ends.

flock: network file systems that do not support it get a warning and no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_warned = False


@contextmanager
def locked(path: Path, mark: bytes = b"") -> Iterator[bool]:
    """Whether this process has the file to itself until the block ends; False if another one has it.

    mark: written into the file where it is empty, to tell whose it is.
    """
    # Never cut short, and no link is followed: a file of this name that is not ours keeps what it holds.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
            _warn_unlocked(path.parent)
        if mark and not os.fstat(file.fileno()).st_size:
            file.write(mark)
        yield True


def _warn_unlocked(folder: Path) -> None:
    global _warned
    if not _warned:
        print(f"warning: {folder}: a file system without locks; let one process at a time work there", file=sys.stderr)
    _warned = True
