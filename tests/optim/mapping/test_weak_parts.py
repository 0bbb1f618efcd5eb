"""Two rings of cameras, tied by a few points that both see: the place and the scale of one beside the other."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.intrinsics import intrinsics_with_priors
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior, errors_px
from unposed.optim.cameras import project
from unposed.optim.mapping.part_similarity import moved_part
from unposed.optim.mapping.refinement import RefineOptions, completed
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.mapping.weak_parts import WeakPartOptions, log_scale_sigma, open_parts, reseated, weak_parts
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import Similarity, fit_similarity
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.plugins.fine.model_start import ModelStart, Refined
from unposed.plugins.fine.weak_parts import cut_at_open_parts

PART, REST = np.arange(6), np.arange(6, 18)
INTRINSICS = np.array([500.0, 500.0, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0])
GONE = Similarity(30.0, exp_so3(np.array([[0.3, -0.5, 0.2]]))[0], np.array([4.0, -9.0, 2.0]))
"""What happens to the part: it is thirty times too large, turned, and elsewhere."""


@dataclass(frozen=True, eq=False)
class Rings:
    """Photos, matches and true cameras."""

    graph: ViewGraph
    cameras: Bundle
    prior: IntrinsicsPrior
    part: np.ndarray


def rings(ties: int, *, noise_px: float = 0.0, wrong: float = 0.0, seed: int = 0) -> Rings:
    """A ring of six and one of twelve photos, each around points of its own; two photos of the first and three of the
    second see `ties` points between them, and a share `wrong` of these matches leads elsewhere."""
    rng = np.random.default_rng(seed)
    centres = np.concatenate(
        [
            np.column_stack([np.linspace(4, 8, 6), rng.uniform(-0.5, 0.5, 6), rng.uniform(-5.5, -4.5, 6)]),
            np.column_stack([np.linspace(-4, 3, 12), rng.uniform(-0.5, 0.5, 12), rng.uniform(-6.5, -5.5, 12)]),
        ]
    )
    poses = np.stack([looking_at(c, [6.0, 0, 0] if i in PART else [0.0, 0, 0]) for i, c in enumerate(centres)])
    clouds = (
        (np.array([6, 0, 0]) + rng.uniform(-1, 1, (150, 3)), PART),
        (rng.uniform(-1, 1, (250, 3)), REST),
        (np.array([3, 0, 1]) + rng.uniform(-1, 1, (ties, 3)), np.array([0, 1, 15, 16, 17])),
    )
    points = np.concatenate([cloud for cloud, _ in clouds])
    seen = np.concatenate([np.tile(np.isin(np.arange(18), by), (len(cloud), 1)) for cloud, by in clouds])
    xy, row_of, start = [], np.full((18, len(points)), -1), [0]
    for photo, pose in enumerate(poses):
        own = np.flatnonzero(seen[:, photo])
        pixel = project(points[own] @ pose[:, :3].T + pose[:, 3], INTRINSICS)
        row_of[photo, own] = start[-1] + np.arange(len(own))
        xy.append(pixel + noise_px * rng.standard_normal(pixel.shape))
        start.append(start[-1] + len(own))
    pairs, rows = [], []
    for a in range(18):
        for b in range(a + 1, 18):
            both = np.flatnonzero((row_of[a] >= 0) & (row_of[b] >= 0))
            there = row_of[b, both]
            if (a in PART) != (b in PART):
                lost = rng.random(len(both)) < wrong
                there = np.where(lost, rng.integers(start[b], start[b + 1], len(both)), there)
            if len(both):
                pairs.append((a, b))
                rows.append((row_of[a, both], there))
    size = np.tile([1600, 1200], (18, 1))
    keypoints = Keypoints(np.concatenate(xy), np.array(start), size)
    row_a, row_b = (np.concatenate(each) for each in zip(*rows, strict=True))
    graph = build_view_graph(keypoints, np.array(pairs), np.array([len(a) for a, _ in rows]), row_a, row_b)
    none = np.zeros(0, np.int64)
    camera = np.zeros(18, np.int64)
    cameras = Bundle(
        ("SIMPLE_RADIAL",), INTRINSICS[None], camera, poses, np.zeros((0, 3)), np.zeros((0, 2)), none, none, none
    )
    params = (500.0, 800.0, 600.0, 0.0)
    known = intrinsics_with_priors(["SIMPLE_RADIAL"], [params], np.array([[1600.0, 1200.0]]), ("given",), camera, 0.75)
    return Rings(graph, cameras, known.prior, np.isin(np.arange(18), PART))


def looking_at(centre: np.ndarray, target: Any) -> np.ndarray:
    forward = (np.asarray(target) - centre) / np.linalg.norm(np.asarray(target) - centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.column_stack([rotation, -rotation @ centre])


def seated(world: Rings, start: Bundle) -> Bundle | None:
    return reseated(world.graph, start, world.prior, adjust_bundle, RefineOptions(), WeakPartOptions())


def scale_left(world: Rings, found: Bundle) -> float:
    """Size of the part in a bundle over its true one; the rest has stayed."""
    now, true = (camera_centres(each.cam_from_world[PART]) for each in (found, world.cameras))
    return fit_similarity(true, now).scale


def full(world: Rings, cameras: Bundle | None = None) -> Bundle:
    """The bundle with the points of all tracks."""
    return completed(world.graph, cameras or world.cameras, RefineOptions(), 1.0).bundle


def test_a_ring_that_few_matches_tie_is_a_weak_part_and_one_that_many_tie_is_not() -> None:
    few, many = rings(20), rings(40)
    (found,) = weak_parts(few.graph, few.cameras, WeakPartOptions())
    assert found.photos.tolist() == PART.tolist()
    assert found.cut_matches == 2 * 3 * 20
    assert weak_parts(many.graph, many.cameras, WeakPartOptions()) == []


def test_matches_that_do_not_agree_with_the_poses_tie_nothing() -> None:
    world = rings(40)
    gone = moved_part(world.cameras, world.part, GONE)
    (found,) = weak_parts(world.graph, gone, WeakPartOptions())
    assert found.photos.tolist() == PART.tolist()
    assert found.cut_matches < 20
    assert weak_parts(world.graph, gone, WeakPartOptions(max_cut_matches=0)) == []


def test_of_parts_within_each_other_the_largest_counts() -> None:
    world = rings(20)
    between = np.isin(world.graph.pairs, [0, 1]).sum(axis=1) == 1  # photos 0 and 1 hang by ties alone
    graph = world.graph.select(~(between & np.isin(world.graph.pairs, PART).all(axis=1)))
    found = weak_parts(graph, world.cameras, replace(WeakPartOptions(), min_photos=2))
    assert [each.photos.tolist() for each in found] == [[0, 1]]


@pytest.mark.parametrize(
    ("noise_px", "wrong", "within"), [(0.0, 0.0, 1e-3), (0.3, 0.0, 0.05), (0.3, 0.3, 0.1)], ids=str
)
def test_a_part_that_has_run_away_comes_back(noise_px: float, wrong: float, within: float) -> None:
    world = rings(20, noise_px=noise_px, wrong=wrong)
    start = moved_part(world.cameras, world.part, GONE)
    assert scale_left(world, start) == pytest.approx(30.0)
    found = seated(world, start)
    assert found is not None
    assert np.log(scale_left(world, found)) == pytest.approx(0.0, abs=within)
    away = camera_centres(found.cam_from_world) - camera_centres(world.cameras.cam_from_world)
    assert np.linalg.norm(away, axis=1).max() < 4.0 * within


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_a_part_that_many_matches_should_hold_comes_back_from_any_scale(scale: float) -> None:
    world = rings(60, noise_px=0.3, wrong=0.3)
    found = seated(world, moved_part(world.cameras, world.part, replace(GONE, scale=scale)))
    assert found is not None
    assert np.log(scale_left(world, found)) == pytest.approx(0.0, abs=0.05)


def test_a_part_that_is_in_its_place_stays() -> None:
    world = rings(20, noise_px=0.3, wrong=0.2)
    assert seated(world, world.cameras) is None


def test_a_part_of_too_few_ties_stays_where_it_is_and_its_scale_is_open() -> None:
    world = rings(2, noise_px=0.3)
    assert seated(world, moved_part(world.cameras, world.part, GONE)) is None
    ((part, sigma),) = open_parts(world.graph, full(world), WeakPartOptions())
    assert part.photos.tolist() == PART.tolist()
    assert sigma == float("inf")
    assert log_scale_sigma(full(rings(1)), world.part, 1.0) == float("inf")


def test_the_sigma_of_the_scale_is_that_of_dense_normal_equations() -> None:
    world = rings(9, noise_px=0.3)
    bundle = full(world)
    assert log_scale_sigma(bundle, world.part, 1.5) == pytest.approx(dense_sigma(bundle, world.part, 1.5), rel=1e-3)


@pytest.mark.slow
def test_the_stated_sigma_of_the_scale_is_near_what_scales_scatter_by() -> None:
    """Its noise is twice that of the key points here, as parts bend as well."""
    scatter = []
    for seed in range(6):
        world = rings(20, noise_px=0.5, seed=seed)
        found = seated(world, moved_part(world.cameras, world.part, GONE))
        assert found is not None
        scatter.append(np.log(scale_left(world, found)))
    stated = log_scale_sigma(full(world), world.part, WeakPartOptions().noise)
    assert 0.3 * stated < np.std(scatter) < 3.0 * stated


def test_an_open_part_becomes_a_model_of_its_own_with_a_warning() -> None:
    world = rings(2, noise_px=0.3)
    result = completed(world.graph, world.cameras, RefineOptions(), 1.0)
    start = ModelStart(world.cameras, world.prior, None, None, ())
    photos: Any = [type("Photo", (), {"name": f"{i}.jpg"}) for i in range(18)]
    (rest, part), (warning,) = cut_at_open_parts(
        Refined(start, world.graph, result), photos, RefineOptions(), WeakPartOptions()
    )
    assert posed(rest) == REST.tolist()
    assert posed(part) == PART.tolist()
    assert errors_px(part.result.bundle).max() < 4.0
    assert "6 photos (0.jpg, 1.jpg, 2.jpg and 3 more) are a model of their own" in warning
    assert "12 matches" in warning
    whole, warnings = cut_at_open_parts(
        Refined(start, world.graph, result), photos, RefineOptions(), WeakPartOptions(max_cut_matches=0)
    )
    assert len(whole) == 1
    assert warnings == ()


def test_an_open_part_without_points_of_its_own_is_left_out() -> None:
    world = rings(2, noise_px=0.3)
    result = completed(world.graph, world.cameras, RefineOptions(), 1.0)
    seen_by_rest = np.bincount(result.bundle.point, np.isin(result.bundle.photo, REST)) > 0
    result = replace(result, bundle=keep_observations(result.bundle, seen_by_rest[result.bundle.point]))
    start = ModelStart(world.cameras, world.prior, None, None, ())
    photos: Any = [type("Photo", (), {"name": f"{i}.jpg"}) for i in range(18)]
    (rest,), (warning,) = cut_at_open_parts(
        Refined(start, world.graph, result), photos, RefineOptions(), WeakPartOptions()
    )
    assert posed(rest) == REST.tolist()
    assert "6 photos (0.jpg, 1.jpg, 2.jpg and 3 more) are left out: the 12 matches" in warning


def posed(model: Refined) -> list[int]:
    return np.flatnonzero(np.isfinite(model.result.bundle.cam_from_world[:, 0, 0])).tolist()


def dense_sigma(bundle: Bundle, part: np.ndarray, noise_px: float) -> float:
    """From the whole Jacobian by differences: seven numbers of the part, three of each point that both sides see."""
    points = [
        p for p in range(len(bundle.points)) if len({bool(x) for x in part[bundle.photo[bundle.point == p]]}) == 2
    ]
    rows = np.isin(bundle.point, points)

    def residual(x: np.ndarray) -> np.ndarray:
        moved = Similarity(float(np.exp(x[6])), exp_so3(x[None, :3])[0], x[3:6])
        poses = moved_part(bundle, part, moved).cam_from_world[bundle.photo[rows]]
        world = bundle.points.copy()
        world[points] += x[7:].reshape(-1, 3)
        y = np.einsum("nij,nj->ni", poses[:, :, :3], world[bundle.point[rows]]) + poses[:, :, 3]
        return (project(y, INTRINSICS) - bundle.xy[rows]).ravel()

    size, step = 7 + 3 * len(points), 1e-5
    jacobian = np.stack(
        [(residual(step * each) - residual(-step * each)) / (2.0 * step) for each in np.eye(size)], axis=1
    )
    return noise_px * float(np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[6, 6]))
