"""The focal length of a camera from those that calibration found for its photos one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unposed.optim.weighted_median import weighted_median
from unposed.pipeline.artifacts import PhotoCalibration

DEVIATION_PER_MAD = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""


def focal_of_camera(calibrations: Iterable[PhotoCalibration]) -> tuple[float, float] | None:
    """Focal length in pixels and standard deviation of its logarithm; None if no photo has any.

    It is the median of those of the photos, weighted by inverse variances. The deviation is the weighted
    median of theirs, or what the photos differ by if that is more: many photos do not make it smaller, since
    distortion, which bends lines, is the same in all of them, and photos of a zoom do differ.
    """
    told = [each for each in calibrations if np.isfinite(each.focal_px)]
    if not told:
        return None
    focal_px, sigma = (np.array([getattr(each, name) for each in told]) for name in ("focal_px", "log_sigma"))
    weight = sigma**-2.0
    middle = weighted_median(focal_px, weight)
    differ = DEVIATION_PER_MAD * weighted_median(np.abs(np.log(focal_px / middle)), weight)
    return middle, max(weighted_median(sigma, weight), differ)
