"""From the matches of all pairs to one scene: intrinsics, rotations, positions, tracks, points."""
