"""Put what was trained where it ships, under src/llm_dit/shipped: float16 folders in diffusers' layout, and the LoRA.

    uv run python experiments/nano/ship.py vae                       # assets/nano/v1/vae -> nano/vae
    uv run python experiments/nano/ship.py nano [TRAINING]           # outputs/train/nano_more2 -> nano/transformer
    uv run python experiments/nano/ship.py nano_turbo [TRAINING]     # outputs/train/nano_turbo -> nano_turbo
    uv run python experiments/nano/ship.py ink [TRAINING]            # outputs/train/nano_ink -> loras/ink.safetensors

A transformer's TRAINING may still run: then its newest checkpoint is taken. The LoRA is copied as it was saved. Prints
what the rounding to float16 changes, and the size of all that ships. The judge ships by itself: judge_train.py.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from paths import ROOT, SHIPPED, V1
from safetensors.torch import load_file

from llm_dit.train.checkpoint import checkpoints
from llm_dit.train.outputs import save_component

MODELS, TRAININGS = SHIPPED.parent, ROOT / "outputs" / "train"
SHIFT = 2.0


def trained(folder: Path) -> ZImageTransformer2DModel:
    """The transformer that a training saved, or the averaged one of its newest checkpoint; float32."""
    if (folder / "transformer").is_dir():
        return ZImageTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    newest = checkpoints(folder / "checkpoints")[-1]
    print(f"{newest}: not finished")
    model = ZImageTransformer2DModel.from_pretrained(SHIPPED / "transformer", torch_dtype=torch.float32)
    model.load_state_dict(load_file(newest / "average.safetensors"))
    return model


def ship_transformer(source: Path, target: Path) -> None:
    """The transformer in float16, and beside it the schedule that all shipped models draw with."""
    model = trained(source)
    save_component(model, target / "transformer", {}, "float16")
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT, use_dynamic_shifting=False).save_pretrained(
        target / "scheduler"
    )
    moved = max(float((p.half() - p).norm() / p.norm().clamp_min(1e-9)) for p in model.state_dict().values())
    print(f"{target}: float16 moves no weight by more than {moved:.1e} of its norm")


def main() -> None:
    """Copy one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("vae", "nano", "nano_turbo", "ink"))
    parser.add_argument("training", nargs="?", type=Path)
    args = parser.parse_args()
    if args.what == "vae":
        vae = AutoencoderKL.from_pretrained(V1 / "vae", torch_dtype=torch.float32)
        save_component(vae, SHIPPED / "vae", {}, "float16")
    elif args.what == "ink":
        (MODELS / "loras").mkdir(exist_ok=True)
        lora = (args.training or TRAININGS / "nano_ink") / "lora.safetensors"
        shutil.copy2(lora, MODELS / "loras" / "ink.safetensors")
    else:
        name = {"nano": "nano_more2", "nano_turbo": "nano_turbo"}[args.what]
        ship_transformer(args.training or TRAININGS / name, MODELS / args.what)
    weights = [*MODELS.rglob("*.safetensors"), *(MODELS.parent / "metrics").rglob("*.safetensors")]
    for path in weights:
        print(f"{path.stat().st_size / 2**20:6.2f} MiB  {path.relative_to(MODELS.parent)}")
    print(f"{sum(path.stat().st_size for path in weights) / 2**20:6.2f} MiB in all")


if __name__ == "__main__":
    main()
