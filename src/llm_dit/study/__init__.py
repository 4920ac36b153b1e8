"""Cells to tables, grids, statistics, reports; resume."""
