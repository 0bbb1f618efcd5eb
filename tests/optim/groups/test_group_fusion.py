"""Groups with errors of a network, some of them wrong, become one model; what is wrong is found."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.intrinsics import intrinsics_with_priors
from unposed.optim.cameras import FX
from unposed.optim.groups.focals import focals_of_groups
from unposed.optim.groups.fusion import fuse_groups
from unposed.optim.groups.links import link_groups
from unposed.optim.rotations import exp_so3, log_so3


@pytest.fixture
def emulation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    import emulated_groups

    return emulated_groups


def errors(emulation: Any, made: Any, found: Any) -> np.ndarray:
    return np.asarray(emulation.rotation_errors_deg(found.cam_from_world[:, :, :3], made.cam_from_world[:, :, :3]))


def test_exact_groups_give_exact_poses(emulation: Any) -> None:
    none = emulation.GroupNoise(rotation_deg=0, position=0, depth=0, focal=0, wrong=0)
    made = emulation.emulate(40, 1, none)
    found = fuse_groups(made.scenes, 40)
    assert found is not None and found.consistent.all()
    assert errors(emulation, made, found).max() < 1e-3
    true, ours = (
        -np.einsum("nji,nj->ni", pose[:, :, :3], pose[:, :, 3]) for pose in (made.cam_from_world, found.cam_from_world)
    )
    lengths = [np.linalg.norm(each - np.roll(each, 7, axis=0), axis=1) for each in (true, ours)]
    ratio = lengths[1] / lengths[0]
    assert ratio.max() / ratio.min() < 1.001


@pytest.mark.parametrize("town", [False, True])
@pytest.mark.parametrize(("photos", "wrong"), [(8, 0.05), (20, 0.1), (100, 0.1), (1000, 0.05)])
def test_with_pairs_median_rotations_are_within_a_third_of_a_degree(
    emulation: Any, photos: int, wrong: float, town: bool
) -> None:
    """And hardly above the least that their errors allow, along a walk of a thousand photos as well."""
    noise = emulation.GroupNoise(wrong=wrong)
    made = emulation.emulate(photos, 1, noise, town=town)
    found = fuse_groups(made.scenes, photos, made.pairs)
    assert found is not None
    median = np.nanmedian(errors(emulation, made, found))
    assert median < 0.3
    assert median < 1.3 * emulation.least_error_deg(made, noise, with_pairs=True)
    assert np.isfinite(found.cam_from_world[:, 0, 0]).mean() > 0.9
    assert not found.consistent[made.wrong].any()


def test_wrong_groups_are_found_without_pairs(emulation: Any) -> None:
    made = emulation.emulate(100, 2, emulation.GroupNoise(wrong=0.1))
    found = fuse_groups(made.scenes, 100)
    assert found is not None
    # Half of the photos of some are right, and may just do.
    assert made.wrong.sum() >= 3 and found.agreement[made.wrong].max() < 0.7
    assert np.median(found.agreement[made.wrong]) < 0.6 < np.median(found.agreement[~made.wrong])
    assert found.consistent[~made.wrong].mean() > 0.85
    assert np.nanmedian(errors(emulation, made, found)) < 2.0


def test_the_error_of_cameras_is_found_from_the_groups_themselves(emulation: Any) -> None:
    for degrees in (0.3, 0.6, 1.0):
        made = emulation.emulate(100, 3, emulation.GroupNoise(rotation_deg=degrees))
        assert link_groups(made.scenes).rotation_sigma_deg == pytest.approx(degrees / np.sqrt(3), rel=0.25)


def test_the_frame_and_scale_of_a_group_play_no_part(emulation: Any) -> None:
    made = emulation.emulate(30, 4)
    found = fuse_groups(made.scenes, 30, made.pairs)
    turn, scale = exp_so3(np.array([[0.3, -0.7, 1.1]]))[0], 5.0
    rows = made.scenes.group == 2
    pose, lattice = made.scenes.cam_from_local.copy(), made.scenes.lattice.copy()
    pose[rows, :, :3] = pose[rows, :, :3] @ turn
    pose[rows, :, 3] *= scale
    lattice[rows] += np.log(scale)
    again = fuse_groups(replace(made.scenes, cam_from_local=pose, lattice=lattice), 30, made.pairs)
    assert found is not None and again is not None
    relative = found.cam_from_world[:, :, :3].transpose(0, 2, 1) @ again.cam_from_world[:, :, :3]
    assert np.degrees(np.linalg.norm(log_so3(relative @ relative[0].T), axis=1)).max() < 1e-2


def test_a_group_with_itself_proves_nothing(emulation: Any) -> None:
    made = emulation.emulate(30, 5)
    alone = made.scenes.select(made.scenes.group == 0)
    links = link_groups(alone)
    assert len(links.pairs) == 0 and np.isnan(links.rotation_sigma_deg)
    found = fuse_groups(alone, 30)
    assert found is not None
    assert np.isfinite(found.cam_from_world[:, 0, 0]).sum() == len(alone.photo)


def test_no_groups_give_nothing(emulation: Any) -> None:
    made = emulation.emulate(8, 1)
    assert fuse_groups(made.scenes.select(np.zeros(len(made.scenes.group), bool)), 8) is None


def test_the_cost_is_linear_in_the_photos(emulation: Any) -> None:
    spent = []
    for photos in (250, 1000):
        made = emulation.emulate(photos, 1)
        start = time.process_time()
        assert fuse_groups(made.scenes, photos, made.pairs) is not None
        spent.append(time.process_time() - start)
    assert spent[1] < 8 * spent[0]  # four times as many photos


def test_focal_lengths_are_the_median_of_those_of_the_groups(emulation: Any) -> None:
    made = emulation.emulate(60, 1)
    camera_of_photo = np.zeros(60, np.int64)
    camera_of_photo[0] = 1
    start = intrinsics_with_priors(
        ["SIMPLE_PINHOLE"] * 2,
        [(500.0, 320.0, 240.0)] * 2,
        np.full((2, 2), 480.0),
        ["guess", "given"],
        camera_of_photo,
        1.0,
    )
    found = focals_of_groups(made.scenes, start, np.array([False, True]))
    assert found.values[0, FX] == pytest.approx(800.0, rel=0.02)
    assert found.values[1, FX] == 500.0


def test_groups_that_share_no_photo_are_parts_of_their_own(emulation: Any) -> None:
    """The second one is found when the first is used up, and its number stands for no photos."""
    scenes = emulation.emulate(40, 1).scenes
    photos = {number: set(scenes.photo[scenes.group == number].tolist()) for number in np.unique(scenes.group).tolist()}
    first, second = next((a, b) for a in photos for b in photos if a < b and not photos[a] & photos[b])
    left = scenes.select(np.isin(scenes.group, [first, second]))
    seen = []
    for _ in range(2):
        found = fuse_groups(left, 40)
        assert found is not None
        seen.append(set(np.flatnonzero(np.isfinite(found.cam_from_world[:, 0, 0])).tolist()))
        left = left.select(~np.isfinite(found.agreement)[left.group])
    assert sorted(seen, key=min) == sorted([photos[first], photos[second]], key=min)
