"""The least that answers one image with onnxruntime: FILE, and the descriptor to write the label to."""

import os
import sys

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1])
label = session.run(None, {"image": np.zeros((1, 28, 28), np.uint8)})[0].argmax()
os.write(int(sys.argv[2]), bytes([label]))
os.read(0, 1)  # waits for whoever reads this process's memory
