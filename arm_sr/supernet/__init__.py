"""The slimmable network: layers, backbones, sub-net sampling and export. Needs the `train` extra (torch)."""
