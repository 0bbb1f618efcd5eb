"""Verified pairs that groups contradict: places that look alike, but do not lie to each other as matches say."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..arrays import Array, Index, Mask
from ..option_ranges import Angle, Count, Share
from ..rotations import rotation_angle_deg
from .fusion import GroupFusionOptions, fuse_groups
from .scenes import GroupScenes


@dataclass(frozen=True)
class LayoutOptions:
    """When what groups say of the layout of two photos counts against their matches."""

    max_turn_deg: Angle = 20.0
    """Angle to the relative rotation of the pair from which on a group contradicts it. Both are off by a few degrees at
    most; doppelgangers are mostly turned by tens of degrees against each other."""
    max_group_deg: Angle = 8.0
    """A group is trusted about a photo, and about two, where it agrees so well with what all groups together say of
    their rotations: it is off by one or two degrees where it is right, and by anything where it is wrong."""
    min_groups: Count = 2
    """Groups that are trusted about either photo at least, so that one group is not its own judge."""
    min_matches: Count = 30
    """Pairs with fewer inliers are not judged: their rotations are off by tens of degrees even where they are right."""
    min_agreement: Share = 0.5
    """Share of the judged pairs that groups must confirm: where they contradict most, the network is wrong instead."""
    fusion: GroupFusionOptions = field(default_factory=GroupFusionOptions)
    """Fusion of the groups, without pairs."""


@dataclass(frozen=True, eq=False)
class GroupLayout:
    """What groups say of the rotations of photos, alone and together."""

    scenes: GroupScenes
    """The photos of consistent groups that these are trusted about."""
    rotation: Array
    """(photos, 3, 3) cam_from_world by all groups together, each connected part in a frame of its own; NaN: unknown."""
    groups_of_photo: Index
    """(photos,) how many groups are trusted about a photo."""


def group_layout(scenes: GroupScenes, photos: int, options: LayoutOptions) -> GroupLayout:
    """The layout of all connected parts of the groups, by groups alone: pairs are what is to be judged."""
    rotation = np.full((photos, 3, 3), np.nan)
    consistent = np.zeros(scenes.groups, bool)
    rest = scenes
    while len(rest.group):
        part = fuse_groups(rest, photos, None, options.fusion)
        if part is None:
            break
        seen = np.isfinite(part.cam_from_world[:, 0, 0]) & np.isnan(rotation[:, 0, 0])
        rotation[seen] = part.cam_from_world[seen, :, :3]
        consistent[: len(part.consistent)] |= part.consistent
        rest = rest.select(~np.isfinite(part.agreement)[rest.group])
    kept = scenes.select(consistent[scenes.group])
    kept = kept.select(_off_together_deg(kept, rotation) <= options.max_group_deg)
    return GroupLayout(kept, rotation, np.bincount(kept.photo, minlength=photos))


def _off_together_deg(scenes: GroupScenes, rotation: Array) -> Array:
    """(m,) angle between the rotation of a photo by its group and by all groups together, with the group turned as most
    of its photos demand; infinite where unknown."""
    out = np.full(len(scenes.group), np.inf)
    for group in np.unique(scenes.group).tolist():
        rows = np.flatnonzero((scenes.group == group) & np.isfinite(rotation[scenes.photo, 0, 0]))
        if len(rows):
            world_from_local = rotation[scenes.photo[rows]].transpose(0, 2, 1) @ scenes.cam_from_local[rows, :, :3]
            apart = rotation_angle_deg(world_from_local[:, None] @ world_from_local.transpose(0, 2, 1)[None])
            out[rows] = apart[:, int(np.median(apart, axis=0).argmin())]
    return out


def layout_errors_deg(layout: GroupLayout, pairs: Index, b_from_a: Array, options: LayoutOptions) -> Array:
    """(e,) angle between the relative rotation of each pair and that of the nearest trusted group that has both photos;
    NaN where none has.

    Of all trusted groups the most favourable one counts: a network may be deceived by what deceives a matcher, and a
    pair is contradicted only where no group confirms it.
    """
    rows_of: dict[int, dict[int, int]] = {}
    for row, (group, photo) in enumerate(zip(layout.scenes.group.tolist(), layout.scenes.photo.tolist(), strict=True)):
        rows_of.setdefault(photo, {})[group] = row
    judged = (layout.groups_of_photo[pairs] >= options.min_groups).all(axis=1)
    edge, row_a, row_b = [], [], []
    for k in np.flatnonzero(judged).tolist():
        of_a, of_b = (rows_of.get(int(photo), {}) for photo in pairs[k])
        for group in of_a.keys() & of_b.keys():
            edge.append(k)
            row_a.append(of_a[group])
            row_b.append(of_b[group])
    out = np.full(len(pairs), np.inf)
    if edge:
        at, local = np.array(edge), layout.scenes.cam_from_local[:, :, :3]
        own = local[row_b] @ local[row_a].transpose(0, 2, 1)
        a, b = pairs[at].T
        together = layout.rotation[b] @ layout.rotation[a].transpose(0, 2, 1)
        known = np.isfinite(together[:, 0, 0])
        trusted = np.zeros(len(at), bool)
        trusted[known] = rotation_angle_deg(own[known] @ together[known].transpose(0, 2, 1)) <= options.max_group_deg
        angle = rotation_angle_deg(own[trusted] @ b_from_a[at[trusted]].transpose(0, 2, 1))
        np.minimum.at(out, at[trusted], angle)
    return np.where(np.isfinite(out), out, np.nan)


def contradicted_pairs(off_deg: Array, matches: Array, planar: Mask, options: LayoutOptions) -> Mask | None:
    """(e,) pairs that groups contradict, from the errors of `layout_errors_deg`; None where groups contradict so many
    that they are not to be relied on.

    Pairs that one plane explains have two rotations, and few matches have a wrong one without being wrong: neither is
    judged.
    """
    judged = np.isfinite(off_deg) & ~planar & (matches >= options.min_matches)
    against = judged & (off_deg > options.max_turn_deg)
    if against.sum() > (1.0 - options.min_agreement) * judged.sum():
        return None
    return np.asarray(against)
