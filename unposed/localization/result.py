"""What localization says of one photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.pipeline.artifacts import Camera, Photo


@dataclass(frozen=True, eq=False)
class LocalizedPose:
    """A pose of the photo in one of the models."""

    model: int
    """Number of the model in the reconstruction."""
    cam_from_world: Array
    """(3, 4)."""
    camera: Camera
    sigma_deg: float
    sigma_centre: float
    """Standard deviations of rotation and position if errors are independent; in units of the world."""
    sigma_focal_px: float
    """Of the focal length; zero where it was known."""
    error_px: float
    """RMS reprojection error of the inliers."""
    xy: Array
    """(n, 2) key points of the photo that are inliers."""
    point: Index
    """(n,) rows of the model's points that they see."""
    xyz: Array
    """(n, 3) these points."""
    partners: tuple[str, ...]
    """Photos of the model that see these points and were matched, best first."""

    @property
    def centre(self) -> Array:
        """(3,) position of the camera in the world."""
        centre: Array = -self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3]
        return centre

    def facts(self) -> dict[str, Any]:
        """The content of poses.json for this pose."""
        return {
            "model": self.model,
            "R_w2c": self.cam_from_world[:, :3].tolist(),
            "t_w2c": self.cam_from_world[:, 3].tolist(),
            "centre": self.centre.tolist(),
            "camera": {
                "model": self.camera.model,
                "width": self.camera.width,
                "height": self.camera.height,
                "params": list(self.camera.params),
            },
            "inliers": len(self.xy),
            "error_px": _rounded(self.error_px),
            "sigma_deg": _rounded(self.sigma_deg),
            "sigma_centre": _rounded(self.sigma_centre),
            "sigma_focal_px": _rounded(self.sigma_focal_px),
            "partners": list(self.partners),
        }


@dataclass(frozen=True, eq=False)
class Localization:
    """The pose of one photo in a finished model, or the reason why it has none."""

    photo: Photo
    hypotheses: tuple[LocalizedPose, ...]
    """None, one, or two where the photo fits two places as well; that of most inliers first."""
    reason: str | None = None
    """Why there is no pose."""
    matched_xy: Array = field(default_factory=lambda: np.zeros((0, 2)))
    matched_point: Index = field(default_factory=lambda: np.zeros(0, np.int64))
    """(m, 2) pixels and (m,) rows of the points of all models, one model after the other: all correspondences, right or
    wrong."""
    matched_photos: tuple[str, ...] = ()
    """Photos of the model that it was matched with."""
    same_as: str | None = None
    """Photo of the model that is the same file."""

    @property
    def matched(self) -> int:
        """Key points of the photo that match any point, right or wrong."""
        return len(np.unique(self.matched_xy, axis=0))

    @property
    def pose(self) -> LocalizedPose | None:
        """The hypothesis of most inliers; None: not localized."""
        return self.hypotheses[0] if self.hypotheses else None

    @property
    def ambiguous(self) -> bool:
        """Whether the photo fits two places: then the first hypothesis is a guess."""
        return len(self.hypotheses) > 1

    def facts(self) -> dict[str, Any]:
        """The content of poses.json for this photo."""
        out: dict[str, Any] = {"matched": self.matched}
        if self.same_as is not None:
            out["same_as"] = self.same_as
        if self.pose is None:
            return {**out, "reason": self.reason}
        others = [each.facts() for each in self.hypotheses[1:]]
        return {**out, **self.pose.facts(), **({"other_hypotheses": others} if others else {})}


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if abs(value) < float("inf") else None
