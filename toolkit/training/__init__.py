"""Training: the Keras MLP, its recipes as data, and the fit that leaves model.keras and history.csv."""
