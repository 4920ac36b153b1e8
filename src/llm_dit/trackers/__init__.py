"""Copies of a sweep for people to look at: Weights & Biases, Trackio, or nothing. The records stay the truth."""
