"""Predictions for any number of rows in the memory that some take: read, answered and written a block at a time."""
