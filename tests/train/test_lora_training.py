"""An adapter trained, saved, and loaded elsewhere changes the picture as it did in training."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open
from test_training import settings

from conftest import make_data
from llm_dit.models.tiny import tiny_transformer
from llm_dit.train import outputs
from llm_dit.train.task import train


def predict(model):
    g = torch.Generator().manual_seed(9)
    x, caption = torch.randn(16, 1, 8, 8, generator=g), torch.randn(9, 32, generator=g)
    with torch.no_grad():
        return model([x], torch.tensor([0.4]), [caption], return_dict=False)[0][0]


def test_a_saved_adapter_acts_as_in_training(tmp_path, monkeypatch):
    from llm_dit.train.forward import stock_attention

    kept = {}
    save = outputs.save_adapter

    def keep(model, *rest):
        with stock_attention(model.eval()):
            kept["trained"] = predict(model)
        return save(model, *rest)

    monkeypatch.setattr(outputs, "save_adapter", keep)
    path = train(
        settings(
            tmp_path, "train.method=lora", "train.lora.rank=4", "train.lora.alpha=10", "train.steps=5",
            "train.learning_rate=0.05", "train.ema_decay=0.5",
        ),
        dataset=make_data(),
    )  # fmt: skip
    plain = predict(tiny_transformer())
    assert (kept["trained"] - plain).abs().max() > 1e-2
    loaded = tiny_transformer()
    loaded.load_lora_adapter(path.parent, weight_name=path.name, prefix="transformer")
    assert torch.allclose(predict(loaded), kept["trained"], atol=1e-5)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        names = list(file.keys())
    assert len(names) == 3 * 4 * 2
    assert all(name.startswith("transformer.layers.") for name in names)
    assert json.loads(header["llm_dit"])["settings"]["train.lora.rank"] == 4


def test_the_base_stays_as_it_was(tmp_path, monkeypatch):
    kept = {}
    save = outputs.save_adapter
    monkeypatch.setattr(
        outputs, "save_adapter", lambda model, *rest: kept.update(model.state_dict()) or save(model, *rest)
    )
    train(settings(tmp_path, "train.method=lora", "train.steps=2"), dataset=make_data())
    for name, weight in tiny_transformer().state_dict().items():
        there = kept.get(name, kept.get(name.replace(".weight", ".base_layer.weight")))
        assert torch.equal(there, weight), name
