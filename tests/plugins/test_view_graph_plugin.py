"""The view graph from artifacts: key points, verified matches, and what is kept of each edge."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unposed.optim.mapping.dense_keypoints import leave_out
from unposed.optim.view_graph import KeypointOptions, ViewGraph
from unposed.pipeline.artifacts import DepthGrid, Features, PairMatches, Photo, Photos, TwoViewGeometry
from unposed.pipeline.stage import Resources, StageError
from unposed.pipeline.store.codec import decode, encode
from unposed.plugins.view_graph.verified import VerifiedViewGraph

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)


def photos_of(sizes: list[tuple[int, int]]) -> Photos:
    return Photos(tuple(Photo(f"{i}.jpg", Path("nowhere"), str(i), w, h) for i, (w, h) in enumerate(sizes)), {})


def features_of(xy: np.ndarray, colour: int = 0) -> Features:
    n = len(xy)
    return Features(
        xy=np.asarray(xy, np.float32),
        scale=np.ones(n, np.float32),
        descriptors=np.zeros((n, 1), np.uint8),
        rgb=np.full((n, 3), (colour, 2 * colour, 7), np.uint8),
        score=np.ones(n, np.float32),
    )


def geometry(inliers: list[bool], kind: Any = "general", source: Any = "pair", focal: float = 900.0) -> TwoViewGeometry:
    return TwoViewGeometry(
        kind, np.array(inliers), np.eye(3, 4), np.full(2, focal), source, np.full((3, 3), focal), 5.0
    )


def matched(index_a: list[int], index_b: list[int]) -> PairMatches:
    nothing = np.zeros((len(index_a), 2), np.float32)
    weight = np.ones(len(index_a), np.float32)
    return PairMatches(nothing, nothing, weight, np.array(index_a, np.int32), np.array(index_b, np.int32))


def graph_of(photos: Photos, features: Any, matching: Any, verification: Any, resources: Resources = CPU) -> ViewGraph:
    return VerifiedViewGraph()(photos, matching, verification, resources, features)


def test_the_key_point_error_grows_with_large_photos_only() -> None:
    assert graph_of(photos_of([(640, 480), (800, 600)]), {}, {}, {}).keypoint_error_px == 1.0
    assert graph_of(photos_of([(4800, 3200), (3200, 4800), (100, 100)]), {}, {}, {}).keypoint_error_px == 3.0


def test_key_points_are_stacked_and_photos_may_have_none() -> None:
    xy = np.array([[1.5, 2.5], [3.0, 4.0]])
    found = {0: features_of(xy, 5), 2: features_of(xy[:1], 6)}
    keypoints = graph_of(photos_of([(10, 20), (30, 40), (50, 60)]), found, {}, {}).keypoints
    np.testing.assert_array_equal(keypoints.xy, [[1.5, 2.5], [3.0, 4.0], [1.5, 2.5]])
    np.testing.assert_array_equal(keypoints.start, [0, 2, 2, 3])
    np.testing.assert_array_equal(keypoints.size, [[10, 20], [30, 40], [50, 60]])
    np.testing.assert_array_equal(keypoints.rgb, [[5, 10, 7], [5, 10, 7], [6, 12, 7]])
    assert keypoints.xy.dtype == np.float64


def three_photos() -> tuple[Photos, dict[int, Features], Any, Any]:
    features = {i: features_of(np.zeros((4, 2))) for i in range(3)}
    matching = {(0, 1): matched([0, 1, 2], [3, 2, 1]), (0, 2): matched([1], [1]), (1, 2): matched([3, 0], [0, 3])}
    verification = {
        (0, 1): geometry([True, False, True], focal=900.0),
        (0, 2): geometry([False], "none"),
        (1, 2): geometry([True, True], "planar", focal=500.0),
    }
    return photos_of([(100, 100)] * 3), features, matching, verification


def test_edges_are_the_inliers_of_pairs_with_a_geometry() -> None:
    graph = graph_of(*three_photos())
    np.testing.assert_array_equal(graph.pairs, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(graph.match_count, [2, 2])
    np.testing.assert_array_equal(graph.row_a, [0, 2, 7, 4])
    np.testing.assert_array_equal(graph.row_b, [7, 5, 8, 11])
    np.testing.assert_array_equal(graph.kind, [0, 1])
    np.testing.assert_array_equal(graph.focal_px, [900.0, np.nan])  # a plane suggests no focal length
    np.testing.assert_array_equal(graph.fundamental[:, 0, 0], [900.0, 500.0])


def test_a_closer_look_adds_key_points_and_its_better_pairs_count() -> None:
    photos, features, matching, verification = three_photos()
    closer_features = {0: features_of(np.ones((2, 2))), 1: features_of(np.ones((3, 2)))}
    closer_matching = {
        (0, 1): matched([0, 2, 4, 5], [3, 1, 4, 6]),
        (0, 2): matched([4], [1]),
        (1, 2): matched([3], [0]),
    }
    closer_verification = {
        (0, 1): geometry([True] * 4, focal=700.0),
        (0, 2): geometry([True], focal=600.0),  # verified only now
        (1, 2): geometry([True], focal=100.0),  # fewer matches than before
    }
    graph = VerifiedViewGraph()(
        photos,
        matching,
        verification,
        CPU,
        features,  # type: ignore[arg-type]
        closer_features,  # type: ignore[arg-type]
        closer_matching,  # type: ignore[arg-type]
        closer_verification,  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(graph.keypoints.start, [0, 6, 13, 17])
    np.testing.assert_array_equal(graph.pairs, [[0, 1], [0, 2], [1, 2]])
    np.testing.assert_array_equal(graph.match_count, [4, 1, 2])
    np.testing.assert_array_equal(graph.fundamental[:, 0, 0], [700.0, 600.0, 500.0])
    np.testing.assert_array_equal(graph.row_a, [0, 2, 4, 5, 4, 9, 6])
    np.testing.assert_array_equal(graph.row_b, [9, 7, 10, 12, 14, 13, 16])


@pytest.mark.parametrize("source", ["prior", "guess"])
def test_focal_lengths_that_the_pair_was_given_are_no_suggestion_of_it(source: str) -> None:
    photos, features, matching, _ = three_photos()
    graph = graph_of(photos, features, matching, {(0, 1): geometry([True] * 3, source=source)})
    assert np.isnan(graph.focal_px).all()


def test_columns_that_outgrow_the_memory_are_mapped_and_equal() -> None:
    small = replace(CPU, ram_bytes=64)
    held, mapped = graph_of(*three_photos()), graph_of(*three_photos(), small)
    assert isinstance(mapped.row_a, np.memmap)
    for name in ("row_a", "row_b", "weight"):
        np.testing.assert_array_equal(getattr(held, name), getattr(mapped, name))
    np.testing.assert_array_equal(held.keypoints.xy, mapped.keypoints.xy)


def test_key_point_indices_without_key_points_are_refused() -> None:
    with pytest.raises(StageError, match="a node `features` must give"):
        graph_of(photos_of([(9, 9)] * 2), None, {(0, 1): matched([0], [0])}, {(0, 1): geometry([True])})


def test_nothing_verified_and_no_key_points() -> None:
    nothing = graph_of(photos_of([(9, 9)] * 2), None, {(0, 1): matched([0], [0])}, {(0, 1): geometry([True], "none")})
    assert len(nothing) == 0
    np.testing.assert_array_equal(nothing.keypoints.start, [0, 0, 0])


def dense_matches(tmp_path: Path) -> tuple[Photos, Any, Any]:
    """Position (4, 4) of the first photo is matched in both others; red grows by 4 per pixel to the right."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :, 0] = 4 * np.arange(64)
    Image.fromarray(image).save(tmp_path / "0.png")
    photos = Photos(tuple(Photo(f"{i}.png", tmp_path / "0.png", "", 64, 64) for i in range(3)), {})
    ones = np.ones(2, np.float32)
    matching = {
        (0, 1): PairMatches(np.array([[4.0, 4], [8, 4]]), np.array([[5.0, 5], [6, 6]]), ones),
        (0, 2): PairMatches(np.array([[4.0, 4], [12, 4]]), np.array([[7.0, 7], [3, 3]]), ones),
    }
    return photos, matching, {(0, 1): geometry([True, True]), (0, 2): geometry([True, False])}


