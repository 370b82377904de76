"""numpy and nothing else: what every other script takes as well. FILE is not read; the descriptor to write to."""

import os
import sys

import numpy as np

os.write(int(sys.argv[2]), bytes([int(np.zeros((28, 28), np.uint8).max())]))
os.read(0, 1)  # waits for whoever reads this process's memory
