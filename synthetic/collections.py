"""Emulated collections of thousands of photos: key points and matches of known scenes, without any pixels.

Rendering and matching 10,000 photos takes hours; what the stages after matching do with them does not depend on the
pixels. So scene points are projected into cameras that stand as people's cameras do, with noise on every key point,
wrong matches, and pairs between photos that share most points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Index = NDArray[np.int64]

WIDTH_PX, HEIGHT_PX = 1600, 1200
FOCAL_PX = 1300.0
NEAREST, FARTHEST = 1.0, 30.0
"""Points between these distances from a camera are seen by it."""


@dataclass(frozen=True, eq=False)
class EmulatedCollection:
    """What matching and verification would say of a collection, and the truth."""

    cam_from_world: Array
    """(n, 3, 4) true poses."""
    focal_px: float
    """True focal length of all photos; the principal point is the centre."""
    size: Index
    """(n, 2) width and height in pixels."""
    xy: Array
    """(k, 2) key points, photo after photo."""
    start: Index
    """(n + 1,): photo i owns rows start[i]:start[i + 1] of xy."""
    pairs: Index
    """(e, 2) photos a < b."""
    match_count: Index
    """(e,) matches of each pair."""
    row_a: Index
    row_b: Index
    """(m,) matched rows of xy, pair after pair."""
    fundamental: Array
    """(e, 3, 3) true fundamental matrices, x_b^T F x_a = 0."""


@dataclass(frozen=True)
class EmulationOptions:
    """How dense and how exact the emulated key points and matches are."""

    keypoints: int = 500
    """Scene points that a photo sees, at most."""
    unmatched: int = 0
    """Key points per photo that match nothing."""
    neighbours: int = 18
    """Pairs per photo with the photos that share most points with it."""
    min_matches: int = 30
    """Pairs with fewer shared points do not match."""
    max_matches: int = 150
    """Matches per pair, at most."""
    noise_px: float = 0.5
    """Standard deviation of a key point."""
    outlier_ratio: float = 0.02
    """Matches that join key points of different scene points."""
    detection_ratio: float = 0.7
    """Share of the points in sight that a detector finds in one photo."""
    max_view_deg: float = 30.0
    """A point is found again within this angle of the direction from which it looks best."""


def emulate_collection(
    layout: str, photos: int, seed: int = 0, options: EmulationOptions | None = None
) -> EmulatedCollection:
    """Emulate a collection of so many photos; `layout` is one of LAYOUTS."""
    options, rng = options or EmulationOptions(), np.random.default_rng(seed)
    poses, points, normals = LAYOUTS[layout](photos, rng)
    photo, point, xy = _projections(poses, points, normals, rng, options)
    xy += options.noise_px * rng.standard_normal(xy.shape)
    row, start, stacked = _with_unmatched(photo, xy, photos, rng, options)
    pairs, count, first, second = _matches(photo, point, photos, len(points), rng, options)
    return EmulatedCollection(
        cam_from_world=poses,
        focal_px=FOCAL_PX,
        size=np.tile(np.array([WIDTH_PX, HEIGHT_PX], np.int64), (photos, 1)),
        xy=stacked,
        start=start,
        pairs=pairs,
        match_count=count,
        row_a=row[first],
        row_b=row[second],
        fundamental=_fundamental(poses, pairs),
    )


def _aerial(photos: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """A survey flight: parallel strips over hills, 75 per cent of overlap along them and 60 across."""
    columns = max(1, round(np.sqrt(photos)))
    strip, at = np.divmod(np.arange(photos), columns)
    step_x, step_y = 0.25 * 12.0 * WIDTH_PX / FOCAL_PX, 0.4 * 12.0 * HEIGHT_PX / FOCAL_PX
    x = np.where(strip % 2 == 0, at, columns - 1 - at) * step_x
    eye = np.stack([x, strip * step_y, np.full(photos, 12.0)], axis=1) + 0.3 * rng.standard_normal((photos, 3))
    poses = _poses(eye, eye - (0.0, 0.0, 12.0) + 0.4 * rng.standard_normal((photos, 3)) * (1, 1, 0), (0.0, 1.0, 0.0))
    low, high = eye[:, :2].min(axis=0) - 8.0, eye[:, :2].max(axis=0) + 8.0
    ground = rng.uniform(low, high, (int(40.0 * np.prod(high - low)), 2))
    height = 1.2 * np.sin(0.31 * ground[:, 0]) * np.cos(0.23 * ground[:, 1]) + 0.5 * rng.random(len(ground))
    return poses, np.column_stack([ground, height]), np.tile([0.0, 0.0, 1.0], (len(ground), 1))


def _streets(photos: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """A walk once around a block of houses and back to its start, looking ahead and to the side: one long loop."""
    step = 0.8
    side = max(30.0, photos * step / 4)
    along = np.arange(photos) * (4 * side / photos)
    centre = _around(along, side, 0.0)
    ahead = _around(along + 4.0, side, 0.0) - centre
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    outward = np.column_stack([ahead[:, 1], -ahead[:, 0]])
    eye = np.column_stack([centre + 0.15 * rng.standard_normal((photos, 2)), 1.6 + 0.1 * rng.standard_normal(photos)])
    aim = eye + np.column_stack([ahead + 0.9 * outward, 0.05 * rng.standard_normal(photos)])
    houses = int(along[-1] * 1200)
    s, height = rng.uniform(0.0, 4 * side, houses), rng.uniform(0.0, 7.0, houses)
    front = _around(s, side, 6.0 + 1.0 * np.sin(0.9 * s) + 0.6 * np.sign(np.sin(0.33 * s)))
    inner = _around(s, side, 0.0) - front
    normals = np.column_stack([inner / np.linalg.norm(inner, axis=1, keepdims=True), np.zeros(houses)])
    return _poses(eye, aim, (0.0, 0.0, 1.0)), np.column_stack([front, height]), normals


def _around(along: NDArray[np.floating], side: float, outward: Array | float) -> Array:
    """(k, 2) points at arc lengths along a square with round corners, so far outside of it."""
    angle = 2 * np.pi * along / (4 * side)
    corner = np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle))) ** 0.5  # between a circle and a square
    radius = 0.5 * side / corner * 1.1 + outward
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _hemisphere(photos: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """All around and over one object, its surface seen from every side."""
    turn = np.arange(photos) * np.pi * (3.0 - np.sqrt(5.0))
    height = (np.arange(photos) + 0.5) / photos * 0.9
    flat = np.sqrt(1.0 - height**2)
    direction = np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height])
    eye = direction * (6.0 + 0.3 * rng.standard_normal((photos, 1)))
    poses = _poses(eye, 0.2 * rng.standard_normal((photos, 3)), (0.0, 0.0, 1.0))
    normals = rng.standard_normal((max(40_000, 40 * photos), 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    bumps = 1.6 + 0.3 * np.sin(5.0 * normals[:, 0]) * np.sin(4.0 * normals[:, 1] + 1.0) * np.cos(3.0 * normals[:, 2])
    return poses, normals * bumps[:, None], normals


LAYOUTS: Mapping[str, Callable[[int, np.random.Generator], tuple[Array, Array, Array]]] = {
    "aerial": _aerial,
    "streets": _streets,
    "hemisphere": _hemisphere,
}
"""Name to poses (n, 3, 4), scene points (p, 3) and their normals (p, 3)."""


def _poses(eye: Array, aim: Array, up: tuple[float, float, float]) -> Array:
    """(n, 3, 4) cameras at `eye` that look at `aim`, upright as far as that goes."""
    forward = aim - eye
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, np.asarray(up))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    return np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, eye)[:, :, None]], axis=2)


def _projections(
    poses: Array, points: Array, normals: Array, rng: np.random.Generator, options: EmulationOptions
) -> tuple[Index, Index, Array]:
    """Photo, scene point and position of every observation, photo after photo.

    Of the points that a photo could see it sees the first ones in one order of all points, so that neighbours see the
    same ones.
    """
    rotation, eye = poses[:, :, :3], -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
    rank, tree = rng.permutation(len(points)), cKDTree(points)
    best = normals + 0.8 * rng.standard_normal(normals.shape)
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    nearest_cosine = np.cos(np.radians(options.max_view_deg))
    photo, point, position = [], [], []
    for i in range(len(poses)):
        near = np.array(tree.query_ball_point(eye[i] + 0.5 * FARTHEST * rotation[i, 2], 0.5 * FARTHEST), np.int64)
        towards = eye[i] - points[near]
        distance = np.linalg.norm(towards, axis=1)
        facing = np.einsum("pi,pi->p", towards, normals[near]) > 0.2 * distance
        alike = np.einsum("pi,pi->p", towards, best[near]) > nearest_cosine * distance
        near = near[facing & alike & (rng.random(len(near)) < options.detection_ratio)]
        local = points[near] @ rotation[i].T + poses[i, :, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = FOCAL_PX * local[:, :2] / local[:, 2:] + (WIDTH_PX / 2, HEIGHT_PX / 2)
        inside = (local[:, 2] > NEAREST) & (xy > 2.0).all(axis=1) & (xy < (WIDTH_PX - 2.0, HEIGHT_PX - 2.0)).all(axis=1)
        seen = np.flatnonzero(inside)
        seen = seen[np.argsort(rank[near[seen]], kind="stable")[: options.keypoints]]
        photo.append(np.full(len(seen), i))
        point.append(near[seen])
        position.append(xy[seen])
    return np.concatenate(photo), np.concatenate(point), np.concatenate(position)


def _with_unmatched(
    photo: Index, xy: Array, photos: int, rng: np.random.Generator, options: EmulationOptions
) -> tuple[Index, Index, Array]:
    """The row of each observation, where photos start, and all key points with those that match nothing."""
    seen = np.bincount(photo, minlength=photos)
    start = np.concatenate([[0], np.cumsum(seen + options.unmatched)])
    row = np.arange(len(photo)) - np.repeat(np.cumsum(seen) - seen, seen) + start[photo]
    stacked = rng.uniform((0.0, 0.0), (WIDTH_PX, HEIGHT_PX), (int(start[-1]), 2))
    stacked[row] = xy
    return row, start, stacked


def _matches(
    photo: Index, point: Index, photos: int, points: int, rng: np.random.Generator, options: EmulationOptions
) -> tuple[Index, Index, Index, Index]:
    """Pairs, their numbers of matches, and the matched observations."""
    observation = csr_array((np.arange(1, len(photo) + 1), (photo, point)), shape=(photos, points))
    seen = csr_array((np.ones(len(photo), np.int32), (photo, point)), shape=(photos, points))
    shared = (seen @ seen.T).tocsr()
    chosen: set[tuple[int, int]] = set()
    for a in range(photos):
        rows = slice(int(shared.indptr[a]), int(shared.indptr[a + 1]))
        others, count = shared.indices[rows], shared.data[rows]
        fit = (others != a) & (count >= options.min_matches)
        others = others[fit][np.lexsort((others[fit], -count[fit]))][: options.neighbours]
        chosen |= {(min(a, b), max(a, b)) for b in others.tolist()}
    pairs: Index = np.array(sorted(chosen), np.int64).reshape(-1, 2)
    first: list[Index] = []
    second: list[Index] = []
    for a, b in pairs.tolist():
        one, other = observation[[a]], observation[[b]]
        _, at_a, at_b = np.intersect1d(one.indices, other.indices, assume_unique=True, return_indices=True)
        picked = rng.permutation(len(at_a))[: options.max_matches]
        rows_b = other.data[at_b[picked]] - 1
        wrong = np.flatnonzero(rng.random(len(picked)) < options.outlier_ratio)
        rows_b[wrong] = np.roll(rows_b[wrong], 1)
        first.append(np.asarray(one.data[at_a[picked]] - 1))
        second.append(rows_b)
    match_count: Index = np.array([len(each) for each in first], np.int64)
    nothing = np.zeros(0, np.int64)
    row_a, row_b = (np.concatenate([nothing, *rows]).astype(np.int64) for rows in (first, second))
    return pairs, match_count, row_a, row_b


def _fundamental(poses: Array, pairs: Index) -> Array:
    """(e, 3, 3) of unit norm: F = K^-T [t]x R K^-1."""
    a, b = poses[pairs[:, 0]], poses[pairs[:, 1]]
    rotation = b[:, :, :3] @ a[:, :, :3].transpose(0, 2, 1)
    x, y, z = (b[:, :, 3] - np.einsum("eij,ej->ei", rotation, a[:, :, 3])).T
    nought = np.zeros(len(pairs))
    cross = np.stack([nought, -z, y, z, nought, -x, -y, x, nought], axis=1).reshape(-1, 3, 3)
    inverse = np.linalg.inv([[FOCAL_PX, 0.0, WIDTH_PX / 2], [0.0, FOCAL_PX, HEIGHT_PX / 2], [0.0, 0.0, 1.0]])
    fundamental: Array = inverse.T @ cross @ rotation @ inverse
    fundamental /= np.linalg.norm(fundamental, axis=(1, 2), keepdims=True)
    return fundamental
