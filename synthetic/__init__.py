"""Ray-cast photos with known cameras: test scenes and the bundled sample. Needs nothing else of the project.

camera and world say what there is, render takes the photo, scenes names what is worth photographing, photos
writes it to disk with its truth, sample is the set that comes with the package.
"""
