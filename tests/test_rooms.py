"""The import contract: rooms import downwards only, the root holds no loose modules, few rooms know Hydra or print."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llm_dit
from llm_dit.cli.code_map_doc import PAGE, ROOMS, with_map

PACKAGE = Path(llm_dit.__file__).parent
MODULES = {p: ast.parse(p.read_text(encoding="utf-8")) for p in PACKAGE.rglob("*.py")}
KNOW_HYDRA = ("compose", "cli", "study")  # study holds the sweeper and its callback
# Modules outside cli/ that print. The list only becomes shorter.
PRINT_STILL = {
    "base/lock.py",
    "encoders/smollm2.py",
    "study/dry_run.py",
    "study/finish.py",
    "study/plan.py",
    "study/run.py",
    "study/search.py",
    "trackers/base.py",
    "train/data/dataset.py",
    "train/task.py",
    "train/tracking.py",
    "train/validate.py",
}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return name_of(path).split("/")[0]


def imports(tree):
    """(line, dotted module) of every import, also inside functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def test_every_folder_is_a_room_and_the_root_holds_no_modules():
    folders = {p.name for p in PACKAGE.iterdir() if any(p.glob("*.py"))}
    # shipped is weights; conf, prompt_sets, sweeps and templates are inside an installed package: data, not rooms.
    assert folders == set(ROOMS)
    assert [p.name for p in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_rooms_import_downwards_only():
    upwards = []
    for path, tree in MODULES.items():
        if path.parent == PACKAGE:
            continue
        for line, module in imports(tree):
            other = module.split(".")[1] if module.startswith("llm_dit.") else None
            if other in ROOMS and ROOMS.index(other) < ROOMS.index(room_of(path)):
                upwards.append(f"{name_of(path)}:{line} imports {module}")
    assert not upwards


@pytest.mark.parametrize("library", ["hydra", "omegaconf"])
def test_only_few_rooms_know_hydra(library):
    found = {
        name_of(path)
        for path, tree in MODULES.items()
        for _, module in imports(tree)
        if module.split(".")[0] == library and room_of(path) not in KNOW_HYDRA
    }
    assert not found


def test_only_cli_prints():
    printing = {
        name_of(path)
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in printing if not name.startswith("cli/")} == PRINT_STILL


def test_the_code_map_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_map(page), "run: uv run python -m llm_dit.cli.code_map_doc"
