"""Divide and merge: view graphs cut into overlapping clusters, and the models of clusters merged into one."""
