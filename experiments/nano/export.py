"""Write the trained weights as a plain diffusers folder: src/llm_dit/models/nano/{transformer,vae,scheduler}.

    uv run python experiments/nano/export.py [--name dit]

Averaged weights, stored in float16 (read back as float32); prints what the rounding changes.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from latents import load_vae
from model import CONFIG, angles, forward, use_real_rotary
from paths import ASSETS, SHIPPED
from sample import SHIFT, embed, held_out_prompts


def load_trained(name: str) -> ZImageTransformer2DModel:
    """The averaged float32 DiT of a checkpoint."""
    model = ZImageTransformer2DModel(**CONFIG)
    model.load_state_dict(torch.load(ASSETS / f"{name}.pt", weights_only=True)["average"])
    return model.eval().requires_grad_(False)


def load_shipped() -> tuple[ZImageTransformer2DModel, AutoencoderKL]:
    """(DiT, VAE) from the shipped folder, in float32, by the ordinary loaders."""
    transformer = ZImageTransformer2DModel.from_pretrained(SHIPPED, subfolder="transformer", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(SHIPPED, subfolder="vae", torch_dtype=torch.float32)
    return transformer.eval().requires_grad_(False), vae.eval().requires_grad_(False)


@torch.no_grad()
def main() -> None:
    """Export and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="dit")
    exact = load_trained(parser.parse_args().name)
    factors = torch.load(ASSETS / "latents.pt", weights_only=True, mmap=True)
    places = {"scaling_factor": factors["scale"], "shift_factor": factors["shift"]}
    exact_vae = load_vae(**places, force_upcast=False)
    load_trained(parser.parse_args().name).half().save_pretrained(SHIPPED / "transformer")
    load_vae(**places, force_upcast=False).half().save_pretrained(SHIPPED / "vae")
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT, use_dynamic_shifting=False).save_pretrained(
        SHIPPED / "scheduler"
    )
    stored, stored_vae = load_shipped()
    states, padding = embed(tuple(held_out_prompts(8)), -2)
    x = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    rope, sigma = angles(exact, 8, 8), torch.full((8,), 0.7)
    results = []
    for model in (exact, stored):
        use_real_rotary(model)
        results.append(forward(model, x, sigma, states, padding, rope))
    pictures = [v.decode(x / factors["scale"] + factors["shift"]).sample for v in (exact_vae, stored_vae)]
    for name, (a, b) in (("velocity", results), ("decoded picture", pictures)):
        print(f"float16 storage changes the {name} by {(a - b).std() / a.std():.1e} of its spread")
    size = sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file())
    print(f"{SHIPPED}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
