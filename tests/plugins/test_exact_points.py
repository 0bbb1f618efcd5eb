"""Key points moved to where rendered photos look alike: their true places are known to a hundredth of a pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping import track_alignment
from unposed.optim.mapping.track_alignment import (
    SIZE,
    AlignedTracks,
    TrackAlignmentOptions,
    align_tracks,
    patch_layout,
)
from unposed.optim.parallel import lent_threads
from unposed.pipeline.images.photos import scan
from unposed.pipeline.images.pixels import read_grey
from unposed.plugins.fine.exact_points import _cut_all, _table, kept_when_aligned, no_patches
from unposed.plugins.fine.patch_file import PatchFile, patch_file
from unposed.synthetic.camera import viewing_rays
from unposed.synthetic.render import cast, transfer

SEEN_FROM = (5, 3, 4, 6, 7)
NOISE_PX = 0.4


@pytest.fixture(scope="module")
def wall(photo_set: Any) -> Any:
    return photo_set("planar_wall", 10, 480)


@pytest.fixture(scope="module")
def corners(wall: Any) -> Bundle:
    """Corners of one photo where four others truly see them, these with noise."""
    world, shots = wall.scene.world, wall.scene.shots
    grey = read_grey(scan(wall.images)[SEEN_FROM[0]])
    found = cv2.goodFeaturesToTrack(grey, 300, 0.02, 8)
    assert found is not None
    start = found.reshape(-1, 2).astype(np.float64) + 0.5
    inside = (np.abs(start - (240, 160)) < (190, 120)).all(axis=1)
    start = start[inside]
    seen = [transfer(world, shots[SEEN_FROM[0]], shots[other], start) for other in SEEN_FROM[1:]]
    good = np.all([ok & (np.abs(xy - (240, 160)) < (220, 140)).all(axis=1) for xy, ok in seen], axis=0)
    true = np.stack([start, *(xy for xy, _ in seen)], axis=1)[good]
    n, lens, first = len(true), shots[0].lens, shots[SEEN_FROM[0]]
    noise = np.random.default_rng(0).normal(scale=NOISE_PX, size=true.shape)
    noise[:, 0] = 0.0
    bundle = Bundle(
        models=("PINHOLE",),
        intrinsics=np.array([[lens.fx, lens.fy, lens.cx, lens.cy, 0.0, 0.0, 0.0, 0.0]]),
        camera_of_photo=np.zeros(len(shots), np.int64),
        cam_from_world=np.stack([shot.cam_from_world for shot in shots]),
        points=first.centre + (viewing_rays(first, start[good]) * cast(world, first, start[good])).T,
        xy=(true + noise).reshape(-1, 2),
        photo=np.tile(SEEN_FROM, n),
        point=np.repeat(np.arange(n), len(SEEN_FROM)),
        row=np.arange(n * len(SEEN_FROM)),
    )
    return bundle


def aligned(wall: Any, bundle: Bundle, **options: Any) -> tuple[AlignedTracks, np.ndarray[Any, Any]]:
    chosen = TrackAlignmentOptions(**options)
    sigma = np.ones(len(bundle.xy))
    layout = patch_layout(bundle, sigma, 1.0, chosen)
    patches = _cut_all(no_patches(len(bundle.xy)), scan(wall.images), bundle, layout, 1600)
    return align_tracks(bundle, layout, patches, sigma, 1.0, chosen), layout.reference


def off_reference(wall: Any, xy: Any, reference: Any, bundle: Bundle) -> Any:
    """(m,) distance from where each photo truly shows what the reference shows at its key point."""
    world, shots = wall.scene.world, wall.scene.shots
    off = np.full(len(xy), np.nan)
    for a in SEEN_FROM:
        for b in SEEN_FROM:
            own = np.flatnonzero((bundle.photo[reference] == a) & (bundle.photo == b))
            at, seen = transfer(world, shots[a], shots[b], bundle.xy[reference[own]])
            off[own] = np.where(seen, np.linalg.norm(at - xy[own], axis=1), np.nan)
    return off


def test_aligned_key_points_are_nearer_to_the_truth(wall: Any, corners: Bundle) -> None:
    bundle = corners
    found, reference = aligned(wall, bundle)
    others = np.flatnonzero((reference != np.arange(len(reference))) & found.aligned)
    before = off_reference(wall, bundle.xy, reference, bundle)[others]
    after = off_reference(wall, found.xy, reference, bundle)[others]
    assert len(reference) > 200 and len(others) > 0.4 * len(reference)
    assert np.nanmedian(before) > 0.4
    assert np.nanmedian(after) < 0.12
    assert found.expected_error_px < 0.15
    assert (found.xy[reference] == bundle.xy[reference]).all()


def test_alignment_gives_the_same_bytes_with_any_number_of_threads(
    wall: Any, corners: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_alignment, "ALIGNED_AT_ONCE", 50)  # several blocks
    options, sigma = TrackAlignmentOptions(), np.ones(len(corners.xy))
    layout = patch_layout(corners, sigma, 1.0, options)
    patches, done = _cut_all(no_patches(len(corners.xy)), scan(wall.images), corners, layout, 1600), []
    for threads in (1, 2, 7):
        with lent_threads(threads, chunks=True):
            tracks = align_tracks(corners, layout, patches, sigma, 1.0, options)
        done.append((tracks.xy.tobytes(), tracks.aligned.tobytes(), tracks.expected_error_px))
    assert done[0] == done[1] == done[2]


def test_patches_in_a_file_give_the_same_bytes_as_in_memory(
    wall: Any, corners: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_alignment, "ALIGNED_AT_ONCE", 50)  # several blocks
    options, sigma, done = TrackAlignmentOptions(), np.ones(len(corners.xy)), []
    layout = patch_layout(corners, sigma, 1.0, options)
    needed = len(corners.xy) * SIZE * SIZE * 4
    for limit, kind in ((needed, np.ndarray), (needed - 1, PatchFile)):
        with _table(len(corners.xy), limit) as patches:
            assert isinstance(patches, kind)
            _cut_all(patches, scan(wall.images), corners, layout, 1600)
            with lent_threads(3, chunks=True):
                tracks = align_tracks(corners, layout, patches, sigma, 1.0, options)
        done.append((tracks.xy.tobytes(), tracks.aligned.tobytes(), tracks.expected_error_px))
    assert done[0] == done[1] and np.frombuffer(done[0][1], bool).any()


def test_a_file_of_patches_gives_what_was_put_in() -> None:
    rows = np.array([7, 2, 3])
    patches = np.random.default_rng(0).random((3, 5, 5)).astype(np.float32)
    with patch_file(9, 5) as table:
        table[rows] = patches
        assert np.array_equal(table[np.array([3, 7, 3])], patches[[2, 0, 2]])
        assert not table[np.array([0, 8])].any()  # as of a table of zeros
        assert table[np.zeros(0, int)].shape == (0, 5, 5)


def test_slopes_are_differences_of_patches_half_a_step_apart() -> None:
    patches = np.random.default_rng(0).uniform(0.0, 255.0, (5, SIZE, SIZE)).astype(np.float32)

    def moved(x: float, y: float) -> Any:
        return track_alignment._shifted(patches, np.full((5, 2), (x, y)))

    slow = np.stack([moved(0.5, 0.0) - moved(-0.5, 0.0), moved(0.0, 0.5) - moved(0.0, -0.5)], axis=1)
    np.testing.assert_array_equal(track_alignment._slopes(patches), slow)
    np.testing.assert_allclose(moved(0.0, 0.0), moved(1e-9, 0.0), atol=1e-4)


def test_what_shows_something_else_keeps_its_place(wall: Any, corners: Bundle) -> None:
    bundle = corners
    moved = bundle.xy.copy()
    wrong = np.flatnonzero(bundle.photo == SEEN_FROM[2])
    moved[wrong] += (30.0, 20.0)
    other = replace(bundle, xy=moved)
    found, reference = aligned(wall, other)
    usual = wrong[reference[wrong] != wrong]
    assert found.aligned[usual].mean() < 0.05
    assert (found.xy[~found.aligned] == moved[~found.aligned]).all()


def test_photos_with_few_aligned_key_points_keep_the_others(corners: Bundle) -> None:
    bundle = corners
    only = (bundle.photo == SEEN_FROM[0]) | (bundle.photo == SEEN_FROM[1])
    kept = kept_when_aligned(bundle, AlignedTracks(bundle.xy, only, 0.1), enough=5)
    assert kept.all()
    some = only.copy()
    some[np.flatnonzero(bundle.photo == SEEN_FROM[2])[:10]] = True
    kept = kept_when_aligned(bundle, AlignedTracks(bundle.xy, some, 0.1), enough=5)
    assert kept[bundle.photo == SEEN_FROM[2]].sum() == 10
