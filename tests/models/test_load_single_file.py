"""model.transformer_file: one .safetensors or .gguf file in the place of the folder's transformer."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llm_dit.base.errors import ModelError
from llm_dit.config import GuidanceConfig, ModelConfig
from llm_dit.families.z_image.load import load_transformer
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.families.z_image.velocity import ZImageVelocity
from llm_dit.weights.place import Placement


def original_layout(state: dict) -> dict:
    """Diffusers' names to those of the model's first release: fused qkv and other names for a few parts."""
    renames = {
        "all_final_layer.2-1.": "final_layer.",
        "all_x_embedder.2-1.": "x_embedder.",
        ".attention.to_out.0.": ".attention.out.",
        ".attention.norm_k.": ".attention.k_norm.",
        ".attention.norm_q.": ".attention.q_norm.",
    }
    original = {}
    for name, tensor in state.items():
        if ".attention.to_q." in name:
            parts = [state[name.replace("to_q", f"to_{x}")] for x in "qkv"]
            original[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            for new, old in renames.items():
                name = name.replace(new, old)
            original[name] = tensor
    original["norm_final.weight"] = torch.ones(64)  # in the released file, used by nothing
    return original


@pytest.fixture
def state() -> dict:
    return tiny_transformer().state_dict()


@pytest.fixture
def offline_folder(tiny_folder, tmp_path) -> str:
    """A model folder whose transformer is a config and no weights, so that they can only come from the file."""
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    shutil.copy(tiny_folder / "transformer" / "config.json", tmp_path / "model" / "transformer")
    return str(tmp_path / "model")


LAYOUTS = {
    "diffusers": lambda s: s,
    "diffusers_prefixed": lambda s: {f"model.diffusion_model.{k}": v for k, v in s.items()},
    "original": original_layout,
    "original_prefixed": lambda s: {f"model.diffusion_model.{k}": v for k, v in original_layout(s).items()},
    "original_short_prefix": lambda s: {f"diffusion_model.{k}": v for k, v in original_layout(s).items()},
    "all_in_one": lambda s: {
        "vae.decoder.conv_in.weight": torch.zeros(3),
        "text_encoders.qwen3_4b.model.norm.weight": torch.zeros(3),
        **{f"model.diffusion_model.{k}": v for k, v in original_layout(s).items()},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_safetensors_of_any_layout_give_the_same_parameters(
    state, offline_folder, tmp_path, cpu, transformer_inputs, layout
):
    file = tmp_path / "z.safetensors"
    save_file({k: v.clone() for k, v in LAYOUTS[layout](state).items()}, file)
    loaded = load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(loaded(*transformer_inputs)[0][0], tiny_transformer().eval()(*transformer_inputs)[0][0])


def test_float8_file_is_widened(state, offline_folder, tmp_path, cpu):
    file = tmp_path / "z.safetensors"
    save_file({k: v.to(torch.float8_e4m3fn) for k, v in state.items()}, file)
    loaded = load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
    assert all(torch.equal(v, state[k].to(torch.float8_e4m3fn).float()) for k, v in loaded.state_dict().items())


def test_loading_a_single_file_prints_nothing(state, offline_folder, tmp_path, cpu, capfd):
    file = tmp_path / "z.safetensors"
    save_file({k: v.clone() for k, v in original_layout(state).items()}, file)
    load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
    load_transformer(
        ModelConfig(path=offline_folder, transformer_file=str(write_gguf(tmp_path / "z.gguf", state, "Q8_0"))), cpu
    )
    assert capfd.readouterr() == ("", "")


def write_gguf(path, state: dict, kind: str, flat_pads: bool = False):
    """A GGUF as converters write it: matrices of `kind`, vectors in float32, pad tokens in bfloat16."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(str(path), "lumina2")
    for name, tensor in original_layout(state).items():
        values = tensor.float().numpy()
        if name.endswith("pad_token"):
            type_name, values = "BF16", values[0] if flat_pads else values
        else:
            blocks = values.shape[-1] % 32 == 0  # rows that do not divide into blocks stay half precision
            type_name = (kind if blocks else "F16") if values.ndim == 2 else "F32"
        if type_name in ("F32", "F16"):
            writer.add_tensor(name, values.astype(np.float16 if type_name == "F16" else np.float32))
            continue
        raw = GGMLQuantizationType[type_name]
        writer.add_tensor(name, quantize(np.ascontiguousarray(values), raw), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 5e-2)])
@pytest.mark.parametrize("flat_pads", [False, True])
def test_gguf_transformer_draws_nearly_the_same(
    state, offline_folder, tmp_path, cpu, transformer_inputs, kind, tolerance, flat_pads
):
    """Some files keep the pad tokens as vectors, in types that only matrices are usually in."""
    file = write_gguf(tmp_path / "z.gguf", state, kind, flat_pads)
    loaded = load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
    with torch.inference_mode():
        got = loaded(*transformer_inputs)[0][0]
        exact = tiny_transformer().eval()(*transformer_inputs)[0][0]
    assert 0 < (got - exact).abs().max() < tolerance * exact.abs().max()
    assert loaded.x_pad_token.shape == (1, 64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_velocity_works_on_a_quantized_transformer_in_its_compute_dtype(
    state, offline_folder, tmp_path, transformer_inputs, dtype
):
    file = write_gguf(tmp_path / "z.gguf", state, "Q8_0")
    placement = Placement("cpu", dtype)
    quantized = load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), placement)
    x = transformer_inputs[0][0][:, 0].unsqueeze(0)
    caption = transformer_inputs[2][0]
    velocity = ZImageVelocity(quantized, caption, caption * 0.5, GuidanceConfig(guidance_scale=2.0))
    assert velocity.dtype == placement.torch_dtype
    with torch.inference_mode():
        got = velocity(x, 0.7)
        cfg = GuidanceConfig(guidance_scale=2.0)
        exact = ZImageVelocity(tiny_transformer().eval(), caption, caption * 0.5, cfg)(x, 0.7)
    assert got.shape == x.shape
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() < 0.1 * exact.abs().max()


