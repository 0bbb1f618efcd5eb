"""A folder of unordered, uncalibrated photos goes in; cameras and 3D points come out."""

__version__ = "0.1.0"
