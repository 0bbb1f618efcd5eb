"""Track alignment: where in each photo the surroundings of a point look as they do in the photo that sees it best.

A detector finds a key point in every photo by itself, to a few tenths of a pixel. Of the key points of a track one is
the reference; the others are moved to where the pixels around them agree with those around it,

    min over d of sum_g w_g (n(I_i(x_i + A_i (g + d))) - n(I_r(x_r + A_r g)))^2,

g on a small grid of the tangent plane, A the projection of that plane into either photo, n the subtraction of the
mean and division by the norm: gain and offset of the light do not count. Gauss-Newton on the reference's gradient
(inverse composition), for all observations at once. What is left of the error of a key point is then the same in all
photos of its track, and moves the point instead of the cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle, camera_points
from ..cameras import fisheyes, project_with_jacobians
from ..option_ranges import Count, Positive, Share
from ..parallel import chunk_map, even_blocks
from ..poses import camera_centres

Patches = NDArray[np.float32]
"""(m, s, s) grey values on a grid of the tangent plane around each observation."""


class PatchTable(Protocol):
    """The same, wherever they lie: memory may hold too few."""

    def __getitem__(self, rows: Index, /) -> Patches:
        """(n, s, s) patches of rows (n,), from any thread."""

    def __setitem__(self, rows: Index, patches: Patches, /) -> None:
        """Put patches (n, s, s) into rows (n,)."""


ALIGNED_AT_ONCE = 4096
"""Observations aligned together; bounds memory."""

MARGIN = 3
"""Grid steps that a patch may move by."""

HALF = 7
"""Grid steps from the middle of a patch to its border."""

SIZE = 2 * (HALF + MARGIN + 2) + 1
"""Samples along the side of a patch with its margin, and with what cubic interpolation reads beyond."""

SPARE = MARGIN + 2
"""Of these, to either side of the middle."""

NEIGHBOURS = 12
"""Points that a tangent plane is fitted to."""


@dataclass(frozen=True)
class TrackAlignmentOptions:
    """How key points are aligned, and which are left as they are."""

    radius: Positive = 6.0
    """Half the side of a patch at a key point of the usual scale, in expected key point errors; others are as much
    larger or smaller as their scale."""
    radius_bounds: tuple[Positive, Positive] = (4.0, 20.0)
    """Least and largest such radius, likewise: less has no texture, more is not flat."""
    max_move: Positive = 2.0
    """Key points that would move further keep their place, in expected key point errors, likewise by scale."""
    min_correlation: Share = 0.8
    """Patches that correlate less with the reference are covered, or of something else."""
    iterations: Count = 12
    """Steps of Gauss-Newton, at most."""
    last_step: Positive = 0.05
    """Key points whose last step was longer have not converged; in steps of the grid, of which a radius is seven."""


@dataclass(frozen=True, eq=False)
class PatchLayout:
    """Where the patch of each observation lies in its photo."""

    reference: Index
    """(m,) the observation of the same point that sees it best."""
    xy_per_step: Array
    """(m, 2, 2) derivative of the pixel by steps on the grid of the tangent plane."""


@dataclass(frozen=True, eq=False)
class AlignedTracks:
    """Observations moved to where they look alike."""

    xy: Array
    """(m, 2) pixels; unmoved where not aligned."""
    aligned: Mask
    """(m,) those that agree with the reference of their track, and references that others agree with."""
    expected_error_px: float
    """Median of the standard deviations that contrast and difference of the patches leave open; NaN where none is
    aligned."""


def patch_layout(
    bundle: Bundle,
    sigma: Array,
    keypoint_error_px: float,
    options: TrackAlignmentOptions,
    late: Mask | None = None,
) -> PatchLayout:
    """Patches that follow the tangent planes of the points, as large as the scales of the reference key points ask for.

    `sigma` (m,) are the relative standard deviations of the key points, whose square is their relative scale. Of a
    point that others see, `late` observations (m,) are no reference.
    """
    by_plane = _pixels_by_plane(bundle, _normals(bundle))
    area = np.abs(np.linalg.det(by_plane))
    first = np.flatnonzero(np.diff(bundle.point, prepend=-1))
    best = np.lexsort((-area, np.zeros(len(area), bool) if late is None else late, bundle.point))[first]
    low, high = options.radius_bounds
    radius_px = keypoint_error_px * np.clip(options.radius * sigma[best] ** 2, low, high)
    # A step along the grid is one of this length in the reference photo; singular planes are seen from their edge.
    inverse = np.linalg.pinv(by_plane[best])
    per_step = inverse * (radius_px / HALF)[:, None, None]
    return PatchLayout(best[bundle.point], by_plane @ per_step[bundle.point])


def align_tracks(
    bundle: Bundle,
    layout: PatchLayout,
    patches: PatchTable,
    sigma: Array,
    keypoint_error_px: float,
    options: TrackAlignmentOptions,
) -> AlignedTracks:
    """Align every observation with the reference of its point; `patches` (m, SIZE, SIZE) were cut at the layout."""
    others = np.flatnonzero(layout.reference != np.arange(len(bundle.xy)))
    shift, variance, good = np.zeros((len(others), 2)), np.zeros(len(others)), np.zeros(len(others), bool)

    def align(block: range) -> None:
        part = slice(block.start, block.stop)
        own = others[part]
        shift[part], variance[part], good[part] = _aligned(patches[layout.reference[own]], patches[own], options)

    chunk_map(align, even_blocks(len(others), ALIGNED_AT_ONCE))
    per_step = layout.xy_per_step[others]
    move_px = np.einsum("nij,nj->ni", per_step, shift)
    scale = np.maximum(sigma[others] ** 2, 1.0)
    good &= np.hypot(move_px[:, 0], move_px[:, 1]) < options.max_move * keypoint_error_px * scale
    xy, aligned = bundle.xy.copy(), np.zeros(len(bundle.xy), bool)
    xy[others[good]] += move_px[good]
    aligned[others[good]] = aligned[layout.reference[others[good]]] = True
    expected_px = np.sqrt(variance * np.abs(np.linalg.det(per_step)))[good]
    return AlignedTracks(xy, aligned, float(np.median(expected_px)) if good.any() else np.nan)


def _pixels_by_plane(bundle: Bundle, normals: Array) -> Array:
    """(m, 2, 2) derivative of each observed pixel by coordinates in the tangent plane of its point."""
    across = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, across)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    plane = np.stack([first, np.cross(normals, first)], axis=2)
    camera = bundle.camera_of_photo[bundle.photo]
    _, by_y, _ = project_with_jacobians(
        camera_points(bundle), bundle.intrinsics[camera], fisheyes(bundle.models)[camera]
    )
    by_plane: Array = by_y @ bundle.cam_from_world[bundle.photo][:, :, :3] @ plane[bundle.point]
    return by_plane


def _normals(bundle: Bundle) -> Array:
    """(points, 3) unit normals: of the plane through the nearest points where they are flat, else towards the photos.

    A normal that is wrong turns a patch by a few pixels at its border, the same way to both sides, which moves no
    middle.
    """
    centres = camera_centres(bundle.cam_from_world)
    rays = centres[bundle.photo] - bundle.points[bundle.point]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    first = np.flatnonzero(np.diff(bundle.point, prepend=-1))
    towards = np.add.reduceat(rays, first, axis=0)
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
    if len(bundle.points) < NEIGHBOURS:
        return towards
    near = bundle.points[cKDTree(bundle.points).query(bundle.points, k=NEIGHBOURS)[1]]
    off = near - np.median(near, axis=1, keepdims=True)
    spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", off, off))
    normal = axes[:, :, 0] * np.sign(np.einsum("ni,ni->n", axes[:, :, 0], towards))[:, None]
    flat = (spread[:, 0] < 0.05 * spread[:, 1]) & (np.einsum("ni,ni->n", normal, towards) > 0.4)
    return np.where(flat[:, None], normal, towards)


def _aligned(reference: Patches, other: Patches, options: TrackAlignmentOptions) -> tuple[Array, Array, Mask]:
    """Shifts (n, 2) of the other patches in steps, their variance (n,), and whether they have converged and agree."""
    weight = _window()
    template, slope = _shifted(reference, np.zeros((len(reference), 2))), _slopes(reference)
    template, norm = _normalized(template, weight)
    slope /= norm[:, None, None, None]
    slope -= (slope * weight).sum(axis=(2, 3), keepdims=True)
    slope -= (slope * template[:, None] * weight).sum(axis=(2, 3), keepdims=True) * template[:, None]
    normal = np.einsum("niyx,njyx->nij", slope * weight, slope).astype(np.float64)
    textured = np.linalg.eigvalsh(normal)[:, 0] > 1e-6
    inverse = np.linalg.inv(np.where(textured[:, None, None], normal, np.eye(2)))
    shift, step, correlation = np.zeros((len(other), 2)), np.full(len(other), np.inf), np.zeros(len(other))
    moving = np.flatnonzero(textured)
    for _ in range(options.iterations):
        now, _ = _normalized(_shifted(other[moving], shift[moving]), weight)
        correlation[moving] = (now * template[moving] * weight).sum(axis=(1, 2))
        gradient = np.einsum("niyx,nyx->ni", slope[moving] * weight, now - template[moving])
        change = np.clip(np.einsum("nij,nj->ni", inverse[moving], gradient), -1.0, 1.0)
        shift[moving] -= change
        step[moving] = np.abs(change).max(axis=1)
        moving = moving[(step[moving] > 0.2 * options.last_step) & (np.abs(shift[moving]).max(axis=1) < MARGIN)]
        if not len(moving):
            break
    inside = np.abs(shift).max(axis=1) < MARGIN
    good = textured & inside & (step < options.last_step) & (correlation > options.min_correlation)
    # Neighbouring samples are not independent: photos are less sharp than their pixels.
    independent = 0.25 / float((weight**2).sum())
    unlike = (1.0 - np.minimum(correlation, 1.0 - 1e-6) ** 2) / independent
    return shift, 0.5 * np.trace(inverse, axis1=1, axis2=2) * unlike, good


def _window() -> Patches:
    """(2 HALF + 1, 2 HALF + 1) weights that fall off towards the border, where neighbours on other surfaces begin."""
    along = np.exp(-0.5 * (np.arange(-HALF, HALF + 1) / (HALF / 1.6)) ** 2)
    both = np.outer(along, along)
    weight: Patches = (both / both.sum()).astype(np.float32)
    return weight


def _normalized(patches: Patches, weight: Patches) -> tuple[Patches, Patches]:
    """Patches of weighted mean zero and norm one, and their norms (n,)."""
    off = patches - (patches * weight).sum(axis=(1, 2), keepdims=True)
    norm = np.sqrt((off * off * weight).sum(axis=(1, 2))) + np.float32(1e-6)
    return off / norm[:, None, None], norm


def _slopes(patches: Patches) -> Patches:
    """(n, 2, 2 HALF + 1, 2 HALF + 1) derivatives of the middle of patches by x and y, per step: differences of what
    lies half a step to either side, which neighbours have in common."""
    width, first = 2 * HALF + 1, SPARE - 1
    half = _cubic(np.array([0.5]))[0]
    middle = slice(first + 1, first + 1 + width)
    across = np.zeros((len(patches), width, width + 1), np.float32)
    down = np.zeros((len(patches), width + 1, width), np.float32)
    for i in range(4):
        along = slice(first - 1 + i, first + i + width)
        across += half[i] * patches[:, middle, along]
        down += half[i] * patches[:, along, middle]
    return np.stack([np.diff(across, axis=2), np.diff(down, axis=1)], axis=1)


def _shifted(patches: Patches, shift: Array) -> Patches:
    """(n, 2 HALF + 1, 2 HALF + 1) middles of patches shifted by (n, 2) steps, by Catmull and Rom's cubic."""
    if not shift.any():  # it reads the samples themselves
        return patches[:, SPARE:-SPARE, SPARE:-SPARE]
    whole = np.floor(shift)
    x, y = _cubic(shift[:, 0] - whole[:, 0]), _cubic(shift[:, 1] - whole[:, 1])
    width = 2 * HALF + 1
    first = (MARGIN + 1 + whole).clip(0, SIZE - width - 3).astype(np.int64)
    windows = sliding_window_view(patches, (width + 3, width + 3), axis=(1, 2))
    read = windows[np.arange(len(patches)), first[:, 1], first[:, 0]]
    rows = np.zeros((len(patches), width, width + 3), np.float32)
    for i in range(4):
        rows += y[:, i, None, None] * read[:, i : i + width]
    out = np.zeros((len(patches), width, width), np.float32)
    for i in range(4):
        out += x[:, i, None, None] * rows[:, :, i : i + width]
    return out


def _cubic(t: Array) -> Patches:
    """(n, 4) weights of the samples at -1, 0, 1 and 2 for positions t (n,) from 0 to 1."""
    squared, cubed = t * t, t * t * t
    weights = [2 * squared - t - cubed, 2 - 5 * squared + 3 * cubed, t + 4 * squared - 3 * cubed, cubed - squared]
    return (0.5 * np.stack(weights, axis=1)).astype(np.float32)
