"""Overrides to a checked Config: the one way in for the command line, the API, notebooks and tests.

Hydra composes conf/. Bare arguments become the prompt (arguments.py), the values that come out are checked (values.py,
and each group's own check() in config/), and an error is one line (messages.py). Below this package nothing knows
Hydra or sees a DictConfig. Nothing here imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from llm_dit.base.errors import ConfigError, short
from llm_dit.compose.arguments import changed_keys, in_list, prepare_overrides, quote
from llm_dit.compose.groups import conf_dir
from llm_dit.compose.messages import HYDRA_ERRORS, explain, type_name
from llm_dit.compose.values import check
from llm_dit.config import Config

__all__ = [
    "HYDRA_ERRORS",
    "changed_keys",
    "check",
    "compose",
    "conf_dir",
    "explain",
    "in_list",
    "prepare_overrides",
    "quote",
    "type_name",
]

ConfigStore.instance().store(name="base_config", node=Config)
_LOCK = threading.Lock()


def compose(overrides: Sequence[str] = (), *, prompt: str | None = None, config_dir: Path | None = None) -> Config:
    """A checked Config from Hydra overrides, exactly as the command line would build it.

    overrides: 'key=value' strings; a string without '=' is the prompt. prompt: the prompt as it is, with no
    quoting rules. config_dir: a folder of config groups other than the shipped one. Raises ConfigError.
    """
    listed = isinstance(overrides, Sequence) and not isinstance(overrides, str)
    if not listed or not all(isinstance(o, str) for o in overrides):
        raise ConfigError("compose takes a list of strings such as ['seed=1', 'model=tiny'].")
    if prompt is not None and not isinstance(prompt, str):
        raise ConfigError(f"prompt={short(prompt)}: must be text.")
    overrides = prepare_overrides([*overrides, *([] if prompt is None else ["--", prompt])])
    # Hydra keeps one global instance; an application around us may be using it.
    with _LOCK:
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(config_dir or conf_dir()), version_base="1.3"):
                composed = hydra_compose("config", overrides=list(overrides))
        except HYDRA_ERRORS as error:
            raise explain(error) from error
        finally:
            GlobalHydra.instance().hydra = outer
    return check(composed)
