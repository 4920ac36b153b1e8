"""A config's prompts to embeddings."""
