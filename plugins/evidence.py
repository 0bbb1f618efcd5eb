"""What the stages before a mapper say, as the arrays of optim: key points and verified matches.

Matchers that work on features give indices of key points. Where any pair comes without, as from dense matchers,
key points are made of the positions of all matches, so that every mapper takes every matcher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.cameras import FOCAL_GUESS
from unposed.optim.mapping.dense_keypoints import dense_keypoints
from unposed.optim.mapping.tracks import Correspondences, Keypoints
from unposed.optim.pair.epipolar import sampson_errors
from unposed.pipeline.artifacts import Bytes, Doubts, Features, Floats, PairMatches, Photos, TwoViewGeometry
from unposed.pipeline.images.pixels import photo_per_px, read_rgb
from unposed.pipeline.stage import PerPair, PerPhoto, StageError

REFERENCE_SIDE_PX = 1600
"""Key points are found on photos of at most about this size, and are as exact as its pixels."""

UNIT_OVER_NOISE = 3.0
"""Noise units of dense matches by their scatter about the epipolar lines. That is what verification has left of it, and
only its part across the lines; and it is noise, not outliers, up to several times as much."""

COLOUR_SIDE_PX = 1024
"""Colours of points are read from photos of this size."""

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that mappers go by."""

    views: Keypoints
    matches: Correspondences
    unit_px: float
    """Pixels of the original photos to which a key point is expected to be exact, give or take."""
    unusable: Mapping[int, str]
    """Photos that could not be matched with any other, and why."""
    rgb_of: Callable[[int], Bytes]
    """(n, 3) colours of the key points of a photo."""
    dense: bool = False
    """Key points were made of the positions of matches."""


@dataclass(frozen=True, eq=False)
class _Verified:
    """The inliers of a pair with a geometry. Copies: what a stage loads is one block, with all that is not needed."""

    pair: tuple[int, int]
    index: tuple[Index, Index] | None
    xy: tuple[Floats, Floats]
    weight: Floats
    fundamental: Floats
    focal_px: float
    """What the pair says of a focal length that both photos share; NaN: nothing."""


def evidence_of(
    photos: Photos,
    features: PerPhoto[Features] | None,
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    doubts: Doubts | None = None,
) -> Evidence:
    """The verified matches of all pairs that have a geometry and are not in doubt, and the key points they join."""
    doubted = {(a, b) for a, b in doubts.pairs.tolist()} if doubts else set()
    verified = [
        _verified(pair, matching[pair], geometry, photos)
        for pair, geometry in verification.items()
        if geometry.kind != "none" and pair not in doubted
    ]
    indices = [each.index for each in verified if each.index is not None]
    if len(indices) < len(verified):
        return _of_positions(photos, verified)
    if features is None and not verified:
        return _nothing(photos)
    if features is None:
        raise StageError("these matches are between key points, and no node `features` tells where those are")
    views = views_of(photos, features)
    rows_a = [index[0] + views.start[each.pair[0]] for each, index in zip(verified, indices, strict=True)]
    rows_b = [index[1] + views.start[each.pair[1]] for each, index in zip(verified, indices, strict=True)]
    unusable = {
        index: "no key points found in it" if index in features else "no features could be taken from it"
        for index in np.flatnonzero(np.diff(views.start) == 0).tolist()
    }
    matches = _matches(verified, rows_a, rows_b)
    return Evidence(views, matches, noise_unit_px(photos), unusable, lambda index: features[index].rgb)


def _verified(pair: tuple[int, int], matches: PairMatches, geometry: TwoViewGeometry, photos: Photos) -> _Verified:
    keep, index = geometry.inliers, None
    if matches.index_a is not None and matches.index_b is not None:
        index = matches.index_a[keep].astype(np.int64), matches.index_b[keep].astype(np.int64)
    guess = FOCAL_GUESS * max(photos[pair[0]].width, photos[pair[0]].height)
    guessed = geometry.focal_known or bool(np.isclose(geometry.focals_px[0], guess, rtol=1e-6))
    tells = geometry.kind == "general" and not guessed
    return _Verified(
        pair,
        index,
        (matches.xy_a[keep], matches.xy_b[keep]),
        matches.weight[keep],
        geometry.fundamental.copy(),
        float(geometry.focals_px[0]) if tells else np.nan,
    )


def views_of(photos: Photos, features: PerPhoto[Features]) -> Keypoints:
    """All key points; photos without features have none."""
    xy: list[Floats] = []
    scale: list[Floats] = [np.zeros(0)]
    for index in range(len(photos)):
        found = features.get(index)  # once: every look loads it
        xy.append(np.zeros((0, 2)) if found is None else found.xy)
        scale.append(np.zeros(0) if found is None else found.scale)
    return Keypoints(
        xy=np.concatenate([np.zeros((0, 2)), *xy]).astype(np.float64),
        start=np.cumsum([0, *map(len, xy)], dtype=np.int64),
        size=_sizes(photos),
        sigma=_relative_sigma(np.concatenate(scale).astype(np.float64)),
    )


