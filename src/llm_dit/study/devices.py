"""One card for each process of a sweep: the first one that no other process of this machine has taken.

A claim is a locked file in the system's temporary folder; the system frees it when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_claims: dict[str, tuple[int, IO[str]]] = {}


def claim(count: int, kind: str = "cuda", folder: Path | None = None) -> int:
    """Index below count that this process holds from now on; the same one when asked again.

    When all are taken, process number modulo count: sharing a card beats stopping.
    """
    folder = folder or Path(tempfile.gettempdir())
    key = f"{folder}/{kind}"
    if key not in _claims:
        for index in range(count):
            file = open_claim(folder / f"llm-dit-{kind}-{index}.lock")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # taken, or a file system without locks
                file.close()
                continue
            _claims[key] = (index, file)
            break
    return _claims[key][0] if key in _claims else os.getpid() % count


def open_claim(path: Path) -> IO[str]:
    """A claim's file, open. Another user's may only be read, which is enough to lock it."""
    # The folder is everybody's: no link is followed and no pipe waited for.
    careful = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | careful))
    except FileNotFoundError:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | careful, 0o666), "w")


def use_own_card() -> None:
    """Make a claimed card torch's current one, where there are several."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        torch.cuda.set_device(claim(torch.cuda.device_count()))
