"""LoRAs in whole renders: equal to weights summed by hand, with every other patch of the model; records; sweeps."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lora_files import add_by_hand, make_pairs
from PIL import Image
from safetensors.torch import load_file
from test_load_single_file import write_gguf

from llm_dit.base.errors import ConfigError, LabError, ModelError
from llm_dit.compose import compose
from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.families.z_image.skip import skipping
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.models import cache
from llm_dit.models.cache import PartCache
from llm_dit.records.picture import identity
from llm_dit.render.draw import render
from llm_dit.study.grids.pages import short_names
from llm_dit.weights.lora import adapted, fuse, load_lora
from llm_dit.weights.lora_file import save_lora


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two LoRAs that differ in rank, one of them in a folder, and one that updates nothing."""
    root = tmp_path_factory.mktemp("loras")
    transformer = tiny_transformer()
    blob, dots = (
        make_pairs(transformer, alpha=4.0, strength=0.1),
        make_pairs(transformer, seed=1, rank=2, alpha=1.0, strength=0.1),
    )
    save_lora(root / "blob" / "lora.safetensors", blob)
    save_lora(root / "dots.safetensors", dots)
    save_lora(root / "new.safetensors", {k: (a, b * 0, alpha) for k, (a, b, alpha) in blob.items()})
    return root


@pytest.fixture(scope="module")
def blob():
    return make_pairs(tiny_transformer(), alpha=4.0, strength=0.1)


@pytest.fixture
def draw(tiny, folder, monkeypatch):
    """draw(*overrides): the picture, with the LoRAs' folder as the place of the user."""
    monkeypatch.chdir(folder)

    def one(*overrides, parts=None):
        return render(tiny("sampler.steps=2", *overrides), **({"parts": parts} if parts else {}))[0]

    return one


def close(got, expected, tolerance=1e-5):
    return (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "also",
    [
        [],
        ["guidance.guidance_scale=2", "prompt.negative=fog"],
        ["slg=block"],
        ["slg=attention"],
        ["slg=pag"],
        ["nag=z_image", "prompt.negative='a long negative prompt, of another padded length than the prompt'"],
        ["dype=dy_yarn", "width=128"],
        ["highres=two_stage", "width=128"],
        ["hardware.offload=true"],
        ["num_images=2", "hardware.batch_size=2"],
    ],
    ids=lambda also: " ".join(also)[:30],
)
def test_it_draws_what_weights_summed_by_hand_draw(draw, blob, also):
    parts = PartCache()
    plain = draw(*also, parts=parts).latents
    got = draw(*also, "lora=blob:0.8", parts=parts).latents
    assert torch.equal(draw(*also, parts=parts).latents, plain)
    add_by_hand(parts._parts["transformer"][1], blob, 0.8)
    expected = draw(*also, parts=parts).latents
    assert close(got, expected)
    assert not close(plain, expected, 1e-3)


def test_the_model_is_the_same_to_the_bit_afterwards_also_after_an_error(folder, transformer_inputs):
    model = tiny_transformer().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lora = load_lora(str(folder / "blob"), model)
    with torch.inference_mode():
        plain = model(*transformer_inputs)[0][0]
        with adapted(model, [(lora, 1.0)]), skipping(model, [0], "block"):
            assert not torch.equal(model(*transformer_inputs)[0][0], plain)
        with pytest.raises(TypeError), adapted(model, [(lora, 1.0)]):
            model(None)
        assert torch.equal(model(*transformer_inputs)[0][0], plain)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())


def test_scale_0_is_no_lora_to_the_bit_and_is_told(draw):
    plain = draw()
    for overrides in (["lora=blob:0"], ["lora=blob", "lora_scale=0"], ["lora=blob:0", "lora_fuse=true"]):
        picture = draw(*overrides)
        assert picture.record["pixels_sha256"] == plain.record["pixels_sha256"]
        assert picture.record["warnings"] == ["lora blob has no effect: its scale is 0."]
    assert draw("lora=new.safetensors").record["warnings"] == [
        "lora new.safetensors has no effect: all its updates are 0, as before training."
    ]
    assert draw("lora_scale=2", "lora_fuse=true").record["warnings"] == [
        "lora_scale has no effect: no lora is given.",
        "lora_fuse has no effect: no lora is given.",
    ]


def test_the_update_grows_with_the_scale_and_turns_with_its_sign(folder):
    """Of one layer, whose output is linear in the weights."""
    model = tiny_transformer()
    lora = load_lora(str(folder / "blob"), model)
    layer, x = model.layers[0].attention.to_q, torch.randn(5, 64, generator=torch.Generator().manual_seed(0))

    def update(*scales):
        with torch.inference_mode(), adapted(model, [(lora, scales[0])]):
            return layer(x) - torch.nn.functional.linear(x, layer.weight)

    whole = update(1.0)
    for scale in (0.25, 2.0, -1.0):
        assert (update(scale) - scale * whole).abs().max() < 1e-5


