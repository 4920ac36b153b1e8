"""The code map of docs/architecture.md: a line a module, from the first line of its docstring.

    uv run python -m llm_dit.cli.code_map_doc

writes the map into the page, between its two marks.
"""

from __future__ import annotations

import ast
from pathlib import Path

import llm_dit

# From what people call to what knows nothing of the project. A room imports rooms below it alone.
ROOMS = (
    "cli", "train", "study", "machine", "metrics", "render", "records", "conditioning", "models", "encoders",
    "families", "trackers", "diffusion", "text", "images", "prompts", "weights", "compose", "config", "base",
)  # fmt: skip
PACKAGE = Path(llm_dit.__file__).parent
PAGE = PACKAGE.parents[1] / "docs" / "architecture.md"
BEGIN, END = "<!-- code map -->\n", "<!-- end of the code map -->\n"


def code_map() -> str:
    """Markdown: a section a room, in their order, with a line a module."""
    return "\n".join(f"### {room}\n\n{_about(PACKAGE / room)}\n\n" + _modules(PACKAGE / room) for room in ROOMS)


def _modules(room: Path) -> str:
    files = sorted(p for p in room.rglob("*.py") if p.name != "__init__.py")
    return "".join(f"- `{p.relative_to(room)}`: {_about(p)}\n" for p in files)


def _about(path: Path) -> str:
    """The first sentence or line of a module's docstring, or of a package's."""
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def with_map(page: str) -> str:
    """The page with the map as it is now. Raises ValueError where the marks are missing."""
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:start] + "\n" + code_map() + "\n" + page[end:]


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
