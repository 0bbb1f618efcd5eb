"""Verdict: how probable it is that the poses of a model are right, from what the model itself shows."""
