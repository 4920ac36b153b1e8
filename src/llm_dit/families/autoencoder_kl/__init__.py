"""AutoencoderKL: latents to pixels and back."""
