"""Parts are loaded once, replaced one by one, and never two of a kind at the same time."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import pytest
import torch

from llm_dit.base.clock import Clock
from llm_dit.base.errors import ModelError
from llm_dit.conditioning import encode as conditioning
from llm_dit.conditioning.encode import encode_prompt
from llm_dit.config import Config, HardwareConfig, ModelConfig, PromptConfig
from llm_dit.models.cache import Models, PartCache

KINDS = ["transformer", "vae", "text_encoder"]


class Part:
    """Something that can be weakly referred to."""


@pytest.fixture
def config(tiny_folder) -> Config:
    return Config(model=ModelConfig(path=str(tiny_folder)), prompt=PromptConfig(text="a red apple"))


def parts_of(models: Models) -> dict:
    return {kind: getattr(models, kind) for kind in KINDS}


def test_a_part_is_built_once_for_a_key():
    cache, built = PartCache(), []
    for _ in range(3):
        assert cache.get("vae", ("a", 1), lambda: built.append(1) or "part") == "part"
    assert len(built) == 1


def test_kinds_do_not_disturb_each_other():
    cache = PartCache()
    vae, transformer = cache.get("vae", 1, Part), cache.get("transformer", 1, Part)
    assert vae is not transformer
    cache.get("transformer", 2, Part)
    assert cache.get("vae", 1, Part) is vae


def test_the_old_part_is_gone_before_the_new_one_is_built():
    cache = PartCache()
    part = cache.get("transformer", "old", Part)
    part.itself = part  # modules refer to themselves, which counting references alone does not free
    old = weakref.ref(part)
    del part
    gc.disable()
    try:
        alive = cache.get("transformer", "new", lambda: [old()])
    finally:
        gc.enable()
    assert alive == [None]


def test_a_part_that_fails_to_load_is_tried_again():
    cache = PartCache()

    def fail():
        raise ModelError("broken")

    with pytest.raises(ModelError):
        cache.get("vae", 1, fail)
    assert cache.get("vae", 1, lambda: "part") == "part"


def test_clear_lets_go_of_everything():
    cache = PartCache()
    part = weakref.ref(cache.get("vae", 1, Part))
    cache.clear()
    assert part() is None


def test_threads_that_ask_together_share_one_load():
    cache, built, got = PartCache(), [], []
    ready = threading.Barrier(8)

    def build():
        built.append(threading.get_ident())
        return Part()

    def ask():
        ready.wait()
        got.append(cache.get("vae", "key", build))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len({id(part) for part in got}) == 1


def test_threads_that_ask_for_different_keys_each_get_their_own():
    cache, wrong = PartCache(), []

    def ask(key):
        for _ in range(3):
            if cache.get("vae", key, lambda: f"part {key}") != f"part {key}":
                wrong.append(key)

    threads = [threading.Thread(target=ask, args=(key,)) for key in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_second_run_of_the_same_model_loads_nothing(config, cpu):
    cache = PartCache()
    first, clock = parts_of(Models(config, cpu, cache)), Clock()
    again = parts_of(Models(replace(config, seed=5), cpu, cache, clock))
    assert all(again[kind] is first[kind] for kind in KINDS)
    assert "load" not in clock.seconds


@pytest.mark.parametrize(
    ("change", "reloaded"),
    [
        ({"model": {"text_encoder": "random:tiny"}}, {"text_encoder"}),
        ({"hardware": {"attention_backend": "_native_math"}}, {"transformer"}),
        ({"model": {"path": "random:tiny"}}, {"transformer", "vae", "text_encoder"}),
        ({"model": {"name": "another label", "chat_format": "chatml"}}, set()),
        ({"hardware": {"batch_size": 4}}, set()),
    ],
)
def test_only_the_parts_that_a_setting_defines_are_reloaded(config, cpu, change, reloaded):
    cache = PartCache()
    before = parts_of(Models(config, cpu, cache))
    changed = replace(config, **{group: replace(getattr(config, group), **keys) for group, keys in change.items()})
    after = parts_of(Models(changed, cpu, cache))
    assert {kind for kind in KINDS if after[kind] is not before[kind]} == reloaded


def test_another_dtype_reloads_every_part(config, cpu):
    cache = PartCache()
    before = parts_of(Models(config, cpu, cache))
    after = parts_of(Models(config, replace(cpu, dtype="bfloat16"), cache))
    assert all(after[kind] is not before[kind] for kind in KINDS)
    assert after["vae"].dtype == torch.bfloat16


def test_a_transformer_file_replaces_the_transformer_alone(config, cpu, tiny_folder):
    cache = PartCache()
    before = parts_of(Models(config, cpu, cache))
    file = tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    changed = replace(config, model=replace(config.model, transformer_file=str(file)))
    after = parts_of(Models(changed, cpu, cache))
    assert {kind for kind in KINDS if after[kind] is not before[kind]} == {"transformer"}
    assert after["transformer"].weights_fingerprint == before["transformer"].weights_fingerprint


def test_loading_is_timed_as_load_whoever_asks(config, cpu):
    clock = Clock()
    with clock("encode"):
        assert Models(config, cpu, PartCache(), clock).vae is not None
    assert clock.seconds["load"] > 0
    assert clock.seconds["encode"] < clock.seconds["load"]


def test_known_prompts_do_not_load_the_text_encoder(config, cpu, monkeypatch):
    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    first = encode_prompt(config, "a red apple", Models(config, cpu, PartCache()))
    clock = Clock()
    emptied = Models(config, cpu, PartCache(), clock)
    assert encode_prompt(config, "a red apple", emptied) is first
    assert "load" not in clock.seconds
    assert torch.equal(encode_prompt(config, "a blue pear", emptied).embeds[:1], first.embeds[:1])
    assert "load" in clock.seconds


def test_embeddings_of_another_text_encoder_are_not_mistaken_for_known_ones(config, cpu, monkeypatch):
    monkeypatch.setattr(conditioning, "_known", type(conditioning._known)())
    single = encode_prompt(config, "a red apple", Models(config, cpu, PartCache()))
    rounded = encode_prompt(config, "a red apple", Models(config, replace(cpu, dtype="bfloat16"), PartCache()))
    assert single.embeds.dtype == torch.float32
    assert rounded.embeds.dtype == torch.bfloat16


def test_the_shift_of_a_model_is_read_once(config, cpu, own_folder):
    config = replace(config, model=ModelConfig(path=str(own_folder)), hardware=HardwareConfig())
    models = Models(config, cpu, PartCache())
    assert models.shift == 3.0
    (own_folder / "scheduler" / "scheduler_config.json").unlink()
    assert models.shift == 3.0
