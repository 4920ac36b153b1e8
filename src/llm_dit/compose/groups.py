"""The folder of config groups, and what there is to choose in it."""

from __future__ import annotations

from pathlib import Path

from llm_dit.base.errors import ConfigError
from llm_dit.base.paths import shipped_folder, visible


def conf_dir() -> Path:
    """The folder of config groups."""
    folder = shipped_folder("conf")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} is missing: reinstall the package.")
    return folder


def options_of(group: str) -> list[str]:
    """The names a group can be set to, sorted; none for a group that does not exist."""
    return sorted(p.stem for p in visible(conf_dir() / group, "*.yaml"))


def group_names() -> list[str]:
    """The groups, sorted, but for the settings of one machine (conf/local)."""
    return sorted(p.name for p in visible(conf_dir()) if p.is_dir() and p.name != "local")