def test_positions_become_key_points_with_the_colours_of_the_photo(tmp_path: Path) -> None:
    photos, matching, verified = dense_matches(tmp_path)
    graph = graph_of(photos, None, matching, verified)
    assert graph.dense and graph.unmatched == {}
    np.testing.assert_array_equal(graph.keypoints.start, [0, 2, 4, 5])
    assert graph.row_a[0] == graph.row_a[2]
    np.testing.assert_array_equal(graph.keypoints.xy[graph.row_a], [[4, 4], [8, 4], [4, 4]])
    np.testing.assert_array_equal(graph.keypoints.xy[graph.row_b], [[5, 5], [6, 6], [7, 7]])
    assert graph.keypoints.rgb is not None
    np.testing.assert_array_equal(graph.keypoints.rgb[graph.row_a[:2], 0], [16, 32])


def test_without_a_pair_key_points_are_made_of_the_others(tmp_path: Path) -> None:
    """As if the pair had never been verified, colours included."""
    photos, matching, verified = dense_matches(tmp_path)
    left = leave_out(graph_of(photos, None, matching, verified), np.array([[0, 2]]))
    without = graph_of(photos, None, matching, {(0, 1): verified[0, 1]})
    for name in ("pairs", "row_a", "row_b", "match_count", "weight", "keypoint_error_px"):
        np.testing.assert_array_equal(getattr(left, name), getattr(without, name), err_msg=name)
    for name in ("xy", "start", "rgb", "sigma"):
        np.testing.assert_array_equal(getattr(left.keypoints, name), getattr(without.keypoints, name), err_msg=name)


