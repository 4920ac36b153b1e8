"""Models in diffusers' folder layout give exactly what the modules gave before they were saved."""

from __future__ import annotations

import shutil

import pytest
import torch

from llm_dit.config import ModelConfig
from llm_dit.encoders.load import load_text_encoder, load_tokenizer
from llm_dit.encoders.tiny import TEXT_LAYERS, tiny_text_encoder
from llm_dit.families.z_image.load import load_transformer, load_vae
from llm_dit.families.z_image.rotary import ComputedRotary
from llm_dit.families.z_image.tiny import tiny_transformer, tiny_vae
from llm_dit.weights.place import Placement
from llm_dit.weights.schedule import load_shift

TEXT = "<|im_start|>user\nA red apple, naïve 日本<|im_end|>\n"


def same_states(a, b) -> bool:
    """Whether two text encoders give the same bits at every layer."""
    ids = a.tokenize(TEXT)[0]
    layers = range(TEXT_LAYERS + 1)
    pairs = zip(a.encode(ids, layers), b.encode(b.tokenize(TEXT)[0], layers), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture
def random_encoder(cpu):
    return load_text_encoder(ModelConfig(path="random:tiny"), cpu)


def test_transformer_draws_the_same_bits_as_before_saving(tiny_folder, cpu, transformer_inputs):
    loaded = load_transformer(ModelConfig(path=str(tiny_folder)), cpu)
    made = tiny_transformer().eval()
    with torch.inference_mode():
        assert torch.equal(loaded(*transformer_inputs)[0][0], made(*transformer_inputs)[0][0])


def test_vae_gives_the_same_bits_as_before_saving(tiny_folder, cpu):
    loaded = load_vae(ModelConfig(path=str(tiny_folder)), cpu)
    z = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded.decode(z).sample, tiny_vae().eval().decode(z).sample)
    assert (loaded.config.scaling_factor, loaded.config.shift_factor) == (0.3611, 0.1159)


def test_text_encoder_gives_the_same_hidden_states_as_before_saving(tiny_folder, cpu, random_encoder):
    loaded = load_text_encoder(ModelConfig(path=str(tiny_folder)), cpu)
    assert same_states(loaded, random_encoder)
    assert loaded.fingerprint == random_encoder.fingerprint


def test_loaded_modules_are_frozen_in_eval_mode_and_take_any_caption_length(tiny_folder, cpu):
    model = ModelConfig(path=str(tiny_folder))
    transformer, vae, encoder = load_transformer(model, cpu), load_vae(model, cpu), load_text_encoder(model, cpu)
    for module in (transformer, vae, encoder.model):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        assert len(module.weights_fingerprint) == 16
    assert isinstance(transformer.rope_embedder, ComputedRotary)


@pytest.mark.parametrize("tied", [True, False])
def test_text_encoder_saved_with_its_token_head_gives_the_same_hidden_states(own_folder, cpu, random_encoder, tied):
    from transformers import Qwen3ForCausalLM

    language_model, _ = tiny_text_encoder()
    language_model.config.tie_word_embeddings = tied
    with_head = Qwen3ForCausalLM(language_model.config)
    with_head.model.load_state_dict(language_model.state_dict())
    with_head.tie_weights()
    shutil.rmtree(own_folder / "text_encoder")
    with_head.save_pretrained(own_folder / "text_encoder")
    assert same_states(load_text_encoder(ModelConfig(path=str(own_folder)), cpu), random_encoder)


def test_text_encoder_folder_may_hold_model_and_tokenizer_side_by_side(tiny_folder, tmp_path, cpu, random_encoder):
    shutil.copytree(tiny_folder / "text_encoder", tmp_path / "llm")
    shutil.copytree(tiny_folder / "tokenizer", tmp_path / "llm", dirs_exist_ok=True)
    model = ModelConfig(path="nowhere/at-all", text_encoder=str(tmp_path / "llm"))
    assert same_states(load_text_encoder(model, cpu), random_encoder)
    assert load_tokenizer(model).tokenize(TEXT) == random_encoder.tokenize(TEXT)


def test_text_encoder_may_come_from_another_image_models_folder(tiny_folder, cpu, random_encoder):
    model = ModelConfig(path="random:tiny", text_encoder=str(tiny_folder))
    assert same_states(load_text_encoder(model, cpu), random_encoder)


