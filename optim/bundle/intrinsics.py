"""Intrinsics of all cameras of a collection with their Gaussian priors, from given values, EXIF or a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..arrays import Array, Index, Mask
from ..cameras import CAMERA_MODELS, CX, CY, FX, FY, K1, intrinsics_of
from ..intrinsics_priors import FocalSource, IntrinsicsPriorOptions
from .problem import IntrinsicsPrior

_DEFAULTS = IntrinsicsPriorOptions()

DEGREE = (2, 4, 1, 1)
"""Powers of the distance from the axis by which k1, k2, p1 and p2 change it relatively. A fisheye's k3 and k4 are
limited as p1 and p2 are."""

FIXED_SIGMA = 1e-6
"""Sigma of a parameter that must not move: small against every effect, large enough for the normal equations."""


@dataclass(frozen=True, eq=False)
class Intrinsics:
    """Intrinsics of all cameras of a collection, and their prior."""

    models: tuple[str, ...]
    values: Array
    """(cameras, 8) as in optim.cameras."""
    camera_of_photo: Index
    """(photos,)."""
    prior: IntrinsicsPrior
    options: IntrinsicsPriorOptions = field(default_factory=IntrinsicsPriorOptions)
    """Standard deviations that the prior was made from."""
    crops: bool = False
    """Whether photos may be crops: principal points may lie far from the centre, and are free from the start."""

    def with_focals(self, focal_px: Array) -> Intrinsics:
        """Replace the focal lengths (cameras,). fy keeps its ratio to fx, and the distortion its limit in the corner of
        the photo."""
        values, sigma = self.values.copy(), self.prior.sigma.copy()
        growth = focal_px / self.values[:, FX]
        values[:, FX] = focal_px
        values[:, FY] *= growth
        sigma[:, K1:] = np.maximum(sigma[:, K1:] * growth[:, None] ** DEGREE, FIXED_SIGMA)
        return replace(self, values=values, prior=replace(self.prior, sigma=sigma))

    def with_values(self, values: Array) -> Intrinsics:
        """The same cameras with other intrinsics (cameras, 8)."""
        return replace(self, values=values)

    def without_focals(self, cameras: Mask) -> Intrinsics:
        """Remove the prior of the focal lengths of these cameras (cameras,)."""
        sigma = self.prior.sigma.copy()
        sigma[cameras, FX] = sigma[cameras, FY] = np.inf
        return replace(self, prior=replace(self.prior, sigma=sigma))

    def with_crops(self) -> Intrinsics:
        """Widen the prior of principal points that are not fixed to that of crops."""
        sigma = self.prior.sigma.copy()
        principal = sigma[:, [CX, CY]]
        growth = self.options.crop_sigma / self.options.principal_sigma
        sigma[:, [CX, CY]] = np.where(principal > FIXED_SIGMA, principal * growth, principal)
        return replace(self, prior=replace(self.prior, sigma=sigma), crops=True)

    def with_principal(self, intrinsics: Array) -> Intrinsics:
        """Replace the principal points by those of `intrinsics` (cameras, 8)."""
        values = self.values.copy()
        values[:, [CX, CY]] = intrinsics[:, [CX, CY]]
        return replace(self, values=values)

    def with_two_focals(self, cameras: Mask) -> Intrinsics:
        """Give these cameras (cameras,) a model with a focal length across and one down; fisheyes have both already."""
        wanted = [more and CAMERA_MODELS[model].shared_focal for model, more in zip(self.models, cameras, strict=True)]
        models = ("OPENCV" if more else model for model, more in zip(self.models, wanted, strict=True))
        return replace(self, models=tuple(models))

    def with_fisheyes(self, cameras: Mask) -> Intrinsics:
        """Give these cameras (cameras,) the model of a fisheye, without distortion beside that of the projection."""
        models = ("OPENCV_FISHEYE" if new else model for model, new in zip(self.models, cameras, strict=True))
        values = self.values.copy()
        values[cameras, K1:], values[cameras, FY] = 0.0, values[cameras, FX]
        return replace(self, models=tuple(models), values=values)

    def with_squeeze(self, squeeze: Array) -> Intrinsics:
        """Replace the focal lengths down by so many times (cameras,) those across."""
        values = self.values.copy()
        values[:, FY] = values[:, FX] * squeeze
        return replace(self, values=values)

    def split(self) -> Intrinsics:
        """Give every photo a camera of its own, with the same intrinsics and prior."""
        return self.grouped(np.arange(len(self.camera_of_photo)))

    def grouped(self, camera_of_photo: Index) -> Intrinsics:
        """Give the photos other cameras (photos,), each with the intrinsics and the prior of its first photo's."""
        old = self.camera_of_photo[np.unique(camera_of_photo, return_index=True)[1]]
        return Intrinsics(
            models=tuple(self.models[k] for k in old),
            values=self.values[old],
            camera_of_photo=camera_of_photo.astype(np.int64),
            prior=replace(self.prior, mean=self.prior.mean[old], sigma=self.prior.sigma[old]),
            options=self.options,
            crops=self.crops,
        )


