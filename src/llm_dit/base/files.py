"""Files on disk that are ours: written whole, under temporary names that only this program uses, and removed as such.

A temporary name is .llm-dit-tmp-MACHINE-PROCESS-RANDOM, of one length whatever it stands for. Only such names are
ever removed as leftovers, once their process is gone. Nothing here deletes through a link.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from llm_dit.base.errors import OutputError
from llm_dit.base.paths import user_path

PREFIX = ".llm-dit-tmp-"
OWN_TEMPORARY = re.compile(re.escape(PREFIX) + r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
ABANDONED = 86400  # seconds after which another machine's temporary file is taken for a killed process's


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Write several files so that none is ever seen half-written: write, fsync, rename. Raises OutputError."""
    staged: list[tuple[Path, Path]] = []
    try:
        for target, data in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(target)
            # A new file, never one that is there or that a link leads to; with the permissions that the umask leaves.
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            staged.append((temporary, target))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for temporary, target in staged:
            os.replace(temporary, target)
    except BaseException as error:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):  # Ctrl-C, for instance
            raise
        where = error.filename or next(iter(files))
        raise OutputError(f"{Path(where).parent}: cannot be written ({error.strerror or error}).") from error


def append_lines(path: Path, data: bytes) -> None:
    """Add whole lines to a file, made if need be; on return they are on the disk. Its folder must be there.

    Half a line that a killed process left does not swallow the next one. Raises OutputError, also for a link or
    anything else that is no plain file: it may lead to a file that is not ours.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{path}: not a plain file, so nothing is added to it; move it away.")
            if status.st_size and os.pread(handle, 1, status.st_size - 1) != b"\n":
                data = b"\n" + data
            file.write(data)
            os.fsync(handle)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputError(f"{path}: a link, which is not written through; move it away.") from error
        gone = isinstance(error, FileNotFoundError) and not path.parent.is_dir()
        why = f"{path.parent} is gone" if gone else error.strerror or error
        raise OutputError(f"{path}: cannot be written ({why}).") from error


def temporary_beside(target: Path) -> Path:
    """A name in the target's folder that nothing has yet and that tells whose it is; nothing is made."""
    return target.parent / f"{PREFIX}{this_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder of our own in parent, removed at the end unless it was moved away by then."""
    folder = temporary_beside(parent / "new")
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove_temporary(folder)


def remove_leftovers(*folders: Path) -> None:
    """Remove the temporary files and folders that processes of ours left in these folders when they were killed.

    Of this machine those whose process is gone, of others those older than a day. A folder that is a link is left out.
    """
    for folder in folders:
        if folder.is_symlink() or not folder.is_dir():
            continue
        for path in folder.iterdir():
            found = OWN_TEMPORARY.fullmatch(path.name)
            if found and _abandoned(path, machine=found[1], process=int(found[2])):
                _remove_temporary(path)


def _abandoned(path: Path, machine: str, process: int) -> bool:
    if machine == this_machine():
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:  # another user's process
            return False
        return False
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > ABANDONED
    return False


def _remove_temporary(path: Path) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)  # which deletes links and does not follow them
        else:
            path.unlink()


@functools.cache
def this_machine() -> str:
    """8 hex digits: processes with the same ones see each other by their numbers. A container is a machine."""
    said = [socket.gethostname()]
    with contextlib.suppress(OSError):
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        said.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(said).encode()).hexdigest()[:8]


def put_in_place(staged: Path, target: Path, last: str) -> None:
    """Make target a folder with the files of staged; only files of the same names are replaced.

    last: the file whose presence says that the folder is whole. It goes first and comes last. Raises OSError.
    """
    if not target.exists() and not target.is_symlink():
        os.rename(staged, target)
        return
    (target / last).unlink(missing_ok=True)
    names = sorted((p.name for p in staged.iterdir()), key=lambda name: name == last)
    for name in names:
        os.replace(staged / name, target / name)


def remove_known(folder: Path, names: Collection[str]) -> None:
    """Remove files by name from a folder that is no link, in their order, then the folder if nothing is left in it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_writable(folder: str | Path, key: str = "output.dir", files: Iterable[str] = ()) -> Path:
    """The folder, after proving that a file can be written where it is or will be made; leaves nothing behind.

    key: the setting that names it. files: paths below it that will be written, whose length must be allowed.
    Raises OutputError, before minutes are spent on a picture that could not be saved.
    """
    folder = user_path(folder)

    def refuse(why: object) -> OutputError:
        return OutputError(f"{key}={folder}: cannot be written ({why}).")

    try:
        place = folder
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if place.is_symlink() and not place.exists():
            raise refuse(f"{place} is a link to {os.readlink(place)}, which is not there")
        longest = os.pathconf(place, "PC_NAME_MAX")
        new = folder.relative_to(place).parts
        files = tuple(files)
        for name in (*new, *(part for file in files for part in Path(file).parts)):
            if len(os.fsencode(name)) > longest:
                raise refuse(f"the name {name[:20]}... has {len(os.fsencode(name))} bytes; {longest} are allowed")
        for file in ("", *files):
            with contextlib.suppress(FileNotFoundError):
                os.stat(folder / file)  # the whole path too may be too long
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        raise refuse(getattr(error, "strerror", None) or error) from error
    return folder
