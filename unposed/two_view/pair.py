"""Matches, two-view geometry, points and depth of two photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import Bytes, DepthGrid, Floats, PairMatches, Photos, TwoViewGeometry


@dataclass(frozen=True, eq=False)
class Pair:
    """Matches, two-view geometry, points and depth of two photos. The frame of camera a is the world."""

    photos: Photos
    matches: PairMatches
    geometry: TwoViewGeometry
    """Geometry under which the matches were verified."""
    b_from_a: Floats
    """(3, 4) relative pose, with a baseline of length one, or zero if the camera only rotated."""
    focals_px: Floats
    """(2,) focal lengths predicted by the matcher, else those of the verification."""
    points: Floats
    """(n, 3) in the frame of camera a: predicted points, or triangulated matches."""
    rgb: Bytes
    """(n, 3)."""
    depths: tuple[DepthGrid, DepthGrid] | None
    """Predicted depth of both photos, in units of the baseline if there is a geometry and each in its own if not; None
    if the matcher predicts none."""

    def facts(self) -> dict[str, Any]:
        """The content of pair.json."""
        return {
            "photos": [photo.name for photo in self.photos.photos],
            "matches": len(self.matches.weight),
            "inliers": int(np.count_nonzero(self.geometry.inliers)),
            "kind": self.geometry.kind,
            "angle_deg": round(self.geometry.angle_deg, 4),
            "b_from_a": self.b_from_a.tolist(),
            "focals_px": self.focals_px.tolist(),
            "points": len(self.points),
            "fundamental": self.geometry.fundamental.tolist(),
        }
