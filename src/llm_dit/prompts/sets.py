"""Prompt sets: a YAML file of prompts with an id, a category, a difficulty and elements to check in the picture.

version: 1
description: one line
prompts:
- {id: cat_001, category: animals, difficulty: easy, prompt: A grey cat., elements: [{subject: a grey cat}]}

Each value of elements ends the question "Does the picture show ...?", but for `text` (the exact words to be read
in the picture) and NOT_VISIBLE (remarks for people). Nano's sets hold the bare words of its vocabulary.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from llm_dit.base.errors import PromptError, nearest
from llm_dit.base.inputs import read_text, refuse_special
from llm_dit.base.paths import shipped_folder, user_path, visible
from llm_dit.base.yamlfile import check_yaml

DIFFICULTIES = ("easy", "medium", "hard", "extreme")
# Elements that say what is being probed; no picture can be asked about them.
NOT_VISIBLE = frozenset({"charged_word", "expected_bias"})
# Ids become file names and tags become column names. Both start with a letter or digit.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LISTED = 12  # more valid names than this are not worth a line


class Element(NamedTuple):
    """One thing to check in the picture: what kind of thing (subject, count, position ...) and what."""

    tag: str
    value: str


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set. id is unique in the set, whatever the case of its letters."""

    id: str
    category: str
    prompt: str
    elements: tuple[Element, ...] = ()
    difficulty: str = "medium"
    notes: str = ""

    @property
    def checkable(self) -> tuple[Element, ...]:
        """The elements that a picture can be asked about."""
        return tuple(e for e in self.elements if e.tag not in NOT_VISIBLE)


@dataclass(frozen=True)
class PromptSet:
    """A file of prompts in file order. name is the file's, without ending."""

    name: str
    version: int
    description: str
    prompts: tuple[Prompt, ...]


def prompt_sets_dir() -> Path:
    """The folder of the shipped sets."""
    return shipped_folder("prompt_sets", checkout="prompts")


def list_prompt_sets() -> list[str]:
    """The names of the shipped sets, sorted."""
    return sorted(p.stem for p in visible(prompt_sets_dir(), "*.yaml"))


def load_prompts(
    name_or_path: str | Path,
    *,
    ids: Collection[str] = (),
    categories: Collection[str] = (),
    difficulties: Collection[str] = (),
    count: int | None = None,
) -> list[Prompt]:
    """The prompts of a shipped set (by name) or of any .yaml file (by path) that pass every filter, in file order.

    An empty filter passes all; count takes a balanced choice of so many of what is left, or all if there are fewer.
    Raises PromptError for a file that is missing or wrong, an unknown name in a filter, and when nothing is left.
    """
    prompts = load_prompt_set(name_or_path).prompts
    _check_filter("ids", ids, [p.id for p in prompts])
    _check_filter("categories", categories, {p.category for p in prompts})
    _check_filter("difficulties", difficulties, DIFFICULTIES)
    if count is not None and count < 1:
        raise PromptError(f"prompts.count={count}: must be at least 1, or null for all.")
    left = [
        p
        for p in prompts
        if (not ids or p.id in ids)
        and (not categories or p.category in categories)
        and (not difficulties or p.difficulty in difficulties)
    ]
    if not left:
        given = {"ids": ids, "categories": categories, "difficulties": difficulties}
        filters = ", ".join(f"prompts.{key}=[{','.join(values)}]" for key, values in given.items() if values)
        raise PromptError(f"no prompt of '{name_or_path}' passes {filters} together; {_census(prompts)}.")
    return left if count is None else balanced(left, count)


