"""Made-up collections with what a network would say of their groups: the truth with errors of its kind.

Photos stand on a wavy ring and look inward, or walk through a town and look ahead. Every group has a frame and a
scale of its own; each camera in it is turned by an error of its own and moved by a share of the depth, focal lengths
are off by a factor, depths by a smooth one. Wrong groups have cameras anywhere for a half of their photos or all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unposed.optim.groups.fusion import PairDirections, potentials
from unposed.optim.groups.scenes import GroupScenes
from unposed.optim.rotations import exp_so3, log_so3, rotation_angle_deg
from unposed.retrieval.groups import CoverOptions, PhotoGroup, cover_groups
from unposed.synthetic.camera import look_at

Array = NDArray[np.float64]

CELLS = 36


@dataclass(frozen=True)
class GroupNoise:
    """Errors of predictions."""

    rotation_deg: float = 1.0
    """Root mean square of the angle of each camera in each group."""
    position: float = 0.02
    """Of a camera, relative to the depth of its photo, along each axis."""
    depth: float = 0.03
    focal: float = 0.05
    wrong: float = 0.05
    """Share of the groups with cameras anywhere."""
    pair_deg: float = 0.2
    """Root mean square of the angle of the relative rotations of verified pairs."""
    wrong_pairs: float = 0.05


@dataclass(frozen=True)
class EmulatedCollection:
    """Photos with the truth about them, and what is said of their groups."""

    cam_from_world: Array
    focal_px: Array
    groups: list[PhotoGroup]
    scenes: GroupScenes
    wrong: NDArray[np.bool_]
    """(groups,)."""
    pairs: PairDirections


def emulate(
    photos: int,
    seed: int = 0,
    noise: GroupNoise | None = None,
    cover: CoverOptions | None = None,
    *,
    town: bool = False,
) -> EmulatedCollection:
    """A collection of so many photos, of which those that stand close are in groups together."""
    noise, rng = noise or GroupNoise(), np.random.default_rng(seed)
    pose = _walk(photos, rng) if town else _ring(photos, rng)
    pairs, similarity = _neighbours(photos, 12, rng, closed=not town)
    groups = cover_groups(photos, pairs, similarity, [0] * photos, cover or CoverOptions())
    true_depth = np.log(2.0 + 0.5 * rng.random((photos, 1))) + 0.2 * _smooth(photos, rng)
    wrong = np.zeros(len(groups), bool)
    wrong[rng.permutation(len(groups))[: round(noise.wrong * len(groups))]] = True
    focal = 800.0 * np.exp(0.02 * rng.standard_normal(photos))
    turn = pose[:, :, :3]
    centre = -np.einsum("nji,nj->ni", turn, pose[:, :, 3])
    rows = []
    for number, group in enumerate(groups):
        members = np.array(group.photos)
        k = len(members)
        size = np.exp(np.median(true_depth[members]))
        own = exp_so3(np.radians(noise.rotation_deg) / np.sqrt(3.0) * rng.standard_normal((k, 3))) @ turn[members]
        place = centre[members] + noise.position * size * rng.standard_normal((k, 3))
        if wrong[number]:
            astray = rng.permutation(k)[: k if rng.random() < 0.5 else (k + 1) // 2]
            own[astray] = exp_so3(1.5 * rng.standard_normal((len(astray), 3))) @ own[astray]
            place[astray] += size * rng.standard_normal((len(astray), 3))
        frame, origin, scale = exp_so3(rng.standard_normal((1, 3)))[0], rng.standard_normal(3), np.exp(rng.normal())
        rotation = own @ frame.T
        local = scale * (place @ frame.T + origin)
        matrix = np.concatenate([rotation, -np.einsum("kij,kj->ki", rotation, local)[..., None]], axis=2)
        lattice = true_depth[members] + np.log(scale) + noise.depth * _smooth(k, rng)
        said = focal[members] * np.exp(noise.focal * rng.standard_normal(k))
        rows.append((np.full(k, number), members, matrix, lattice, said, rng.uniform(0.3, 1.0, k)))
    scenes = GroupScenes(*(np.concatenate(each) for each in zip(*rows, strict=True)))
    return EmulatedCollection(pose, focal, groups, scenes, wrong, _verified(pose, pairs, similarity, noise, rng))


def rotation_errors_deg(found: Array, true: Array) -> Array:
    """(photos,) angles between rotations (n, 3, 3), cameras from world, after the turn that fits best; NaN stays."""
    known = np.isfinite(found[:, 0, 0])
    relative = found[known].transpose(0, 2, 1) @ true[known]
    mean = relative[np.argmin([np.median(rotation_angle_deg(relative @ each.T)) for each in relative[:200]])]
    for _ in range(10):
        weight = 1.0 / (0.1 + rotation_angle_deg(relative @ mean.T))
        u, _, vt = np.linalg.svd((weight[:, None, None] * relative).sum(axis=0))
        mean = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    out = np.full(len(found), np.nan)
    out[known] = rotation_angle_deg(relative @ mean.T)
    return out


def least_error_deg(made: EmulatedCollection, noise: GroupNoise, with_pairs: bool) -> float:
    """Median rotation error of one who knows which groups and pairs are right, how wrong they are, and how parts that
    nothing ties together lie: least squares in which every measurement counts by its true error. Nobody does better
    without luck."""
    true, scenes = made.cam_from_world[:, :, :3], made.scenes
    rows = np.flatnonzero(~made.wrong[scenes.group])
    photo, group, photos = scenes.photo[rows], scenes.group[rows], len(true)
    # In world axes the error of a photo minus that of its group is what the group says of it, less the truth.
    said = true[photo].transpose(0, 2, 1) @ scenes.cam_from_local[rows, :, :3]
    number, first = np.unique(group, return_index=True)
    frame = said[first][np.searchsorted(number, group)]
    ends, missed = [np.stack([photo, photos + group], axis=1)], [log_so3(said @ frame.transpose(0, 2, 1))]
    weight = [np.full(len(rows), noise.rotation_deg**-2.0)]
    if with_pairs:
        a, b = made.pairs.pairs.T
        between = log_so3(true[b].transpose(0, 2, 1) @ made.pairs.b_from_a[:, :, :3] @ true[a])
        right = np.degrees(np.linalg.norm(between, axis=1)) < 6.0 * noise.pair_deg
        ends.append(made.pairs.pairs[right][:, ::-1])
        missed.append(between[right])
        weight.append(np.full(right.sum(), noise.pair_deg**-2.0))
    seen = np.unique(np.concatenate([each[:, 0] for each in ends]))
    nodes = photos + len(made.groups)
    ends.append(np.stack([np.arange(1, nodes), np.zeros(nodes - 1, np.int64)], axis=1))
    missed.append(np.zeros((nodes - 1, 3)))
    weight.append(np.full(nodes - 1, 1e-9))  # holds what nothing ties where it truly is, and nothing else
    error = potentials(nodes, *(np.concatenate(each) for each in (ends, missed, weight)))[:photos]
    found = true @ exp_so3(error)
    found[np.setdiff1d(np.arange(photos), seen)] = np.nan
    return float(np.nanmedian(rotation_errors_deg(found, true)))


def parts_of_right_groups(made: EmulatedCollection) -> int:
    """Parts that the right groups form by the photos that they share: how those lie nothing says but wrong groups."""
    right = ~made.wrong[made.scenes.group]
    photos, photo, group = len(made.cam_from_world), made.scenes.photo[right], made.scenes.group[right]
    nodes = photos + len(made.groups)
    label = connected_components(coo_matrix((np.ones(len(photo)), (photo, photos + group)), shape=(nodes, nodes)))[1]
    return len(np.unique(label[photo]))


def _ring(photos: int, rng: np.random.Generator) -> Array:
    radius = max(3.0, photos / 20.0)
    angle = 2.0 * np.pi * np.arange(photos) / photos
    centres = np.stack([radius * np.cos(angle), 0.3 * rng.standard_normal(photos), radius * np.sin(angle)], axis=1)
    inward = centres * (1.0 - 2.0 / radius) * [1.0, 0.0, 1.0]
    return np.stack([look_at(centre, target) for centre, target in zip(centres, inward, strict=True)])


def _walk(photos: int, rng: np.random.Generator) -> Array:
    heading = np.cumsum(0.1 * rng.standard_normal(photos))
    step = 0.3 * np.stack([np.cos(heading), np.zeros(photos), np.sin(heading)], axis=1)
    centres = np.cumsum(step, axis=0) + 0.02 * rng.standard_normal((photos, 3))
    return np.stack([look_at(centre, centre + ahead) for centre, ahead in zip(centres, step, strict=True)])


def _neighbours(photos: int, reach: int, rng: np.random.Generator, *, closed: bool) -> tuple[NDArray[np.int64], Array]:
    first = np.repeat(np.arange(photos), reach)
    second = first + np.tile(np.arange(1, reach + 1), photos)
    kept = slice(None) if closed else second < photos
    pairs = np.sort(np.stack([first, second % photos], axis=1)[kept], axis=1)
    similarity = 1.0 / (np.tile(np.arange(1, reach + 1), photos)[kept] + 0.5 * rng.random(len(pairs)))
    pairs, rows = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0, return_index=True)
    return pairs, similarity[rows]


def _smooth(rows: int, rng: np.random.Generator) -> Array:
    """(rows, CELLS) smooth random numbers of variance one over a square lattice."""
    side = round(CELLS**0.5)
    y, x = np.mgrid[:side, :side].reshape(2, -1) / side
    waves = np.stack([np.ones(CELLS), *(f(np.pi * each) for each in (x, y) for f in (np.sin, np.cos))])
    waves /= np.sqrt((waves**2).mean(axis=1, keepdims=True))
    return rng.standard_normal((rows, len(waves))) @ waves / np.sqrt(len(waves))


def _verified(
    pose: Array, pairs: NDArray[np.int64], similarity: Array, noise: GroupNoise, rng: np.random.Generator
) -> PairDirections:
    """Relative poses of the more similar half of the pairs, as from matches of key points."""
    pairs = pairs[similarity > np.median(similarity)]
    a, b = pairs.T
    turn = pose[b, :, :3] @ pose[a, :, :3].transpose(0, 2, 1)
    move = pose[b, :, 3] - np.einsum("pij,pj->pi", turn, pose[a, :, 3])
    count = len(pairs)
    error = np.radians(noise.pair_deg) / np.sqrt(3.0)
    bad = rng.random(count) < noise.wrong_pairs
    turn = exp_so3(np.where(bad[:, None], 1.0, error) * rng.standard_normal((count, 3))) @ turn
    move += 3.0 * error * np.linalg.norm(move, axis=1, keepdims=True) * rng.standard_normal((count, 3))
    unit = move / np.linalg.norm(move, axis=1, keepdims=True)
    return PairDirections(pairs, np.concatenate([turn, unit[..., None]], axis=2), np.ones(count))
