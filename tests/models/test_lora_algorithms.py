"""LoKr, LoHa, DoRA and whole differences: the update is peft's own on the same tensors, as it runs and fused."""

from __future__ import annotations

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file

from llm_dit.base.errors import ModelError
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.weights.lora import WantedLora, adapted, describe_loras, fuse, load_lora

TARGETS = ["layers.0.attention.to_q", "layers.2.feed_forward.w1", "cap_embedder.1", "all_final_layer.2-1.linear"]
CONFIGS = {
    "LoKr": lambda: LoKrConfig(r=4, alpha=2, target_modules=TARGETS, init_weights=False),
    "LoKr, both decomposed": lambda: LoKrConfig(
        r=2, alpha=3, decompose_both=True, decompose_factor=8, target_modules=TARGETS, init_weights=False
    ),
    "LoKr, whole": lambda: LoKrConfig(r=64, alpha=32, target_modules=TARGETS, init_weights=False),
    "LoHa": lambda: LoHaConfig(r=4, alpha=2, target_modules=TARGETS, init_weights=False),
    "DoRA": lambda: LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=TARGETS, init_lora_weights=False),
}


def moved(model):
    """peft's adapter with random numbers in all its parameters, so that nothing is at its beginning."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        if any(mark in name for mark in ("lokr_", "hada_", "lora_")):
            p.data.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def output(model, inputs):
    with torch.inference_mode():
        return model(*inputs)[0][0]


def running(path, inputs, scale=1.0):
    model = tiny_transformer().eval()
    with adapted(model, [(load_lora(str(path), model), scale)]):
        return output(model, inputs)


def fused(path, inputs, scale=1.0):
    model = tiny_transformer().eval()
    fuse(model, [(load_lora(str(path), model), scale)])
    return output(model, inputs)


def near(got, expected, tolerance=1e-5):
    return (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("what", CONFIGS)
def test_the_update_is_pefts(tmp_path, transformer_inputs, what):
    theirs = moved(get_peft_model(tiny_transformer(), CONFIGS[what]())).eval()
    theirs.save_pretrained(tmp_path)
    plain = output(tiny_transformer().eval(), transformer_inputs)
    expected = output(theirs, transformer_inputs)
    assert not near(plain, expected, 1e-2)
    assert near(running(tmp_path, transformer_inputs), expected)
    assert near(fused(tmp_path, transformer_inputs), expected)
    ours, merged = tiny_transformer(), theirs.merge_and_unload().state_dict()
    fuse(ours, [(load_lora(str(tmp_path), ours), 1.0)])
    for name, weight in ours.state_dict().items():
        assert (weight - merged[name]).abs().max() <= 1e-6 * merged[name].abs().max(), name


@pytest.mark.parametrize("what", CONFIGS)
def test_every_scale_is_linear_in_the_weights_and_0_is_the_model(tmp_path, transformer_inputs, what):
    moved(get_peft_model(tiny_transformer(), CONFIGS[what]())).save_pretrained(tmp_path)
    plain, whole, half = (tiny_transformer() for _ in range(3))
    for model, scale in ((whole, 1.0), (half, 0.5)):
        fuse(model, [(load_lora(str(tmp_path), model), scale)])
    for name, weight in plain.state_dict().items():
        assert torch.allclose(half.state_dict()[name], (weight + whole.state_dict()[name]) / 2, atol=1e-6), name
    assert near(running(tmp_path, transformer_inputs, 0.5), output(half.eval(), transformer_inputs))
    assert torch.equal(running(tmp_path, transformer_inputs, 0.0), output(plain.eval(), transformer_inputs))


@pytest.mark.parametrize("alpha", [None, 3.0])
def test_lycoris_takes_no_alpha_where_both_matrices_are_whole(tmp_path, alpha):
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(8, 8, generator=generator) for _ in range(2))
    tensors = {"lycoris_layers_0_attention_to_q.lokr_w1": one, "lycoris_layers_0_attention_to_q.lokr_w2": two}
    if alpha is not None:
        tensors["lycoris_layers_0_attention_to_q.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "x.safetensors")
    model, plain = tiny_transformer(), tiny_transformer()
    lora = load_lora(str(tmp_path / "x.safetensors"), model)
    fuse(model, [(lora, 1.0)])
    got = model.layers[0].attention.to_q.weight - plain.layers[0].attention.to_q.weight
    assert torch.allclose(got, torch.kron(one, two), atol=1e-6)
    (entry,) = describe_loras([WantedLora("x", 1.0, lora.sha256)], [lora], False)
    assert (entry["algorithm"], entry["rank"], entry["alpha"], entry["layout"]) == ("LoKr", None, None, "kohya LoKr")


@pytest.mark.parametrize("axis", ["outputs", "inputs"])
def test_dora_of_a_fused_qkv_in_both_directions(tmp_path, transformer_inputs, axis):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 64, generator=generator), torch.randn(192, 4, generator=generator)
    magnitude = 1 + torch.rand((192, 1) if axis == "outputs" else (1, 64), generator=generator)
    base = "diffusion_model.layers.0.attention.qkv"
    tensors = {f"{base}.lora_down.weight": a, f"{base}.lora_up.weight": b, f"{base}.dora_scale": magnitude}
    save_file(tensors | {f"{base}.alpha": torch.tensor(2.0)}, tmp_path / "x.safetensors")
    by_hand, got = tiny_transformer().eval(), tiny_transformer().eval()
    layers = [getattr(by_hand.layers[0].attention, f"to_{x}") for x in "qkv"]
    direction = torch.cat([layer.weight.data for layer in layers]) + 0.5 * b @ a
    merged = magnitude * direction / direction.norm(dim=1 if axis == "outputs" else 0, keepdim=True)
    for layer, rows in zip(layers, merged.split(64), strict=True):
        layer.weight.data.copy_(rows)
    fuse(got, [(load_lora(str(tmp_path / "x.safetensors"), got), 1.0)])
    for name, weight in by_hand.state_dict().items():
        assert torch.allclose(got.state_dict()[name], weight, atol=1e-6), name
    assert near(running(tmp_path / "x.safetensors", transformer_inputs), output(by_hand, transformer_inputs))


def test_a_whole_difference_is_added(tmp_path):
    difference = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    save_file({"lora_unet_layers_0_attention_to_q.diff": difference}, tmp_path / "x.safetensors")
    model, plain = tiny_transformer(), tiny_transformer()
    fuse(model, [(load_lora(str(tmp_path / "x.safetensors"), model), 0.5)])
    got = model.layers[0].attention.to_q.weight - plain.layers[0].attention.to_q.weight
    assert torch.allclose(got, difference / 2, atol=1e-6)


Q = "transformer.layers.0.attention.to_q"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{Q}.oft_blocks": (2, 4, 4)}, r"is OFT or BOFT \('.*oft_blocks'\)"),
        ({f"{Q}.a1.weight": (4, 4)}, "is GLoRA"),
        ({f"{Q}.ia3_l": (64, 1)}, "is IA3"),
        ({f"{Q}.diff": (64, 64), f"{Q}.diff_b": (64,)}, "is a difference of biases"),
        ({f"{Q}.w_norm": (64,)}, "is a training of norms"),
        ({f"{Q}.lokr_w1": (8, 8)}, "is LoKr without a whole w2"),
        ({f"{Q}.lokr_w1": (8, 8), f"{Q}.lokr_w2": (4, 8)}, "made for a layer of 32 x 64"),
        ({f"{Q}.hada_w1_a": (64, 4), f"{Q}.hada_w1_b": (4, 64)}, "is LoHa without a whole w2"),
        ({f"{Q}.lokr_w1": (8, 8), f"{Q}.hada_w1_a": (8, 8)}, "mixes LoHa and LoKr"),
        ({f"{Q}.lora_A.weight": (4, 64), f"{Q}.lora_B.weight": (64, 4), f"{Q}.dora_scale": (63, 1)}, "magnitudes of"),
    ],
)
def test_what_is_not_read_or_not_whole_is_refused_by_name(tmp_path, tensors, message):
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=message):
        load_lora(str(tmp_path / "x.safetensors"), tiny_transformer())
