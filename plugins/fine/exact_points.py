"""A last bundle adjustment of key points that were aligned with each other in the pixels of the photos."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Mask
from unposed.optim.bundle.pose_priors import PosePriors
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior, errors_px
from unposed.optim.mapping.refinement import (
    RefinementResult,
    RefineOptions,
    Solver,
    completed,
    dependable,
    observation_sigma,
)
from unposed.optim.mapping.track_alignment import (
    SIZE,
    AlignedTracks,
    Patches,
    PatchLayout,
    PatchTable,
    TrackAlignmentOptions,
    align_tracks,
    patch_layout,
)
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.option_ranges import Count, Positive, Within
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Photo, Photos

from .patch_file import patch_file

PATCH_SHARE = 1 / 8
"""Share of the memory of the stage above which patches lie in a file."""

CUT_AT_ONCE = 1000
"""Patches cut together: images of more rows than a short integer counts are refused by OpenCV."""


@dataclass(frozen=True)
class ExactPointOptions(TrackAlignmentOptions):
    """Alignment of key points, and when the adjustment takes the result."""

    enabled: bool = True
    max_side_px: Count = 1600
    """Photos are reduced to this side; their pixels are not sharper than lens and JPEG."""
    max_observations: Annotated[int, Within("[0, inf)")] = 200_000
    """Models with more keep their key points: patches take 2.5 KB each, in memory or in a temporary file, and many
    photos average errors out by themselves."""
    max_unexplained: Positive = 1.5
    """Aligned key points are taken if their median reprojection error is at most so many times that which their
    patches leave open. Where it is larger, camera model, rolling shutter or blur are wrong and not the points."""
    loss_scale: Positive = 2.0
    """Scale of the loss, in median reprojection errors of aligned key points."""
    max_iterations: Count = 15
    """Steps of either adjustment, at most."""
    tolerance: Positive = 1e-5
    """Relative decrease of the cost in one step at which they end."""


def with_exact_points(
    photos: Photos,
    graph: ViewGraph,
    result: RefinementResult,
    prior: IntrinsicsPrior,
    anchors: PosePriors | None,
    solver: Solver,
    refinement: RefineOptions,
    options: ExactPointOptions,
    ram_bytes: int,
) -> tuple[RefinementResult, ViewGraph]:
    """The result adjusted once more to aligned key points, and the graph with these; both as they were where alignment
    does not explain the errors. Covariances stay those of key points as they were found. Patches lie in a file where
    they would take more than a share of `ram_bytes`."""
    bundle = keep_observations(result.bundle, dependable(result.bundle, refinement.dependable_points))
    if graph.dense or not options.enabled or not refinement.min_points <= len(bundle.xy) <= options.max_observations:
        return result, graph
    if not all(photos[photo].path.name for photo in np.unique(bundle.photo).tolist()):  # made-up ones have no pixels
        return result, graph
    sigma = sigma_of(graph, bundle)
    unit_px = graph.keypoint_error_px
    layout = patch_layout(bundle, sigma, unit_px, options)
    with _table(len(bundle.xy), int(ram_bytes * PATCH_SHARE)) as patches:
        _cut_all(patches, photos, bundle, layout, options.max_side_px)
        tracks = align_tracks(bundle, layout, patches, sigma, unit_px, options)
    del patches
    kept = kept_when_aligned(bundle, tracks, refinement.dependable_points)
    exact = keep_observations(replace(bundle, xy=tracks.xy), kept)
    aligned = np.zeros(len(graph.keypoints.xy), bool)
    aligned[bundle.row[tracks.aligned]] = True
    if np.count_nonzero(aligned[exact.row]) < refinement.min_points:
        return result, graph
    free = refinement.adjustment(unit_px, options.max_iterations, options.tolerance)
    exact, first = solver(exact, free, prior, sigma_of(graph, exact), anchors, None)
    error_px = float(np.median(errors_px(exact)[aligned[exact.row]]))
    if not error_px <= options.max_unexplained * tracks.expected_error_px:
        return result, graph
    better = min(1.0, options.loss_scale * error_px / free.loss_px)
    own = sigma_of(graph, exact) * np.where(aligned[exact.row], better, 1.0)
    exact, last = solver(exact, free, prior, own, anchors, None)
    done, moved = with_all_points(graph, exact, refinement)
    return replace(done, summaries=(*result.summaries, first, last), covariance=result.covariance), moved


def with_aligned_new_photos(
    photos: Photos, bundle: Bundle, new: Mask, moved: Mask, sigma: Array, unit_px: float, options: ExactPointOptions
) -> AlignedTracks:
    """The key points of the `new` photos aligned with those of the others, which stay: of these `moved` (m,)
    observations were aligned before."""
    late = new[bundle.photo]
    layout = patch_layout(bundle, sigma, unit_px, options, late)
    own = np.unique(np.concatenate([np.flatnonzero(late), layout.reference[late]]))
    part = replace(bundle, xy=bundle.xy[own], photo=bundle.photo[own], point=bundle.point[own], row=bundle.row[own])
    place = PatchLayout(np.searchsorted(own, layout.reference[own]), layout.xy_per_step[own])
    patches = _cut_all(no_patches(len(own)), photos, part, place, options.max_side_px)
    tracks = align_tracks(part, place, patches, sigma[own], unit_px, options)
    xy, aligned = bundle.xy.copy(), moved.copy()
    xy[own] = tracks.xy
    aligned[layout.reference[moved]] = True
    aligned[own] |= tracks.aligned
    return AlignedTracks(xy, aligned, tracks.expected_error_px)


def kept_when_aligned(bundle: Bundle, tracks: AlignedTracks, enough: int) -> Mask:
    """(m,) aligned observations, and all others of photos that have fewer than `enough` of them."""
    count = np.bincount(bundle.photo[tracks.aligned], minlength=len(bundle.cam_from_world))
    return np.asarray(tracks.aligned | (count < enough)[bundle.photo])


def with_all_points(
    graph: ViewGraph, exact: Bundle, refinement: RefineOptions, wanted: Mask | None = None
) -> tuple[RefinementResult, ViewGraph]:
    """An exact bundle with all its points, and the graph with its key points moved; nothing is adjusted. `wanted` as of
    `completed`."""
    found = graph.keypoints.xy
    exact = keep_observations(exact, errors_px(exact) < refinement.max_error * graph.keypoint_error_px)
    xy = found.copy()
    xy[exact.row] = exact.xy
    # Key points found twice are known by their equal places, so that all points are looked for at these.
    done = completed(graph, replace(exact, xy=found[exact.row]), refinement, graph.keypoint_error_px, wanted)
    bundle = replace(done.bundle, xy=xy[done.bundle.row])
    return replace(done, bundle=bundle), replace(graph, keypoints=replace(graph.keypoints, xy=xy))


def sigma_of(graph: ViewGraph, bundle: Bundle) -> Array:
    """(m,) relative standard deviations of the key points observed."""
    sigma = observation_sigma(graph, bundle)
    return np.ones(len(bundle.row)) if sigma is None else sigma


def no_patches(count: int) -> Patches:
    """A table for patches of so many observations, in memory."""
    return np.zeros((count, SIZE, SIZE), np.float32)


def _table(count: int, limit_bytes: int) -> AbstractContextManager[PatchTable]:
    """The same, beyond a limit in a file."""
    needed = count * SIZE * SIZE * np.dtype(np.float32).itemsize
    return nullcontext(no_patches(count)) if needed <= limit_bytes else patch_file(count, SIZE)


def _cut_all(out: PatchTable, photos: Photos, bundle: Bundle, layout: PatchLayout, max_side_px: int) -> PatchTable:
    """Cut the patches of all observations; each photo is read once, and one after the other, since memory is for
    one."""
    for photo in np.unique(bundle.photo).tolist():
        own = np.flatnonzero(bundle.photo == photo)
        out[own] = _cut(photos[photo], bundle.xy[own], layout.xy_per_step[own], max_side_px)
    return out


def _cut(photo: Photo, xy: Array, xy_per_step: Array, max_side_px: int) -> Patches:
    """Patches (n, SIZE, SIZE) around pixels (n, 2) of a photo, from the photo or, where steps are long, from half of
    it."""
    # Here: a machine that only proves its GPU (docs/gpu.md) lacks these, and its photos are made up.
    import cv2

    from unposed.pipeline.images.pixels import photo_per_px, read_grey

    grey = read_grey(photo, max_side_px)
    image_per_photo = 1.0 / np.array(photo_per_px(photo, grey))
    middle = xy * image_per_photo
    per_step = xy_per_step * image_per_photo[:, None]
    image = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.6)  # noise, and what cubic interpolation makes of edges
    coarse = np.sqrt(np.abs(np.linalg.det(per_step))) >= 2.0
    steps = np.arange(SIZE) - SIZE // 2
    grid = np.stack(np.meshgrid(steps, steps))
    out = np.zeros((len(xy), SIZE, SIZE), np.float32)
    for which, factor in ((~coarse, 1.0), (coarse, 2.0)):
        source = image if factor == 1.0 else cv2.pyrDown(image)
        own = np.flatnonzero(which)
        for begin in range(0, len(own), CUT_AT_ONCE):
            part = own[begin : begin + CUT_AT_ONCE]
            at = middle[part, :, None, None] + np.einsum("nij,jyx->niyx", per_step[part], grid)
            x, y = ((at - 0.5) / factor).astype(np.float32).transpose(1, 0, 2, 3).reshape(2, -1, SIZE)
            cut = cv2.remap(source, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            out[part] = cut.reshape(-1, SIZE, SIZE)
    return out
