"""Verification: exported files against Keras on the whole test set, as numbers and as gates."""
