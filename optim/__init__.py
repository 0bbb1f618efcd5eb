"""Geometry and optimisation. Arrays in, arrays out."""
