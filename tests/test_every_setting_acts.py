"""Every parameter of the config, perturbed, changes something that can be seen, or is refused by name.

PERTURB must name them all: a new parameter without an entry fails the first test.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llm_dit.compose import compose
from llm_dit.config import parameters
from llm_dit.errors import LabError
from llm_dit.models.lora_file import save_lora
from llm_dit.models.tiny import save_tiny_folder
from llm_dit.picture import picture_name
from llm_dit.render import render
from llm_dit.tasks import run_task

BASE = ["model=tiny", "hardware=cpu", "guidance.guidance_scale=2", "prompt.negative=fog", "sampler.steps=3"]

# What changes the pixels: key -> (overrides of both renders, the perturbation).
PIXELS = {
    "prompt.text": ([], "prompt.text=other"),
    "prompt.negative": ([], "prompt.negative=other"),
    "prompt.system": ([], "prompt.system=other"),
    "prompt.thinking": ([], "prompt.thinking=other"),
    "prompt.assistant": ([], "prompt.assistant=other"),
    "prompt.force_think_block": ([], "prompt.force_think_block=true"),
    "prompt.strip_quotes": (["prompt.system='\"a\"'"], "prompt.strip_quotes=true"),
    "prompt.clean_whitespace": (["prompt.system='a  b'"], "prompt.clean_whitespace=true"),
    "prompt.template": ([], "prompt.template=photograph"),
    "prompt_file": ([], "prompt_file=prompt.txt"),
    "seed": ([], "seed=1"),
    "seeds": ([], "seeds=[1]"),
    "width": ([], "width=80"),
    "height": ([], "height=80"),
    "default_size": ([], "default_size=80"),
    "init_image": ([], "init_image=start.png"),
    "strength": (["init_image=start.png"], "strength=0.9"),
    "lora": ([], "lora=blob.safetensors:0.8"),
    "lora_scale": (["lora=blob.safetensors"], "lora_scale=0.5"),
    # In float32 the two are the same up to rounding; in bfloat16 the sum is rounded to the weights.
    "lora_fuse": (["lora=blob.safetensors", "hardware.dtype=bfloat16"], "lora_fuse=true"),
    "model.path": ([], "model.path=other"),
    "model.transformer_file": (["model.path=folder"], "model.transformer_file=other/transformer/MODEL.safetensors"),
    "model.text_encoder": ([], "model.text_encoder=other"),
    "encoder_layer.index": ([], "encoder_layer.index=-3"),
    "encoder_layer.layers": ([], "encoder_layer.layers=[-2,-3]"),
    "encoder_layer.layer_range": ([], "encoder_layer.layer_range=[-3,-2]"),
    "encoder_layer.weights": (
        ["encoder_layer.layers=[-2,-3]", "encoder_layer.combine=weighted"],
        "encoder_layer.weights=[1,3]",
    ),
    "encoder_layer.pre_norm": (["encoder_layer.index=-1"], "encoder_layer.pre_norm=true"),
    "encoder_layer.norm": ([], "encoder_layer.norm=layernorm"),
    "encoder_layer.combine": (["encoder_layer.layers=[-1,-3]"], "encoder_layer.combine=slerp"),
    "encoder_layer.align": (["encoder_layer.index=-3"], "encoder_layer.align=moments"),
    "encoder_layer.ridge": (["encoder_layer.index=-3", "encoder_layer.align=ridge"], "encoder_layer.ridge=1"),
    "encoder_layer.fit_prompts": (
        ["encoder_layer.index=-3", "encoder_layer.align=ridge"],
        "encoder_layer.fit_prompts=starter",
    ),
    "encoder_layer.trained_index": (
        ["encoder_layer.index=-3", "encoder_layer.align=ridge"],
        "encoder_layer.trained_index=-4",
    ),
    "encoder_layer.tokens": ([], "encoder_layer.tokens=user"),
    "long_prompt.max_tokens": (["prompt.system=many_words_in_here"], "long_prompt.max_tokens=48"),
    "long_prompt.mode": (["prompt.text=many_words", "long_prompt.max_tokens=24"], "long_prompt.mode=merge"),
    "long_prompt.encoder_max_tokens": (
        ["prompt.text=many_words", "long_prompt.max_tokens=24", "long_prompt.mode=merge"],
        "long_prompt.encoder_max_tokens=26",
    ),
    "long_prompt.positions": (
        ["prompt.text=" + 9 * "many_words", "long_prompt.max_tokens=24", "long_prompt.mode=extend"],
        "long_prompt.positions=pi",
    ),
    "emphasis.mode": (["prompt.text=a_(red:2)_apple"], "emphasis.mode=attention"),
    "emphasis.weight": (["prompt.text=a_(red)_apple", "emphasis=from_empty"], "emphasis.weight=3"),
    "emphasis.queries": (["prompt.text=a_(red:5)_apple", "emphasis=attention"], "emphasis.queries=all"),
    "mix.mode": (["mix.mode=slerp", "mix.text=two_pears"], "mix.mode=velocity"),
    "mix.text": (["mix.mode=slerp", "mix.text=two_pears"], "mix.text=other"),
    "mix.amount": (["mix.mode=slerp", "mix.text=two_pears"], "mix.amount=0.3"),
    "mix.sigma": (["mix.mode=switch", "mix.text=two_pears"], "mix.sigma=0.9"),
    "diversity.embed_strength": ([], "diversity.embed_strength=1"),
    "diversity.embed_share": (["diversity.embed_strength=1"], "diversity.embed_share=1"),
    "diversity.embed_unit": (["diversity.embed_strength=1"], "diversity.embed_unit=tokens"),
    "diversity.embed_sigma_high": (["diversity.embed_strength=1"], "diversity.embed_sigma_high=0.9"),
    "diversity.embed_sigma_low": (["diversity.embed_strength=1"], "diversity.embed_sigma_low=0.9"),
    "diversity.variation_seed": (
        ["diversity.variation_seed=1", "diversity.variation_strength=0.5"],
        "diversity.variation_seed=2",
    ),
    "diversity.variation_strength": (["diversity.variation_seed=1"], "diversity.variation_strength=0.5"),
    "diversity.blank_sigma": ([], "diversity.blank_sigma=0.9"),
    "guidance.guidance_scale": ([], "guidance.guidance_scale=3"),
    "guidance.cfg_normalization": ([], "guidance.cfg_normalization=0.5"),
    "guidance.cfg_truncation": ([], "guidance.cfg_truncation=0.1"),
    "guidance.method": ([], "guidance.method=apg"),
    "guidance.sigma_high": ([], "guidance.sigma_high=0.9"),
    "guidance.sigma_low": ([], "guidance.sigma_low=0.7"),
    "guidance.apg_eta": (["guidance.method=apg"], "guidance.apg_eta=0.5"),
    "guidance.apg_momentum": (["guidance.method=apg"], "guidance.apg_momentum=0"),
    "guidance.apg_norm_threshold": (["guidance.method=apg"], "guidance.apg_norm_threshold=0.1"),
    "guidance.apg_space": (["guidance.method=apg"], "guidance.apg_space=velocity"),
    "guidance.zero_init_steps": (["guidance.method=cfg_zero"], "guidance.zero_init_steps=1"),
    "slg.scale": ([], "slg.scale=1"),
    "slg.kind": (["slg.scale=1"], "slg.kind=attention"),
    "slg.layers": (["slg.scale=1"], "slg.layers=[0]"),
    "slg.sigma_high": (["slg.scale=1"], "slg.sigma_high=0.9"),
    "slg.sigma_low": (["slg.scale=1"], "slg.sigma_low=0.7"),
    "slg.rescale": (["slg.scale=1"], "slg.rescale=0.7"),
    "nag.scale": ([], "nag.scale=4"),
    "nag.tau": (["nag.scale=9"], "nag.tau=1"),
    "nag.alpha": (["nag.scale=4"], "nag.alpha=1"),
    "nag.sigma_high": (["nag.scale=4"], "nag.sigma_high=0.9"),
    "nag.sigma_low": (["nag.scale=4"], "nag.sigma_low=0.7"),
    "sampler.name": ([], "sampler.name=flow_heun"),
    "sampler.steps": ([], "sampler.steps=4"),
    "sampler.spacing": ([], "sampler.spacing=karras"),
    "sampler.sigmas": ([], "sampler.sigmas=[1,0.5]"),
    "sampler.shift": ([], "sampler.shift=1"),
    "sampler.shift_mode": ([], "sampler.shift_mode=resolution"),
    "sampler.base_shift": (["sampler.shift_mode=resolution"], "sampler.base_shift=1"),
    "sampler.max_shift": (["sampler.shift_mode=resolution"], "sampler.max_shift=3"),
    "sampler.base_image_tokens": (["sampler.shift_mode=resolution"], "sampler.base_image_tokens=16"),
    "sampler.max_image_tokens": (["sampler.shift_mode=resolution"], "sampler.max_image_tokens=1024"),
    "model.trained_size": (["width=128", "dype.method=ntk"], "model.trained_size=128"),
    "dype.method": (["width=128"], "dype.method=dy_ntk"),
    "dype.lambda_s": (["width=128", "dype.method=dy_ntk"], "dype.lambda_s=1"),
    "dype.lambda_t": (["width=128", "dype.method=dy_ntk"], "dype.lambda_t=1"),
    "dype.scaling": (["width=128", "dype.method=ntk"], "dype.scaling=isotropic"),
    "dype.alpha": (["width=128", "dype.method=yarn"], "dype.alpha=0"),
    "dype.beta": (["width=128", "dype.method=yarn", "dype.alpha=0"], "dype.beta=1.5"),
    "dype.attention_scale": (["width=128", "dype.method=yarn"], "dype.attention_scale=1"),
    "highres.mode": (["width=128"], "highres.mode=two_stage"),
    "highres.base_size": (["width=128", "highres.mode=two_stage"], "highres.base_size=96"),
    "highres.strength": (["width=128", "highres.mode=two_stage"], "highres.strength=0.9"),
    "highres.upscale": (["width=128", "highres.mode=two_stage"], "highres.upscale=latent"),
    "highres.steps": (["width=128", "highres.mode=two_stage"], "highres.steps=5"),
    "tiling.enabled": (["width=128", "tiling.tile_size=64"], "tiling.enabled=true"),
    "tiling.tile_size": (["width=256", "tiling.enabled=true", "tiling.tile_size=128"], "tiling.tile_size=64"),
    "tiling.overlap": (["width=256", "tiling.enabled=true", "tiling.tile_size=64"], "tiling.overlap=0.5"),
}
# What is refused, because this machine or the setting's other values leave nothing else: key -> (override, message).
REFUSED = {
    "model.chat_format": (["model.chat_format=chatml", "prompt=think"], "a think block needs model.chat_format=qwen3"),
    "model.revision": ("model.revision=main", "model.revision"),
    "hardware.device": ("hardware.device=mps", "hardware.device=mps"),
}
# What has an effect of its own, tested below.
OWN_TEST = {
    "task",
    "from_image",
    "num_images",
    "model.name",
    "hardware.dtype",
    "hardware.batch_size",
    "hardware.offload",
    "hardware.attention_backend",
    "hardware.threads",
    "output.dir",
    "output.name",
    "dry_run",
    # In tests/study and tests/trackers:
    "resume",
    "prompts.set",
    "prompts.ids",
    "prompts.categories",
    "prompts.difficulties",
    "prompts.count",
    "tracker.name",
    "tracker.project",
    "sweep.name",
    "sweep.dir",
    "sweep.file",
    "sweep.axes",
    "sweep.metric",
    # In tests/train/data:
    "data.path",
    "data.images",
    "data.size",
    "data.buckets",
    "data.bad_rows",
    "data.flip",
    "data.repeat",
    "data.posterior",
    "data.cache",
    "data.cache_dtype",
    # In tests/train/test_train_settings.py:
    *(p.key for p in parameters() if p.key.startswith("train.")),
    # In tests/study/test_score.py and test_report.py:
    "metrics.primary",
    "metrics.batch_size",
    "report.baseline",
    "report.sweeps",
    "report.resamples",
    "report.thumbnail_size",
    "report.max_pictures",
    # In tests/metrics:
    *(p.key for p in parameters() if p.key.startswith("metrics.") and p.key.count(".") == 2),
}


def test_every_parameter_has_its_entry():
    assert {p.key for p in parameters()} == set(PIXELS) | set(REFUSED) | OWN_TEST


def test_what_changes_the_pixels_is_declared_so():
    declared = {p.key for p in parameters() if p.rule.image}
    assert set(PIXELS) <= declared
    assert declared - set(PIXELS) <= set(REFUSED)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a start picture, a prompt, the tiny model on disk, and another model of the same shape."""
    root = tmp_path_factory.mktemp("workplace")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "start.png")
    (root / "prompt.txt").write_text("from a file")
    save_tiny_folder(root / "folder")
    save_tiny_folder(root / "other")
    generator = torch.Generator().manual_seed(1)
    for path in (root / "other").glob("t*/*.safetensors"):
        moved = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in load_file(path).items()}
        save_file(moved, path, {"format": "pt"})
    update = (torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator), 4.0)
    save_lora(root / "blob.safetensors", {"layers.0.attention.to_v": update})
    return root


