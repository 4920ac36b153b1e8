"""Scaled float8 files are read as weight x scale in float32; other quantizations are refused by name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lora_files import make_pairs
from safetensors.torch import save_file

from llm_dit.base.errors import ModelError
from llm_dit.config import ModelConfig
from llm_dit.families.z_image.load import load_transformer
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.weights.lora import load_lora

FP8 = torch.float8_e4m3fn
NAME = "layers.0.attention.to_q"


def bytes_of(value) -> torch.Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


SCALES = {"whole": torch.tensor(0.03), "rows": torch.rand(64, 1) + 0.1, "stretches": torch.rand(64, 4, 1) + 0.1}


def scaled(weight, scale):
    return (
        weight.float().reshape(64, scale.shape[1] if scale.ndim == 3 else 1, -1)
        * scale.reshape(scale.shape if scale.ndim == 3 else (-1, 1, 1))
    ).reshape(64, 64)


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("names", ["scale_weight", "weight_scale"])
def test_a_transformer_file_is_read(tiny_folder, tmp_path, cpu, kind, names):
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    shutil.copy(tiny_folder / "transformer" / "config.json", tmp_path / "model" / "transformer")
    state = {k: v.clone() for k, v in tiny_transformer().state_dict().items()}
    state[f"{NAME}.weight"] = (state[f"{NAME}.weight"] * 20).to(FP8)
    expected = scaled(state[f"{NAME}.weight"], SCALES[kind])
    beside = {f"{NAME}.{names}": SCALES[kind]}
    if names == "scale_weight":
        beside |= {"scaled_fp8": torch.ones(2).to(FP8), f"{NAME}.scale_input": torch.tensor(1.0)}
    else:
        beside |= {f"{NAME}.comfy_quant": bytes_of({"format": "float8_e4m3fn"}), f"{NAME}.input_scale": torch.ones(1)}
    tensors = {f"model.diffusion_model.{k}": v for k, v in (state | beside).items()}
    save_file(tensors, tmp_path / "z.safetensors")
    loaded = load_transformer(
        ModelConfig(path=str(tmp_path / "model"), transformer_file=str(tmp_path / "z.safetensors")), cpu
    )
    assert torch.equal(loaded.layers[0].attention.to_q.weight, expected)
    assert torch.equal(loaded.layers[0].attention.to_k.weight, state["layers.0.attention.to_k.weight"])


def test_a_lora_is_read(tmp_path):
    (a, b, _), base = make_pairs(tiny_transformer())[NAME], f"diffusion_model.{NAME}"
    tensors = {f"{base}.lora_A.weight": (a * 9).to(FP8), f"{base}.lora_B.weight": (b * 9).to(FP8)}
    scales = {f"{base}.lora_A.scale_weight": torch.tensor(0.1), f"{base}.lora_B.scale_weight": torch.tensor(0.2)}
    save_file(tensors | scales | {"scaled_fp8": torch.ones(2).to(FP8)}, tmp_path / "x.safetensors")
    update = load_lora(str(tmp_path / "x.safetensors"), tiny_transformer()).updates[NAME]
    assert torch.equal(update.a, (a * 9).to(FP8).float() * 0.1)
    assert torch.equal(update.b, (b * 9).to(FP8).float() * 0.2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({f"{NAME}.comfy_quant": bytes_of({"format": "nvfp4"})}, "is quantized as nvfp4, which is not read"),
        ({f"{NAME}.comfy_quant": bytes_of({"format": "float8_e4m3fn", "rotated": 1})}, "float8_e4m3fn with rotated"),
        ({f"{NAME}.comfy_quant": torch.ones(3, dtype=torch.uint8)}, "its quantization cannot be read"),
        ({f"{NAME}.lora_A.scale_weight": torch.ones(3, 5)}, "does not fit a weight of"),
        ({f"{NAME}.lora_C.scale_weight": torch.ones(1)}, "is the scale of '.*lora_C.weight', which is not in the file"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, more, message):
    tensors = {f"{NAME}.lora_A.weight": torch.ones(4, 64), f"{NAME}.lora_B.weight": torch.ones(64, 4)}
    save_file(tensors | more, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=message):
        load_lora(str(tmp_path / "x.safetensors"), tiny_transformer())
