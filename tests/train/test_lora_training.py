"""An adapter trained, saved, and loaded elsewhere changes the picture as it did in training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from small_training import make_data, settings

from llm_dit.compose import compose
from llm_dit.families.z_image.tiny import tiny_transformer
from llm_dit.render.draw import render
from llm_dit.train import outputs
from llm_dit.train.task import train
from llm_dit.train.validate import HeldTransformer

DRAWN = ["model=tiny", "hardware=cpu", "sampler.steps=2"]


def drawing(*overrides):
    return compose([*DRAWN, *overrides], prompt="a red apple")


def predict(model):
    g = torch.Generator().manual_seed(9)
    x, caption = torch.randn(16, 1, 8, 8, generator=g), torch.randn(9, 32, generator=g)
    with torch.no_grad():
        return model([x], torch.tensor([0.4]), [caption], return_dict=False)[0][0]


def test_a_saved_adapter_draws_as_in_training_also_in_a_fresh_process(tmp_path, monkeypatch):
    from llm_dit.train.forward import stock_attention

    kept = {}
    save = outputs.save_adapter

    def keep(model, *rest):
        with stock_attention(model.eval()):
            kept["output"] = predict(model)
            kept["picture"] = render(drawing(), parts=HeldTransformer(model))[0]
        return save(model, *rest)

    monkeypatch.setattr(outputs, "save_adapter", keep)
    path = train(
        settings(
            tmp_path, "train.method=lora", "train.lora.rank=4", "train.lora.alpha=10", "train.steps=5",
            "train.learning_rate=0.05", "train.ema_decay=0.5",
        ),
        dataset=make_data(),
    )  # fmt: skip
    plain, loaded = render(drawing())[0], render(drawing(f"lora=[{path}]"))[0]
    assert (kept["picture"].latents - plain.latents).abs().max() > 1e-2
    assert torch.allclose(loaded.latents, kept["picture"].latents, atol=1e-5)
    by_diffusers = tiny_transformer()
    by_diffusers.load_lora_adapter(path.parent, weight_name=path.name, prefix="transformer")
    assert torch.allclose(predict(by_diffusers), kept["output"], atol=1e-5)
    with safe_open(path, "pt") as file:
        header, names = file.metadata(), list(file.keys())
    assert len(names) == 3 * 4 * 2
    assert json.loads(header["llm_dit"])["settings"]["train.lora.rank"] == 4

    run = [
        sys.executable,
        "experiments/run.py",
        "a red apple",
        *DRAWN,
        f"lora={path}",
        f"output.dir={tmp_path}",
        "output.name=p",
    ]
    subprocess.run(run, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    fresh = json.loads((tmp_path / "p.json").read_text())
    assert fresh["pixels_sha256"] == loaded.record["pixels_sha256"]


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
