"""Models of clusters with known similarities: merged to rounding, despite noise, wrong photos and wrong models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from unposed.optim.partition.cluster_graph import ClusterModel
from unposed.optim.partition.cluster_links import link_clusters
from unposed.optim.partition.model_merging import MergedModels, ModelMergingOptions, merge_models, moved_poses
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.optim.similarity import Similarity, fit_similarity

Index = np.ndarray


class World:
    """Photos and points at known places; every photo observes the 20 points nearest to it."""

    def __init__(self, centres: np.ndarray, rng: np.random.Generator) -> None:
        self.rng, photos = rng, len(centres)
        rotation = exp_so3(rng.uniform(-1.0, 1.0, (photos, 3)))
        self.poses = np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centres)[:, :, None]], axis=2)
        self.centres = centres
        self.points = np.repeat(centres, 8, axis=0) + rng.uniform(-3.0, 3.0, (8 * photos, 3))
        away = np.linalg.norm(self.points[None] - centres[:, None], axis=2)
        self.seen = np.argsort(away, axis=1)[:, :20]

    def model(self, photos: Index, noise: float = 0.0, wrong: Sequence[int] = ()) -> ClusterModel:
        """The model of some photos in a random frame: positions off by `noise`, rotations by a tenth of it, and some
        photos anywhere."""
        rng = self.rng
        scale, turn = float(np.exp(rng.uniform(-1, 1))), exp_so3(rng.uniform(-2, 2, (1, 3)))[0]
        model_from_world = Similarity(scale, turn, rng.standard_normal(3))
        rotation = exp_so3(0.1 * noise * rng.standard_normal((len(photos), 3))) @ self.poses[photos, :, :3]
        centre = self.centres[photos] + noise * rng.standard_normal((len(photos), 3))
        off = np.isin(photos, wrong)
        centre[off] += rng.uniform(5.0, 20.0, (int(off.sum()), 3))
        rotation[off] = exp_so3(rng.uniform(0.5, 1.0, (int(off.sum()), 3))) @ rotation[off]
        poses = np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centre)[:, :, None]], axis=2)
        used = np.unique(self.seen[photos])
        points = self.points[used] + noise * rng.standard_normal((len(used), 3))
        row = (20 * photos[:, None] + np.arange(20)).ravel()
        return ClusterModel(
            photos=photos,
            cam_from_world=moved_poses(poses, model_from_world),
            cameras=np.zeros(1, np.int64),
            intrinsics=np.ones((1, 8)),
            camera_observations=np.array([len(row)]),
            points=model_from_world(points),
            row=row,
            point=np.searchsorted(used, self.seen[photos].ravel()),
        )

    def errors(self, models: Sequence[ClusterModel], merged: MergedModels) -> tuple[float, float]:
        """The largest errors of rotations, in degrees, and of positions, of photos in joined models, aligned."""
        joined = [pair for pair in zip(models, merged.world_from_model, strict=True) if pair[1] is not None]
        photos = np.concatenate([model.photos for model, _ in joined])
        poses = np.concatenate([moved_poses(m.cam_from_world, s) for m, s in joined if s is not None])
        centres = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
        world = fit_similarity(centres, self.centres[photos])
        off = poses[:, :, :3] @ world.rotation.T @ self.poses[photos, :, :3].transpose(0, 2, 1)
        away = np.linalg.norm(world(centres) - self.centres[photos], axis=1)
        return float(rotation_angle_deg(off).max()), float(away.max())


def ring(rng: np.random.Generator, photos: int = 120) -> World:
    turn = np.linspace(0, 2 * np.pi, photos, endpoint=False)
    return World(0.5 * photos / np.pi * np.column_stack([np.cos(turn), np.sin(turn), 0.02 * np.sin(5 * turn)]), rng)


def arcs(photos: int, clusters: int, overlap: int) -> list[Index]:
    step = photos // clusters
    return [np.unique(np.arange(step * k - overlap, step * (k + 1) + overlap) % photos) for k in range(clusters)]


def field(rng: np.random.Generator, side: int = 12) -> World:
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(np.float64)
    return World(np.column_stack([places, 0.3 * rng.standard_normal(len(places))]), rng)


def squares(side: int = 12, clusters: int = 3, overlap: int = 1) -> list[Index]:
    step = side // clusters
    cells = np.arange(side * side).reshape(side, side)
    spans = [slice(max(0, step * k - overlap), step * (k + 1) + overlap) for k in range(clusters)]
    return [np.sort(cells[rows, columns].ravel()) for rows in spans for columns in spans]


@pytest.mark.parametrize(("make", "parts"), [(ring, arcs(120, 5, 3)), (field, squares()), (ring, arcs(120, 2, 4)[:1])])
def test_without_noise_models_are_merged_to_rounding(
    make: Callable[[np.random.Generator], World], parts: list[Index]
) -> None:
    world = make(np.random.default_rng(0))
    models = [world.model(part) for part in parts]
    merged = merge_models(models)
    assert merged.joined.all() and not merged.inconsistent.any()
    angle_deg, away = world.errors(models, merged)
    assert angle_deg < 1e-6 and away < 1e-7


@pytest.mark.parametrize("seed", range(4))
def test_noise_stays_small_around_a_ring(seed: int) -> None:
    """Five joints of six photos and their points each. One model's positions scatter by 0.02 of a photo's step."""
    world = ring(np.random.default_rng(seed))
    models = [world.model(part, noise=0.02) for part in arcs(120, 5, 3)]
    merged = merge_models(models)
    assert merged.joined.all() and not merged.inconsistent.any()
    angle_deg, away = world.errors(models, merged)
    assert angle_deg < 0.8 and away < 0.25  # single photos are off by up to 0.5 degrees and 0.08 already


@pytest.mark.parametrize("seed", range(4))
def test_photos_that_one_model_places_wrongly_do_not_matter(seed: int) -> None:
    world = field(np.random.default_rng(seed))
    parts = squares()
    clean = [world.model(part) for part in parts]
    centre = parts[4]
    wrong = world.rng.choice(centre, len(centre) // 7, replace=False)
    models = [*clean[:4], world.model(centre, wrong=wrong.tolist()), *clean[5:]]
    merged = merge_models(models)
    assert merged.joined.all()
    angle_deg, away = world.errors([*clean[:4], *clean[5:]], replace_models(merged, 4))
    assert angle_deg < 1e-5 and away < 1e-5


def replace_models(merged: MergedModels, left_out: int) -> MergedModels:
    kept = [each for number, each in enumerate(merged.world_from_model) if number != left_out]
    return replace(merged, world_from_model=tuple(kept))


def bent(world: World, part: Index) -> ClusterModel:
    """A model of which one half is turned by 40 degrees against the other and half as large."""
    model, half = world.model(part), len(part) // 2
    hinge = model.centres[half]
    turn = exp_so3(np.array([[0.0, 0.7, 0.0]]))[0]
    poses = model.cam_from_world.copy()
    poses[half:] = moved_poses(poses[half:], Similarity(0.5, turn, hinge - 0.5 * turn @ hinge))
    points = model.points.copy()
    late = np.unique(model.point[model.row >= 20 * part[half]])
    points[late] = 0.5 * (points[late] - hinge) @ turn.T + hinge
    return replace(model, cam_from_world=poses, points=points)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_model_that_is_wrong_by_itself_is_not_joined(number: int) -> None:
    world = field(np.random.default_rng(1))
    parts = squares()
    models = [bent(world, part) if k == number else world.model(part, noise=0.01) for k, part in enumerate(parts)]
    merged = merge_models(models)
    assert np.flatnonzero(~merged.joined).tolist() == [number]
    angle_deg, away = world.errors(models, merged)
    assert angle_deg < 0.5 and away < 0.15


def test_a_wrong_link_of_a_ring_is_found_and_not_glued() -> None:
    """Two fronts of a building look alike: each model has photos of the other front where its own are. The photos in
    common agree, and only the way around does not."""
    rng = np.random.default_rng(2)
    world = ring(rng)
    parts = arcs(120, 6, 3)
    models = [world.model(part, noise=0.005) for part in parts]
    one, other = parts[0], parts[3]
    ghosts = other[8:14]
    start = models[0]
    places = np.searchsorted(start.photos, one[8:14])
    models[0] = replace(
        start,
        photos=np.concatenate([start.photos, ghosts]),
        cam_from_world=np.concatenate([start.cam_from_world, start.cam_from_world[places]]),
    )
    order = np.argsort(models[0].photos)
    models[0] = replace(models[0], photos=models[0].photos[order], cam_from_world=models[0].cam_from_world[order])
    turned = world.poses[one[8:14], :, :3]
    world.poses[ghosts, :, :3] = turned  # they look alike, so that rotations agree as well
    models[3] = world.model(other, noise=0.005)
    merged = merge_models(models)
    assert merged.pairs[merged.inconsistent].tolist() == [[0, 3]]
    assert merged.joined.all()


def test_models_without_enough_common_photos_stay_apart() -> None:
    world = ring(np.random.default_rng(3))
    models = [world.model(np.arange(0, 30)), world.model(np.arange(28, 70)), world.model(np.arange(60, 110))]
    merged = merge_models(models)
    assert merged.joined.tolist() == [False, True, True]
    assert merged.pairs.tolist() == [[1, 2]]


def test_no_models_are_merged_to_none() -> None:
    assert merge_models([]).world_from_model == ()


def test_points_give_the_scale_where_the_common_photos_stand_in_one_place() -> None:
    rng = np.random.default_rng(4)
    centres = np.column_stack([np.arange(30.0), np.zeros(30), np.zeros(30)])
    centres[12:18] = centres[12]
    world = World(centres, rng)
    one, other = world.model(np.arange(18)), world.model(np.arange(12, 30))
    link = link_clusters(one, other)
    assert link is not None and link.consistent == 6
    true = np.linalg.norm(np.ptp(other.points[:20], axis=0)) / np.linalg.norm(
        np.ptp(world.points[np.unique(world.seen[12:30])][:20], axis=0)
    )
    own = np.linalg.norm(np.ptp(one.points[:20], axis=0)) / np.linalg.norm(
        np.ptp(world.points[np.unique(world.seen[:18])][:20], axis=0)
    )
    assert link.scale == pytest.approx(true / own, rel=0.6)


def test_limits_of_links_are_options() -> None:
    world = ring(np.random.default_rng(5))
    models = [world.model(part, noise=0.02) for part in arcs(120, 5, 3)]
    strict = merge_models(models, ModelMergingOptions(max_link_deg=1e-6))
    assert strict.inconsistent.any()
