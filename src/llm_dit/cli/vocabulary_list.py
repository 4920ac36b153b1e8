"""A vocabulary as lines to read: all of it, or what a text finds in it."""

from __future__ import annotations

from llm_dit.prompts.vocabulary import Vocabulary, search


def listed(v: Vocabulary) -> list[str]:
    """All of it, a line for each kind of thing, then examples."""
    lines = [f"{len(v.all_subjects)} subjects"]
    lines += [f"  {category} ({len(members)}): {', '.join(members)}" for category, members in v.subjects.items()]
    lines += [f"styles: {', '.join(v.styles)}", f"backgrounds: {', '.join(v.backgrounds)}"]
    sizes = [f"{size} ({', '.join(words)})" for size, words in v.sizes.items()]
    lines += [f"sizes: {'; '.join(sizes)}"]
    lines += ["relations of a subject A to a subject B"]
    lines += [f"  {relation}: {', '.join(wordings)}" for relation, wordings in v.relations.items()]
    lines += ["numbers of a subject X"]
    lines += [f"  {number}: {', '.join(wordings)}" for number, wordings in v.numbers.items()]
    lines += ["examples", *(f"  {example}" for example in v.examples)]
    return [*lines, 'search it with: task=vocabulary "fruit"']


def listed_matches(v: Vocabulary, text: str) -> list[str]:
    """The subjects that a text finds, by category, and the styles, backgrounds, sizes, relations and numbers in it."""
    found = search(v, text)
    lines = []
    for category, members in v.subjects.items():
        matches = [subject for subject in members if subject in found]
        lines += [f"{category}: {', '.join(matches)}"] if matches else []
    words = [word for word in text.lower().split() if len(word) > 2]
    kinds = {
        "styles": v.styles,
        "backgrounds": v.backgrounds,
        "sizes": [w for words in v.sizes.values() for w in words],
    }
    kinds |= {"relations": list(v.relations), "numbers": list(v.numbers)}
    for kind, names in kinds.items():
        matches = (
            names
            if text.lower().strip() == kind
            else [name for name in names if any(part.startswith(word) for word in words for part in name.split())]
        )
        lines += [f"{kind}: {', '.join(matches)}"] if matches else []
    return lines or [f"nothing like '{text}'; task=vocabulary lists all."]
