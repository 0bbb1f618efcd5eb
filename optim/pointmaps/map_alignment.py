"""Poses and focal lengths of all photos from the point maps of their pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..bundle.intrinsics import Intrinsics
from ..cameras import FX, unproject
from .alignment import Alignment, align_point_maps, misfit, refine_pairs
from .graph_average import Placed, place
from .moments import MatchedPoints
from .pair_maps import FOCAL_SIGMA, PairMaps, canonical_depths, first_focals
from .pair_similarity import pair_similarities

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

APART = 0.985
"""What remains of the misfit, at most, when photos that did not share their camera get one each."""

ROUGH = 0.08
"""Relative error of depths from which on similarities of pairs are first refined, as directions are better by far."""

LEAST_TRUST = 0.5
"""By the median of all pairs: pairs that agree less with the result are not believed."""


@dataclass(frozen=True, eq=False)
class AlignedMaps:
    cam_from_world: Array
    """(photos, 3, 4); NaN for photos outside."""
    intrinsics: Intrinsics
    """With the focal lengths found; taken apart where photos of one group did not share theirs."""
    pairs: Index
    """(e, 2)."""
    trust: Array
    """(e,) how well each pair agrees with the result, 0 to 1; 0 for pairs that could not be compared."""
    believed: Bools
    """(e,) the pairs that the result rests on."""
    misfit: float
    """See alignment.misfit."""
    strain: float
    """By how much rays of the same point miss each other, by the error of a match: near one where all is well, however
    rough the depths."""

    @property
    def posed(self) -> Bools:
        """(photos,)."""
        return np.isfinite(self.cam_from_world[:, 0, 0])


def align_maps(
    maps: PairMaps, sizes: Array, belief: Intrinsics, sigma: Array, *, noise_px: float, may_split: bool, seed: int = 0
) -> AlignedMaps | None:
    """The alignment of the largest connected component; None where there is none.

    `sizes` (photos, 2); `sigma` (cameras,) is the relative error of the believed focal lengths, 0 for given ones,
    infinite for guesses; `noise_px` is the error of a match.
    `may_split`: photos that are believed to share a camera may turn out not to.
    """
    if not len(maps.pairs):
        return None
    depth, usable = canonical_depths(maps, sizes)
    weight = np.where((depth > 0).all(axis=1) & usable[:, None], maps.weight, 0.0)
    single = belief.split() if may_split else belief
    start, first_sigma = first_focals(maps, single, sigma[belief.camera_of_photo] if may_split else sigma)
    points = _points(maps, depth, weight, start)
    similar = pair_similarities(points.p, points.q, points.weight, seed)
    photos, rows = _largest_component(len(sizes), maps.pairs, similar.support > 0)
    if len(photos) < 2:
        return None
    number = np.zeros(len(sizes), np.int64)
    number[photos] = np.arange(len(photos))
    similar = similar.select(rows)
    if np.median(similar.error) > ROUGH:
        similar = refine_pairs(points.select(rows, number), similar, _angle(noise_px, start, photos))
    placed = place(len(photos), number[maps.pairs[rows]], similar, similar.strength())

    def aligned(cameras: Intrinsics, sigma: Array, begin: Placed, renewals: int) -> tuple[MatchedPoints, Alignment]:
        used, camera_of_photo = np.unique(cameras.camera_of_photo[photos], return_inverse=True)
        points = _points(maps, depth, weight, cameras).select(rows, number)
        angle_noise = float(np.median(noise_px / cameras.values[used, FX]))
        return points, align_point_maps(points, begin, camera_of_photo, sigma[used], angle_noise, renewals=renewals)

    points, result = aligned(start, first_sigma, placed, 6)
    found = _with_growth(start, photos, result)
    cost = misfit(points, result, result.noise)
    if may_split and len(np.unique(belief.camera_of_photo[photos])) < len(photos):
        common = _common(found, belief, photos, np.isfinite(sigma))
        points, shared = aligned(common, np.minimum(sigma, FOCAL_SIGMA[1]), result.placed, 3)
        together = misfit(points, shared, result.noise)
        if cost > APART * together:
            result, found, cost = shared, _with_growth(common, photos, shared), together
    trust = np.zeros(len(maps.pairs))
    trust[rows] = result.trust
    poses = np.full((len(sizes), 3, 4), np.nan)
    turn = result.placed.rotation.transpose(0, 2, 1)
    poses[photos, :, :3] = turn
    poses[photos, :, 3] = -np.einsum("nij,nj->ni", turn, result.placed.translation)
    believed = trust > LEAST_TRUST * np.median(result.trust)
    strain = result.noise.angle / _angle(noise_px, found, photos)
    return AlignedMaps(poses, found, maps.pairs, trust, believed, cost, strain)


def _angle(noise_px: float, cameras: Intrinsics, photos: Index) -> float:
    """The error of a match in radians, under the median of the focal lengths."""
    return float(np.median(noise_px / cameras.values[cameras.camera_of_photo[photos], FX]))


def _points(maps: PairMaps, depth: Array, weight: Array, cameras: Intrinsics) -> MatchedPoints:
    """The matches as points in the frames of their cameras."""
    e, _, k = depth.shape
    rows = np.repeat(cameras.values[cameras.camera_of_photo[maps.pairs.ravel()]], k, axis=0)
    plane = unproject(maps.xy.reshape(-1, 2), rows).reshape(e, 2, k, 2)
    good = (weight > 0) & np.isfinite(plane).all(axis=(1, 3))
    rays = np.concatenate([np.nan_to_num(plane), np.ones((e, 2, k, 1))], axis=3)
    points = rays * np.where(good[:, None], depth, 0.0)[..., None]
    return MatchedPoints(maps.pairs, points[:, 0], points[:, 1], np.where(good, weight, 0.0))


def _largest_component(photos: int, pairs: Index, usable: Bools) -> tuple[Index, Index]:
    """The photos of the largest component of the usable pairs, and the rows of these."""
    rows = np.flatnonzero(usable)
    graph = coo_matrix((np.ones(len(rows)), pairs[rows].T), shape=(photos, photos))
    label = connected_components(graph, directed=False)[1]
    member = label == np.argmax(np.bincount(label))
    return np.flatnonzero(member), rows[member[pairs[rows, 0]]]


def _with_growth(cameras: Intrinsics, photos: Index, result: Alignment) -> Intrinsics:
    growth = np.zeros(len(cameras.models))
    growth[cameras.camera_of_photo[photos]] = result.log_growth
    return cameras.with_focals(cameras.values[:, FX] * np.exp(growth))


def _common(single: Intrinsics, belief: Intrinsics, photos: Index, known: Bools) -> Intrinsics:
    """The believed cameras with the median of the focal lengths that their photos have on their own."""
    focal = belief.values[:, FX].copy()
    own = single.values[single.camera_of_photo[photos], FX]
    for camera in np.unique(belief.camera_of_photo[photos]):
        if not known[camera]:
            focal[camera] = np.median(own[belief.camera_of_photo[photos] == camera])
    return belief.with_focals(focal)
