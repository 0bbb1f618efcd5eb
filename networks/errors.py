"""Errors of networks, their weight files and their images. Plugins report them as errors of the pipeline."""

from __future__ import annotations


class NetworkError(ValueError):
    """A network cannot be loaded as asked; the message says why, in one line."""


class WeightsError(NetworkError):
    """A weight file cannot be read, or holds another network."""


class DeviceError(NetworkError):
    """The device is not available."""


class ImageSizeError(ValueError):
    """An image is too narrow for a network."""
