"""Options of localization: how many photos of the model are matched, and when a pose counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from unposed.optim.localization.pose_hypotheses import PoseHypothesisOptions
from unposed.optim.option_ranges import Count, Positive, Share, Within


@dataclass(frozen=True)
class LocalizationOptions:
    """How a photo is localized."""

    partners: Count = 10
    """Photos of the model that are matched: more add little, since they see the same points."""
    first_partners: Count = 5
    """Of these, how many by retrieval; the others are those that see most of the points found by then."""
    max_partners: Count = 20
    """Photos that are matched where the first ones give no pose."""
    compared_keypoints: Annotated[int, Within("[16, 65536]")] = 256
    """Largest key points of each photo that retrieval compares."""
    usual_quantile: Share = 0.5
    """Quantile, over the photos of the model, of the distance that counts as usual for a key point in retrieval."""
    max_offset_px: Positive = 1.0
    """Match of a matcher without key points: distance from the key point that it is taken for, at most."""
    min_gain: Annotated[float, Within("[1, inf)")] = 1.15
    """A camera is not the one that its photos' size or EXIF data suggest if another focal length has more inliers by
    this factor: with the right one, noise gives a few percent."""
    min_map_noise: Positive = 0.05
    """Least noise that key points of the model are taken to have, in expected errors of detected ones: that of patches
    aligned with each other. Points of two photos fit these nearly, however far off they are."""
    pose: PoseHypothesisOptions = field(default_factory=PoseHypothesisOptions)
    """Robust estimation of the pose."""
