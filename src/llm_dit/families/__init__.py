"""One folder a model family: the only code that names a model's attributes."""
