"""Names to modules: loading, placement, the VAE, the shipped nano, random tiny ones, GGUF language models."""
