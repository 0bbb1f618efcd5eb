"""Frames of finished models: robust similarities to known positions and poses, up axes, planes and the earth."""
