"""A study to a plan, a plan to cells, cells to records and scores, these to a table, grids, evidence, a report."""
