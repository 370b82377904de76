"""The predictor under MLPerf's load generator; `python -m benchmarks.mlperf`."""
