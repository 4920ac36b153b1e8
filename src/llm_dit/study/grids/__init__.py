"""Grids of pictures as PNG: any axes on rows and columns, comparisons, differences. pages.py draws those of a sweep."""
