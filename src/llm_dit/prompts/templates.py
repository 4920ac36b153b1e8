"""Prompt templates: a markdown file whose body is the system message and whose YAML head holds the other parts.

---
description: one line
category: style
force_think_block: true     (optional, as are thinking and assistant)
---
You write prompts for ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from os.path import isfile
from pathlib import Path

from llm_dit.base.errors import PromptError, nearest
from llm_dit.base.inputs import read_text, refuse_special
from llm_dit.base.paths import shipped_folder, user_path, visible
from llm_dit.base.yamlfile import parse_yaml


@dataclass(frozen=True)
class Template:
    """What a template adds around the user's words; whatever the caller gives wins over it."""

    name: str
    description: str = ""
    category: str = ""
    system: str = ""
    thinking: str = ""
    assistant: str = ""
    force_think_block: bool = False


def templates_dir() -> Path:
    """The folder of the shipped templates."""
    return shipped_folder("templates")


def list_templates() -> list[Template]:
    """The shipped templates by category, then name."""
    found = [load_template(path.stem) for path in visible(templates_dir(), "*.md")]
    return sorted(found, key=lambda t: (t.category, t.name))


def load_template(name: str) -> Template:
    """A shipped template by name, or any .md file by path. Raises PromptError."""
    path = user_path(name) if name.endswith(".md") else templates_dir() / f"{name}.md"
    refuse_special(path, f"prompt.template={name}", PromptError)
    if not isfile(path):
        known = [p.stem for p in visible(templates_dir(), "*.md")]
        raise PromptError(f"prompt.template={name}: no such template. {nearest(name, known)}")
    where = f"prompt.template={name}"
    return parse_template(path.stem, read_text(path, where, PromptError), str(path))


def parse_template(name: str, text: str, where: str) -> Template:
    """A template from its file's text; where is for messages. Raises PromptError."""
    # Only a first line of three hyphens opens a head: a body may well hold such lines.
    match = re.match(r"\A---[ \t]*\n(.*?)^---[ \t]*$\n?(.*)\Z", text, re.DOTALL | re.MULTILINE)
    head, body = (match[1], match[2]) if match else ("", text)
    values = parse_yaml(head, f"{where}: its head", PromptError) or {}
    if not isinstance(values, dict):
        raise PromptError(f"{where}: its head must be keys and values.")
    types = {f.name: bool if f.name == "force_think_block" else str for f in fields(Template)}
    for key, value in values.items():
        if key not in types or key == "system":
            raise PromptError(f"{where}: unknown key '{key}'. {nearest(str(key), set(types) - {'system'})}")
        if not isinstance(value, types[key]):
            raise PromptError(f"{where}: '{key}' must be {'true or false' if types[key] is bool else 'text'}.")
    return Template(**{"name": name, **values, "system": body.strip()})
