"""The training forward against the model's own: outputs and gradients, sizes that need padding, checkpointing."""

from __future__ import annotations

import copy

import pytest
import torch

from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.train.forward import TrainingForward, stack_captions, stock_attention


def real_structure():
    """The real model's heads of 128 and axes 32/48/48, two layers of one head."""
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    torch.manual_seed(3)
    return ZImageTransformer2DModel(
        dim=128, n_layers=2, n_refiner_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=32,
        axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
    )  # fmt: skip


def moved(model):
    """Weights that are not at their start: pad tokens, gates and the output are zero there and would hide faults."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def inputs(size=(8, 12), lengths=(9, 32, 20)):
    torch.manual_seed(4)
    captions = [torch.randn(n, 32) for n in lengths]
    return torch.randn(len(lengths), 16, *size), torch.tensor([0.02, 0.5, 1.0]), captions


def stock(model, x, sigma, captions):
    time = (1000 - sigma * 1000) / 1000
    out = model([z.unsqueeze(1) for z in x], time, captions, return_dict=False)[0]
    return -torch.stack([o.squeeze(1) for o in out])


@pytest.mark.parametrize("make", [tiny_transformer, real_structure])
@pytest.mark.parametrize("size", [(8, 12), (16, 16)])  # 24 tokens, padded to 32; 64 tokens
def test_outputs_and_gradients_equal_the_stock_forward(make, size):
    model = moved(make())
    x, sigma, captions = inputs(size)
    expected = stock(model, x, sigma, captions)
    expected.square().mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    forward = TrainingForward(model)
    found = forward(x, sigma, *stack_captions(captions))
    found.square().mean().backward()
    assert torch.allclose(found, expected, atol=2e-6, rtol=1e-5)
    for name, p in model.named_parameters():
        if p.grad is None:  # the pad token where nothing is padded
            assert gradients[name] is None or not gradients[name].any(), name
            continue
        assert torch.allclose(p.grad, gradients[name], atol=1e-6 + 1e-4 * gradients[name].abs().max()), name


def test_a_fault_in_the_inputs_would_be_seen():
    model = moved(tiny_transformer())
    x, sigma, captions = inputs()
    forward = TrainingForward(model)
    found = forward(x, sigma, *stack_captions(captions))
    for other in ((x + 1e-2, sigma, captions), (x, sigma + 0.01, captions), (x, sigma, [c + 0.01 for c in captions])):
        assert not torch.allclose(found, forward(*other[:2], *stack_captions(other[2])), atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter():
    forward = TrainingForward(moved(tiny_transformer()))
    x, sigma, captions = inputs()
    texts, padding = stack_captions(captions)
    other = torch.where(padding.unsqueeze(-1), 9.0, texts)
    assert torch.equal(forward(x, sigma, texts, padding), forward(x, sigma, other, padding))


def test_gradient_checkpointing_changes_memory_alone():
    model = moved(tiny_transformer())
    x, sigma, captions = inputs()
    gradients = []
    for checkpointing in (False, True):
        one = copy.deepcopy(model)
        if checkpointing:
            one.enable_gradient_checkpointing()
        forward = TrainingForward(one)
        forward(x, sigma, *stack_captions(captions)).square().mean().backward()
        gradients.append([p.grad for p in one.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_stock_processors_can_be_put_back():
    model = moved(tiny_transformer())
    x, sigma, captions = inputs()
    with torch.no_grad():
        expected = stock(model, x, sigma, captions)
        TrainingForward(model)
        with stock_attention(model):
            assert torch.equal(stock(model, x, sigma, captions), expected)
        with pytest.raises(Exception, match=r".*"):  # complex angles where real ones are needed
            stock(model, x, sigma, captions)


def test_captions_of_two_padded_lengths_are_refused():
    with pytest.raises(ValueError, match="several padded lengths"):
        stack_captions([torch.zeros(9, 4), torch.zeros(33, 4)])
