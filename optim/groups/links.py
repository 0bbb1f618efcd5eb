"""Similarities between the frames of groups that share photos.

Groups are the nodes here and not photos: cycles within a group are closed by how its cameras were predicted, and are no
evidence. Cycles of groups are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index
from ..option_ranges import Positive
from ..pointmaps.pair_similarity import PairSimilarities
from ..rotations import nearest_rotation, rotation_angle_deg
from .scenes import GroupScenes

_ROUNDS = 4
_LEAST_SUPPORT = 1e-3
"""Of links that nothing speaks for: they hold where there is no other, and the system of all keeps a solution."""
LENGTH_OF_3 = 1.5382
"""Median length of a vector of three normal numbers of variance one."""


@dataclass(frozen=True)
class GroupLinkOptions:
    """Options of `link_groups`."""

    half_weight_angle_deg: Positive = 3.0
    """Angle between the rotations that two shared photos imply at which the weight of one is halved: three times the
    error of cameras that networks predict, a degree or two."""
    half_weight_position: Positive = 0.1
    """The same of positions, relative to the depth of the photos."""
    single_photo_weight: Positive = 0.25
    """Weight of a link by one shared photo, which nothing checks, over that of each further one that agrees; it falls
    where other links speak against the two groups."""


_DEFAULTS = GroupLinkOptions()


@dataclass(frozen=True, eq=False)
class GroupLinks:
    """Groups that share photos."""

    pairs: Index
    """(e, 2) groups a < b."""
    similar: PairSimilarities
    """Similarities that take the frame of a to that of b."""
    rotation_sigma_deg: float
    """Error per axis of cameras in groups, as those that share three photos or more contradict each other; NaN where
    none do."""
    position_sigma: float
    """The same of positions, relative to the depth of the photos."""


def link_groups(scenes: GroupScenes, options: GroupLinkOptions = _DEFAULTS) -> GroupLinks:
    """Link the groups that share photos.

    Rotation: robust mean of R_b^T R_a over shared photos. Scale: of depths, cell by cell, in the median over cells and
    photos. Translation: of the positions of the shared photos, each weighted by how well it fits.
    """
    a_row, b_row = _shared_memberships(scenes)
    keys = np.stack([scenes.group[a_row], scenes.group[b_row]], axis=1)
    pairs, link = np.unique(keys, axis=0, return_inverse=True)
    link = np.asarray(link.ravel(), np.int64)
    e = len(pairs)
    turn = scenes.cam_from_local[:, :, :3]
    centre = -np.einsum("mji,mj->mi", turn, scenes.cam_from_local[:, :, 3])
    relative = turn[b_row].transpose(0, 2, 1) @ turn[a_row]
    trust = np.minimum(scenes.trust[a_row], scenes.trust[b_row]) + 1e-6
    weight, rotation = trust, np.zeros((e, 3, 3))
    angle = np.zeros(len(link))
    for _ in range(_ROUNDS):
        total = np.zeros((e, 3, 3))
        np.add.at(total, link, weight[:, None, None] * relative)
        rotation = nearest_rotation(total)
        angle = rotation_angle_deg(relative @ rotation[link].transpose(0, 2, 1))
        weight = trust / (1.0 + (angle / options.half_weight_angle_deg) ** 2)
    scale = np.exp(_medians(link, _depth_differences(scenes, a_row, b_row), e))
    unit = np.exp(_row_medians(scenes.lattice[b_row]))
    moved = centre[b_row] - scale[link, None] * np.einsum("kij,kj->ki", rotation[link], centre[a_row])
    translation, off = np.zeros((e, 3)), np.zeros(len(link))
    by_position = weight
    for _ in range(_ROUNDS):
        sums = np.stack([np.bincount(link, by_position * moved[:, k], e) for k in range(3)], axis=1)
        translation = sums / np.bincount(link, by_position, e)[:, None]
        off = np.linalg.norm(moved - translation[link], axis=1) / unit
        by_position = weight / (1.0 + (off / options.half_weight_position) ** 2)
    agreeing: Array = np.bincount(link, by_position / trust, e).astype(np.float64)
    known = np.isfinite(scale) & np.isfinite(translation).all(axis=1)
    # Photos that agree are evidence for both groups, beyond the first one, which agrees with itself.
    several = np.maximum(agreeing - 1.0, 0.0)
    proven = np.zeros(len(scenes.group))
    for rows in (a_row, b_row):
        np.maximum.at(proven, rows, np.minimum(several[link], 1.0) * by_position / trust)
    members = np.maximum(np.bincount(scenes.group, minlength=scenes.groups), 1)
    whole = np.bincount(scenes.group, proven, scenes.groups) / members
    reliable = 0.5 * (proven + whole[scenes.group])
    alone = _maxima(link, np.minimum(reliable[a_row], reliable[b_row]) ** 2, e)
    support = several + options.single_photo_weight * alone + _LEAST_SUPPORT
    square = np.bincount(link, by_position * (np.radians(angle) ** 2 + off**2), e)
    error = np.sqrt(square / np.bincount(link, by_position, e))
    similar = PairSimilarities(
        np.where(known, scale, 1.0),
        rotation,
        np.where(known[:, None], translation, 0.0),
        np.where(known, support, 0.0),
        np.nan_to_num(error),
    )
    sigma = [_calibrated(link, size, agreeing) for size in (angle, off)]
    return GroupLinks(pairs, similar, sigma[0], sigma[1])


def _calibrated(link: Index, size: Array, agreeing: Array) -> float:
    """Error per axis of cameras in groups, from lengths of residuals (k,) of the photos of links that share three or
    more; NaN without any.

    Adjusted cameras would tell less: a photo in two groups can fit one of them exactly.
    """
    count = np.bincount(link)
    some = (count[link] > 2) & (agreeing[link] > 0.5 * count[link])
    if not some.any():
        return np.nan
    # The difference of two cameras, about a mean of that many differences.
    own = size[some] / np.sqrt(2.0 * (1.0 - 1.0 / count[link[some]]))
    return float(np.median(own)) / LENGTH_OF_3


def _maxima(owner: Index, value: Array, owners: int) -> Array:
    out = np.zeros(owners)
    np.maximum.at(out, owner, value)
    return out


def _shared_memberships(scenes: GroupScenes) -> tuple[Index, Index]:
    """Rows of the memberships of one photo in two groups, the smaller group first."""
    order = np.lexsort((scenes.group, scenes.photo))
    photo = scenes.photo[order]
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for gap in range(1, int(np.bincount(photo).max(initial=0))):
        same = np.flatnonzero(photo[gap:] == photo[:-gap])
        first.append(order[same])
        second.append(order[same + gap])
    return np.concatenate(first), np.concatenate(second)


def _depth_differences(scenes: GroupScenes, a_row: Index, b_row: Index) -> Array:
    """(k,) median log depth of shared photos in group b over that in group a."""
    return _row_medians(scenes.lattice[b_row] - scenes.lattice[a_row])


def _row_medians(values: Array) -> Array:
    """Medians of what is known of each row; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows of nothing
        return np.asarray(np.nanmedian(values, axis=1)) if values.shape[0] else np.zeros(0)


def _medians(owner: Index, value: Array, owners: int) -> Array:
    """(owners,) lower medians of the known values of each owner; NaN without any."""
    known = np.isfinite(value)
    owner, value = owner[known], value[known]
    order = np.lexsort((value, owner))
    count = np.bincount(owner, minlength=owners)
    start = np.cumsum(count) - count
    out = np.full(owners, np.nan)
    some = count > 0
    middle = start[some] + (count[some] - 1) // 2
    out[some] = 0.5 * (value[order][middle] + value[order][start[some] + count[some] // 2])
    return out
