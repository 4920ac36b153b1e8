"""The yardstick of the cold start: nano's picture by a script that does nothing else.

It imports the libraries that the renderer imports, loads the same three sets of weights, draws with a bare loop and
saves a PNG. No config, no checks, no record.

    uv run python experiments/bench/plain_script.py PICTURE.png STEPS SHIFT GUIDANCE_SCALE LAYER
"""

import sys
from itertools import pairwise

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from PIL import Image

from llm_dit.encoders.gguf import load_gguf_llm
from llm_dit.encoders.smollm2 import smollm2_gguf_path
from llm_dit.weights.folder import SHIPPED

STEPS, SHIFT, SCALE, LAYER = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
PROMPT = "a red apple, 3d style, blue background"

nano = SHIPPED / "nano"
language_model, tokenizer = load_gguf_llm(smollm2_gguf_path())
transformer = ZImageTransformer2DModel.from_pretrained(nano, subfolder="transformer", torch_dtype=torch.float32).eval()
vae = AutoencoderKL.from_pretrained(nano, subfolder="vae", torch_dtype=torch.float32).eval()


def embed(prompt):
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt").input_ids
    return language_model(ids, output_hidden_states=True, use_cache=False).hidden_states[LAYER][0]


with torch.inference_mode():
    captions = [embed(PROMPT), embed("")]
    x = torch.randn((1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    sigmas = [SHIFT * s / (1 + (SHIFT - 1) * s) for s in (1 - i / STEPS for i in range(STEPS))] + [0.0]
    for sigma, following in pairwise(sigmas):
        latents = [x[0].unsqueeze(1)] * 2
        time = torch.full((2,), 1 - sigma)
        positive, negative = (-o[:, 0] for o in transformer(latents, time, captions, return_dict=False)[0])
        x = x + (following - sigma) * (positive + SCALE * (positive - negative))
    pixels = vae.decode(x / vae.config.scaling_factor + vae.config.shift_factor).sample[0]
    pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
Image.fromarray((pixels * 255).round().astype("uint8")).save(sys.argv[1])