def draw(*overrides):
    return render(compose([*BASE, *overrides], prompt=None))[0]


@pytest.mark.parametrize("key", PIXELS)
def test_a_declared_setting_changes_the_picture(key, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    both, change = PIXELS[key]
    change = change.replace("MODEL", "diffusion_pytorch_model")
    prompt = "prompt.text=a_red_apple"
    before = draw(prompt, *both)
    after = draw(*([] if key in ("prompt.text", "prompt_file") else [prompt]), *both, change)
    assert before.record["pixels_sha256"] != after.record["pixels_sha256"]


@pytest.mark.parametrize("key", REFUSED)
def test_a_setting_with_no_other_value_here_is_refused_by_name(key):
    overrides, message = REFUSED[key]
    with pytest.raises(LabError, match=re.escape(message)):
        draw("prompt.text=a_red_apple", *([overrides] if isinstance(overrides, str) else overrides))


def test_settings_of_the_run_act(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    base = draw("prompt.text=x")
    assert draw("prompt.text=x", "hardware.dtype=bfloat16").record["dtype"] == "bfloat16"
    assert draw("prompt.text=x", "model.name=mine").record["config"]["model"]["name"] == "mine"
    assert [p.record["seed"] for p in render(compose([*BASE, "x", "num_images=2"]))] == [0, 1]
    threads = torch.get_num_threads()
    draw("prompt.text=x", f"hardware.threads={threads + 1}")
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    math = draw("prompt.text=x", "hardware.attention_backend=_native_math").latents
    assert torch.allclose(math, base.latents, atol=1e-4)
    assert not torch.equal(math, base.latents)
    run_task(compose(["model=tiny", "x", "task=preview"]))
    assert capsys.readouterr().out.startswith("<|im_start|>")
    assert run_task(compose(["model=tiny", "x", "output.name=mine", "dry_run=true"])) == ["outputs/images/mine.png"]
    assert not (workplace / "outputs" / "images" / "mine.png").exists()
    named = compose(["model=tiny", "x", "output.name=mine", "output.dir=there"])
    assert picture_name(named, 0, alone=True) == "mine"
    (path,) = run_task(named)
    assert path == "there/mine.png"
    (path,) = run_task(
        compose([f"from_image={path}", "output.name=again"]), [f"from_image={path}", "output.name=again"]
    )
    assert path == "outputs/images/again.png"


def test_batches_and_offloading_change_how_it_runs_and_not_what_is_drawn(monkeypatch):
    from llm_dit.denoise import velocity
    from llm_dit.models import place

    batches, moves = [], []
    predict, at_work = velocity.ZImageVelocity._predict, place.Placement.resting_device.fget
    monkeypatch.setattr(
        velocity.ZImageVelocity, "_predict", lambda self, x, *a: batches.append(len(x)) or predict(self, x, *a)
    )
    monkeypatch.setattr(
        place.Placement, "resting_device", property(lambda self: moves.append(self.offload) or at_work(self))
    )
    pictures = [
        render(compose([*BASE, "x", "num_images=2", *more]))
        for more in ([], ["hardware.batch_size=2"], ["hardware.offload=true"])
    ]
    assert batches == [1] * 6 + [2] * 3 + [1] * 6
    assert True in moves
    for other in pictures[1:]:
        assert torch.allclose(other[1].latents, pictures[0][1].latents, atol=1e-5)
