"""Training: data, losses, loop. Nothing that draws imports it."""
