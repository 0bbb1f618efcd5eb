"""What stands still in images is told from what moves, and hidden whole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unposed.optim.pair.still_keypoints import PlacedKeypoints, still_keypoints, still_region
from unposed.optim.spread import spread


def texture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (height, width))
    return np.clip(128 + 200 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def photos(count: int, still_in: int, shape: tuple[int, int] = (96, 128)) -> list[PlacedKeypoints]:
    """The left half is the same in the first `still_in` photos, the right half another in each."""
    rng, background = np.random.default_rng(0), texture(0)
    xy = np.stack(np.meshgrid(np.arange(6.5, 124, 6), np.arange(6.5, 92, 6)), axis=-1).reshape(-1, 2)
    out = []
    for number in range(count):
        image = texture(1 + number)
        if number < still_in:
            image[:, :64] = background[:, :64]
        noisy = np.clip(image + rng.normal(0.0, 1.0, image.shape), 0, 255).astype(np.uint8)
        out.append(PlacedKeypoints(noisy[: shape[0], : shape[1]], xy))
    return out


@pytest.mark.parametrize(("still_in", "found"), [(8, 8), (5, 5), (4, 0), (0, 0)])
def test_a_background_in_five_photos_stands_still(still_in: int, found: int) -> None:
    images = photos(8, still_in)
    left = images[0].xy[:, 0] < 60
    for number, still in enumerate(still_keypoints(images)):
        assert still[left].mean() > 0.95 if number < found else not still[left].any()
        assert not still[images[0].xy[:, 0] > 68].any()


def test_photos_of_another_size_and_faint_patches_say_nothing() -> None:
    images = [*photos(4, 4), *(PlacedKeypoints(each.grey[:90], each.xy[:5]) for each in photos(8, 8)[4:])]
    assert not any(still.any() for still in still_keypoints(images))
    flat = PlacedKeypoints(np.full((96, 128), 90, np.uint8), images[0].xy)
    assert not any(still.any() for still in still_keypoints([flat] * 8))
    none = PlacedKeypoints(np.zeros((1, 1), np.uint8), np.zeros((0, 2)))
    assert [len(still) for still in still_keypoints([none] * 6)] == [0] * 6


def test_the_region_covers_what_stands_still_and_no_more() -> None:
    images = photos(8, 8)
    still = still_keypoints(images)[0]
    hidden = still_region(images[0], still)
    assert hidden[:, :60].mean() > 0.98 and hidden[:, 80:].mean() < 0.02
    assert not still_region(images[0], np.zeros(len(still), bool)).any()


def test_photos_are_spread_evenly() -> None:
    assert spread(100, 5).tolist() == [0, 25, 50, 74, 99] and spread(3, 32).tolist() == [0, 1, 2]
    assert len(spread(0, 4)) == 0
