"""What networks say of groups of photos, as arrays with a row for each photo of each group."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..arrays import Array, Index, Mask


@dataclass(frozen=True, eq=False)
class GroupScenes:
    """Cameras and depths of m memberships: photo `photo[r]` as it is seen in group `group[r]`."""

    group: Index
    """(m,) number of the group, ascending."""
    photo: Index
    """(m,)."""
    cam_from_local: Array
    """(m, 3, 4) pose in the frame and at the scale of the group."""
    lattice: Array
    """(m, cells) log depth at the same places of a photo in whatever group, in the unit of the group; NaN: unknown."""
    focal_px: Array
    """(m,) in pixels of the original photo."""
    trust: Array
    """(m,) 0 to 1: how much of the photo is seen by others of the group."""

    def select(self, rows: Index | Mask) -> GroupScenes:
        """These memberships."""
        return GroupScenes(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1 if len(self.group) else 0
