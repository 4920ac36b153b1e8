"""Text side of the training data: every training prompt encoded once, kept in assets/nano/captions.pt.

    uv run python experiments/nano/captions.py

The text encoder never changes, so the DiT's training reads its hidden states from this file. They are the raw
hidden_states[LAYER] of all tokens of the formatted prompt, exactly what the renderer passes to the DiT.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch
from paths import ASSETS
from vocabulary import OPEN_PHRASINGS, PHRASINGS, caption, held_out, scenes

from llm_dit.models.gguf_lm import load_gguf_llm, smollm2_gguf_path
from llm_dit.text.chat import ChatParts, format_prompt

LAYER = -2  # what the DiT is trained on
KEPT = (14, 22, -2)  # what the file holds, for comparisons
PHRASINGS_A_SCENE = 3


def training_captions() -> dict[str, list[str]]:
    """Scene "subject|style|colour" -> its training prompts: first the full ones, then the open ones.

    Of the full phrasings, every scene has the first and two of the others in rotation.
    """
    result = {}
    others = PHRASINGS[1:]
    for number, scene in enumerate(scenes()):
        if not held_out(*scene):
            chosen = [others[(number * 5 + i * 3) % len(others)] for i in range(PHRASINGS_A_SCENE - 1)]
            phrasings = [PHRASINGS[0], *chosen, *OPEN_PHRASINGS]
            result["|".join(scene)] = [caption(phrasing, *scene) for phrasing in phrasings]
    return result


def load_encoder() -> tuple:
    """(LlamaModel, tokenizer) of SmolLM2-135M-Instruct."""
    return load_gguf_llm(smollm2_gguf_path())


@torch.no_grad()
def encode(
    encoder: tuple,
    prompts: Sequence[str],
    layers: Iterable[int],
    batch: int = 32,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[int, list[torch.Tensor]]:
    """{layer: one [tokens, 576] tensor per prompt} of raw hidden states."""
    model, tokenizer = encoder
    ids = [tokenizer(format_prompt(ChatParts(prompt), "chatml").text).input_ids for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result: dict[int, list] = {layer: [None] * len(ids) for layer in layers}
    began = time.time()
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        longest = len(ids[part[-1]])
        # Padding on the right changes nothing before it: attention is causal.
        padded = torch.tensor([ids[i] + [tokenizer.pad_token_id] * (longest - len(ids[i])) for i in part])
        states = model(input_ids=padded, output_hidden_states=True, use_cache=False).hidden_states
        for layer, kept in result.items():
            for row, i in enumerate(part):
                kept[i] = states[layer][row, : len(ids[i])].to(dtype)
        if start // batch % 50 == 49:
            print(f"{start + batch}/{len(order)} prompts, {time.time() - began:.0f} s", flush=True)
    return result


def channel_gain(states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weight [576] for the DiT's caption RMSNorm that gives every channel unit spread after it.

    Measured over all tokens but the first, whose few huge channels are the same for every prompt. Without it one
    channel holds two thirds of the energy and drowns the rest.
    """
    tokens = torch.cat([s[1:].float() for s in states])
    normed = tokens * torch.rsqrt(tokens.square().mean(1, keepdim=True) + 1e-5)
    gain = 1 / normed.std(0).clamp_min(1e-3)
    return gain


def main() -> None:
    """Encode everything that training can meet."""
    torch.set_num_threads(1)
    prompts = ["", *dict.fromkeys(p for group in training_captions().values() for p in group)]
    print(f"{len(prompts)} prompts", flush=True)
    with torch.autocast("cpu", torch.bfloat16):  # twice as fast; the residual stream stays float32
        states = encode(load_encoder(), prompts, KEPT)
    torch.save({"prompts": prompts, "states": states}, ASSETS / "captions.pt")


if __name__ == "__main__":
    main()