def balanced(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many prompts, in their order, that categories, and then styles and colours, are in as equal shares as can be.

    The choice depends on the prompts alone, and a smaller one is part of every larger one, so that a sweep can be
    continued with more.
    """
    used: Counter[tuple[str, ...]] = Counter()
    waiting, chosen = list(range(len(prompts))), []
    while waiting and len(chosen) < count:

        def crowded(i: int) -> tuple[int, ...]:
            category, *kinds = _kinds(prompts[i])
            return used[category], sum(used[kind] for kind in kinds), used[tuple(kinds)], i

        best = min(waiting, key=crowded)
        waiting.remove(best)
        chosen.append(best)
        kinds = _kinds(prompts[best])
        used.update([*kinds, tuple(kinds[1:])])
    return [prompts[i] for i in sorted(chosen)]


def _kinds(prompt: Prompt) -> list[tuple[str, ...]]:
    """What a balanced choice has in equal shares: the category, and the styles and colours asked for, or none."""
    return [("category", prompt.category)] + [
        (tag, *(e.value for e in prompt.elements if e.tag == tag)) for tag in ("style", "colour")
    ]


def load_prompt_set(name_or_path: str | Path) -> PromptSet:
    """A whole set: a shipped one by name, or any .yaml (or .yml) file by path. Raises PromptError."""
    given = str(name_or_path)
    # os.path, because pathlib raises for an unknown ~user and for a name that is too long.
    path = user_path(given)
    by_path = path.suffix.lower() in (".yaml", ".yml")
    if by_path:
        refuse_special(path, f"prompts.set={given}", PromptError)
    if by_path and os.path.isfile(path):
        pass
    elif not by_path and given in list_prompt_sets():
        path = prompt_sets_dir() / f"{given}.yaml"
    elif not by_path and os.path.isfile(path):
        raise PromptError(f"prompts.set={given}: a file of prompts has to end in .yaml.")
    else:
        raise PromptError(f"prompts.set={given[:200]}: no such file or shipped set. {_nearest_set(path, by_path)}")
    text = read_text(path, f"prompts.set={given}", PromptError)
    return parse_prompt_set(path.stem, text, given)


def _nearest_set(path: Path, by_path: bool) -> str:
    """A hint for a set that is not there: a file beside it, or a shipped set of nearly that name."""
    if by_path and os.path.isdir(path.parent):
        beside = [p.name for p in path.parent.iterdir() if p.suffix.lower() in (".yaml", ".yml")]
        hint = nearest(path.name, beside)
        if hint.startswith("Did"):
            return hint
    return nearest(path.stem if by_path else str(path), list_prompt_sets())


def parse_prompt_set(name: str, text: str, where: str) -> PromptSet:
    """A set from its file's text; where is for messages. Raises PromptError."""
    import yaml

    check_yaml(text, where, PromptError)
    # What yaml.safe_load does, with a look at the nodes in between; in C it is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        _check_repeats(node, where, set())
        values = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2024-13-45 looks like a date and is none
        raise PromptError(f"{where}: not valid YAML ({' '.join(str(error).split())[:160]}).") from error
    if not isinstance(values, Mapping) or "prompts" not in values:
        raise PromptError(f"{where}: must be a mapping with the keys version, description and prompts.")
    _check_keys(where, values, {"version", "description", "prompts"})
    version, entries = values.get("version", 1), values["prompts"]
    if type(version) is not int or version < 1:
        raise PromptError(f"{where}: 'version' must be a whole number, at least 1.")
    if not isinstance(entries, list) or not entries:
        raise PromptError(f"{where}: 'prompts' must be a list with at least one prompt.")
    prompts = [_parse_prompt(entry, number, where) for number, entry in enumerate(entries, start=1)]
    # A picture's file carries the id, and some file systems do not tell A from a.
    repeated = [i for i, n in Counter(p.id.casefold() for p in prompts).items() if n > 1]
    if repeated:
        raise PromptError(f"{where}: the id '{repeated[0]}' stands more than once.")
    return PromptSet(name, version, _text(values, "description", where), tuple(prompts))


def _parse_prompt(entry: Any, number: int, where: str) -> Prompt:
    """One entry of the list. number counts from 1 and stands in messages until the id is known."""
    place = f"{where}, prompt {number}"
    if not isinstance(entry, Mapping):
        raise PromptError(f"{place}: must be a mapping with the keys id, category and prompt, not {_kind(entry)}.")
    if isinstance(entry.get("id"), str):
        place += f" ({entry['id'][:40]})"
    _check_keys(place, entry, {f.name for f in fields(Prompt)})
    for key in ("id", "category", "prompt"):
        if key not in entry:
            raise PromptError(f"{place}: '{key}' is missing.")
        if not _text(entry, key, place):
            raise PromptError(f"{place}: '{key}' is empty.")
    for key in ("id", "category"):
        _check_name(entry[key], f"'{key}'", place)
    difficulty = _text(entry, "difficulty", place) or "medium"
    if difficulty not in DIFFICULTIES:
        raise PromptError(f"{place}: difficulty '{difficulty}' is none. {nearest(difficulty, DIFFICULTIES)}")
    return Prompt(
        id=entry["id"],
        category=entry["category"],
        prompt=_text(entry, "prompt", place),
        elements=_parse_elements(entry.get("elements"), place),
        difficulty=difficulty,
        notes=_text(entry, "notes", place),
    )


def _parse_elements(items: Any, place: str) -> tuple[Element, ...]:
    """The elements of one prompt: a list of mappings with one key each."""
    if items is None:
        return ()
    if not isinstance(items, list):
        raise PromptError(f"{place}: 'elements' must be a list such as '- subject: red apple', not {_kind(items)}.")
    elements = []
    for number, item in enumerate(items, start=1):
        spot = f"{place}, element {number}"
        if not isinstance(item, Mapping) or len(item) != 1:
            raise PromptError(f"{spot}: must be one tag and its value, such as '- subject: red apple'.")
        (tag,) = item
        _check_name(tag, "tag", spot)
        value = _text(item, tag, spot)
        if not value:
            raise PromptError(f"{spot}: '{tag}' is empty.")
        elements.append(Element(tag, value))
    return tuple(elements)


def _check_repeats(node: Any, where: str, seen: set[int]) -> None:
    """Refuse a key that stands twice in one mapping: YAML would drop the first, and with it perhaps a whole prompt.

    seen: ids of the nodes already visited, as an alias may lead back to its own parent.
    """
    if node is None or node.id == "scalar" or id(node) in seen:
        return
    seen.add(id(node))
    if node.id == "sequence":
        for item in node.value:
            _check_repeats(item, where, seen)
        return
    keys = Counter(key.value for key, _ in node.value if key.id == "scalar")
    for key, value in node.value:
        if key.id == "scalar" and keys[key.value] > 1:
            raise PromptError(f"{where}, line {key.start_mark.line + 1}: '{key.value}' stands twice; is a '-' missing?")
        _check_repeats(value, where, seen)


def _check_keys(place: str, values: Mapping[Any, Any], known: Collection[str]) -> None:
    for key in values:
        if key not in known:
            raise PromptError(f"{place}: unknown key '{key}'. {nearest(str(key), known)}")


def _check_name(name: Any, what: str, place: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PromptError(f"{place}: {what} {str(name)[:40]!r} must be letters, digits, _ and -, at most 64 of them.")


def _text(values: Mapping[Any, Any], key: str, place: str) -> str:
    """The text at a key without outer white space, '' if absent. YAML reads 7, yes and 12:30 as other things."""
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise PromptError(f"{place}: '{key}' must be text, not {_kind(value)}; put it in quotes.")
    return value.strip()


def _kind(value: Any) -> str:
    """What YAML made of a value, in words."""
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping", str: "text"}
    return names.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def _check_filter(key: str, wanted: Collection[str], known: Collection[str]) -> None:
    if isinstance(wanted, str):
        raise PromptError(f"prompts.{key}={wanted}: must be a list, such as [{wanted}].")
    for name in wanted:
        if name not in known:
            hint = nearest(name, known)
            if not hint.startswith("Did") and len(known) > _LISTED:
                hint = f"The set has {len(known)}, from {min(known)} to {max(known)}."
            raise PromptError(f"prompts.{key}: '{name}' is none of the set's. {hint}")


def _census(prompts: Iterable[Prompt]) -> str:
    """'it has animals (easy 2, hard 1), humans (medium 3)', which shows what could pass."""
    counts: dict[str, Counter] = {}
    for p in prompts:
        counts.setdefault(p.category, Counter())[p.difficulty] += 1
    each = (f"{c} ({', '.join(f'{d} {n[d]}' for d in DIFFICULTIES if n[d])})" for c, n in counts.items())
    return "it has " + ", ".join(each)