def test_tokenizer_loads_without_the_language_model(own_folder, random_encoder):
    shutil.rmtree(own_folder / "text_encoder")
    tokenizer = load_tokenizer(ModelConfig(path=str(own_folder)))
    assert tokenizer.tokenize(TEXT) == random_encoder.tokenize(TEXT)
    messages = [{"role": "user", "content": "hello"}]
    assert tokenizer.apply_chat_template(messages) == random_encoder.apply_chat_template(messages)


def test_sharded_weights_load_like_whole_ones(own_folder, cpu, transformer_inputs):
    shutil.rmtree(own_folder / "transformer")
    tiny_transformer().save_pretrained(own_folder / "transformer", max_shard_size="1MB")
    assert len(list((own_folder / "transformer").glob("*.safetensors"))) > 1
    loaded = load_transformer(ModelConfig(path=str(own_folder)), cpu)
    with torch.inference_mode():
        assert torch.equal(loaded(*transformer_inputs)[0][0], tiny_transformer().eval()(*transformer_inputs)[0][0])


def test_bfloat16_rounds_every_weight_once(tiny_folder):
    model, placement = ModelConfig(path=str(tiny_folder)), Placement("cpu", "bfloat16")
    loaded = load_transformer(model, placement), load_vae(model, placement), load_text_encoder(model, placement).model
    for module, made in zip(loaded, (tiny_transformer(), tiny_vae(), tiny_text_encoder()[0]), strict=True):
        expected = made.state_dict()
        for name, weight in module.state_dict().items():
            assert weight.dtype == torch.bfloat16
            assert torch.equal(weight, expected[name].to(torch.bfloat16)), name


def test_bfloat16_files_load_as_float32(own_folder, cpu):
    shutil.rmtree(own_folder / "transformer")
    tiny_transformer().to(torch.bfloat16).save_pretrained(own_folder / "transformer")
    loaded = load_transformer(ModelConfig(path=str(own_folder)), cpu)
    assert all(torch.equal(w, tiny_transformer().state_dict()[k].to(torch.bfloat16).float())
               for k, w in list(loaded.state_dict().items())[:5])  # fmt: skip


def test_shift_is_read_from_the_models_schedule(own_folder):
    file = own_folder / "scheduler" / "scheduler_config.json"
    file.write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 6.0}')
    assert load_shift(ModelConfig(path=str(own_folder))) == 6.0


def test_choosing_native_attention_undoes_an_earlier_choice(tiny_folder, cpu):
    """diffusers keeps the last backend for the whole process, so a model loaded later would silently use it."""
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    model = ModelConfig(path=str(tiny_folder))
    load_transformer(model, cpu, "_native_math")
    assert _AttentionBackendRegistry.get_active_backend()[0] == AttentionBackendName._NATIVE_MATH
    native = load_transformer(model, cpu, "native")
    assert _AttentionBackendRegistry.get_active_backend()[0] == AttentionBackendName.NATIVE
    chosen = {m.processor._attention_backend for m in native.modules() if hasattr(m, "processor")}
    assert chosen == {AttentionBackendName.NATIVE}


def test_loading_prints_nothing(tiny_folder, cpu, capfd):
    model = ModelConfig(path=str(tiny_folder))
    load_transformer(model, cpu, "_native_math")
    load_transformer(model, cpu)
    load_vae(model, cpu)
    load_text_encoder(model, cpu)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_weights_in_memory_do_not_depend_on_the_file_any_more(own_folder, cpu, component):
    """The libraries map the file: overwriting it would change a loaded model, and its offset how kernels round."""
    model = ModelConfig(path=str(own_folder))
    load = {"transformer": load_transformer, "vae": load_vae, "text_encoder": load_text_encoder}[component]
    loaded = load(model, cpu)
    module = loaded.model if component == "text_encoder" else loaded
    before = {k: v.clone() for k, v in module.state_dict().items()}
    (file,) = (own_folder / component).glob("*.safetensors")
    with file.open("r+b") as f:
        f.write(bytes(file.stat().st_size))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.data_ptr() % 64 == 0 for p in module.parameters())
