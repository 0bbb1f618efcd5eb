"""A panel of LichtFeld Studio that reconstructs a folder of photos and opens the result."""

from __future__ import annotations

import lichtfeld as lf

from .panel import PhotosPanel


def on_load() -> None:
    """Called by LichtFeld Studio when the plugin is loaded."""
    lf.register_class(PhotosPanel)


def on_unload() -> None:
    """Called before it is unloaded or reloaded: a run that is under way stops, and can be gone on with."""
    PhotosPanel.stop_all()
    lf.unregister_class(PhotosPanel)
