"""What is believed of the cameras of a collection, and how firmly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cameras import CAMERA_MODELS, CX, CY, FX, FY, K1, intrinsics_of
from .problem import IntrinsicsPrior

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]
FocalSource = Literal["given", "exif", "guess"]

EXIF_FOCAL_SIGMA = 0.05
"""EXIF focal lengths are rounded, and change with focus; a twentieth covers nearly all of them."""

PRINCIPAL_SIGMA = 0.02
"""By the long side of the photo. Lenses sit within a percent or two of the centre; crops do not, and are rare."""

CROP_SIGMA = 0.1
"""Likewise, once the photos have shown that some of them are crops."""

CORNER_SIGMA = 0.04
"""Of each radial term: how far it moves a corner of the photo, by the corner's distance from the centre. Lenses are
built to stay within a few percent, long ones and wide ones, so that the coefficients k of a long one may be large.
Action cameras with several times as much show it so clearly that the prior hardly pulls."""

TANGENTIAL_SIGMA = 0.005
"""Likewise, of the tangential terms."""

DEGREE = (2, 4, 1, 1)
"""Powers of the distance from the axis by which k1, k2, p1 and p2 change it relatively."""

HELD = 1e-6
"""Sigma of what must not move: small against every effect, large enough for the normal equations."""

PHOTOS_FOR_PRINCIPAL = 4
"""A principal point is only searched where so many photos share it: alone, a photo hides it in its rotation."""


@dataclass(frozen=True, eq=False)
class Intrinsics:
    """A belief about all cameras of the collection."""

    models: tuple[str, ...]
    rows: Array
    """(cameras, 8) as in optim.cameras."""
    camera_of_photo: Index
    """(photos,)."""
    prior: IntrinsicsPrior
    crops: bool = False
    """Whether principal points may lie far from the centre, and are searched from the first draft on."""

    def with_focals(self, focal_px: Array) -> Intrinsics:
        """The same cameras with other focal lengths; fy keeps its ratio to fx, and the distortion its limit in the
        photo's corner."""
        rows, sigma = self.rows.copy(), self.prior.sigma.copy()
        growth = focal_px / self.rows[:, FX]
        rows[:, FX] = focal_px
        rows[:, FY] *= growth
        sigma[:, K1:] = np.maximum(sigma[:, K1:] * growth[:, None] ** DEGREE, HELD)
        return replace(self, rows=rows, prior=replace(self.prior, sigma=sigma))

    def without_focals(self, cameras: Bools) -> Intrinsics:
        """The same belief, but for the focal lengths of these (cameras,), which may be anything."""
        sigma = self.prior.sigma.copy()
        sigma[cameras, FX] = sigma[cameras, FY] = np.inf
        return replace(self, prior=replace(self.prior, sigma=sigma))

    def with_crops(self) -> Intrinsics:
        """The same belief, but for principal points that are not given."""
        sigma = self.prior.sigma.copy()
        where = sigma[:, [CX, CY]]
        sigma[:, [CX, CY]] = np.where(where > HELD, where * (CROP_SIGMA / PRINCIPAL_SIGMA), where)
        return replace(self, prior=replace(self.prior, sigma=sigma), crops=True)

    def with_principal(self, rows: Array) -> Intrinsics:
        """The same cameras with the principal points of `rows` (cameras, 8)."""
        moved = self.rows.copy()
        moved[:, [CX, CY]] = rows[:, [CX, CY]]
        return replace(self, rows=moved)

    def split(self) -> Intrinsics:
        """The same belief with a camera per photo."""
        camera_of_photo, prior = self.camera_of_photo, self.prior
        return Intrinsics(
            models=tuple(self.models[k] for k in camera_of_photo),
            rows=self.rows[camera_of_photo],
            camera_of_photo=np.arange(len(camera_of_photo), dtype=np.int64),
            prior=IntrinsicsPrior(prior.mean[camera_of_photo], prior.sigma[camera_of_photo], prior.noise_px),
            crops=self.crops,
        )


def hold_principal(prior: IntrinsicsPrior, photos_per_camera: Index) -> IntrinsicsPrior:
    """The prior with the principal point held for cameras with few photos."""
    sigma = prior.sigma.copy()
    few = photos_per_camera < PHOTOS_FOR_PRINCIPAL
    sigma[few, CX] = sigma[few, CY] = HELD
    return replace(prior, sigma=sigma)


def prior_after(prior: IntrinsicsPrior, found: Array, photos_per_camera: Index) -> IntrinsicsPrior:
    """The prior of a stage that begins with the intrinsics (cameras, 8) which an earlier one has found.

    Where these lie far from what was believed, that far is no longer unlikely: EXIF was wrong, or the photo is a crop.
    Other principal points are held for cameras with few photos.
    """
    distance = np.where(prior.sigma > HELD, np.abs(found - prior.mean), 0.0)[:, :K1]
    crop = (distance > prior.sigma[:, :K1])[:, [CX, CY]].any(axis=1)
    held = hold_principal(prior, np.where(crop, PHOTOS_FOR_PRINCIPAL, photos_per_camera))
    sigma = held.sigma.copy()
    sigma[:, :K1] = np.maximum(sigma[:, :K1], distance)
    return replace(held, sigma=sigma)


def intrinsics_with_priors(
    models: Sequence[str],
    params: Sequence[Sequence[float]],
    sizes: Array,
    sources: Sequence[FocalSource],
    camera_of_photo: Index,
    noise_px: float,
) -> Intrinsics:
    """The belief before any geometry. Given cameras are held fixed in everything, EXIF ones near their focal length.

    `sizes` (cameras, 2). `noise_px` as in Prior.
    """
    rows = np.array([intrinsics_of(model, p) for model, p in zip(models, params, strict=True)]).reshape(-1, 8)
    long_side = sizes.max(axis=1)
    sigma = np.empty_like(rows)
    sigma[:, [FX, FY]] = np.inf
    sigma[:, [CX, CY]] = PRINCIPAL_SIGMA * long_side[:, None]
    corner = 0.5 * np.linalg.norm(sizes, axis=1) / rows[:, FX]
    sigma[:, K1:] = np.array([CORNER_SIGMA, CORNER_SIGMA, TANGENTIAL_SIGMA, TANGENTIAL_SIGMA])
    sigma[:, K1:] /= corner[:, None] ** DEGREE
    for camera, source in enumerate(sources):
        if source == "exif":
            tied = CAMERA_MODELS[models[camera]].shared_focal  # then fy would count the same belief twice
            sigma[camera, [FX] if tied else [FX, FY]] = EXIF_FOCAL_SIGMA * rows[camera, FX]
        if source == "given":
            sigma[camera] = HELD
    return Intrinsics(tuple(models), rows, camera_of_photo, IntrinsicsPrior(rows.copy(), sigma, noise_px))
