"""Pictures and prompts to scores: one metric a file, loaded when first asked for. study/score.py keeps the scores."""
