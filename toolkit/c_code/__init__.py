"""The int8 model as plain C: what it computes (`chain`), found in the file (`reading`), written down (`source`)."""
