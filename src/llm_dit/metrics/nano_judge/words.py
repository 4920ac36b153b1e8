"""What a prompt asks of the judge, from its elements or, where it has none, from its text.

What is asked is a dict of KINDS: subject (a tuple of one or two, in the order of the sentence), style, colour (of the
background), relation (of the first subject to the second), count and size (of a single subject). A kind that is not
asked for is left out. None means: asked for, but not in the judge's words, not clearly, or nothing that it can see.

A text is read by rules that know the judge's words and no grammar: enough for every prompt of nano's training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_dit.metrics.nano_judge.scene import OPPOSITE, RELATIONS

LABELLED = ("subject", "style", "colour")  # whose words are the network's choices
KINDS = (*LABELLED, "relation", "count", "size")
SIZE_WORDS = {"small": ["small", "tiny", "little"], "large": ["large", "big", "huge"]}
SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
NUMBERS = {
    **{"one": 1, "single": 1, "1": 1, "two": 2, "2": 2, "pair": 2, "twosome": 2, "three": 3, "3": 3, "trio": 3},
    **dict.fromkeys(("several", "many", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen")),
    **dict.fromkeys("456789"),
}
DIRECTIONS = {
    "left of": r"\bleft\b",
    "right of": r"\bright\b(?! (?:next|beside))",
    "above": r"\b(?:above|over|top|higher)\b",
    "below": r"\b(?:below|under|underneath|beneath|bottom|lower)\b",
}
TOGETHER = re.compile(r"\W*(?:and|with|plus)\b|\s*[,.;&+|]")  # two subjects, and no word of how they lie
CLAUSE_END = re.compile(r"[,.;:|!?]")

Asked = dict[str, Any]


class Vocabulary:
    """The words that the judge knows, and what a prompt asks for in them."""

    def __init__(self, labels: Mapping[str, Sequence[str]], plurals: Mapping[str, str]):
        """labels: the words of each of LABELLED, in the order of the network's answers. plurals: subject -> its plural,
        for those that can be counted."""
        self.index = {kind: {word: i for i, word in enumerate(labels[kind])} for kind in LABELLED}
        self.plurals = dict(plurals)
        self._forms = {many: one for one, many in plurals.items()} | {one: one for one in labels["subject"]}
        subject, style, colour = (_any_of(words) for words in (self._forms, labels["style"], labels["colour"]))
        self._subject = re.compile(f"({subject})")
        # A colour or size right before the subject is its own.
        self._own = re.compile(f"(?:(?:{colour}|{_any_of(SIZES)}) )*{subject}")
        # Where a style or colour is surely the picture's, the surest first; and at last anywhere.
        self._surest = {
            "style": [
                re.compile(rf"({style})[ -](?:style|picture|icon|illustration|drawing|image|render|design|art|look)\b"),
                re.compile(rf"\bstyle:? (?:is |of )?({style})"),
                re.compile(f"({style})"),
            ],
            "colour": [
                re.compile(rf"({colour})[ -]back(?:ground|drop)\b"),
                re.compile(rf"\bback(?:ground|drop):?(?: (?:is|in|of|to be))? ({colour})"),
                re.compile(rf"\b(?:on|against|in front of|over) (?:an? |the )?(?:plain |solid |flat )?({colour})"),
                re.compile(f"({colour})"),
            ],
        }

    def asked(self, prompt: str, elements: Iterable[tuple[str, str]] = ()) -> Asked:
        """What a prompt asks for: by its elements where it has any, else by its text."""
        elements = tuple(elements)
        return _possible(self._in_elements(elements) if elements else self._in_text(_plain(prompt)))

    def numbers(self, asked: Asked) -> Asked:
        """The same with the network's numbers for subjects, style and colour."""
        result = dict(asked)
        for kind in LABELLED:
            if result.get(kind) is not None:
                number = self.index[kind]
                result[kind] = tuple(map(number.get, result[kind])) if kind == "subject" else number[result[kind]]
        return result

    def _in_elements(self, elements: tuple[tuple[str, str], ...]) -> Asked:
        said: dict[str, list[str]] = {}
        for tag, value in elements:
            said.setdefault("colour" if tag == "color" else tag, []).append(_plain(value))
        known = {kind: {word: word for word in self.index[kind]} for kind in LABELLED}
        known |= {"relation": {word: word for word in RELATIONS}, "count": NUMBERS, "size": SIZES}
        result: Asked = {}
        for kind in KINDS:
            found = dict.fromkeys(known[kind].get(word) for word in said.get(kind, ()))
            if found:
                clear = len(found) <= (2 if kind == "subject" else 1) and None not in found
                result[kind] = None if not clear else tuple(found) if kind == "subject" else next(iter(found))
        return result

    def _in_text(self, text: str) -> Asked:
        mentions = list(self._subject.finditer(text))
        subjects = tuple(dict.fromkeys(self._forms[mention[1]] for mention in mentions))
        result: Asked = {}
        if subjects:
            result["subject"] = subjects if len(subjects) <= 2 else None
            ends = [0, *(mention.end() for mention in mentions)]
            for subject in subjects:
                i = next(i for i, mention in enumerate(mentions) if self._forms[mention[1]] == subject)
                result |= self._amount(subject, mentions[i][1], text[ends[i] : mentions[i].start()].split())
        if len(subjects) == 2:
            first, second = mentions[0], next(m for m in mentions if self._forms[m[1]] == subjects[1])
            result |= relation_in(text[: first.start()], text[first.end() : second.start()], text[second.end() :])
        rest = self._own.sub(" | ", text)
        for kind, patterns in self._surest.items():
            found = next(filter(None, ({match[1] for match in p.finditer(rest)} for p in patterns)), None)
            if found:
                result[kind] = found.pop() if len(found) == 1 else None
        return result

    def _amount(self, subject: str, form: str, before: list[str]) -> Asked:
        """Count and size of one subject, from its form and the words before it."""
        result: Asked = {}
        countable = subject in self.plurals
        said = [word for word in before[-4:] if word in NUMBERS and (countable or word != "pair")]
        if said:
            result["count"] = NUMBERS[said[-1]]
        elif form not in self.index["subject"]:
            result["count"] = None  # several, but how many?
        sizes = {SIZES[word] for word in before[-2:] if word in SIZES}
        if sizes:
            result["size"] = sizes.pop() if len(sizes) == 1 else None
        return result


