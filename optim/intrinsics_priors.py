"""What is known of cameras before any geometry: where their focal lengths come from, and how exact intrinsics are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .option_ranges import Count, Positive

FocalSource = Literal["given", "exif", "guess"]
"""Given focal lengths are constant, those from EXIF have a prior, a guess is the default field of view."""


@dataclass(frozen=True)
class IntrinsicsPriorOptions:
    """Standard deviations of the intrinsics before any geometry."""

    exif_focal_sigma: Positive = 0.05
    """Relative. EXIF focal lengths are rounded, and change with focus; a twentieth covers nearly all of them."""
    principal_sigma: Positive = 0.02
    """Of the long side of the photo. Principal points lie within a percent or two of the centre; those of crops do not,
    and crops are rare."""
    crop_sigma: Positive = 0.1
    """Of the long side, once the photos have shown that some of them are crops."""
    corner_sigma: Positive = 0.04
    """Of each radial term: displacement of a corner of the photo, relative to its distance from the centre. Lenses,
    long and wide ones, are built to stay within a few percent, so that the coefficients of a long one may be large.
    Action cameras with several times as much show it so clearly that the prior has little influence."""
    tangential_sigma: Positive = 0.005
    """The same of each tangential term."""
    min_photos_for_principal: Count = 4
    """Photos that must share a camera for its principal point to be free: one photo alone compensates it by its
    rotation."""
