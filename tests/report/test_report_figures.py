"""What the panels show, on models whose figures are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist

from unposed.optim.arrays import Array
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import Camera, Photo, Photos, Ranking, SparseModel, SparseModels
from unposed.report import graph_layout
from unposed.report.graph_layout import laid_out
from unposed.report.ground import ground_map, upright_axes
from unposed.report.pictures import DOUBTED, similarity_matrix
from unposed.report.residuals import observation_errors, residual_field
from unposed.report.scene_points import scene_data
from unposed.report.sources import ReportSources
from unposed.report.track_figures import track_lengths, triangulation_angles_deg
from unposed.report.words import advice, headline, usual_reason

CAMERA = Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.0))


def ring(photos: int, tilt_deg: float, radius: float = 4.0) -> np.ndarray:
    """(n, 3, 4) cameras on a circle around the z axis, z up, that look at the middle and `tilt_deg` downwards."""
    poses = []
    for turn in np.linspace(0, 2 * np.pi, photos, endpoint=False):
        tilt = np.radians(tilt_deg)
        away = np.array([np.cos(turn), np.sin(turn), 0.0])
        centre = radius * (np.cos(tilt) * away + np.sin(tilt) * np.array([0, 0, 1.0]))
        ahead = -centre / radius
        right = np.cross(ahead, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        poses.append(np.column_stack([rotation, -rotation @ centre]))
    return np.array(poses)


def model_of(poses: np.ndarray, points: np.ndarray, noise_px: float = 0.0, k: float = 0.0) -> SparseModel:
    """All cameras see all points; key points are distorted by k, of which the model knows nothing."""
    rng = np.random.default_rng(0)
    seen = np.einsum("pij,nj->pni", poses[:, :, :3], points) + poses[:, None, :, 3]
    plane = seen[..., :2] / seen[..., 2:]
    plane = plane * (1.0 + k * np.square(plane).sum(axis=-1, keepdims=True))
    xy = (500.0 * plane + [320.0, 240.0] + noise_px * rng.standard_normal(plane.shape)).reshape(-1, 2)
    count, photos = len(points), len(poses)
    point = np.repeat(np.arange(count), photos)
    row = np.tile(np.arange(photos) * count, count) + point
    start = np.arange(photos + 1, dtype=np.int64) * count
    every = np.arange(photos, dtype=np.int32)
    rgb = np.full((count, 3), 200, np.uint8)
    return SparseModel((CAMERA,), every, 0 * every, poses, xy, start, points, rgb, np.ones(count), row, point)


def sources_of(model: SparseModel | None, photos: int, **summary: Any) -> ReportSources:
    names = [f"{i}.jpg" for i in range(photos)]
    collection = Photos(tuple(Photo(name, Path(name), name, 640, 480) for name in names), {})
    models = () if model is None else (model,)
    of_model = {"model": "sparse/0", "refinement": {"verdict": {"probability": 0.9, "reasons": []}}}
    found = () if model is None else model.photos.tolist()
    each = {name: {"model": 0} if i in found else {"reason": "no match"} for i, name in enumerate(names)}
    facts = {"photos": each, "total": photos, "registered": len(found), "models": [of_model] * len(models)}
    facts |= {"failure": None, "warnings": [], "effort": 1.0, "photos_folder": "some photos"}
    return ReportSources(collection, SparseModels(models, {}), facts | summary, "", np.zeros((0, 2), np.int64))


def test_angles_are_those_of_the_widest_rays() -> None:
    model = model_of(ring(12, 0.0), np.zeros((1, 3)))
    assert track_lengths(model).tolist() == [12]
    assert triangulation_angles_deg(model) == pytest.approx([180.0])
    some = model_of(ring(12, 0.0)[:4], np.zeros((1, 3)))  # 0, 30, 60 and 90 degrees
    assert triangulation_angles_deg(some) == pytest.approx([90.0])
    middle_first = replace(some, cam_from_world=some.cam_from_world[[1, 0, 3, 2]])
    assert triangulation_angles_deg(middle_first) == pytest.approx([90.0])


@pytest.mark.parametrize("tilt_deg", [0.0, 35.0, 70.0])
def test_up_is_up_however_the_world_is_turned(tilt_deg: float) -> None:
    poses = ring(9, tilt_deg)
    turn = exp_so3(np.array([[0.7, -1.1, 2.0]]))[0]
    turned = np.concatenate([poses[:, :, :3] @ turn.T, poses[:, :, 3:]], axis=2)
    axes = upright_axes(turned)
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
    assert axes[2] == pytest.approx(turn @ [0, 0, 1.0], abs=1e-6)


def test_up_of_a_flight_that_looks_straight_down_is_across_its_plane() -> None:
    down = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    centres = np.array([[x, y, 10.0] for x in range(4) for y in range(3)])
    poses = np.array([np.column_stack([down, -down @ centre]) for centre in centres])
    assert upright_axes(poses)[2] == pytest.approx([0, 0, 1.0], abs=0.1)


def test_the_map_counts_the_photos_that_see_a_place() -> None:
    points = np.array([[0.0, 0, 0], [1.0, 1, 0], [1.0, 1, 2]])
    model = model_of(ring(6, 30.0), points)
    seen = (model.obs_point != 0) | (model.obs_xy // 3 < 2)  # the first point is seen by two cameras
    model = replace(model, obs_xy=model.obs_xy[seen], obs_point=model.obs_point[seen])
    found = ground_map(model, upright_axes(model.cam_from_world))
    assert sorted(found.photos[found.photos > 0].tolist()) == [2, 6]
    assert len(found.cameras) == 6
    assert np.linalg.norm(found.looks, axis=1) == pytest.approx(np.cos(np.radians(30)))


def test_a_wrong_lens_shows_as_a_pattern_and_noise_does_not() -> None:
    points = np.random.default_rng(1).uniform(-1.3, 1.3, (1500, 3))
    fields = []
    for k in (0.0, 0.05):
        errors = observation_errors(model_of(ring(8, 20.0), points, noise_px=0.3, k=k))
        fields.append(residual_field(errors, errors.camera == 0, 640, 480))
    assert fields[0].pattern < 0.2
    assert fields[1].pattern > 0.5
    middle = np.array([320.0, 240.0])
    inwards = -np.einsum("ni,ni->n", fields[1].mean_px, fields[1].centre - middle)
    assert (inwards > 0).mean() > 0.9  # key points lie farther out than the model has them


def test_the_layout_keeps_neighbours_near_and_parts_apart() -> None:
    circle = [(i, (i + 1) % 10) for i in range(10)]
    pairs = np.sort(np.array([*circle, (10, 11), (11, 12)]), axis=1)
    place = laid_out(14, pairs, np.full(len(pairs), 100))
    assert np.isfinite(place).all() and place.min() >= 0 and place.max() <= 1
    length = np.linalg.norm(place[pairs[:10, 0]] - place[pairs[:10, 1]], axis=1)
    across = np.linalg.norm(place[:5] - place[5:10], axis=1)
    assert across.min() > 2 * length.max()
    assert place[:10, 1].max() < place[10:, 1].min()  # the smaller parts are below
    assert np.array_equal(place, laid_out(14, pairs, np.full(len(pairs), 100)))


@pytest.mark.parametrize("closed", [False, True])
def test_large_layouts_by_pivots_are_about_as_good_as_by_all_distances(
    monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    rows, columns = 4, 75
    photo = np.arange(rows * columns).reshape(rows, columns)
    along = np.column_stack([photo.ravel(), np.roll(photo, -1, axis=1).ravel()])
    if not closed:
        along = along[(photo < photo.max(axis=1)[:, None]).ravel()]
    across = np.column_stack([photo[:-1].ravel(), photo[1:].ravel()])
    pairs = np.sort(np.concatenate([along, across]), axis=1)
    matches = np.random.default_rng(0).integers(15, 300, len(pairs))
    length = 1 / np.sqrt(1.0 + matches)
    wanted = shortest_path(coo_array((length, pairs.T), shape=(photo.size,) * 2).tocsr(), directed=False)

    def stress(place: Array) -> float:
        ratio = pdist(place) / wanted[np.triu_indices(len(place), 1)]
        return float(np.square(ratio * ratio.sum() / (ratio**2).sum() - 1).mean())

    whole = laid_out(photo.size, pairs, matches)
    monkeypatch.setattr(graph_layout, "STRESS_MOST", 100)
    by_pivots = laid_out(photo.size, pairs, matches)
    assert stress(by_pivots) < 1.1 * stress(whole)
    assert np.array_equal(by_pivots, laid_out(photo.size, pairs, matches))


def test_the_matrix_has_similarity_above_and_matches_below() -> None:
    pairs = np.array([[0, 1], [1, 2]])
    doubted = np.array([False, True])
    matrix = similarity_matrix(3, pairs, np.array([1.0, 0.25]), pairs, np.array([50.0, 50.0]), doubted)
    assert matrix[0, 1, 3] > matrix[1, 2, 3] > 0
    assert matrix[1, 0, 3] == 255
    assert tuple(matrix[2, 1]) == (*DOUBTED, 255)
    assert matrix[0, 2, 3] == matrix[2, 0, 3] == 0


def test_the_scene_holds_the_cameras_where_they_are() -> None:
    model = model_of(ring(5, 20.0), np.random.default_rng(0).uniform(-1, 1, (300, 3)))
    (data,) = scene_data(Photos((), {}), (model,))
    assert data["points"] == data["shown"] == 300
    centres = np.array([camera["centre"] for camera in data["cameras"]])
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)
    true = camera_centres(model.cam_from_world)
    expected = np.linalg.norm(true[:, None] - true, axis=-1)
    assert gaps / gaps[0, 1] == pytest.approx(expected / expected[0, 1], rel=1e-3)
    assert data["cameras"][0]["slope"] == pytest.approx([0.64, 0.48])


@pytest.mark.parametrize(
    ("registered", "probability", "level", "words"),
    [
        (6, 0.99, "good", "very probably right"),
        (6, 0.7, "fair", "uncertain"),
        (6, 0.3, "bad", "probably wrong"),
        (2, 0.99, "bad", "very probably right"),
        (5, 0.99, "fair", "very probably right"),
    ],
)
def test_the_verdict_in_words(registered: int, probability: float, level: str, words: str) -> None:
    models = [{"refinement": {"verdict": {"probability": probability}}}]
    found = headline({"total": 6, "registered": registered, "models": models, "failure": None})
    assert found.level == level
    assert words in found.detail
    assert found.text.startswith("All 6 photos" if registered == 6 else f"{registered} of 6 photos")


def test_a_model_with_a_warning_is_not_called_right() -> None:
    models = [{"refinement": {"verdict": {"probability": 0.55, "trusted": False, "reasons": ["it may be folded"]}}}]
    found = headline({"total": 6, "registered": 6, "models": models, "failure": None})
    assert found.level == "bad"
    assert "Do not rely on the largest model" in found.detail


def test_what_hurts_is_said_once_and_in_sentences() -> None:
    model = model_of(ring(4, 20.0), np.random.default_rng(0).uniform(-1, 1, (50, 3)))
    verdict = {"probability": 0.5, "trusted": False, "reasons": ["it may be folded"]}
    said = ["do not rely on the model of 4 photos: it may be folded", "a.jpg is dark", "no pair joins the parts of 4"]
    sources = sources_of(model, 4, models=[{"refinement": {"verdict": verdict}}], warnings=said)
    nothing = np.zeros(0, np.int64), np.zeros(0)
    texts = [each.text for each in advice(sources, (), *nothing)]
    expected = ["Do not rely on the model of 4 photos: it may be folded.", "a.jpg is dark."]
    assert texts == [*expected, "No pair joins the parts of 4."]
    two = replace(sources, sparse=SparseModels((model, model), {}))
    assert [each.text for each in advice(two, (), *nothing)][1:] == expected


def test_a_lost_photo_comes_with_where_to_stand() -> None:
    model = model_of(ring(4, 20.0), np.random.default_rng(0).uniform(-1, 1, (50, 3)))
    sources = sources_of(model, 5)
    ranking = Ranking(np.array([[0, 4], [2, 4]], np.int32), np.array([0.1, 0.3], np.float32))
    (found,) = advice(replace(sources, ranking=ranking), (), track_lengths(model), triangulation_angles_deg(model))
    assert found.level == "problem"
    assert found.text == "4.jpg is not registered: no match."
    assert "on the way from 2.jpg to 4.jpg" in found.remedy and "--effort high" in found.remedy
    assert found.command == "unposed pairs 'some photos' --why 4.jpg 2.jpg"


def test_photos_lost_for_one_reason_and_damaged_files_are_said_in_plain_words() -> None:
    model = model_of(ring(4, 20.0), np.random.default_rng(0).uniform(-1, 1, (50, 3)))
    broken = "features: photo: the file is damaged or cut off (5 bytes)"
    reasons = {"4.jpg": "it has no match", "5.jpg": "it has no match", "6.jpg": broken}
    sources = sources_of(model, 7)
    facts = {**sources.summary, "photos": {name: {"reason": reason} for name, reason in reasons.items()}}
    lost, damaged = advice(replace(sources, summary=facts), (), track_lengths(model), triangulation_angles_deg(model))
    assert lost.text == "4.jpg and 5.jpg are not registered, each for this reason: it has no match."
    assert damaged.text == "6.jpg is not registered: the file is damaged or cut off (5 bytes)."
    assert "Copy it again" in damaged.remedy and not lost.remedy


def test_a_run_without_a_model_says_why_and_what_to_try() -> None:
    ranking = Ranking(np.array([[0, 1], [0, 2]], np.int32), np.array([0.1, 0.3], np.float32))
    sources = replace(sources_of(None, 3), ranking=ranking, tried=np.array([[0, 1], [0, 2]]))
    nothing = np.zeros(0, np.int64), np.zeros(0)
    (found,) = advice(sources, (), *nothing)
    assert found.level == "problem" and "0 of the 2 pairs that were matched have a geometry" in found.text
    assert "in small steps" in found.remedy and "--effort high" in found.remedy
    assert found.command == "unposed pairs 'some photos' --why 0.jpg 2.jpg"
    assert headline(dict(sources.summary)).detail == "Each: no match"
    crashed = replace(sources, summary={**sources.summary, "failure": "coarse failed"})
    assert advice(crashed, (), *nothing)[0].text == "There is no reconstruction: coarse failed"
    assert headline(dict(crashed.summary)).detail == "Coarse failed"


def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    photos = {str(n): {"reason": f"only {n} key points were found in it"} for n in range(4)}
    assert usual_reason(photos) == "each: too few key points were found in it"
    assert usual_reason(photos | {"x": {"reason": "no"}}).startswith("4 of them: too few")


def test_narrow_angles_and_short_tracks_are_said() -> None:
    sources = sources_of(model_of(ring(4, 20.0), np.zeros((1, 3))), 4)
    found = advice(sources, (), np.full(100, 2), np.full(100, 0.8))
    assert [each.level for each in found] == ["hint", "hint"]
    assert "0.8 degrees" in found[0].text and "sideways" in found[0].remedy
    assert "third photo" in found[1].text
    assert advice(sources, (), np.full(100, 4), np.full(100, 8.0)) == []
