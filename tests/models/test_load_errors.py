"""What is wrong with a model's files is said in one line, nothing else is printed, nothing half-loaded comes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from llm_dit.base.errors import ModelError
from llm_dit.config import ModelConfig
from llm_dit.encoders.load import load_text_encoder, load_tokenizer
from llm_dit.families.z_image.load import load_transformer, load_vae
from llm_dit.weights.schedule import load_shift

LOADERS = {"transformer": load_transformer, "vae": load_vae, "text_encoder": load_text_encoder}
COMPONENTS = list(LOADERS)


@pytest.fixture
def refused(cpu, capfd):
    """refused(component, path or ModelConfig) -> the message of the ModelError that loading raises."""

    def load(component: str, model: Path | ModelConfig) -> str:
        if not isinstance(model, ModelConfig):
            model = ModelConfig(path=str(model))
        capfd.readouterr()
        with pytest.raises(ModelError) as caught:
            LOADERS[component](model, cpu)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 500
        assert capfd.readouterr() == ("", "")
        return message

    return load


def weights_of(folder: Path, component: str) -> Path:
    (file,) = (folder / component).glob("*.safetensors")
    return file


@pytest.mark.parametrize("component", COMPONENTS)
def test_missing_folder(refused, tmp_path, component):
    assert f"model.path={tmp_path}/none: there is no such folder" in refused(component, tmp_path / "none")


@pytest.mark.parametrize("path", ["", " ", "~nobody/x", "a/b/c", "../x", "x" * 5000, "a\0b", "shipped:nothing"])
def test_paths_that_cannot_be_one(refused, path):
    assert "model.path=" in refused("vae", ModelConfig(path=path))


def test_a_file_in_the_place_of_a_folder(refused, tmp_path):
    (tmp_path / "z.safetensors").write_bytes(b"")
    message = refused("transformer", tmp_path / "z.safetensors")
    assert "a file, not a model folder" in message
    assert "model.transformer_file" in message
    message = refused("text_encoder", ModelConfig(path="random:tiny", text_encoder=str(tmp_path / "z.safetensors")))
    assert message.startswith("model.text_encoder=")


@pytest.mark.parametrize("component", COMPONENTS)
def test_folder_without_the_component_lists_what_is_there(refused, own_folder, component):
    shutil.rmtree(own_folder / component)
    message = refused(component, own_folder)
    assert f"no '{component}' folder in it (found: scheduler, " in message
    assert "tokenizer" in message


def test_empty_folder(refused, tmp_path):
    assert "no 'transformer' folder in it (found: no folders)" in refused("transformer", tmp_path)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "must hold a JSON object, not a list"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_broken_config_file(refused, own_folder, component, text, says):
    (own_folder / component / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert f"{component}/config.json: {says}" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_absent_config_file(refused, own_folder, component):
    (own_folder / component / "config.json").unlink()
    assert f"{component}/config.json: cannot be read (No such file or directory)" in refused(component, own_folder)


def test_config_of_another_class(refused, own_folder):
    shutil.rmtree(own_folder / "vae")
    shutil.copytree(own_folder / "transformer", own_folder / "vae")
    message = refused("vae", own_folder)
    assert "vae: holds ZImageTransformer2DModel, where AutoencoderKL is needed" in message


@pytest.mark.parametrize(
    ("component", "key", "value"),
    [
        ("transformer", "dim", "wide"),
        ("transformer", "n_heads", 0),
        ("vae", "block_out_channels", None),
        ("vae", "down_block_types", ["NoSuchBlock"] * 4),
        ("text_encoder", "hidden_size", "wide"),
        ("text_encoder", "model_type", "no_such_architecture"),
    ],
)
def test_impossible_config_values(refused, own_folder, component, key, value):
    file = own_folder / component / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    assert f"{component}" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("size", ["half", "all but a byte", "ten", "none"])
def test_truncated_weights(refused, own_folder, component, size):
    file = weights_of(own_folder, component)
    whole = file.read_bytes()
    file.write_bytes(whole[: {"half": len(whole) // 2, "all but a byte": -1, "ten": 10, "none": 0}[size]])
    assert f"{file}: cut short, damaged, or not a safetensors file" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_weights_and_pickled_weights(refused, own_folder, component):
    file = weights_of(own_folder, component)
    file.unlink()
    assert f"no weights in it. It must hold {file.name}" in refused(component, own_folder)
    name = "pytorch_model.bin" if component == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save({"x": torch.zeros(1)}, file.with_name(name))
    assert f"(found: config.json, {name})" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_missing_weights_are_never_left_random(refused, own_folder, edit_weights, component):
    file = weights_of(own_folder, component)
    gone = []

    def drop(tensors):
        gone.extend(sorted(tensors)[2:4])
        for name in gone:
            del tensors[name]

    edit_weights(file, drop)
    assert f"2 missing weights, the first is '{gone[0]}'" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_unexpected_weights(refused, own_folder, edit_weights, component):
    edit_weights(weights_of(own_folder, component), lambda t: t.update({"layers.9.extra": torch.zeros(2)}))
    assert "1 unexpected weight, the first is 'layers.9.extra'" in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_weights_of_another_shape(refused, own_folder, edit_weights, component):
    seen = {}

    def squeeze(tensors):
        seen["name"] = next(n for n, t in sorted(tensors.items()) if t.ndim > 1)
        seen["shape"] = tuple(tensors[seen["name"]].shape)
        tensors[seen["name"]] = torch.zeros(3, 5)

    edit_weights(weights_of(own_folder, component), squeeze)
    expected = f"1 weight of another shape, the first is '{seen['name']}': (3, 5), where {seen['shape']} is needed"
    assert expected in refused(component, own_folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_weights_of_another_model(refused, own_folder, edit_weights, component):
    def rename(tensors):
        for name in list(tensors):
            tensors[f"other.{name}"] = tensors.pop(name)

    edit_weights(weights_of(own_folder, component), rename)
    message = refused(component, own_folder)
    assert "none of its" in message
    assert "the first is 'other." in message


def test_integer_weights(refused, own_folder, edit_weights):
    edit_weights(weights_of(own_folder, "vae"), lambda t: t.update({k: v.to(torch.int8) for k, v in t.items()}))
    assert "holds integer weights" in refused("vae", own_folder)


def test_integer_buffers_of_a_language_model_are_judged_like_its_other_weights(refused, own_folder, edit_weights):
    """Older language models keep masks and positions in their files; only transformers knows which are harmless."""
    edit_weights(weights_of(own_folder, "text_encoder"), lambda t: t.update(ids=torch.arange(3)))
    assert "1 unexpected weight, the first is 'ids'" in refused("text_encoder", own_folder)


def test_incomplete_download_of_shards(refused, own_folder):
    from llm_dit.families.z_image.tiny import tiny_transformer

    folder = own_folder / "transformer"
    shutil.rmtree(folder)
    tiny_transformer().save_pretrained(folder, max_shard_size="1MB")
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].unlink()
    message = refused("transformer", own_folder)
    assert f"1 of its {len(shards)} weight files are missing, the first is '{shards[1].name}'" in message
    for index in ("{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'):
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
        assert "has no weight_map" in refused("transformer", own_folder)


@pytest.mark.parametrize("how", ["no folder", "empty folder", "broken file", "config alone"])
def test_broken_tokenizer(refused, own_folder, how):
    folder = own_folder / "tokenizer"
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "empty folder":
        for file in folder.iterdir():
            file.unlink()
    elif how == "broken file":
        (folder / "tokenizer.json").write_text("{")
    else:
        (folder / "tokenizer.json").unlink()
    message = refused("text_encoder", own_folder)
    assert "tokenizer" in message
    with pytest.raises(ModelError) as caught:
        load_tokenizer(ModelConfig(path=str(own_folder)))
    assert str(caught.value) == message


def test_folders_of_model_and_text_encoder_are_named_by_their_own_setting(refused, tmp_path):
    message = refused("text_encoder", ModelConfig(path="random:tiny", text_encoder=str(tmp_path / "none")))
    assert message.startswith(f"model.text_encoder={tmp_path}/none: there is no such folder")


def test_text_encoder_that_is_not_decoder_only(refused, own_folder):
    from transformers import T5Config, T5Model

    shutil.rmtree(own_folder / "text_encoder")
    tiny = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5Model(tiny).save_pretrained(own_folder / "text_encoder")
    assert "must be a decoder-only language model" in refused("text_encoder", own_folder)


def test_text_encoder_that_wants_to_run_its_own_code_is_not_asked_about(refused, own_folder):
    """transformers would ask on the terminal and wait for an answer."""
    file = own_folder / "text_encoder" / "config.json"
    config = json.loads(file.read_text()) | {"model_type": "evil", "auto_map": {
        "AutoConfig": "code.Config", "AutoModel": "code.Model"}}  # fmt: skip
    file.write_text(json.dumps(config))
    (own_folder / "text_encoder" / "code.py").write_text("raise SystemExit('ran')")
    assert "text_encoder: cannot be loaded as text encoder" in refused("text_encoder", own_folder)


def test_vae_of_another_factor(refused, own_folder):
    from diffusers import AutoencoderKL

    shutil.rmtree(own_folder / "vae")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=2, latent_channels=16).save_pretrained(own_folder / "vae")
    assert "shrinks pictures 1 times; this project needs 8 times" in refused("vae", own_folder)


def test_model_larger_than_the_device(cpu):
    from llm_dit.weights.modules import settle

    class Large(torch.nn.Linear):
        def to(self, device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    with pytest.raises(ModelError, match=r"^Large does not fit into the memory of cpu .*hardware\.offload=true"):
        settle(Large(2, 2), cpu)


@pytest.mark.parametrize("backend", ["sage", "flash", "_flash_3", "xformers"])
def test_attention_backend_whose_package_is_absent(tiny_folder, cpu, capfd, backend):
    from importlib.util import find_spec

    package = {"sage": "sageattention", "flash": "flash_attn", "_flash_3": "flash_attn_interface"}.get(backend, backend)
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ModelError, match=rf"^hardware\.attention_backend={backend}: not usable here \(.*\)\.$"):
        load_transformer(ModelConfig(path=str(tiny_folder)), cpu, backend)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"use_dynamic_shifting": true}', "set sampler.shift_mode=resolution, or sampler.shift"),
        ('{"shift": "three"}', "shift"),
        ('{"shift": 0}', "shift"),
        ("{", "not valid JSON"),
    ],
)
def test_unusable_schedules(own_folder, text, says):
    (own_folder / "scheduler" / "scheduler_config.json").write_text(text)
    with pytest.raises(ModelError, match=says):
        load_shift(ModelConfig(path=str(own_folder)))
