"""lora=PATH:SCALE to a file, its content, and the writer that others must read with the right strength."""

from __future__ import annotations

import pytest
import torch
from diffusers import ZImagePipeline
from lora_files import MODULES, add_by_hand, make_pairs

from llm_dit.base.errors import ConfigError, ModelError
from llm_dit.config import parse_lora
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.weights import lora_file
from llm_dit.weights.lora_file import find_lora, read_lora, save_lora


@pytest.mark.parametrize(
    ("typed", "path", "scale"),
    [
        ("blob.safetensors", "blob.safetensors", 1.0),
        ("blob.safetensors:0.8", "blob.safetensors", 0.8),
        ("out/v1.5/blob.safetensors:-1", "out/v1.5/blob.safetensors", -1.0),
        (r"C:\loras\blob.safetensors", r"C:\loras\blob.safetensors", 1.0),
        (r"C:\loras\blob.safetensors:.5", r"C:\loras\blob.safetensors", 0.5),
        ("a:b.safetensors:1e-1", "a:b.safetensors", 0.1),
        ("blob, large.safetensors:2", "blob, large.safetensors", 2.0),
    ],
)
def test_a_number_behind_the_last_colon_is_the_scale(typed, path, scale):
    assert parse_lora(typed) == (path, scale)


@pytest.mark.parametrize("typed", ["", ":1", "a.safetensors:nan", "a.safetensors:-inf", "a.safetensors:", "a:1000"])
def test_what_is_no_path_and_scale_is_refused(typed):
    with pytest.raises(ConfigError, match="lora="):
        parse_lora(typed)


@pytest.mark.parametrize("alpha", [4.0, 1.5])
def test_diffusers_reads_what_is_saved_with_the_right_strength(tmp_path, transformer_inputs, alpha):
    pairs = make_pairs(tiny_transformer(), alpha=alpha, ranks={"layers.2.feed_forward.w1": 7, "cap_embedder.1": 1})
    path = save_lora(tmp_path / "new" / "blob.safetensors", pairs, {"steps": "100"})
    theirs, by_hand = tiny_transformer().eval(), tiny_transformer().eval()
    pipeline = ZImagePipeline(transformer=theirs, vae=None, text_encoder=None, tokenizer=None, scheduler=None)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    add_by_hand(by_hand, pairs)
    with torch.inference_mode():
        plain = tiny_transformer().eval()(*transformer_inputs)[0][0]
        wanted = by_hand(*transformer_inputs)[0][0]
        got = theirs(*transformer_inputs)[0][0]
    assert (wanted - plain).abs().max() > 0.1
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_saved_file_holds_the_same_update(tmp_path):
    pairs = make_pairs(tiny_transformer(), alpha=3.0)
    file = read_lora(save_lora(tmp_path / "blob.safetensors", pairs, {"steps": "100"}))
    assert file.header["steps"] == "100"
    assert file.settings["r"] == file.settings["lora_alpha"] == 4
    assert sorted(file.settings["target_modules"]) == sorted(MODULES)
    for module, (a, b, alpha) in pairs.items():
        assert torch.equal(file.tensors[f"transformer.{module}.lora_A.weight"], a)
        assert torch.allclose(file.tensors[f"transformer.{module}.lora_B.weight"], b * alpha / 4)
    assert len(file.tensors) == 2 * len(pairs)


def test_half_a_pair_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no LoRA"):
        save_lora(tmp_path / "x.safetensors", {"layers.0.attention.to_q": (torch.ones(4, 64), torch.ones(64, 3), 4.0)})
    with pytest.raises(ValueError, match="no modules"):
        save_lora(tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_a_shipped_file_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(lora_file, "SHIPPED", tmp_path)
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "blob.safetensors").touch()
    assert parse_lora("shipped:blob:0.8") == ("shipped:blob", 0.8)
    assert find_lora("shipped:blob") == tmp_path / "loras" / "blob.safetensors"
    with pytest.raises(ModelError, match=r"lora=shipped:blub: no such shipped LoRA. Did you mean 'blob'\?"):
        find_lora("shipped:blub")


def test_companion_files_of_a_mac_are_passed_over(tmp_path):
    save_lora(tmp_path / "blob.safetensors", make_pairs(tiny_transformer()))
    (tmp_path / "._blob.safetensors").write_bytes(b"\x00\x05\x16\x07")
    assert find_lora(str(tmp_path)) == tmp_path / "blob.safetensors"
    with pytest.raises(ModelError, match=r"Did you mean 'blob\.safetensors'"):
        find_lora(str(tmp_path / "bob.safetensors"))
