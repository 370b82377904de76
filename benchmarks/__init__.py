"""Measurements and comparisons, each a script; results are in results/."""
