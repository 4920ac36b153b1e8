"""A fingerprint follows the weights: not their container or dtype, but any training."""

from __future__ import annotations

import pytest
import torch

from llm_dit.config import ModelConfig
from llm_dit.families.z_image.load import load_transformer, load_vae
from llm_dit.families.z_image.tiny import tiny_transformer, tiny_vae
from llm_dit.weights.fingerprint import fingerprint
from llm_dit.weights.place import Placement


def test_equal_for_modules_made_in_memory_and_loaded_from_files(tiny_folder, cpu):
    model = ModelConfig(path=str(tiny_folder))
    assert load_transformer(model, cpu).weights_fingerprint == fingerprint(tiny_transformer())
    assert load_vae(model, cpu).weights_fingerprint == fingerprint(tiny_vae())


def test_equal_in_float32_and_bfloat16(tiny_folder):
    model, half = ModelConfig(path=str(tiny_folder)), Placement("cpu", "bfloat16")
    assert load_transformer(model, half).weights_fingerprint == fingerprint(tiny_transformer())


def test_different_models_differ():
    assert len({fingerprint(m) for m in (tiny_transformer(), tiny_vae(), torch.nn.Linear(2, 2))}) == 3


@pytest.mark.parametrize("name", ["layers.1.feed_forward.w2.weight", "cap_pad_token", "all_x_embedder.2-1.bias"])
def test_training_one_tensor_changes_it(name):
    trained = tiny_transformer()
    weight = trained.get_parameter(name)
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight += 0.01 * weight.std() * noise
    assert fingerprint(trained) != fingerprint(tiny_transformer())


def test_a_moved_or_renamed_weight_changes_it():
    a, b = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
    first = fingerprint(torch.nn.Sequential(a, b))
    assert fingerprint(torch.nn.Sequential(b, a)) != first
    assert fingerprint(torch.nn.Sequential(a, torch.nn.Identity(), b)) != first


def test_shape_counts_even_where_values_agree():
    flat, square = torch.nn.Module(), torch.nn.Module()
    flat.register_buffer("w", torch.ones(16))
    square.register_buffer("w", torch.ones(4, 4))
    assert fingerprint(flat) != fingerprint(square)


def test_empty_and_noncontiguous_weights_are_taken():
    module = torch.nn.Module()
    module.register_buffer("empty", torch.zeros(0, 3))
    module.register_buffer("turned", torch.arange(200.0).reshape(10, 20).T)
    assert len(fingerprint(module)) == 16
