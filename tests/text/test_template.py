"""Prompt templates: the shipped ones load, the caller wins over them, mistakes in a file are named."""

from __future__ import annotations

import pytest

from llm_dit.base.errors import PromptError
from llm_dit.conditioning.encode import settle_prompt
from llm_dit.prompts.templates import list_templates, load_template, parse_template


def test_every_shipped_template_loads_and_says_what_it_is():
    templates = list_templates()
    assert len(templates) >= 6
    for template in templates:
        assert template.description
        assert template.category
        assert template.system or template.thinking or template.force_think_block


def test_a_template_fills_the_empty_parts_and_the_caller_wins(tiny):
    body = load_template("photograph").system
    assert settle_prompt(tiny("prompt.template=photograph")).prompt.system == body
    assert settle_prompt(tiny("prompt.template=photograph", "prompt.system=mine")).prompt.system == "mine"


def test_a_template_does_not_switch_off_a_think_block_that_was_asked_for(tiny):
    config = tiny("prompt.template=photograph", "prompt.force_think_block=true")
    assert settle_prompt(config).prompt.force_think_block
    assert settle_prompt(tiny("prompt.template=think_briefly")).prompt.force_think_block


def test_hyphens_in_the_body_do_not_end_the_head():
    text = "---\ndescription: d\n---\nbody\n---\nmore\n"
    assert parse_template("x", text, "x.md").system == "body\n---\nmore"
    assert parse_template("x", "no head\n---\nat all", "x.md").system == "no head\n---\nat all"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\ndescripton: d\n---\nb", "Did you mean 'description'"),
        ("---\nforce_think_block: 1\n---\nb", "must be true or false"),
        ("---\n- a\n---\nb", "must be keys and values"),
        ("---\na: [\n---\nb", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_template_is_named(text, message):
    with pytest.raises(PromptError, match=message):
        parse_template("x", text, "x.md")


def test_an_unknown_template_names_the_nearest():
    with pytest.raises(PromptError, match="Did you mean 'photograph'"):
        load_template("photgraph")
