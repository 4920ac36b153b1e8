"""How errors are told."""

from llm_dit.base.errors import ConfigError, one_line, told


def test_a_bug_is_told_with_its_type_and_a_mistake_without():
    assert told(ValueError("a\nb")) == "ValueError: a b"
    assert told(ConfigError("steps: too few")) == "steps: too few"
    assert told(ValueError()) == one_line(ValueError()) == "ValueError"


def test_a_message_is_cut():
    assert one_line(ValueError("x" * 999)) == "x" * 197 + "..."
    assert len(told(ValueError("x" * 999), 200)) < 220
