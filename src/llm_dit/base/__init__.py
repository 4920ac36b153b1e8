"""Errors, paths, files, locks and clocks: knows nothing of the project."""
