"""Places that repeat: their parts look alike, and are told apart by things beside them."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.synthetic.camera import Shot, project_points
from unposed.synthetic.look_alikes import HOUSE_STEP_M, HOUSES, LOCKERS, LOOK_ALIKES
from unposed.synthetic.render import depth
from unposed.synthetic.scenes import Scene
from unposed.synthetic.world import Surface


def centres(shots: tuple[Shot, ...]) -> np.ndarray:
    return np.stack([-shot.cam_from_world[:, :3].T @ shot.cam_from_world[:, 3] for shot in shots])


@pytest.mark.parametrize("name", sorted(LOOK_ALIKES))
def test_cameras_stand_free_and_look_at_something(name: str) -> None:
    scene = LOOK_ALIKES[name](photos=8, width=120)
    assert len({shot.name for shot in scene.shots}) == 8
    for shot in scene.shots:
        seen = depth(scene.world, shot)
        assert seen.min() > 0.4
        assert np.isfinite(seen).mean() > 0.5


def test_a_carton_has_four_equal_sides_and_a_ring_sees_all() -> None:
    scene = LOOK_ALIKES["equal_sides"](photos=12, width=80)
    assert len({id(side.texture) for side in scene.world.surfaces[1:5]}) == 1
    heading = np.sort(np.arctan2(*centres(scene.shots)[:, :2].T))
    assert np.diff(heading, append=heading[0] + 2 * np.pi).max() < 2 * np.pi / 11


def test_equal_houses_are_one_house_moved() -> None:
    """Fronts of one texture stand a step apart, and what a photo shows of one is what it shows of the next after a
    step along the street."""
    scene = LOOK_ALIKES["equal_houses"](photos=10, width=160)
    fronts = _of_most_common_texture(scene, "square", facing=(0.0, -1.0, 0.0))
    corners = np.array([surface.world_from_local[:, 3] for surface in fronts])
    assert len(fronts) == HOUSES
    np.testing.assert_allclose(np.diff(corners, axis=0), [[HOUSE_STEP_M, 0, 0]] * (HOUSES - 1), atol=1e-12)
    shot = scene.shots[5]
    moved = shot.cam_from_world.copy()
    moved[:, 3] -= moved[:, :3] @ (HOUSE_STEP_M, 0.0, 0.0)
    next_one = Shot("moved.jpg", shot.lens, moved)
    np.testing.assert_allclose(
        project_points(shot, corners[:1])[0], project_points(next_one, corners[1:2])[0], atol=1e-6
    )


def test_lockers_are_equal_on_all_four_walls_and_stickers_are_not() -> None:
    scene = LOOK_ALIKES["lockers"](photos=8, width=80)
    textures = [surface.texture for surface in scene.world.surfaces]
    counts = sorted((textures.count(each) for each in {id(t): t for t in textures}.values()), reverse=True)
    assert counts[0] == 4 * LOCKERS
    assert counts[1] <= 4  # the sides of the bench


def _of_most_common_texture(scene: Scene, shape: str, facing: tuple[float, float, float]) -> list[Surface]:
    there = [s for s in scene.world.surfaces if s.shape == shape and np.allclose(s.world_from_local[:, 2], facing)]
    common = max((s.texture for s in there), key=lambda texture: sum(s.texture is texture for s in there))
    return [s for s in there if s.texture is common]
