"""What each parameter is perturbed by, and the files that the perturbations name.

The perturbation test (test_every_setting_acts.py) and the golden pictures (golden/) draw from the same tables.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llm_dit.encoders.tiny import save_tiny_folder
from llm_dit.weights.lora_file import save_lora

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


def make_workplace(root: Path) -> None:
    """Write a start picture, a prompt, a LoRA, the tiny model on disk, and another model of the same shape."""
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


def both_sides(key: str) -> tuple[list[str], list[str]]:
    """Overrides of the picture before and after the perturbation of a parameter of PIXELS."""
    both, change = PIXELS[key]
    prompt = "prompt.text=a_red_apple"
    after = [] if key in ("prompt.text", "prompt_file") else [prompt]
    return [*BASE, prompt, *both], [*BASE, *after, *both, change.replace("MODEL", "diffusion_pytorch_model")]
