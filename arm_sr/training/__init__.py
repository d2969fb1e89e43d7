"""Training of supernets: recipe, data, loop. Needs the `train` extra (torch)."""
