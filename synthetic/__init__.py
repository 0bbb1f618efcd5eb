"""Ray-traced photos with known cameras: test scenes and the bundled sample. Imports no other room.

camera and world define the scene, render takes the photos, scenes lists scenes by name, photos writes them to disk with
ground truth, and sample is the set that comes with the package.
"""
