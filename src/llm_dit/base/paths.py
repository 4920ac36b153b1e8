"""Where files are: what a user typed as a path, and the folders that ship with the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # src/llm_dit, or where it is installed


def user_path(typed: str | Path) -> Path:
    """A path as typed, with ~ as the home folder; a ~name that nobody has stays as it is."""
    return Path(os.path.expanduser(typed))


def user_cache() -> Path:
    """Where what was fetched once is kept: LLM_DIT_CACHE, or the platform's own place for caches."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("LLM_DIT_CACHE")
    return user_path(chosen).absolute() if chosen else user_cache_path("llm-dit", appauthor=False)


def shipped_folder(inside: str, checkout: str | None = None) -> Path:
    """A folder of YAML or markdown: inside the installed package, or at the root of a source checkout.

    checkout: its name there, when it differs.
    """
    installed = PACKAGE / inside
    return installed if installed.is_dir() else PACKAGE.parents[1] / (checkout or inside)


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """What a folder holds by a pattern, sorted; without names that begin with a dot, such as a Mac's ._NAME."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def in_checkout() -> bool:
    """Whether this is a source checkout, whose entry point is experiments/run.py, rather than an installed package."""
    return (PACKAGE.parents[1] / "experiments" / "run.py").is_file()


def command_name() -> str:
    """What the user types to start the program: run.py in a checkout, else llm-dit."""
    typed = (Path(argument).stem for argument in sys.orig_argv[:4])
    return "run.py" if in_checkout() and "llm-dit" not in typed else "llm-dit"


def whole_command() -> str:
    """command_name() as it is typed from the root of a checkout: `uv run experiments/run.py`, else llm-dit."""
    return "uv run experiments/run.py" if command_name() == "run.py" else "llm-dit"


def vocabulary_dir() -> Path:
    """The folder of the words that shipped models were taught."""
    return shipped_folder("prompt_sets", checkout="prompts") / "vocabulary"


def shipped_vocabularies() -> list[str]:
    """The names of those that ship."""
    return sorted(path.stem for path in vocabulary_dir().glob("*.yaml"))
