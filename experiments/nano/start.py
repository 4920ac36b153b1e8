"""Where nano's training starts: a fresh transformer as a folder in diffusers' layout, for train.init.

    uv run python experiments/nano/start.py [--prompts SET]

Random weights with a start of their own (model.build): the caption's RMSNorm evens out the channels of the text
encoder, measured on a set of prompts as the model's config formats and encodes them; blocks start a third open. Writes
assets/nano/start/transformer.
"""

from __future__ import annotations

import argparse

import torch
from captions import channel_gain
from model import build
from paths import ASSETS

from llm_dit.clock import Clock
from llm_dit.compose import compose
from llm_dit.conditioning import encode_prompt
from llm_dit.models.cache import Models
from llm_dit.models.place import choose_placement
from llm_dit.study.prompts import load_prompts

SEED = 31


def main() -> None:
    """Encode, measure, build, save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", default="nano_fit")
    prompts = load_prompts(parser.parse_args().prompts)
    config = compose(["model=nano"])
    models = Models(config, choose_placement("cpu"), clock=Clock())
    states = [encode_prompt(config, prompt.prompt, models).embeds for prompt in prompts]
    torch.manual_seed(SEED)
    model = build(channel_gain(states))
    model.save_pretrained(ASSETS / "start" / "transformer")
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{ASSETS / 'start' / 'transformer'}: {size:.2f} M parameters, gain from {len(prompts)} prompts")


if __name__ == "__main__":
    main()