def relation_in(before: str, between: str, after: str) -> Asked:
    """The relation of the first of two subjects to the second, from the words around them.

    What is said between them is about the first, what follows the second (in its clause) about the second: "A on the
    left and B on the right", "A with B to its right". Anything else that tells a direction is not understood.
    """
    before, (clause, *rest) = CLAUSE_END.split(before)[-1], CLAUSE_END.split(after, maxsplit=1)
    said = directions(between) | {OPPOSITE[relation] for relation in directions(clause)}
    if directions(before) or any(map(directions, rest)) or len(said) > 1:
        return {"relation": None}
    if said:
        return {"relation": said.pop()}
    return {} if TOGETHER.match(between) else {"relation": None}


def directions(text: str) -> set[str]:
    """The relations that words of a text may tell of."""
    return {relation for relation, pattern in DIRECTIONS.items() if re.search(pattern, text)}


def _possible(asked: Asked) -> Asked:
    """Without what the judge cannot see: a relation of other than two, count or size of one of two, size of several."""
    subjects = asked.get("subject") or ()
    alone = len(subjects) == 1
    can = {"relation": len(subjects) == 2, "count": alone, "size": alone and asked.get("count", 1) == 1}
    return {kind: value if can.get(kind, True) else None for kind, value in asked.items()}


def _plain(text: str) -> str:
    """Lower case, single spaces, grey and 3d as in the vocabulary."""
    text = re.sub(r"[\s_]+", " ", text.lower()).strip()
    return re.sub(r"\bgray\b", "grey", re.sub(r"\b3-d\b", "3d", text))


def _any_of(words: Iterable[str]) -> str:
    """A pattern: any of the words, the longest first, not inside another word."""
    return rf"(?<![\w-])(?:{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})(?!\w)"
