"""YAML that a user wrote, checked before it is built: its nesting and what its aliases stand for.

PyYAML's C loader crashes the process on deep nesting, and a few lines of aliases can stand for 10^9 values.
"""

from __future__ import annotations

from typing import Any

from llm_dit.base.errors import LabError, one_line

MAX_DEPTH = 100
MAX_NODES = 1_000_000


def parse_yaml(text: str, where: str, error: type[LabError]) -> Any:
    """What yaml.safe_load gives. Raises `error`, one line, for what is not YAML or is nested too deeply."""
    import yaml

    check_yaml(text, where, error)
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as problem:  # ValueError: 2024-13-45 looks like a date and is none
        raise error(f"{where}: not valid YAML ({one_line(problem, 160)}).") from problem


def check_yaml(text: str, where: str, error: type[LabError]) -> None:
    """Raises `error` for text that is not YAML, nested deeper than 100, or above a million values with its aliases."""
    import yaml

    counts, names, anchored = [0], [""], {}
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                counts.append(1)
                names.append(event.anchor)
                if len(counts) > MAX_DEPTH:
                    raise error(
                        f"{where}, line {event.start_mark.line + 1}: nested too deeply; at most {MAX_DEPTH} levels."
                    )
            elif isinstance(event, yaml.CollectionEndEvent):
                count, name = counts.pop(), names.pop()
                if name:
                    anchored[name] = count
                counts[-1] += count
            elif isinstance(event, yaml.AliasEvent):
                counts[-1] += anchored.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                counts[-1] += 1
            if counts[-1] > MAX_NODES:
                raise error(f"{where}: more than {MAX_NODES:,} values, counting those that its aliases stand for.")
    except (yaml.YAMLError, ValueError) as problem:
        raise error(f"{where}: not valid YAML ({one_line(problem, 160)}).") from problem