def test_predicted_depths_are_columns_and_may_be_missing(tmp_path: Path) -> None:
    photos, matching, verified = dense_matches(tmp_path)
    grid = DepthGrid((0.0, 0.0), (32.0, 32.0), np.ones((2, 2)), np.ones((2, 2)), 70.0)
    depth = np.array([1.0, 2.0], np.float32)
    matching[0, 1] = replace(matching[0, 1], depth_a=depth, depth_b=2 * depth, grids=(grid, replace(grid, focal_px=80)))
    graph = graph_of(photos, None, matching, verified)
    np.testing.assert_array_equal(graph.depth_a, [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(graph.depth_b, [2.0, 4.0, np.nan])
    np.testing.assert_array_equal(graph.depth_focal_px, [[70.0, 80.0], [np.nan, np.nan]])


def test_the_error_of_positions_is_estimated_from_the_epipolar_lines(tmp_path: Path) -> None:
    """Rows should be equal, as in a pair of photos side by side; they are off by about four pixels."""
    rng = np.random.default_rng(0)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "0.png")
    photos = Photos(tuple(Photo(f"{i}.png", tmp_path / "0.png", "", 6000, 4000) for i in range(2)), {})
    xy_a = rng.uniform(0, 4000, (2000, 2)).astype(np.float32)
    xy_b = (xy_a + np.column_stack([np.full(2000, 50.0), rng.normal(0, 4.0, 2000)])).astype(np.float32)
    sideways = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    matching = {(0, 1): PairMatches(xy_a, xy_b, np.ones(2000, np.float32))}
    graph = graph_of(photos, None, matching, {(0, 1): replace(geometry([True] * 2000), fundamental=sideways)})
    assert graph.keypoint_error_px == pytest.approx(3.0 * 4.0 / np.sqrt(2.0), rel=0.05)  # shared by both photos


def test_positions_of_little_weight_count_as_inexact(tmp_path: Path) -> None:
    photos, _, _ = dense_matches(tmp_path)
    weight = np.array([0.9, 0.9, 0.9, 0.1], np.float32)
    xy = np.arange(8, dtype=np.float32).reshape(4, 2)
    graph = graph_of(photos, None, {(0, 1): PairMatches(xy, xy, weight)}, {(0, 1): geometry([True] * 4)})
    assert graph.keypoints.sigma is not None
    np.testing.assert_allclose(graph.keypoints.sigma[graph.row_a], [1, 1, 1, 3], rtol=1e-6)


def test_small_key_points_count_as_exact_and_large_ones_less() -> None:
    scales = np.array([1.0, 4.0, 4.0, 16.0, 400.0], np.float32)
    features = {1: replace(features_of(np.zeros((5, 2))), scale=scales), 3: features_of(np.zeros((0, 2)))}
    keypoints = graph_of(photos_of([(100, 100)] * 4), features, {}, {}).keypoints
    assert keypoints.sigma is not None
    np.testing.assert_allclose(keypoints.sigma, [0.5, 1.0, 1.0, 2.0, 3.0])


def test_key_points_of_strangers_do_not_change_how_exact_others_count() -> None:
    scales = [np.array([1.0, 4.0, 9.0], np.float32), np.array([2.0, 4.0, 4.0], np.float32)]
    own = {i: replace(features_of(np.zeros((3, 2))), scale=scale) for i, scale in enumerate(scales)}
    strangers = {i + 2: replace(each, scale=100 * each.scale) for i, each in own.items()}
    found, verified = matched([0, 1, 2], [0, 1, 2]), geometry([True] * 3)
    alone = graph_of(photos_of([(100, 100)] * 2), own, {(0, 1): found}, {(0, 1): verified})
    pairs = [(0, 1), (2, 3)]
    both = graph_of(
        photos_of([(100, 100)] * 4), own | strangers, dict.fromkeys(pairs, found), dict.fromkeys(pairs, verified)
    )
    np.testing.assert_array_equal(both.keypoints.sigma[:6], alone.keypoints.sigma)
    np.testing.assert_allclose(both.keypoints.sigma[6:], alone.keypoints.sigma)


def test_the_error_of_key_points_is_that_of_the_photos_asked_about() -> None:
    photos = photos_of([(1600, 1200)] * 3 + [(4800, 3200)] * 2)
    graph = graph_of(photos, {i: features_of(np.zeros((2, 2))) for i in range(5)}, {}, {})
    assert graph.keypoint_error_px == 1.0
    large = decode(encode(graph), ViewGraph).in_units_of(np.array([3, 4]))
    assert large.keypoint_error_px == 3.0
    assert large.in_units_of(np.arange(5) < 3).keypoint_error_px == 1.0


def test_memory_does_not_grow_with_the_matches() -> None:
    """Twice the pairs, the same peak: columns of matches are written to a file as they come."""
    photos, features = photos_of([(100, 100)] * 40), {i: features_of(np.zeros((2000, 2))) for i in range(40)}
    one = matched(list(range(2000)), list(range(2000)))
    found = geometry([True] * 2000)

    def peak_bytes(reach: int) -> int:
        pairs = [(a, b) for a in range(40) for b in range(a + 1, min(a + 1 + reach, 40))]
        tracemalloc.start()
        graph = graph_of(
            photos, features, dict.fromkeys(pairs, one), dict.fromkeys(pairs, found), replace(CPU, ram_bytes=1 << 20)
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(graph.row_a) == 2000 * len(pairs)
        return peak

    few, many = peak_bytes(10), peak_bytes(30)
    matches_bytes = 2000 * (8 + 8 + 4) * (40 * 30 - 40 * 10) // 2
    assert matches_bytes > 8e6
    assert many - few < 0.1 * matches_bytes


def test_dense_options_are_kept_for_graphs_without_some_pairs(tmp_path: Path) -> None:
    """Key points made anew must be merged as those of the first graph were, also after a round through the store."""
    photos, matching, verified = dense_matches(tmp_path)
    stage = VerifiedViewGraph(merge_px=20.0, error_over_scatter=6.0, colour_side_px=16)
    coarse, default = (each(photos, matching, verified, CPU, None) for each in (stage, VerifiedViewGraph()))
    assert len(coarse.keypoints.xy) < len(default.keypoints.xy)
    assert coarse.keypoint_error_px == 2.0 * default.keypoint_error_px
    stored = decode(encode(coarse), ViewGraph)
    assert stored.dense_options == KeypointOptions(merge_px=20.0, error_over_scatter=6.0)
    left = leave_out(stored, np.array([[0, 2]]))
    np.testing.assert_array_equal(
        left.keypoints.xy, stage(photos, matching, {(0, 1): verified[0, 1]}, CPU, None).keypoints.xy
    )
    assert left.dense_options == stored.dense_options


def test_the_reference_size_and_the_range_of_sigmas_are_options() -> None:
    photos = photos_of([(4800, 3200)])
    features = {0: replace(features_of(np.zeros((3, 2))), scale=np.array([1.0, 4.0, 400.0], np.float32))}
    graph = VerifiedViewGraph(reference_side_px=4800, min_sigma=0.9, max_sigma=2.0)(photos, {}, {}, CPU, features)
    assert graph.keypoint_error_px == 1.0
    np.testing.assert_allclose(graph.keypoints.sigma, [0.9, 1.0, 2.0])


def test_rows_that_are_not_there_are_blamed_on_whom_they_are_from() -> None:
    """Else they would be key points of the next photo."""
    xy = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    photos, features = photos_of([(10, 10), (10, 10)]), {0: features_of(xy), 1: features_of(xy)}
    both = {(0, 1): matched([0, 1], [0, 1])}
    with pytest.raises(StageError, match="matching names key point 3 of a photo that has 3: a fault of it"):
        graph_of(photos, features, {(0, 1): matched([0, 3], [0, 1])}, {(0, 1): geometry([True, True])})
    with pytest.raises(StageError, match="verification gives 3 inliers for 2 matches"):
        graph_of(photos, features, both, {(0, 1): geometry([True, True, False])})