def hold_principal(prior: IntrinsicsPrior, photos_per_camera: Index) -> IntrinsicsPrior:
    """Fix the principal point of cameras with few photos."""
    sigma = prior.sigma.copy()
    few = photos_per_camera < prior.min_photos_for_principal
    sigma[few, CX] = sigma[few, CY] = FIXED_SIGMA
    return replace(prior, sigma=sigma)


def prior_after(prior: IntrinsicsPrior, found: Array, photos_per_camera: Index) -> IntrinsicsPrior:
    """Widen the prior for a stage that starts from the intrinsics (cameras, 8) that an earlier stage has found.

    Where these lie further from the prior mean than its sigma, the sigma becomes that distance: EXIF was wrong, or the
    photo is a crop. Other principal points are fixed for cameras with few photos.
    """
    distance = np.where(prior.sigma > FIXED_SIGMA, np.abs(found - prior.mean), 0.0)[:, :K1]
    crop = (distance > prior.sigma[:, :K1])[:, [CX, CY]].any(axis=1)
    held = hold_principal(prior, np.where(crop, prior.min_photos_for_principal, photos_per_camera))
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
    options: IntrinsicsPriorOptions = _DEFAULTS,
    given_sigma: Array | None = None,
    guess_log_sigma: Array | None = None,
) -> Intrinsics:
    """Intrinsics and priors before any geometry: given cameras are fixed but for what has a standard deviation in
    `given_sigma` (cameras, 8), EXIF focal lengths have a prior, guessed ones that of `guess_log_sigma` (cameras,) or
    none.

    `sizes` (cameras, 2) in pixels; `noise_px` as in IntrinsicsPrior.
    """
    values = np.array([intrinsics_of(model, p) for model, p in zip(models, params, strict=True)]).reshape(-1, 8)
    long_side = sizes.max(axis=1)
    sigma = np.empty_like(values)
    sigma[:, [FX, FY]] = np.inf
    sigma[:, [CX, CY]] = options.principal_sigma * long_side[:, None]
    corner = 0.5 * np.linalg.norm(sizes, axis=1) / values[:, FX]
    radial, tangential = options.corner_sigma, options.tangential_sigma
    sigma[:, K1:] = np.array([radial, radial, tangential, tangential])
    sigma[:, K1:] /= corner[:, None] ** DEGREE
    for camera, source in enumerate(sources):
        guessed = guess_log_sigma is not None and source == "guess"
        if source == "exif" or guessed:
            # A shared focal length has its prior once, at fx: a second one at fy would count it twice.
            focals = [FX] if CAMERA_MODELS[models[camera]].shared_focal else [FX, FY]
            relative = guess_log_sigma[camera] if guess_log_sigma is not None and guessed else options.exif_focal_sigma
            sigma[camera, focals] = relative * values[camera, FX]
        if source == "given":
            sigma[camera] = FIXED_SIGMA if given_sigma is None else np.maximum(given_sigma[camera], FIXED_SIGMA)
    prior = IntrinsicsPrior(values.copy(), sigma, noise_px, options.min_photos_for_principal)
    return Intrinsics(tuple(models), values, camera_of_photo, prior, options)
