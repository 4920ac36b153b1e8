"""Arguments that contradict each other before they are composed: Hydra would take one and drop the other silently."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields

from llm_dit.base.errors import ConfigError
from llm_dit.compose.groups import group_names
from llm_dit.config import Config, parameters

_GIVEN = re.compile(r"^(?P<sign>~|\+\+?)?(?P<key>[A-Za-z_][\w./@-]*)(?:=(?P<value>.*))?$", re.DOTALL)
_LISTS_OF_OPTIONS = ("metrics",)  # groups of which several options are taken together


def refuse_contradictions(arguments: Iterable[str], where: str = "") -> None:
    """Raise ConfigError for a key given twice, a deleted key, a list where one option goes, seed beside seeds.

    arguments: overrides as typed. where: begins the message, such as a study's file.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        match = _GIVEN.match(argument)
        if match is None:
            continue
        key, value = match["key"], match["value"]
        if key.startswith("hydra.") and key.endswith("._target_"):
            group = "/".join(key.split(".")[:-1])
            raise ConfigError(f"{where}{argument}: a class cannot be given by name; choose an option, {group}=NAME.")
        if match["sign"] == "~" and _is_ours(key):
            raise ConfigError(f"{where}{argument}: {_instead_of_deleting(key)}")
        if key in group_names() and key not in _LISTS_OF_OPTIONS and value and value.startswith("["):
            inside = value.strip("[]")
            raise ConfigError(
                f"{where}{argument}: {key} takes one option, not a list; to draw with each, -m {key}={inside}."
            )
        before = given.setdefault(key, argument)
        if before != argument:
            raise ConfigError(
                f"{where}{before} and {argument}: {key} is given twice; leave one out, or write "
                f"several values as one axis, -m {key}=A,B."
            )
    for alone in ("seed", "num_images"):
        if alone in given and "seeds" in given and given["seeds"].partition("=")[2] not in ("[]", ""):
            raise ConfigError(
                f"{where}{given[alone]} and {given['seeds']}: {alone} and seeds are both given; leave one out."
            )


def without_plus(argument: str) -> str:
    """An argument without the plus signs that Hydra wants for keys it does not know: ours are all known."""
    match = _GIVEN.match(argument)
    known = match and match["sign"] in ("+", "++") and match["key"] in {p.key for p in parameters()}
    return argument.lstrip("+") if known else argument


def _is_ours(key: str) -> bool:
    return key.split(".")[0] in {f.name for f in fields(Config)} or key in group_names()


def _instead_of_deleting(key: str) -> str:
    if "." not in key and key in group_names():
        return f"a group is chosen, not taken away; its options are {key}=NAME (docs/parameters.md)."
    return "a setting is not taken away; leave it out, and it keeps its default."
