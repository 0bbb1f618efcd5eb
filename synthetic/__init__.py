"""Ray-cast photos with known cameras: test scenes and the bundled sample. Needs nothing else of the project."""
