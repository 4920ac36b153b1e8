"""What a prompt of version 1 asks for, from its elements or from its text: the words that judge_net.scene_scores takes.

Elements give subjects in the order of the sentence, relation, count, size, style and colour. A text is read with
simple rules that know the vocabulary and no grammar: enough for every prompt of the training (a test says so), and
where a prompt is not clear the part is None, which means: asked for, but nobody can say what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from domain import OPPOSITE, STYLES, SUBJECTS, UNCOUNTED, plural
from phrasings import SIZE_WORDS
from vocabulary import COLOURS

from llm_dit.metrics.nano_judge import Vocabulary

SINGULAR = {plural(s): s for s in SUBJECTS if s not in UNCOUNTED}
FORMS = {**{s: s for s in SUBJECTS}, **SINGULAR}
ANY = re.compile(rf"(?<![\w-])({'|'.join(re.escape(f) for f in sorted(FORMS, key=len, reverse=True))})(?!\w)")
NUMBERS = {"one": 1, "single": 1, "1": 1, "two": 2, "2": 2, "pair": 2, "twosome": 2, "three": 3, "3": 3, "trio": 3}
SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
DIRECTIONS = {
    "left of": r"\bleft\b",
    "right of": r"\bright\b",
    "above": r"\b(?:above|over|on top|top|higher)\b",
    "below": r"\b(?:below|under|underneath|beneath|bottom|lower)\b",
}
# "with B to its right": the words after B say where B lies from A.
TURNED = re.compile(r"^ (?:(?:to|on|at) its (left|right)|(above|over|below|under|beneath) it)\b")
ELEMENTS = {"color": "colour", "subject": "subjects"}
WORDS = Vocabulary({"subject": list(SUBJECTS), "style": list(STYLES), "colour": list(COLOURS)})


def asked_in_elements(elements: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """(tag, value) pairs -> {subjects: [...], relation, count, size, style, colour}, those that are there."""
    result: dict[str, Any] = {}
    for tag, value in elements:
        key, word = ELEMENTS.get(tag, tag), " ".join(value.lower().split())
        if key == "subjects":
            result.setdefault(key, []).append(word if word in SUBJECTS else None)
        elif key == "count":
            result[key] = NUMBERS.get(word)
        elif key == "relation":
            result[key] = word if word in DIRECTIONS else None
        elif key == "size":
            result[key] = SIZES.get(word)
        elif key in ("style", "colour"):
            word = "grey" if word == "gray" else word
            result[key] = word if word in (STYLES if key == "style" else COLOURS) else None
    return result


def asked_in_text(prompt: str) -> dict[str, Any]:
    """The same, read from a text."""
    text = re.sub(r"\s+", " ", prompt.lower())
    found = list(ANY.finditer(text))
    named = list(dict.fromkeys(FORMS[m[1]] for m in found))
    result: dict[str, Any] = {}
    if named:
        result["subjects"] = named if len(named) <= 2 else [None]
    if len(named) == 2:
        first, second = found[0], next(m for m in found if FORMS[m[1]] != FORMS[found[0][1]])
        result["relation"] = relation_of(text[first.end() : second.start()], text[second.end() :])
    elif len(named) == 1:
        before = text[: found[0].start()].split()
        numbers = [NUMBERS[w] for w in before[-4:] if w in NUMBERS]
        if numbers:
            result["count"] = numbers[-1]
        elif found[0][1] in SINGULAR and found[0][1] not in SUBJECTS:
            result["count"] = None  # several, but how many?
        sizes = {SIZES[w] for w in before[-2:] if w in SIZES}
        if sizes:
            result["size"] = sizes.pop() if len(sizes) == 1 else None
    whole = WORDS.find(ANY.sub(lambda m: FORMS[m[1]], text))
    for kind, words in (("style", list(STYLES)), ("colour", list(COLOURS))):
        if kind in whole:
            result[kind] = None if whole[kind] is None else words[whole[kind]]
    return result


def relation_of(between: str, after: str) -> str | None:
    """The relation of the first subject to the second, from the words between them and after the second."""
    turned = TURNED.match(after)
    if re.search(r"\bwith\b", between) and turned:
        word = next(filter(None, turned.groups()))
        return next(OPPOSITE[r] for r, pattern in DIRECTIONS.items() if re.search(pattern, word))
    said = [r for r, pattern in DIRECTIONS.items() if re.search(pattern, between)]
    return said[0] if len(said) == 1 else None