def test_several_add_up_in_any_order_whatever_their_ranks(draw, blob):
    parts = PartCache()
    both = draw("lora=[blob:0.5,dots.safetensors:-1]", parts=parts).latents
    assert close(draw("lora=[dots.safetensors:-1,blob:0.5]", parts=parts).latents, both)
    draw(parts=parts)
    model = parts._parts["transformer"][1]
    add_by_hand(model, blob, 0.5)
    add_by_hand(model, make_pairs(tiny_transformer(), seed=1, rank=2, alpha=1.0, strength=0.1), -1)
    assert close(both, draw(parts=parts).latents)


def test_fused_draws_the_same_and_unfused_is_as_before(draw):
    parts = PartCache()
    plain = draw(parts=parts)
    running = draw("lora=[blob:0.8,dots.safetensors]", parts=parts)
    fused = draw("lora=[blob:0.8,dots.safetensors]", "lora_fuse=true", parts=parts)
    assert close(fused.latents, running.latents)
    assert not close(fused.latents, plain.latents, 1e-3)
    assert not any(part._forward_hooks for part in parts._parts["transformer"][1].modules())
    assert fused.record["model_fingerprint"] == plain.record["model_fingerprint"]
    assert [r["fused"] for r in fused.record["lora"]] == [True, True]
    assert torch.equal(draw(parts=parts).latents, plain.latents)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_computes_in_the_models_dtype(draw, dtype):
    parts = PartCache()
    running = draw("lora=blob", f"hardware.dtype={dtype}", parts=parts).latents
    fused = draw("lora=blob", "lora_fuse=true", f"hardware.dtype={dtype}", parts=parts).latents
    assert close(running, fused, 1e-5 if dtype == "float32" else 0.1)


