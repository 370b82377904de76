"""Choosing a quantization by measurement: candidates, their figures on this machine, and a choice under a budget."""
