"""Signs of AUTOMATIC1111's prompts are told as plain text, once, with what does the same here."""

from __future__ import annotations

import pytest

from llm_dit.render.draw import render
from llm_dit.text.foreign import foreign_signs


@pytest.mark.parametrize(
    ("text", "sign", "here"),
    [
        ("a fox <lora:ink:0.8>", "<lora:ink:0.8>", "lora=PATH:SCALE"),
        ("a fox <lyco:ink:1>", "<lyco:ink:1>", "lora=PATH:SCALE"),
        ("a fox <hypernet:x:1>", "<hypernet:x:1>", "lora=PATH:SCALE"),
        ("a [fox:cat:0.5]", "[fox:cat:0.5]", "mix=switch"),
        ("a [fox::0.5]", "[fox::0.5]", "mix=switch"),
        ("a [fox|cat]", "[fox|cat]", "mix.text"),
        ("a [small] fox", "[small]", "emphasis"),
        ("a fox BREAK a cat", "BREAK", "long_prompt"),
        ("a fox AND a cat", "AND", "mix.text"),
    ],
)
def test_each_sign_is_named_with_what_does_it_here(text, sign, here):
    (line,) = foreign_signs(text)
    assert f"{sign!r} is read as plain text; here " in line
    assert here in line


@pytest.mark.parametrize(
    "text", ["", "a fox and a cat", "a sign that reads SALT AND PEPPER", "(red:1.2) fox", "a < b", "TIME FOR A BREAK"]
)
def test_plain_text_is_not_warned_about(text):
    assert foreign_signs(text) == []


def test_a_picture_tells_it_in_one_line(tiny):
    (picture,) = render(tiny("sampler.steps=1", prompt="a [fox:cat:0.5] <lora:x:0.8>"))
    told = [line for line in picture.record["warnings"] if "read as plain text" in line]
    assert len(told) == 1
    assert "<lora:x:0.8>" in told[0]
    assert "[fox:cat:0.5]" in told[0]
