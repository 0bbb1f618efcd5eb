"""Every named scene is what its name says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest

from unposed.synthetic.camera import Shot, project_points
from unposed.synthetic.render import cast, depth, render, transfer
from unposed.synthetic.scenes import SCENES, Scene
from unposed.synthetic.wide_scenes import internet_photos, ring_of_lenses


@cache
def small(name: str) -> Scene:
    return SCENES[name](photos=8, width=120)


def grid(shot: Shot) -> np.ndarray:
    x, y = np.meshgrid(np.arange(4.5, shot.lens.width, 8), np.arange(4.5, shot.lens.height, 8))
    return np.column_stack([x.ravel(), y.ravel()])


def shared(scene: Scene, a: int, b: int) -> float:
    """Part of photo a's surfaces that photo b sees too."""
    shots = scene.shots
    xy = grid(shots[a])
    xy = xy[np.isfinite(cast(scene.world, shots[a], xy))]
    return float(transfer(scene.world, shots[a], shots[b], xy)[1].mean())


@pytest.mark.parametrize("name", sorted(SCENES))
def test_cameras_stand_free_and_look_at_something(name: str) -> None:
    scene = small(name)
    assert len({shot.name for shot in scene.shots}) == len(scene.shots) == 8
    for shot in scene.shots:
        seen = depth(scene.world, shot)
        assert seen.min() > 0.5
        assert np.isfinite(seen).mean() > (0.1 if name == "turntable" else 0.5)


@pytest.mark.parametrize(
    "name",
    sorted(set(SCENES) - {"two_disjoint", "wide_baseline", "repeated_facade", "symmetric_hall", "pure_rotation"}),
)
def test_neighbours_share_much_of_what_they_see(name: str) -> None:
    scene = small(name)
    assert all(shared(scene, i, i + 1) > 0.3 for i in range(7))


def test_scenes_are_reproducible_and_seeds_differ() -> None:
    build: Callable[..., Scene] = SCENES["turntable"]
    first, again, other = (build(photos=3, width=80, seed=seed) for seed in (1, 1, 2))
    photos = [render(scene.world, scene.shots[1]) for scene in (first, again, other)]
    np.testing.assert_array_equal(photos[0], photos[1])
    assert (photos[0] != photos[2]).mean() > 0.05


def test_the_two_disjoint_worlds_never_see_each_other() -> None:
    scene = small("two_disjoint")
    assert "".join(sorted(shot.name[0] for shot in scene.shots)) == "aaaabbbb"
    assert shared(scene, 0, 1) > 0.3
    assert shared(scene, 4, 5) > 0.3
    assert all(shared(scene, i, j) == 0 for i in range(4) for j in range(4, 8))


def test_pure_rotation_does_not_move() -> None:
    centres = np.array([shot.centre for shot in small("pure_rotation").shots])
    np.testing.assert_allclose(centres, centres[[0] * 8], atol=1e-12)


def test_wide_baseline_is_wider_than_easy() -> None:
    def step_deg(name: str) -> float:
        a, b = (shot.cam_from_world[2, :3] for shot in small(name).shots[:2])
        return float(np.degrees(np.arccos(a @ b)))

    assert step_deg("wide_baseline") > 26 > 22 > step_deg("easy")


def test_the_facade_has_one_image_front_and_back() -> None:
    scene = small("repeated_facade")
    south, east, north, west = (surface.texture for surface in scene.world.surfaces[1:5])
    assert south is north
    assert len({south, east, west}) == 3


def test_the_facade_fools_a_matcher() -> None:
    """Photos of front and back share next to nothing, yet their matches agree on one plane-to-plane map."""
    scene = SCENES["repeated_facade"](photos=8, width=480)
    assert shared(scene, 0, 4) < 0.02
    grey = [np.ascontiguousarray(render(scene.world, scene.shots[i])[:, :, 1]) for i in (0, 4)]
    found = [cv2.SIFT.create(1500).detectAndCompute(pixels, None) for pixels in grey]
    pairs = cv2.BFMatcher().knnMatch(found[0][1], found[1][1], k=2)
    good = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    a = np.array([found[0][0][match.queryIdx].pt for match in good])
    b = np.array([found[1][0][match.trainIdx].pt for match in good])
    inliers = cv2.findHomography(a, b, cv2.RANSAC, 3.0)[1]
    assert inliers.sum() > 50


def test_the_planar_wall_is_one_plane() -> None:
    assert len(small("planar_wall").world.surfaces) == 1


def test_portraits_are_the_same_camera_turned() -> None:
    first, second = (shot.lens for shot in small("portrait_landscape").shots[:2])
    assert (second.width, second.height) == (first.height, first.width)
    assert (second.cx, second.cy) == (first.height - first.cy, first.cx)
    assert [shot.stored_sideways for shot in small("portrait_landscape").shots[:4]] == [False, False, False, True]


def test_two_cameras_differ_in_everything() -> None:
    a, b = (shot.lens for shot in small("two_cameras").shots[:2])
    assert a.model != b.model
    assert (a.width, a.dist) != (b.width, b.dist)
    assert a.fx / a.width < 0.8 * b.fx / b.width


def test_low_texture_has_no_detail_on_most_of_the_image() -> None:
    def blank(name: str) -> float:
        scene = SCENES[name](photos=1, width=160)
        grey = render(scene.world, scene.shots[0]).mean(axis=2)
        cells = grey[:104, :160].reshape(13, 8, 20, 8)
        return float((cells.std(axis=(1, 3)) < 3).mean())

    assert blank("low_texture") > 0.5 > 0.3 > blank("easy")


def test_a_ring_of_lenses_has_a_photo_of_one_size_for_each() -> None:
    scene = ring_of_lenses((60.0, 20.0, 40.0, 30.0), distances=(4.0, 8.0), width=320)
    assert [(shot.lens.width, shot.lens.height) for shot in scene.shots] == [(320, 240)] * 4
    views = [np.degrees(2.0 * np.arctan(0.5 * 320 / shot.lens.fx)) for shot in scene.shots]
    np.testing.assert_allclose(views, (60.0, 20.0, 40.0, 30.0))
    centres = [-shot.cam_from_world[:, :3].T @ shot.cam_from_world[:, 3] for shot in scene.shots]
    np.testing.assert_allclose(np.hypot(*np.transpose(centres)[:2]), (4.0, 8.0, 4.0, 8.0))


def test_internet_photos_have_nothing_in_common_but_the_place() -> None:
    shots = internet_photos(photos=6, width=320).shots
    for values in zip(*((shot.lens.fx, shot.lens.dist[0], shot.exposure) for shot in shots), strict=True):
        assert len(set(values)) == 6
    assert len({(shot.lens.width, shot.lens.height) for shot in shots}) > 3
    for shot in shots:
        seen, depth = project_points(shot, np.array([[0.0, 0.0, 0.8]]))
        assert depth[0] > 0
        off = np.abs(seen[0] - (shot.lens.cx, shot.lens.cy)) / (shot.lens.width, shot.lens.height)
        assert (off < 0.4).all()  # what all look at lies within all photos
