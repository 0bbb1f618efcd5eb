"""Groups of photos that a network has seen together, fused to one coarse model.

- scenes: what is said of all groups, as arrays by membership; links: similarities between groups that share photos;
- fusion: rotations, then scales and positions of all photos and groups, with groups that contradict the others found;
- focals: focal lengths of cameras out of those of the groups.
"""
