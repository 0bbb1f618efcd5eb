"""Mapping: from the view graph to intrinsics, poses and points."""
