"""Depth maps, dense points and Gaussians from posed photos: arrays in, arrays out."""
