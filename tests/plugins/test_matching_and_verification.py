"""From features to verified pairs: the adapters one by one, then all of them on rendered photos with known cameras."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from unposed.optim.pair.epipolar import sampson_errors
from unposed.optim.rotations import rotation_angle_deg, skew
from unposed.pipeline.artifacts import Camera, CameraPrior, Exif, Features, PairMatches, Photo, Photos, Ranking
from unposed.pipeline.images.photos import scan
from unposed.pipeline.stage import PerPhoto, Resources, Sides, StageError
from unposed.pipeline.store.memo import StoredMemo
from unposed.pipeline.store.store import Store
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.features.sift import Sift
from unposed.plugins.graph.exhaustive import ExhaustiveGraph
from unposed.plugins.graph.knn import NearestNeighbours
from unposed.plugins.matching.mutual_nn import MutualNearest
from unposed.plugins.retrieval.coarse_matching import CoarseMatching
from unposed.plugins.retrieval.exhaustive import ExhaustiveRanking
from unposed.plugins.verification.poselib import PoseLib

CPU = Resources(device="cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)


class Loaded(PerPhoto):
    """Results of a per-photo node that are all in memory."""

    def __init__(self, items):
        self.items_by_photo = items

    def __getitem__(self, photo):
        return self.items_by_photo[photo]

    def __iter__(self):
        return iter(self.items_by_photo)

    def __len__(self):
        return len(self.items_by_photo)


def features(descriptors, seed=0):
    rng, count = np.random.default_rng(seed), len(descriptors)
    return Features(
        xy=rng.uniform(0, 500, (count, 2)).astype(np.float32),
        scale=rng.uniform(1, 9, count).astype(np.float32),
        descriptors=descriptors,
        rgb=np.zeros((count, 3), np.uint8),
        score=np.ones(count, np.float32),
    )


def photo(width=1600, height=1200, **exif):
    return Photo("photo.jpg", Path("photo.jpg"), "content", width, height, exif=Exif(**exif))


def matches_of_a_scene(focal=1500.0, size=(1600, 1200)):
    rng = np.random.default_rng(2)
    points = np.column_stack([rng.uniform(-2, 2, (200, 2)), rng.uniform(5, 9, 200)])
    moved = points @ np.array([[0.96, 0, 0.28], [0, 1, 0], [-0.28, 0, 0.96]]).T + [2.0, 0.1, 0.3]
    xy_a, xy_b = (focal * p[:, :2] / p[:, 2:] + np.array(size) / 2 for p in (points, moved))
    return PairMatches(xy_a.astype(np.float32), xy_b.astype(np.float32), np.ones(200, np.float32))


def test_matches_carry_points_rows_and_weights():
    rng = np.random.default_rng(1)
    words = rng.integers(0, 255, (50, 128)).astype(np.uint8)
    a, b = features(words, 1), features(words[::-1][:40], 2)
    found = MutualNearest()(Sides(a, b), CPU)
    np.testing.assert_array_equal(found.index_a, np.arange(10, 50))
    np.testing.assert_array_equal(found.index_b, 49 - found.index_a)
    np.testing.assert_array_equal(found.xy_a, a.xy[found.index_a])
    np.testing.assert_array_equal(found.xy_b, b.xy[found.index_b])
    assert found.weight.dtype == np.float32
    assert (found.weight > 0.9).all()
    assert (found.weight <= 1.0).all()


def test_dims_need_sift():
    other = features(np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32))
    with pytest.raises(StageError, match=r"64 entries.*dims to 0"):
        MutualNearest()(Sides(other, other), CPU)
    assert len(MutualNearest(dims=0)(Sides(other, other), CPU).weight) == 20


def test_photos_without_key_points_match_nothing():
    empty = features(np.zeros((0, 128), np.uint8))
    found = MutualNearest()(Sides(empty, features(np.ones((5, 128), np.uint8))), CPU)
    assert found.xy_a.shape == found.xy_b.shape == (0, 2)
    assert verify(found).kind == "none"


def prior(focal_px=1920.0, source="guess"):
    return CameraPrior(Camera("SIMPLE_RADIAL", 1600, 1200, (focal_px, 800.0, 600.0, 0.0)), source)


def verify(matching, a=None, b=None):
    return PoseLib()(matching, Sides(a or prior(), b or prior()), Sides(photo(), photo()))


def test_focal_length_is_estimated_or_that_of_the_cameras_node():
    matching = matches_of_a_scene()
    estimated = verify(matching)
    assert estimated.kind == "general"
    assert estimated.focal_source == "pair"
    np.testing.assert_allclose(estimated.focals_px, 1500.0, rtol=1e-3)
    given = verify(matching, prior(1250.0, "exif"), prior(1260.0, "given"))
    assert given.focal_source == "prior"
    np.testing.assert_allclose(given.focals_px, [1250.0, 1260.0])
    np.testing.assert_array_equal(given.inliers, estimated.inliers)
    np.testing.assert_array_equal(given.fundamental, estimated.fundamental)


def test_one_known_focal_length_is_not_enough():
    assert verify(matches_of_a_scene(), prior(1250.0, "exif")).focal_source == "pair"


def test_the_baseline_has_unit_length():
    found = verify(matches_of_a_scene())
    np.testing.assert_allclose(found.b_from_a[:, 3], np.array([2, 0.1, 0.3]) / np.sqrt(4.1), atol=1e-3)


def test_exhaustive_means_every_pair():
    photos = Photos(tuple(photo() for _ in range(4)), {})
    for chosen in (ExhaustiveRanking()(photos), ExhaustiveGraph()(photos)):
        assert chosen.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
        assert (chosen.similarity == 1.0).all()


def test_neighbours_are_the_most_similar():
    pairs = ExhaustiveRanking()(Photos((photo(),) * 20, {})).pairs
    nearness = 1.0 - (pairs[:, 1] - pairs[:, 0]) / np.float32(20)
    graph = NearestNeighbours(neighbours=2, all_below=0)(Ranking(pairs, nearness.astype(np.float32)))
    assert (graph.pairs[:, 1] - graph.pairs[:, 0]).max() <= 2
    assert len(NearestNeighbours(all_below=20)(Ranking(pairs, nearness)).pairs) == len(pairs)


def test_ranking_keeps_the_best_partners_and_skips_failed_photos():
    rng = np.random.default_rng(0)
    world = rng.integers(0, 255, (200, 128)).astype(np.uint8)
    shots = {k: features(world[10 * k : 10 * k + 40], k) for k in range(12) if k != 5}
    ranking = CoarseMatching(keypoints=40, partners=2)(Loaded(shots), CPU)
    assert 5 not in ranking.pairs
    assert len(ranking.pairs) < 11 * 10 / 2
    best = ranking.similarity[(ranking.pairs == [2, 3]).all(axis=1)]
    assert best == pytest.approx(30 / 40, abs=0.06)


def test_ranking_remembers_counts_in_the_store(tmp_path):
    rng = np.random.default_rng(0)
    world = rng.integers(0, 255, (200, 128)).astype(np.uint8)
    shots = {k: features(world[10 * k : 10 * k + 40], k) for k in range(12)}
    with Store(tmp_path) as store:
        memo = StoredMemo(store, "retrieval.coarse")
        lent = (CPU, replace(CPU, memo=memo), replace(CPU, memo=memo))
        rankings = [CoarseMatching(keypoints=40)(Loaded(shots), each) for each in lent]
        keys, counts = memo.recall(CoarseMatching()._memo_name())
        assert len(keys) == len(counts) == 66
        assert memo.recall("another") is None
    for ranking in rankings[1:]:
        np.testing.assert_array_equal(ranking.pairs, rankings[0].pairs)
        np.testing.assert_array_equal(ranking.similarity, rankings[0].similarity)


def test_ranking_of_no_photos_is_empty():
    assert CoarseMatching()(Loaded({}), CPU).pairs.shape == (0, 2)


def verified(photo_set, reach=99):
    """Verified pairs of a rendered set, at most `reach` apart: (shot a, shot b, matches, geometry)."""
    photos = scan(photo_set.images)
    shots = {shot.name: shot for shot in photo_set.scene.shots}
    points = [Sift(max_keypoints=2048)(one) for one in photos.photos]
    for a, b in combinations(range(len(photos)), 2):
        if b - a > reach:
            continue
        matching = MutualNearest()(Sides(points[a], points[b]), CPU)
        priors = ExifCameras()(photos)
        sides = Sides(priors.of_photo(a), priors.of_photo(b))
        geometry = PoseLib()(matching, sides, Sides(photos[a], photos[b]))
        if geometry.kind != "none":
            yield shots[photos[a].name], shots[photos[b].name], matching, geometry


def relative_pose(shot_a, shot_b):
    turn = shot_b.cam_from_world[:, :3] @ shot_a.cam_from_world[:, :3].T
    return turn, shot_b.cam_from_world[:, 3] - turn @ shot_a.cam_from_world[:, 3]


def test_neighbouring_photos_of_a_yard_are_verified_exactly(yard):
    pairs = list(verified(yard, reach=1))
    assert len(pairs) == len(yard.scene.shots) - 1
    for a, b, matching, geometry in pairs:
        turn, move = relative_pose(a, b)
        truth = np.linalg.inv(b.lens.K).T @ skew(move[None])[0] @ turn @ np.linalg.inv(a.lens.K)
        kept = geometry.inliers
        assert kept.sum() > 100
        assert np.median(np.abs(sampson_errors(truth, matching.xy_a[kept], matching.xy_b[kept]))) < 0.3
        if geometry.focal_source == "pair":  # with a guessed focal length the rotation is no better than the guess
            assert rotation_angle_deg(geometry.b_from_a[:, :3] @ turn.T) < 2.0
    assert sum(geometry.focal_source == "pair" for *_, geometry in pairs) > len(pairs) / 2


def test_photos_of_different_places_never_verify(photo_set):
    letters = {a.name[0] + b.name[0] for a, b, *_ in verified(photo_set("two_disjoint", 6, 480))}
    assert letters == {"aa", "bb"}


def test_a_camera_on_a_tripod_gives_rotations(photo_set):
    kinds = set()
    for a, b, _, geometry in verified(photo_set("pure_rotation", 4, 480)):
        turn, _ = relative_pose(a, b)
        kinds.add(geometry.kind)
        assert rotation_angle_deg(geometry.b_from_a[:, :3] @ turn.T) < 0.5
    assert kinds == {"rotation"}


def test_a_flat_wall_gives_planes(photo_set):
    kinds = [geometry.kind for *_, geometry in verified(photo_set("planar_wall", 4, 480))]
    assert kinds.count("planar") >= len(kinds) - 1 >= 2
