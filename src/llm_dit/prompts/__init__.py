"""Sets of prompts, templates and vocabularies, as data."""
