"""What goes onto a device: an artifact's one model with all that it takes to run it there and to check it."""
