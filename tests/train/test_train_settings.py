"""Every parameter of train, perturbed, changes the weights, the log, the files, or how the training is computed."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors import safe_open
from small_training import log_of, make_data, settings, small_start, without_seconds
from test_vae_training import Pictures

from llm_dit.config import parameters
from llm_dit.train.checkpoint import checkpoints, read_checkpoint
from llm_dit.train.start import start_transformer
from llm_dit.train.task import train

LORA, VAE, MUON = "train.method=lora", "train.method=vae", "train.optimizer=muon"
DISTILL = ("train.method=distill", "sampler.steps=2", "guidance.guidance_scale=2", "train.batch_size=1")

# key -> (overrides of both trainings, the perturbation); they differ in weights, log, or files.
ACTS = {
    "train.method": ((), LORA),
    "train.start": ((), "train.start=random"),
    "train.init": ((), "train.init=START"),
    "train.trainable": ((), r"train.trainable=layers\..*"),
    "train.lora.rank": ((LORA,), "train.lora.rank=2"),
    "train.lora.alpha": ((LORA,), "train.lora.alpha=64"),
    "train.lora.dropout": ((LORA,), "train.lora.dropout=0.5"),
    "train.lora.targets": ((LORA,), r"train.lora.targets=layers\.\d+\.feed_forward\.w1"),
    "train.distill.substeps": (DISTILL, "train.distill.substeps=1"),
    "train.vae.kl_weight": ((VAE,), "train.vae.kl_weight=1"),
    "train.vae.edge_weight": ((VAE,), "train.vae.edge_weight=0"),
    "train.vae.shrink_share": ((VAE,), "train.vae.shrink_share=1"),
    "train.vae.rescale": ((VAE,), "train.vae.rescale=true"),
    "train.steps": ((), "train.steps=3"),
    "train.batch_size": ((), "train.batch_size=3"),
    "train.accumulation": ((), "train.accumulation=2"),
    "train.seed": ((), "train.seed=1"),
    "train.optimizer": ((), MUON),
    "train.learning_rate": ((), "train.learning_rate=0.01"),
    "train.other_learning_rate": ((MUON,), "train.other_learning_rate=0.01"),
    "train.beta1": ((), "train.beta1=0.5"),
    "train.beta2": ((), "train.beta2=0.5"),
    "train.epsilon": ((), "train.epsilon=0.1"),
    "train.momentum": ((MUON,), "train.momentum=0.5"),
    "train.weight_decay": ((), "train.weight_decay=0.5"),
    "train.max_grad_norm": ((), "train.max_grad_norm=0.01"),
    "train.scheduler": ((), "train.scheduler=cosine"),
    "train.warmup_steps": (("train.scheduler=constant_with_warmup",), "train.warmup_steps=5"),
    "train.cooldown": (("train.scheduler=trapezoid",), "train.cooldown=1"),
    "train.ema_decay": ((), "train.ema_decay=0.9"),
    "train.precision": ((), "train.precision=bf16"),
    "train.sigma_sampling": ((), "train.sigma_sampling=uniform"),
    "train.logit_mean": ((), "train.logit_mean=1"),
    "train.logit_std": ((), "train.logit_std=0.1"),
    "train.mode_scale": (("train.sigma_sampling=mode",), "train.mode_scale=0"),
    "train.uniform_share": ((), "train.uniform_share=1"),
    "train.shift": ((), "train.shift=1"),
    "train.loss_weighting": ((), "train.loss_weighting=cosmap"),
    "train.caption_dropout": ((), "train.caption_dropout=1"),
    "train.log_every": ((), "train.log_every=2"),
    "train.checkpoint_every": ((), "train.checkpoint_every=1"),
    "train.keep": (("train.checkpoint_every=1",), "train.keep=1"),
    "train.save_dtype": ((), "train.save_dtype=bfloat16"),
    "train.validate_every": (("prompt.text=x", "sampler.steps=1"), "train.validate_every=2"),
}
# What changes how a training is computed or where it is kept, and not what comes of it; below.
OWN_TEST = {"train.name", "train.dir", "train.compile", "train.gradient_checkpointing"}


def test_every_parameter_has_its_entry():
    assert {p.key for p in parameters() if p.key.startswith("train.")} == set(ACTS) | OWN_TEST


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What comes of a training with some overrides, remembered: weights by sum, log, and files with their types."""

    @cache
    def run(*overrides):
        folder = tmp_path_factory.mktemp("train")
        overrides = [o.replace("START", str(small_start(folder / "start", 16))) for o in overrides]
        train(settings(folder, "train.steps=2", *overrides), dataset=Pictures() if VAE in overrides else make_data())
        state = read_checkpoint(checkpoints(folder / "t" / "checkpoints")[-1])
        tensors = state.average or state.weights
        files = sorted(str(p.relative_to(folder / "t")) for p in (folder / "t").rglob("*") if p.is_file())
        config = [p.read_text() for p in sorted((folder / "t").glob("*/config.json"))]
        kinds = set()
        for path in (folder / "t").glob("*/diffusion_pytorch_model.safetensors"):
            with safe_open(path, "pt") as file:
                kinds |= {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (not a dict)
        sums = {name: tensor.double().sum().item() for name, tensor in tensors.items()}
        return sums, without_seconds(log_of(folder)), files, config, kinds

    return run


@pytest.mark.parametrize("key", ACTS)
def test_a_setting_acts(key, outcome):
    both, change = ACTS[key]
    assert outcome(*both) != outcome(*both, change)


def test_the_same_settings_give_the_same(tmp_path, outcome):
    train(settings(tmp_path, "train.steps=2"), dataset=make_data())
    assert outcome()[1] == without_seconds(log_of(tmp_path))


def test_name_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = train(settings("here", "train.steps=1", "train.name=mine"), dataset=make_data())
    assert str(saved) == "here/mine"
    first = train(settings("here", "train.steps=1", "train.name=null"), dataset=make_data())
    again = train(settings("here", "train.steps=1", "train.name=null"), dataset=make_data())
    other = train(settings("here", "train.steps=1", "train.name=null", "train.seed=1"), dataset=make_data())
    assert first == again != other


def test_checkpointing_and_compiling_are_set():
    config = settings("x", "train.gradient_checkpointing=true")
    assert start_transformer(config, "cpu", "float32").gradient_checkpointing
    assert not start_transformer(settings("x"), "cpu", "float32").gradient_checkpointing
    from llm_dit.families.z_image.tiny import tiny_transformer
    from llm_dit.train.forward import TrainingForward, velocity

    assert TrainingForward(tiny_transformer())._run is velocity
    assert TrainingForward(tiny_transformer(), compiled=True)._run._torchdynamo_orig_callable is velocity
    assert torch.is_grad_enabled()
