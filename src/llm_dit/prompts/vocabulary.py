"""What a model was taught, where that is a list: its subjects, styles, backgrounds, and the words around them.

A vocabulary is a YAML file in prompts/vocabulary/ (its fields are Vocabulary's); model.vocabulary names it. Prompts are
read by rules that know its words and no grammar.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

from llm_dit.base.paths import vocabulary_dir
from llm_dit.config.model import check_vocabulary

MANY = "four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|several|[4-9]|[1-9][0-9]+"
NEAREST = 4  # known words that a message names at most
UNKNOWN = 5  # and unknown ones


@dataclass(frozen=True)
class Vocabulary:
    """The content of a file. X, A and B stand for subjects.

    subjects: by category. plurals: of those that can be counted. spellings: other spelling -> the taught one. words:
    further ones that change nothing. related: words that were not taught -> what is nearest in meaning. loras: words
    that a LoRA teaches -> the LoRA.
    """

    version: int
    examples: list[str]
    subjects: dict[str, list[str]]
    plurals: dict[str, str]
    styles: list[str]
    backgrounds: list[str]
    sizes: dict[str, list[str]]
    relations: dict[str, list[str]]
    numbers: dict[str, list[str]]
    spellings: dict[str, str]
    words: list[str]
    related: dict[str, list[str]]
    loras: dict[str, str]

    @property
    def all_subjects(self) -> list[str]:
        """The subjects of all categories, in order."""
        return [subject for members in self.subjects.values() for subject in members]


@dataclass(frozen=True)
class Reading:
    """What of a text was taught. unknown: words that were not, in order; near: what comes nearest to them."""

    subjects: tuple[str, ...]
    unknown: tuple[str, ...]
    near: tuple[str, ...]


def load_vocabulary(name: str) -> Vocabulary:
    """A vocabulary by its name. Raises ConfigError for one that does not ship."""
    import yaml

    check_vocabulary(name)
    text = (vocabulary_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return Vocabulary(**{field.name: values[field.name] for field in fields(Vocabulary)})


class Reader:
    """Reads texts by a vocabulary. also: further words that count as known."""

    def __init__(self, vocabulary: Vocabulary, also: Collection[str] = ()):
        v = self.vocabulary = vocabulary
        forms = {subject: subject for subject in v.all_subjects} | {many: one for one, many in v.plurals.items()}
        self._forms = forms
        self._subject = re.compile(_any_of(forms))
        self._many = re.compile(rf"(?<![\w.])({MANY}) (?:[\w-]+ ){{0,2}}?{_any_of(v.plurals.values())}")
        self._aspects = [*v.styles, *v.backgrounds, *(word for words in v.sizes.values() for word in words)]
        self._known = {_plain(word) for word in (*v.words, *v.spellings, *self._aspects, *also)}

    def read(self, text: str) -> Reading:
        """The subjects of a text, and its words that were not taught. Tags such as <lora:x:1> are no words."""
        text = _plain(re.sub(r"<[^<>]*>", " ", text))
        subjects = tuple(dict.fromkeys(self._forms[m[0].replace("-", " ") if m[0] not in self._forms else m[0]]
                                       for m in self._subject.finditer(text)))  # fmt: skip
        too_many = [match[1] for match in self._many.finditer(text)]
        rest = _words(self._subject.sub(" ", text))
        unknown = tuple(dict.fromkeys([*too_many, *(word for word in rest if not self._knows(word))]))
        asked = unknown if subjects else (*unknown, *(word for word in rest if word in self.vocabulary.related))
        near = [self.near(word) for word in dict.fromkeys(asked) if word not in self.vocabulary.loras]
        # In turn, so that the first word does not take all places.
        mixed = [group[i] for i in range(NEAREST) for group in near if i < len(group)]
        return Reading(subjects, unknown, tuple(dict.fromkeys(mixed))[:NEAREST])

    def _knows(self, word: str) -> bool:
        return word in self._known or all(part in self._known for part in word.split("-"))

    def near(self, word: str) -> list[str]:
        """What was taught and comes nearest to a word: by meaning, by a part of a name, by letters."""
        v, names = self.vocabulary, [*self.vocabulary.all_subjects, *self._aspects]
        if re.fullmatch(MANY, word):
            return list(v.numbers)
        for one in _singulars(word):
            if one in v.related:
                return v.related[one]
            parts = [name for name in names if one in name.split()]
            if parts:
                return parts
        parts = [part for name in names for part in name.split()]
        close = difflib.get_close_matches(word, dict.fromkeys([*names, *parts, *v.related]), n=2, cutoff=0.8)
        return [name for one in close for name in ([one] if one in names else self.near(one))]


def search(vocabulary: Vocabulary, text: str) -> list[str]:
    """The subjects that a text names, as part of a name, as a category, by meaning or nearly; in the file's order.

    A single word also finds what begins with it, as "fru" does fruit.
    """
    reader, found = Reader(vocabulary), set(Reader(vocabulary).read(text).subjects)
    words = [word for word in _words(_plain(text)) if word in vocabulary.related or word not in vocabulary.words]
    for word in words:
        found |= {
            s for category, members in vocabulary.subjects.items() for s in members if word in s or word in category
        }
        begun = [near for key, near in vocabulary.related.items() if len(word) > 2 and key.startswith(word)]
        found |= {name for near in begun for name in near}
    if not found:
        found = {name for word in words for name in reader.near(word)}
    return [subject for subject in vocabulary.all_subjects if subject in found]


def _plain(text: str) -> str:
    """Lower case, single spaces, straight apostrophes, without the genitive's s."""
    text = re.sub(r"[\s_]+", " ", text.lower().replace("\u2019", "'")).strip()
    return re.sub(r"'s\b", "", text)


def _words(text: str) -> list[str]:
    """The words that hold a letter."""
    return [word for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text) if re.search(r"[^\W\d_]", word)]


def _singulars(word: str) -> list[str]:
    """The word, and what it may be the plural of."""
    ends = (("ies", "y"), ("es", ""), ("s", ""))
    return [
        word,
        *(word.removesuffix(end) + new for end, new in ends if word.endswith(end) and len(word) > len(end) + 1),
    ]


def _any_of(words: Iterable[str]) -> str:
    """A pattern: any of the words, the longest first, not inside another word; blanks may be hyphens."""
    joined = "|".join(re.escape(word).replace(r"\ ", "[ -]") for word in sorted(words, key=len, reverse=True))
    return rf"(?<![\w-])(?:{joined})(?!\w)"
