"""Gaussian splats: projection, rasterisation with its derivatives, and training."""
