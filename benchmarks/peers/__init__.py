"""The same trained model through other runtimes; `python -m benchmarks.peers`."""
