"""docs/parameters.md, written from llm_dit.config and the options in conf/:

uv run python -m llm_dit.cli.parameters_doc > docs/parameters.md
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from llm_dit.compose import conf_dir, type_name
from llm_dit.config import Config, Parameter, is_group, parameters, type_hints

HEAD = """# Parameters

Every setting there is, generated from `src/llm_dit/config/` by `uv run python -m llm_dit.cli.parameters_doc`.
Set one as `key=value`, choose a group's option as `group=option`. "Default" is the plain default; the model option
(`conf/model/`) sets size, steps and guidance for its model, and `conf/config.yaml` chooses `tracker=wandb`. A setting
that changes the picture is part of the picture's identity, the ten hex digits at the end of its file name. A place is
a path, a folder or a hub id: it makes the program read, fetch or write, so `from_image` takes one from a picture's
record only when this project ships it or `trust_record=true` is given.
"""


def parameters_markdown() -> str:
    """The whole page."""
    hints = type_hints(Config)
    by_group: dict[str, list[Parameter]] = {}
    for p in parameters():
        by_group.setdefault(p.key.split(".")[0] if "." in p.key else "", []).append(p)
    sections = [HEAD, "## One run\n", _table(by_group.pop(""))]
    for group, members in by_group.items():
        doc = (hints[group].__doc__ or "").strip().splitlines()[0]
        sections += [f"## {group}\n", doc + "\n", _table(members), _options(conf_dir() / group)]
    return "\n".join(s for s in sections if s)


def _table(members: list[Parameter]) -> str:
    rows = [
        "| key | type | default | allowed | changes the picture | what it is |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for p in members:
        kind = type_name(p.type) + (" or null" if p.optional else "")
        cells = [
            f"`{p.key}`",
            kind,
            f"`{_value(p.default)}`",
            p.rule.describe_range(),
            "yes" if p.rule.image else "no",
            p.rule.help + " (a place)" * p.rule.place,
        ]
        rows.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(rows) + "\n"


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def _options(folder: Path) -> str:
    """The options of a group, each with the comment at the head of its file."""
    lines = []
    for path in sorted(folder.glob("*.yaml")):
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        said = [c for c in comments if c and not c.startswith(("@package", "uv run"))]
        lines.append(f"- `{folder.name}={path.stem}`: {' '.join(said)}")
    return "Options:\n\n" + "\n".join(lines) + "\n" if lines else ""


def groups() -> list[str]:
    """The names of the config's groups, in declaration order."""
    hints = type_hints(Config)
    return [f.name for f in dataclasses.fields(Config) if is_group(hints[f.name])]


if __name__ == "__main__":
    print(parameters_markdown(), end="")
