"""The trained model in the form of each runtime, by each runtime's own tools; every step is a process of its own."""
