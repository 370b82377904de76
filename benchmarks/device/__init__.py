"""What the device side costs, part by part; `python -m benchmarks.device`."""
