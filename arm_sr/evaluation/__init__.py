"""Measuring against ground truth: tables, quality of a setting, sweeps of the trade-off, seams."""
