"""The order of observations: a permutation, sorted as it promises, in blocks that hold what they say."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from unposed.optim.bundle import observation_order
from unposed.optim.bundle.observation_order import ObservationOrder, order_observations


def made_up(seed: int, block_size: int) -> tuple[ObservationOrder, np.ndarray, np.ndarray, np.ndarray]:
    """Of 12 photos, half of which see something, in 4 cameras."""
    rng = np.random.default_rng(seed)
    tracks = [np.sort(rng.choice(np.arange(0, 12, 2), rng.integers(2, 5), replace=False)) for _ in range(40)]
    photo, point = np.concatenate(tracks), np.repeat(np.arange(40), [len(track) for track in tracks])
    xy, camera_of_photo = rng.standard_normal((len(photo), 2)), np.arange(12) % 4
    order = order_observations(photo, point, camera_of_photo, xy, np.zeros(4, bool), 40, block_size)
    return order, photo, point, xy


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 40, 10_000]))
def test_indices_lead_back_to_the_bundle(seed: int, block_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observation_order, "MIN_POINTS_PER_PHOTO_PAIR", 0)
        patch.setattr(observation_order, "CHUNK_SIZE", 7)
        order, photo, point, xy = made_up(seed, block_size)
    np.testing.assert_array_equal(np.sort(order.observations), np.arange(len(photo)))
    np.testing.assert_array_equal(np.sort(order.points), np.arange(40))
    np.testing.assert_array_equal(order.photos[order.photo], photo[order.observations])
    np.testing.assert_array_equal(order.points[order.point], point[order.observations])
    np.testing.assert_array_equal(order.cameras[order.camera_of_photo], order.photos % 4)
    np.testing.assert_array_equal(order.xy.T, xy[order.observations])
    assert not order.camera_per_photo
    assert (len(order.blocks) > 1) == (block_size < len(photo))
    end = 0
    for block in order.blocks:
        own = slice(end, end + len(block.point))
        np.testing.assert_array_equal(np.repeat(block.photos, np.diff(block.photo_start)), order.photo[own])
        key = order.photo[own].astype(np.int64) * 40 + block.point
        assert (np.diff(key) > 0).all()
        assert [chunk.rows.start - end for chunk in block.chunks] == [c.rows_in_block.start for c in block.chunks]
        covered = [i for chunk in block.chunks for i in range(chunk.rows.start, chunk.rows.stop)]
        assert covered == list(range(own.start, own.stop))
        end = own.stop
    assert end == len(photo)


def test_blocks_grow_until_their_photos_share_enough_points() -> None:
    assert len(made_up(0, 10)[0].blocks) < len(made_up(0, 10)[1]) / 20


def test_nothing_observed_gives_no_blocks() -> None:
    none = np.zeros(0, np.int64)
    order = order_observations(none, none, np.zeros(3, np.int64), np.zeros((0, 2)), np.zeros(1, bool), 0)
    assert order.blocks == [] and len(order.photos) == 0
