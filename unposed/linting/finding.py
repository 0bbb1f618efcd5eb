"""What lint reports: one finding per fault, with its consequence and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from unposed.optim.option_ranges import Count, Positive, Within

TRAINERS = ("inria", "gsplat", "nerfstudio", "brush", "opensplat", "lichtfeld")
"""Programs that train splats, by the names that `--for` takes."""
TRANSFORMS_READERS = ("nerfstudio", "opensplat")
"""Those that read transforms.json where there is one, and no COLMAP model beside it."""


@dataclass(frozen=True)
class Finding:
    """A fault of a folder, and whom it concerns."""

    check: str
    """Short name of the fault, the same for every folder."""
    trainers: tuple[str, ...]
    """The programs that stop, or train something else than the folder says."""
    file: str
    """Path below the folder; the folder itself is a dot."""
    consequence: str
    remedy: str
    advice: bool = False
    """Whether the training runs all the same, and gets slower or worse."""

    def line(self) -> str:
        """The finding as one line of text."""
        kind = "advice" if self.advice else "error"
        return f"{self.file}: {kind} [{self.check}] {self.consequence}; {self.remedy} ({', '.join(self.trainers)})"

    def to_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        return {
            "check": self.check,
            "kind": "advice" if self.advice else "error",
            "trainers": list(self.trainers),
            "file": self.file,
            "consequence": self.consequence,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class LintLimits:
    """From where on a figure of a folder is a fault."""

    off_centre_px: Positive = 0.25
    """Distance of a principal point from the middle of the image: programs that drop it train poses that are off by as
    much."""
    camera_ratio: Annotated[float, Within("(1, inf)")] = 10.0
    """Distance of a camera from the median of the cameras, over the median distance: trainers scale the scene, or their
    steps, by the farthest camera."""
    point_ratio: Annotated[float, Within("(1, inf)")] = 100.0
    """The same of points: single far points get splats as large as the scene."""
    frame_ratio: Annotated[float, Within("(1, inf)")] = 1000.0
    """Distance of the cameras from the origin over their extent: trainers compute with 24 bits, of which 10 are then
    lost."""
    tilt_deg: Annotated[float, Within("(0, 90]")] = 30.0
    """Angle of the mean up of the cameras from the nearest axis of the world: viewers show the scene tilted."""
    pose_error: Positive = 1e-3
    """Difference of a pose between two files of one folder: of a rotation in radians, of a position over the extent of
    the cameras."""
    most_points: Count = 1_000_000
    """Start points beyond this cost memory, and no quality is known to come of them."""
    border_grey: Annotated[int, Within("[0, 255]")] = 8
    """Up to this grey value the outermost pixels are black: JPEG makes 0 to 3 out of an empty border."""
    border_photos: Count = 8
    """Photos whose pixels are read to look for borders: a camera that pads one photo pads all."""


def several(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
