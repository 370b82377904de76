"""Benchmarking: how fast, how large and how noisy, on this machine, with the core dependencies alone."""
