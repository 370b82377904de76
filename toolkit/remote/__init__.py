"""A bundle tested and timed on other machines over OpenSSH, several at once."""

from toolkit.remote.job import BoardOptions, BoardResult
from toolkit.remote.run import bench_on

__all__ = ["BoardOptions", "BoardResult", "bench_on"]
