"""What is drawn beside a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from unposed.pipeline.pose_files import Poses

from .splats import ShownSplat


@dataclass(frozen=True, eq=False)
class Beside:
    """Other poses of the same photos, and a splat; None: neither."""

    poses: Poses | None = None
    splat: ShownSplat | None = None
