"""Every layout of LoRA files means the same update, and a tensor without a place is an error that names it."""

from __future__ import annotations

import json

import pytest
import torch
from lora_files import MODULES, add_by_hand, make_pairs
from safetensors.torch import save_file

from llm_dit.base.errors import ModelError
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.weights.lora import adapted, linear_shapes, load_lora
from llm_dit.weights.lora_file import METADATA_KEY
from llm_dit.weights.lora_keys import known_names

SCALE = 0.7


@pytest.fixture(scope="module")
def transformer():
    return tiny_transformer().eval()


@pytest.fixture(scope="module")
def pairs(transformer):
    return make_pairs(transformer, alpha=3.0, ranks={"layers.2.feed_forward.w1": 6})


@pytest.fixture
def run(transformer, transformer_inputs):
    """run(), or run(path): the transformer's output without and with a LoRA file."""

    def output(path=None, scale=SCALE):
        loras = [(load_lora(str(path), transformer), scale)] if path else []
        with torch.inference_mode(), adapted(transformer, loras):
            return transformer(*transformer_inputs)[0][0]

    return output


@pytest.fixture
def wanted(pairs, transformer_inputs):
    """wanted(scale): the output of a transformer with the update in its weights, summed by hand."""

    def output(scale=SCALE, of=None):
        by_hand = tiny_transformer().eval()
        add_by_hand(by_hand, of or pairs, scale)
        with torch.inference_mode():
            return by_hand(*transformer_inputs)[0][0]

    return output


def equal(got, expected):
    return (got - expected).abs().max() < 1e-5 * expected.abs().max()


def released(pairs):
    """Under the names of the model's first release: one qkv of three times the rank, and other names for few."""
    renames = {"all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1": "x_embedder", "to_out.0": "out"}
    found = {}
    for name, (a, b, alpha) in pairs.items():
        if name.endswith(("to_k", "to_v")):
            continue
        if name.endswith("to_q"):
            block = name.removesuffix("to_q")
            three = [pairs[f"{block}to_{x}"] for x in "qkv"]
            downs, ups = torch.cat([p[0] for p in three]), torch.block_diag(*(p[1] for p in three))
            found[f"{block}qkv"] = (downs, ups, 3 * alpha)
            continue
        for new, old in renames.items():
            name = name.replace(new, old)
        found[name] = (a, b, alpha)
    return found


def tensors_of(pairs, prefix="", parts=("lora_A", "lora_B"), separator=".", alpha=True, adapter=""):
    found = {}
    for name, (a, b, its) in pairs.items():
        base = prefix + name.replace(".", separator)
        found[f"{base}.{parts[0]}{adapter}.weight"] = a
        found[f"{base}.{parts[1]}{adapter}.weight"] = b
        if alpha:
            found[f"{base}.alpha"] = torch.tensor(its)
    return found


