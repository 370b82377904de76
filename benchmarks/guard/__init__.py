"""Counted work of the single-image path, held against bounds in a file: what no noise can trip."""
