"""The fast GGUF reader against transformers' own slow one, and against broken files."""

from __future__ import annotations

import hashlib

import pytest

from llm_dit.base.errors import ModelError
from llm_dit.encoders.gguf import load_gguf_llm
from llm_dit.encoders.smollm2 import SHA256, smollm2_gguf_path

TEXTS = [
    "a red apple, 3d style, blue background",
    "<|im_start|>user\nA fox, sleeping.<|im_end|>\n<|im_start|>assistant\n",
    "Über-naïve café — 苹果, яблоко, 'don't'",
    "year 2026, 128px",
    "",
]


@pytest.fixture(scope="module")
def path():
    return smollm2_gguf_path()


@pytest.fixture(scope="module")
def loaded(path):
    return load_gguf_llm(path)


def test_file_is_the_pinned_one(path):
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def test_equals_transformers(path, loaded):
    """Parameters and hidden states equal bit for bit; token ids equal on ordinary strings (20 s: the other reader)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = loaded
    other = AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    theirs = dict(other.named_parameters())
    ours = dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
    ids = torch.tensor([tokenizer(TEXTS[1]).input_ids])
    with torch.no_grad():
        a = model(input_ids=ids, output_hidden_states=True).hidden_states
        b = other(input_ids=ids, output_hidden_states=True).hidden_states
    assert len(a) == len(b) == 31
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    their_tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in TEXTS:
        assert tokenizer(text).input_ids == their_tokenizer(text).input_ids, text


def test_tokenizer_round_trip_and_template(loaded):
    _, tokenizer = loaded
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_start|>").input_ids == [1]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    message = [{"role": "system", "content": "S"}, {"role": "user", "content": "A red cat"}]
    shown = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert shown == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA red cat<|im_end|>\n<|im_start|>assistant\n"


def test_digits_stand_alone(loaded):
    _, tokenizer = loaded
    assert [tokenizer.decode([i]) for i in tokenizer("2026").input_ids] == ["2", "0", "2", "6"]


@pytest.mark.parametrize("keep", [0, 3, 100, 1_000_000, 50_000_000])
def test_truncated_file(path, tmp_path, keep):
    with path.open("rb") as file:
        (tmp_path / "cut.gguf").write_bytes(file.read(keep))
    with pytest.raises(ModelError, match=r"cut\.gguf") as caught:
        load_gguf_llm(tmp_path / "cut.gguf")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"no\.gguf"):
        load_gguf_llm(tmp_path / "no.gguf")


def test_not_gguf(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(ModelError, match="not a GGUF file"):
        load_gguf_llm(tmp_path / "x.gguf")


def test_missing_tensor_is_named(path, tmp_path):
    """Rename one tensor in a copy: the reader must say which name it does not know."""
    data = path.read_bytes().replace(b"blk.3.ffn_gate.weight", b"blk.3.ffn_gaze.weight")
    (tmp_path / "renamed.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=r"blk\.3\.ffn_gaze\.weight"):
        load_gguf_llm(tmp_path / "renamed.gguf")