DOWN_UP = ("lora_down", "lora_up")
LAYOUTS = {
    "diffusers A/B": lambda p: tensors_of(p, "transformer."),
    "diffusers down/up": lambda p: tensors_of(p, "transformer.", DOWN_UP),
    "diffusion_model A/B": lambda p: tensors_of(p, "diffusion_model."),
    "diffusion_model A/B, fused qkv": lambda p: tensors_of(released(p), "diffusion_model."),
    "diffusion_model down/up": lambda p: tensors_of(p, "model.diffusion_model.", DOWN_UP),
    "diffusion_model down/up, fused qkv": lambda p: tensors_of(released(p), "diffusion_model.", DOWN_UP),
    "kohya A/B": lambda p: tensors_of(p, "lora_unet_", separator="_"),
    "kohya A/B, fused qkv": lambda p: tensors_of(released(p), "lora_unet_", separator="_"),
    "kohya down/up": lambda p: tensors_of(p, "lora_transformer_", DOWN_UP, "_"),
    "kohya down/up, fused qkv": lambda p: tensors_of(released(p), "lora_unet_", DOWN_UP, "_"),
    "bare A/B": lambda p: tensors_of(p),
    "bare down/up": lambda p: tensors_of(p, "", ("lora.down", "lora.up")),
    "bare down/up, fused qkv": lambda p: tensors_of(released(p), "", DOWN_UP),
    "kohya down/up, two underscores": lambda p: tensors_of(p, "lora_unet__", DOWN_UP, "_"),
    "kohya A/B, two underscores": lambda p: tensors_of(p, "lora_transformer__", separator="_"),
    "DiffSynth A/B": lambda p: tensors_of(p, "pipe.dit.", adapter=".default"),
    "DiffSynth A/B, short": lambda p: tensors_of(p, "dit."),
    "bare A/B, compiled": lambda p: tensors_of(p, "_orig_mod."),
    "diffusers A/B, compiled blocks": lambda p: {
        k.replace("layers.0.", "layers.0._orig_mod."): v for k, v in tensors_of(p, "transformer._orig_mod.").items()
    },
    "kohya down/up, compiled": lambda p: tensors_of(p, "lora_unet__orig_mod_", DOWN_UP, "_"),
    "peft A/B, nested": lambda p: tensors_of(p, "base_model.model.transformer.module."),
    "diffusers A/B, split at dots": lambda p: tensors_of(
        {k.replace("_", "."): v for k, v in p.items()}, "transformer."
    ),
    "peft A/B": lambda p: tensors_of(p, "base_model.model.", adapter=".default"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_adds_what_is_added_by_hand(pairs, run, wanted, transformer, tmp_path, layout):
    file = tmp_path / "blob.safetensors"
    save_file({k: v.contiguous() for k, v in LAYOUTS[layout](pairs).items()}, file)
    lora = load_lora(str(file), transformer)
    assert lora.layout == layout.partition(",")[0] + (", fused qkv" if "fused qkv" in layout else "")
    assert set(lora.updates) == set(MODULES)
    assert equal(run(file), wanted())
    assert not equal(run(file), run())
    assert torch.equal(run(file, 0.0), run())


def test_a_fused_update_whose_tools_wrote_it_twice_lands_once(pairs, run, wanted, tmp_path):
    """Anime-Z's trainer writes the fused layer beside the three."""
    both = tensors_of(pairs, "", ("lora.down", "lora.up")) | tensors_of(released(pairs), "", ("lora.down", "lora.up"))
    file = tmp_path / "blob.safetensors"
    save_file({k: v.clone() for k, v in both.items()}, file)
    assert equal(run(file), wanted())
    both["layers.0.attention.qkv.lora.up.weight"] *= -1
    save_file({k: v.clone() for k, v in both.items()}, file)
    with pytest.raises(ModelError, match=r"two updates of 'layers\.0\.attention\.to_[qkv]' that differ"):
        run(file)


def settings(pairs, **more):
    """peft's LoraConfig of pairs whose ranks or alphas differ."""
    own = {f"^{name}": len(a) for name, (a, _, _) in pairs.items() if len(a) != 4}
    return {"r": 4, "lora_alpha": 3.0, "rank_pattern": own, "alpha_pattern": {}, **more}


def test_peft_itself_saves_what_is_loaded(pairs, run, wanted, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=list(pairs), **settings(pairs))
    model = get_peft_model(tiny_transformer(), config)
    for name, part in model.named_modules():
        pair = pairs.get(name.removeprefix("base_model.model."))
        if pair:
            part.lora_A["default"].weight.data.copy_(pair[0])
            part.lora_B["default"].weight.data.copy_(pair[1])
    model.save_pretrained(tmp_path / "adapter")  # base_model.model.*, alpha only in adapter_config.json
    assert equal(run(tmp_path / "adapter"), wanted())


@pytest.mark.parametrize("rslora", [False, True])
def test_diffusers_own_files_are_loaded(pairs, run, wanted, tmp_path, rslora):
    from diffusers import ZImagePipeline

    layers = {f"{k}.lora_{x}.weight": t for k, (a, b, _) in pairs.items() for x, t in (("A", a), ("B", b))}
    ZImagePipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=settings(pairs, use_rslora=rslora),
    )
    by_root = {k: (a, b, alpha * len(a) ** 0.5) for k, (a, b, alpha) in pairs.items()}
    assert equal(run(tmp_path), wanted(of=by_root if rslora else pairs))


def test_alpha_is_of_the_key_then_of_the_settings_then_of_the_rank(pairs, run, wanted, tmp_path):
    file = tmp_path / "blob.safetensors"
    plain = tensors_of(pairs, "diffusion_model.", alpha=False)

    def with_alpha(alpha_of):
        return wanted(of={k: (a, b, float(alpha_of(k, a))) for k, (a, b, _) in pairs.items()})

    save_file(plain, file)
    assert equal(run(file), with_alpha(lambda _, a: len(a)))
    save_file(plain, file, {"ss_network_alpha": "8.0"})
    assert equal(run(file), with_alpha(lambda _, a: 8))
    said = {"r": 4, "lora_alpha": 2, "alpha_pattern": {"^cap_embedder.1": 5, "to_k": 6}}
    save_file(plain, file, {"ss_network_alpha": "8.0", METADATA_KEY: json.dumps(said)})
    assert equal(run(file), with_alpha(lambda k, _: 5 if k == "cap_embedder.1" else 6 if k.endswith("to_k") else 2))
    one = {"diffusion_model.cap_embedder.1.alpha": torch.tensor([7], dtype=torch.int64)}
    save_file(plain | one, file, {METADATA_KEY: json.dumps(said)})
    assert equal(run(file), with_alpha(lambda k, _: 7 if k == "cap_embedder.1" else 6 if k.endswith("to_k") else 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float64])
def test_any_float_is_read(pairs, run, wanted, tmp_path, dtype):
    rounded = {k: (a.to(dtype), b.to(dtype), alpha) for k, (a, b, alpha) in pairs.items()}
    save_file(tensors_of(rounded, "transformer."), tmp_path / "blob.safetensors")
    assert equal(run(tmp_path), wanted(of={k: (a.float(), b.float(), alpha) for k, (a, b, alpha) in rounded.items()}))


Q = "transformer.layers.0.attention.to_q"
ERRORS = {
    "another model": (
        lambda t: {f"transformer.double_blocks.{i}.img_attn.proj.lora_{x}.weight": v for i in range(5) for x, v in t},
        r"none of its 5 modules is in this transformer: 'double_blocks\.0\.img_attn\.proj'.*made for another model",
    ),
    "a module too many": (
        lambda t: dict(t) | {k.replace("layers.0", "layers.7").replace("to_q", "to_p"): v for k, v in t},
        r"1 of its 2 modules are not in this transformer: 'layers\.7\.attention\.to_p' \(nearest is 'layers\.",
    ),
    "half a pair": (lambda t: dict(t[:1]), r"'layers\.0\.attention\.to_q' has no B \(up\)"),
    "an alpha alone": (lambda t: {**dict(t), "cap_embedder.1.alpha": torch.tensor(1.0)}, r"'cap_embedder\.1' has no A"),
    "a rank that differs": (lambda t: {**dict(t), t[1][0]: torch.ones(64, 3)}, "do not multiply"),
    "other shapes": (
        lambda t: {t[0][0]: torch.ones(4, 3840), t[1][0]: torch.ones(3840, 4)},
        r"made for a layer of 3840 x 3840, this transformer's is 64 x 64",
    ),
    "a convolution": (lambda t: {**dict(t), t[0][0]: torch.ones(4, 64, 1, 1)}, "has 4 dimensions"),
    "not finite": (lambda t: {**dict(t), t[0][0]: torch.full((4, 64), float("nan"))}, "is not finite"),
    "integers": (lambda t: {**dict(t), t[0][0]: torch.ones(4, 64, dtype=torch.int8)}, "has integers"),
    "an unknown part": (lambda t: {**dict(t), f"{Q}.magic": torch.ones(1)}, r"1 of its 3 tensors.*to_q\.magic'"),
    "no LoRA at all": (lambda t: {"layers.0.attention.to_q.weight": torch.ones(64, 64)}, "It is not a LoRA file"),
    "two names of one module": (
        lambda t: dict(t) | {k.replace("transformer.", "diffusion_model."): -v for k, v in t},
        r"two updates of 'layers\.0\.attention\.to_q'",
    ),
    "alpha of two numbers": (lambda t: {**dict(t), f"{Q}.alpha": torch.ones(2)}, "must be one finite number"),
    "biases": (lambda t: {**dict(t), f"{Q}.lora_B.bias": torch.ones(64)}, "is a LoRA with biases"),
    "the text encoder": (
        lambda t: {**dict(t), "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(4, 8)},
        "trains the text encoder too",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_what_has_no_place_is_an_error(run, tmp_path, what):
    change, message = ERRORS[what]
    pair = [(f"{Q}.lora_A.weight", torch.ones(4, 64)), (f"{Q}.lora_B.weight", torch.ones(64, 4))]
    if what == "another model":
        pair = [("A", pair[0][1]), ("B", pair[1][1])]
    save_file({k: v.clone() for k, v in change(pair).items()}, tmp_path / "blob.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        run(tmp_path / "blob.safetensors")
    assert "blob.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be an object"),
        ('{"lora_alpha": "much"}', "is not a number"),
        ('{"alpha_pattern": {".*to_q": 3}}', "is not a module's name"),
        ('{"use_dora": true}', "is DoRA by its settings"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(pairs, run, tmp_path, said, message):
    save_file(tensors_of(pairs, "transformer.", alpha=False), tmp_path / "blob.safetensors", {METADATA_KEY: said})
    with pytest.raises(ModelError, match=message):
        run(tmp_path)


def test_no_two_layers_share_a_name(transformer):
    shapes = linear_shapes(transformer)
    places = known_names(shapes)
    single = [modules for modules in places.values() if len(modules) == 1]
    assert {m for modules in single for m in modules} == set(shapes)
    assert all(places[name] == places[name.replace(".", "_")] == (name,) for name in shapes)
