"""Pictures and captions to batches of latents and embeddings."""
