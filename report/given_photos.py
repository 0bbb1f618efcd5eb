"""The photos of a run as they were given, for commands that a reader may copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GIVEN = "photos_given"
"""Key of summary.json: paths as they were given, where that is not one folder."""


def given_photos(summary: Mapping[str, Any]) -> list[str]:
    """Paths as a command line has them."""
    return [str(path) for path in summary.get(GIVEN) or [summary["photos_folder"]]]
