"""data=PATH on the command line."""

from __future__ import annotations

import pytest

from llm_dit.base.errors import ConfigError
from llm_dit.compose import compose


@pytest.mark.parametrize("path", ["path/to/captions.jsonl", "a, b/[c].csv", "shards/*.tar", "~/pictures", "with space"])
def test_a_path_as_typed(path):
    assert compose([f"data={path}"]).data.path == path


def test_the_command_of_the_documentation_composes():
    config = compose(["model=z_image_turbo", "data=path/to/captions.jsonl", "data.size=512", "data.flip=true"])
    assert (config.data.path, config.data.size, config.data.flip) == ("path/to/captions.jsonl", 512, True)


def test_none_is_the_option_that_has_no_data():
    assert compose([]).data.path is None
    assert compose(["data=none"]).data.path is None
    assert compose(["data.path=none"]).data.path == "none"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.bad_rows=ignore", r"data\.bad_rows=.*skip"),
        ("data.size=100", "not a multiple of 16; the nearest are 96 and 112"),
        ("data.repeat=0", "out of range"),
        ("data.posterior=mean", "mode"),
        ("data.cache_dtype=float8", "Did you mean"),
        ("data.sizes=3", r"Did you mean 'data\.size'"),
    ],
)
def test_a_wrong_value_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])
