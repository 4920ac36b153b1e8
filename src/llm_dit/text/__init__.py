"""Prompt parts to embeddings: chat format, templates, encoders, length."""