def scatter_px(evidence: Evidence) -> float:
    """Of all matches about the epipolar lines of their own pairs, robust standard deviation; NaN where none has any."""
    xy, matches = evidence.views.xy, evidence.matches
    rows = (slice(*matches.start[edge : edge + 2]) for edge in range(len(matches)))
    return _scatter_px(
        (fundamental, xy[matches.row_a[own]], xy[matches.row_b[own]])
        for fundamental, own in zip(matches.fundamental, rows, strict=True)
    )


def _scatter_px(pairs: Iterable[tuple[Array, Array, Array]]) -> float:
    """Likewise, from the fundamental matrices and matches of pairs; a pure rotation has none."""
    errors = [np.abs(sampson_errors(fundamental, a, b)) for fundamental, a, b in pairs if fundamental.any()]
    return 1.4826 * float(np.median(np.concatenate(errors))) if errors else np.nan


def noise_unit_px(photos: Photos) -> float:
    """The noise unit of key points that were found on photos of the reference size; the median photo's."""
    sides = [max(photo.width, photo.height) for photo in photos.photos]
    return float(np.median(np.maximum(np.array(sides) / REFERENCE_SIDE_PX, 1.0)))


def _nothing(photos: Photos) -> Evidence:
    """What is left if no two photos have anything in common."""
    views = Keypoints(np.zeros((0, 2)), np.zeros(len(photos) + 1, np.int64), _sizes(photos), np.zeros(0))
    return Evidence(views, _matches([], [], []), noise_unit_px(photos), {}, lambda _: np.zeros((0, 3), np.uint8))


def _of_positions(photos: Photos, verified: list[_Verified]) -> Evidence:
    """Every matcher has a precision of its own, which its matches tell by their distance from the epipolar lines."""
    count = [len(each.weight) for each in verified]
    photo_a, photo_b = (np.repeat([each.pair[side] for each in verified], count) for side in (0, 1))
    xy_a, xy_b = (np.concatenate([each.xy[side] for each in verified]).astype(np.float64) for side in (0, 1))
    weight = np.concatenate([each.weight for each in verified]).astype(np.float64)
    made = dense_keypoints(len(photos), photo_a, photo_b, xy_a, xy_b, weight)
    splits = np.cumsum(count)[:-1]
    fundamental = (np.asarray(each.fundamental, np.float64) for each in verified)
    scatter_px = _scatter_px(zip(fundamental, np.split(xy_a, splits), np.split(xy_b, splits), strict=True))
    noise_px = noise_unit_px(photos) if np.isnan(scatter_px) else scatter_px
    views = Keypoints(made.xy, made.start, _sizes(photos), _relative_sigma(1.0 / made.weight))

    def rgb_of(index: int) -> Bytes:
        picture = read_rgb(photos[index], COLOUR_SIDE_PX)
        at = made.xy[made.start[index] : made.start[index + 1]] / photo_per_px(photos[index], picture)
        column, row = np.clip(at.astype(np.int64), 0, (picture.shape[1] - 1, picture.shape[0] - 1)).T
        colours: Bytes = picture[row, column]
        return colours

    rows_a, rows_b = np.split(made.row_a, splits), np.split(made.row_b, splits)
    return Evidence(views, _matches(verified, rows_a, rows_b), UNIT_OVER_NOISE * noise_px, {}, rgb_of, True)


def _matches(verified: list[_Verified], rows_a: list[Index], rows_b: list[Index]) -> Correspondences:
    nothing = np.zeros(0, np.int64)
    return Correspondences(
        pairs=np.array([each.pair for each in verified], np.int64).reshape(-1, 2),
        start=np.cumsum([0, *map(len, rows_a)], dtype=np.int64),
        row_a=np.concatenate([nothing, *rows_a]).astype(np.int64),
        row_b=np.concatenate([nothing, *rows_b]).astype(np.int64),
        fundamental=np.array([each.fundamental for each in verified], np.float64).reshape(-1, 3, 3),
        focal_px=np.array([each.focal_px for each in verified], np.float64),
    )


def _sizes(photos: Photos) -> Index:
    return np.array([(photo.width, photo.height) for photo in photos.photos], np.int64).reshape(-1, 2)


def _relative_sigma(scale: Array) -> Array:
    """The error of a key point grows like the square root of its size: seen in the residuals of photo sets from
    churches to kitchens, over sizes from one to thirty pixels."""
    if not len(scale):
        return scale
    return np.clip(np.sqrt(scale / np.median(scale)), 0.5, 3.0)