def test_quantized_weights_stay_quantized_and_have_a_fingerprint(state, offline_folder, tmp_path, cpu):
    load = lambda kind: load_transformer(  # noqa: E731
        ModelConfig(path=offline_folder, transformer_file=str(write_gguf(tmp_path / f"{kind}.gguf", state, kind))), cpu
    )
    q8, again, f16 = load("Q8_0"), load("Q8_0"), load("F16")
    assert q8.layers[0].attention.to_q.weight.dtype == torch.uint8
    assert q8.weights_fingerprint == again.weights_fingerprint != f16.weights_fingerprint


@pytest.mark.parametrize("size", ["half", "ten", "none"])
@pytest.mark.parametrize("ending", ["safetensors", "gguf"])
def test_cut_file_is_refused(state, offline_folder, tmp_path, cpu, capfd, size, ending):
    file = tmp_path / f"z.{ending}"
    if ending == "gguf":
        write_gguf(file, state, "Q8_0")
    else:
        save_file(state, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: {"half": len(whole) // 2, "ten": 10, "none": 0}[size]])
    with pytest.raises(ModelError, match=rf"z\.{ending}: cut short, damaged") as caught:
        load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_file_with_other_weights_is_refused(state, offline_folder, tmp_path, cpu, capfd):
    def load(change, layout):
        changed = dict(layout(state))
        change(changed)
        save_file({k: v.clone() for k, v in changed.items()}, tmp_path / "z.safetensors")
        load_transformer(ModelConfig(path=offline_folder, transformer_file=str(tmp_path / "z.safetensors")), cpu)

    with pytest.raises(ModelError, match=r"z\.safetensors: 1 missing weight.*layers\.1\.feed_forward\.w1\.weight"):
        load(lambda s: s.pop("layers.1.feed_forward.w1.weight"), lambda s: s)
    with pytest.raises(ModelError, match=r"3 missing weights, the first is 'layers\.1\.attention\.to_k\.weight'"):
        load(lambda s: s.pop("layers.1.attention.qkv.weight"), original_layout)
    with pytest.raises(
        ModelError,
        match=r"is the scale of 'layers\.0\.w1\.weight', which is not in the file",
    ):
        load(lambda s: s.update({"layers.0.w1.scale_weight": torch.ones(1)}), original_layout)
    with pytest.raises(ModelError, match=r"cap_embedder\.1\.weight': \(64, 48\), where \(64, 32\) is needed"):
        load(lambda s: s.update({"cap_embedder.1.weight": torch.ones(64, 48)}), original_layout)
    with pytest.raises(ModelError, match=r"integer weights \(1, the first is 'x_pad_token'\)"):
        load(lambda s: s.update(x_pad_token=torch.ones(1, 64, dtype=torch.int8)), original_layout)
    with pytest.raises(ModelError, match="none of its 1 weights belongs to ZImageTransformer2DModel"):
        load(lambda s: (s.clear(), s.update(lora=torch.ones(2))), original_layout)
    with pytest.raises(ModelError, match="holds no weights"):
        load(lambda s: s.clear(), original_layout)
    assert capfd.readouterr() == ("", "")


def test_gguf_of_another_size_or_model_is_refused(state, offline_folder, tmp_path, cpu):
    half_width = {k: v[: len(v) // 2] if k == "cap_embedder.1.weight" else v for k, v in state.items()}
    file = write_gguf(tmp_path / "z.gguf", half_width, "Q8_0")
    with pytest.raises(ModelError, match=r"cap_embedder\.1\.weight': \(32, 32\), where \(64, 32\) is needed"):
        load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)


@pytest.mark.parametrize("ending", ["ckpt", "pt", "bin", "txt"])
def test_pickles_and_other_files_are_refused(offline_folder, tmp_path, cpu, ending):
    file = tmp_path / f"z.{ending}"
    file.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match=r"must end in \.safetensors or \.gguf"):
        load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)


def test_missing_file_and_missing_config_are_refused(state, tmp_path, cpu):
    with pytest.raises(ModelError, match=r"model\.transformer_file=.*nothing\.safetensors: there is no such file"):
        load_transformer(ModelConfig(path="x", transformer_file=str(tmp_path / "nothing.safetensors")), cpu)
    save_file(state, tmp_path / "z.safetensors")
    with pytest.raises(ModelError, match=r"no 'transformer' folder in it"):
        load_transformer(ModelConfig(path=str(tmp_path), transformer_file=str(tmp_path / "z.safetensors")), cpu)
    with pytest.raises(ModelError, match=r"set model\.path to the model it belongs to"):
        load_transformer(ModelConfig(path="random:tiny", transformer_file=str(tmp_path / "z.safetensors")), cpu)


def test_a_git_lfs_pointer_is_named_as_one(offline_folder, tmp_path, cpu):
    file = tmp_path / "z.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12309866400\n")
    with pytest.raises(ModelError, match="a Git LFS pointer, not the weights"):
        load_transformer(ModelConfig(path=offline_folder, transformer_file=str(file)), cpu)