def test_on_a_quantized_transformer_it_runs_and_is_not_fused(tmp_path, draw, blob):
    save_tiny_folder(tmp_path / "model")
    state = load_file(tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
    write_gguf(tmp_path / "q8.gguf", state, "Q8_0")
    of = [f"model.path={tmp_path / 'model'}"]
    quantized = [*of, f"model.transformer_file={tmp_path / 'q8.gguf'}"]
    update = draw(*of, "lora=blob").latents - draw(*of).latents
    got = draw(*quantized, "lora=blob").latents - draw(*quantized).latents
    assert (got - update).norm() < 0.1 * update.norm()
    with pytest.raises(ModelError, match=r"lora_fuse=true: '.*' is quantized"):
        draw(*quantized, "lora=blob", "lora_fuse=true")


def test_a_sweep_over_scales_and_files_loads_each_thing_once(draw, monkeypatch):
    loads = []
    monkeypatch.setattr(
        cache.load, "load_transformer", lambda *a, f=cache.load.load_transformer: loads.append("model") or f(*a)
    )
    monkeypatch.setattr(cache, "load_lora", lambda *a, f=load_lora: loads.append(a[0]) or f(*a))
    parts = PartCache()
    in_one = [draw("lora=blob", f"lora_scale={s}", parts=parts) for s in (0, 0.5, 1, -1)]
    in_one.append(draw("lora=blob:0.5", parts=parts))
    assert loads == ["model", "blob"]
    fresh = [draw("lora=blob", f"lora_scale={s}", parts=PartCache()) for s in (0, 0.5, 1, -1)]
    for one, other in zip(in_one, [*fresh, fresh[1]], strict=True):
        assert one.record["pixels_sha256"] == other.record["pixels_sha256"]
        assert torch.equal(one.latents, other.latents)
    loads.clear()
    draw("lora=dots.safetensors", parts=parts)
    draw(parts=parts)
    assert loads == ["dots.safetensors"]


def test_the_record_says_what_was_added_and_its_identity_goes_by_content(draw, folder, tmp_path, tiny):
    said = json.loads(json.dumps(draw("lora=[blob:0.8,dots.safetensors:-1]", "lora_scale=0.5").record))
    assert [{k: v for k, v in entry.items() if k != "sha256"} for entry in said["lora"]] == [
        {"path": path, "scale": scale, "rank": rank, "alpha": rank, "modules": 17, "layout": "diffusers A/B",
         "fused": False, "algorithm": "LoRA"}
        for path, scale, rank in (("blob", 0.4, 4), ("dots.safetensors", -0.5, 2))
    ]  # fmt: skip
    assert len({entry["sha256"] for entry in said["lora"]}) == 2
    assert all(len(entry["sha256"]) == 16 for entry in said["lora"])
    assert draw().record["lora"] == []

    copied = shutil.copy(folder / "blob" / "lora.safetensors", tmp_path / "copy.safetensors")
    names = [identity(tiny(f"lora={path}:0.5")) for path in ("blob", "blob/lora.safetensors", copied)]
    names.append(identity(tiny("lora=blob", "lora_scale=0.5")))
    assert len(set(names)) == 1
    others = [identity(tiny(*o)) for o in ([], ["lora=blob:0.6"], ["lora=dots.safetensors:0.5"])]
    assert len({names[0], *others}) == 4
    save_lora(copied, make_pairs(tiny_transformer(), seed=5))
    assert identity(tiny(f"lora={copied}:0.5")) != names[0]


def test_mixed_ranks_are_told_as_a_span(tmp_path, draw):
    pairs = make_pairs(tiny_transformer(), ranks={"layers.0.attention.to_q": 8})
    save_lora(tmp_path / "mixed.safetensors", pairs)
    (entry,) = draw(f"lora={tmp_path}").record["lora"]
    assert (entry["rank"], entry["alpha"]) == ([4, 8], [4.0, 8.0])


def test_a_picture_is_drawn_again_from_its_record(run_main, folder, monkeypatch):
    monkeypatch.chdir(folder)
    make = ["a red apple", "model=tiny", "lora=blob:0.8", "output.dir=out", "tracker=none"]
    assert run_main(*make, "output.name=first")[0] == 0
    code, out, _, _ = run_main("from_image=out/first.png", "trust_record=true", "output.name=again", "output.dir=out")
    assert (code, "the same pixels as the original" in out) == (0, True)
    code, out, _, _ = run_main(
        "from_image=out/first.png", "output.name=other", "output.dir=out", "lora=dots.safetensors"
    )
    assert code == 0
    assert "the files of lora, lora" in out


@pytest.mark.parametrize(
    ("typed", "entries"),
    [
        ("lora=outputs/train/blob/lora.safetensors:0.8", ["outputs/train/blob/lora.safetensors:0.8"]),
        ("lora=[a.safetensors:0.5,b.safetensors:1]", ["a.safetensors:0.5", "b.safetensors:1"]),
        (r"lora=C:\loras\a.safetensors:-0.5", [r"C:\loras\a.safetensors:-0.5"]),
        ("lora=my loras/red, (v1=2).safetensors", ["my loras/red, (v1=2).safetensors"]),
        ("lora='a, b.safetensors:2'", ["a, b.safetensors:2"]),
        ("lora=['a, b.safetensors:2',c.safetensors]", ["a, b.safetensors:2", "c.safetensors"]),
        ("lora=none", []),
        ("lora=[]", []),
    ],
)
def test_loras_are_typed_as_they_are(typed, entries):
    assert compose([typed]).lora == entries
    assert compose(["lora=x.safetensors", typed]).lora == entries


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("lora=a.safetensors:nan", "lora=a.safetensors:nan: nan is not a scale"),
        ("lora=[a.safetensors:1,a.safetensors:2]", "a.safetensors is given twice"),
        ("lora=a.safetensors:1e9", "out of range"),
        ("lora_scale=1000", "lora_scale=1000.0: out of range; -100 to 100"),
        ("lora.scale=1", "unknown key 'lora.scale'. Did you mean 'lora_scale'"),
        ("lora.files=[a]", "unknown key 'lora.files'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(typed, message):
    with pytest.raises(ConfigError, match=message):
        compose([typed])


def test_one_file_under_two_names_is_refused(draw, folder, tmp_path):
    shutil.copy(folder / "dots.safetensors", tmp_path / "copy.safetensors")
    with pytest.raises(ConfigError, match="are the same LoRA; give it once, with the sum of the scales"):
        draw(f"lora=[dots.safetensors,{tmp_path / 'copy.safetensors'}]")


def test_files_that_are_none_are_errors_before_the_model_is_loaded(draw, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.encoders, "load_text_encoder", None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        shutil.copy(folder / "dots.safetensors", tmp_path / "many" / f"{name}.safetensors")
    (tmp_path / "blob.pt").write_bytes(b"\x80\x04")
    (tmp_path / "blob.png").write_bytes(b"x")
    for typed, message in {
        "dot.safetensors": r"lora=dot\.safetensors: there is no such file. Did you mean 'dots\.safetensors'\?",
        "nowhere/blob.safetensors": r"there is no folder nowhere either",
        "dots.safetensors,new.safetensors": r"Several are lora=\[A,B\]; .* add -m",
        str(tmp_path / "empty"): r"a folder without a \.safetensors file",
        str(tmp_path / "many"): r"several LoRA files \(a\.safetensors, b\.safetensors\); name one",
        str(tmp_path / "blob.pt"): r"\.pt is a pickle, which can run code when it is opened, and is not read",
        str(tmp_path / "gone.bin"): r"\.bin is a pickle",
        str(tmp_path / "blob.png"): r"must be a \.safetensors file",
    }.items():
        with pytest.raises(LabError, match=message):
            draw(f"lora={typed}", parts=PartCache())


@pytest.mark.parametrize("content", ["half", "ten bytes", "nothing", "text", "no tensors", "lfs"])
def test_a_damaged_file_is_one_line_of_error(draw, folder, tmp_path, content):
    whole = (folder / "dots.safetensors").read_bytes()
    file = tmp_path / "bad.safetensors"
    file.write_bytes(
        {
            "half": whole[: len(whole) // 2],
            "ten bytes": whole[:10],
            "nothing": b"",
            "text": b"<!DOCTYPE html><html>" * 20,
            "no tensors": (2).to_bytes(8, "little") + b"{}",
            "lfs": b"version https://git-lfs.github.com/spec/v1\n",
        }[content]
    )
    with pytest.raises(ModelError, match=r"bad\.safetensors: (cut short|holds no weights|a Git LFS)") as caught:
        draw(f"lora={file}")
    assert "\n" not in str(caught.value)


def test_of_another_model_is_told_before_any_step(draw, tmp_path):
    other = {"layers.0.attention.to_q": (torch.ones(4, 3840), torch.ones(3840, 4), 4.0)}
    save_lora(tmp_path / "real.safetensors", other)
    with pytest.raises(ModelError, match=r"3840 x 3840, this transformer's is 64 x 64\. It was made for another model"):
        draw(f"lora={tmp_path / 'real.safetensors'}")


def test_a_sweep_of_loras_is_labelled_resumed_and_told_apart(run_main, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "loras")
    begin = ["-m", "a red apple", "model=tiny", "sampler.steps=1", "tracker=none", "sweep.name=s"]
    axis = "lora=none,loras/blob:0.5,[loras/blob:0.5,loras/dots.safetensors:1]"
    code, out, err, _ = run_main(*begin, axis)
    assert (code, err.count("error")) == (0, 0)
    labels = [json.loads(p.read_text())["labels"]["lora"] for p in (tmp_path / "outputs/sweeps/s").rglob("cell.json")]
    assert sorted(labels) == ["loras/blob:0.5", "loras/blob:0.5 + loras/dots.safetensors:1", "none"]
    assert "0 pictures drawn" in run_main(*begin, axis)[1]

    code, out, err, _ = run_main(*begin[:-1], "sweep.name=t", "lora=loras/blob:0.5", "lora_scale=0,0.5,1")
    assert (code, "3 pictures drawn" in out) == (0, True)
    import pandas

    table = pandas.read_parquet(tmp_path / "outputs/sweeps/t/table.parquet")
    assert sorted(table["lora_scale"]) == [0.0, 0.5, 1.0]
    assert table["pixels_sha256"].nunique() == 3
    assert Image.open(tmp_path / "outputs/sweeps/s/grids/grid.png").size[0] > 0


def test_a_misspelt_lora_of_a_sweep_is_told_before_anything_is_written(run_main, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "loras")
    code, _, err, written = run_main("-m", "a red apple", "model=tiny", "lora=loras/blob:1,loras/blub:1")
    assert (code, written) == (2, [])
    assert "lora=loras/blub: there is no such file. Did you mean 'blob'?" in err


def test_grids_leave_out_what_all_labels_share():
    assert short_names(["none", "out/blob/a.safetensors:0.5", "out/blob/a.safetensors:1"]) == {
        "none": "none", "out/blob/a.safetensors:0.5": "a:0.5", "out/blob/a.safetensors:1": "a:1",
    }  # fmt: skip
    assert short_names(["o/a/l.safetensors", "o/b/l.safetensors + o/a/l.safetensors:2"]) == {
        "o/a/l.safetensors": "a/l", "o/b/l.safetensors + o/a/l.safetensors:2": "b/l + a/l:2",
    }  # fmt: skip
    assert short_names(["a.safetensors", "a"]) == {}


def test_a_zero_update_is_known_as_such(folder):
    loras = [load_lora(str(folder / name), tiny_transformer()) for name in ("new.safetensors", "dots.safetensors")]
    assert [lora.is_zero for lora in loras] == [True, False]


def test_fusing_is_the_update_by_hand(blob, folder):
    by_hand, fused = tiny_transformer(), tiny_transformer()
    add_by_hand(by_hand, blob, -0.3)
    fuse(fused, [(load_lora(str(folder / "blob"), fused), -0.3)])
    for name, weight in by_hand.state_dict().items():
        assert torch.allclose(fused.state_dict()[name], weight, atol=1e-6), name
