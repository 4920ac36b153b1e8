"""Embeddings to latents: sigmas, noise, velocity, guidance, samplers, rotary positions."""
