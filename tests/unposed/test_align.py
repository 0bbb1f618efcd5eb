"""Finished reconstructions aligned in their place: to poses, lengths, GPS, what is up; and undone."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

import unposed
from unposed.alignment.align import camera_priors
from unposed.alignment.frames import moved_model
from unposed.alignment.targets import AlignmentOptions, from_gps
from unposed.cli import main
from unposed.model import Model
from unposed.optim.alignment.geodesy import GeodeticOrigin, ecef_m
from unposed.optim.alignment.metric_scale import MetricScale
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.rigs import Rigs
from unposed.optim.similarity import Similarity, fit_similarity
from unposed.pipeline.artifacts import Exif, Photo, PhotoCalibration, Photos, SparseModel
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.calibration.vanishing_points import VanishingPoints


@pytest.fixture
def out(reconstructed: Any, tmp_path: Path) -> Path:
    folder: Path = reconstructed.copied_to(tmp_path / "out")
    return folder


def test_poses_of_a_trajectory_need_no_folders_and_endings(reconstructed: Any, out: Path, tmp_path: Path) -> None:
    lines = ["# name x y z qx qy qz qw"]
    for name in unposed.load(out)[0].photo_names:
        pose = reconstructed.true_pose(name)
        turn = pycolmap.Rotation3d(pose[:, :3].T).quat
        place = -pose[:, :3].T @ pose[:, 3]
        lines.append(" ".join([f"elsewhere/{Path(name).stem}", *map(str, [*place, *turn])]))
    (tmp_path / "walk.txt").write_text("\n".join(lines) + "\n")
    made = unposed.align(out, "poses", tmp_path / "walk.txt")
    step = made.summary["models"][0]["alignment"]["steps"][0]
    assert step["positions"] == len(lines) - 1


def test_to_poses_and_back(reconstructed: Any, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = unposed.load(out)[0]
    (out / "report.html").write_text("about this model", "utf-8")
    assert main(["align", str(out), "--to", "poses", str(reconstructed.truth)]) == 0
    assert (out / "report.html").read_text("utf-8") == "about this model"
    assert "aligned to poses" in capsys.readouterr().out
    aligned = unposed.load(out)
    truth = np.array([reconstructed.true_pose(name) for name in aligned[0].photo_names])
    centre, true_centre = rotation_and_centre(np.asarray(aligned[0].cam_from_world))[1], rotation_and_centre(truth)[1]
    assert np.abs(centre - true_centre).max() < 0.02 * np.ptp(true_centre)
    errors = unposed.evaluate(out, reconstructed.truth)
    assert errors.errors.scale == pytest.approx(1.0, abs=0.01)
    back = aligned.unaligned()[0]
    assert np.allclose(back.cam_from_world, before.cam_from_world, atol=1e-9 * np.abs(before.points).max())
    assert np.allclose(back.points, before.points)
    assert aligned.summary["models"][0]["alignment"]["steps"][0]["positions"] == len(before)
    assert main(["align", str(out), "--to", "original"]) == 0
    assert np.allclose(unposed.load(out)[0].points, before.points)
    assert "alignment" not in unposed.load(out).summary["models"][0]


def test_steps_add_up(reconstructed: Any, out: Path) -> None:
    before = unposed.load(out)[0]
    names = before.photo_names
    unposed.align(out, "gravity")
    unposed.align(out, "scale", names[0], names[-1], 12.5)
    after = unposed.load(out)
    ends = [after[0].images[name].center for name in (names[0], names[-1])]
    assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(12.5)
    # The cameras of the yard are level: what is up in the photos is up in the world.
    assert np.all(-np.asarray(after[0].cam_from_world)[:, 1, 2] > 0.9)
    steps = after.summary["models"][0]["alignment"]["steps"]
    assert [step["to"] for step in steps] == ["gravity", "scale"]
    assert np.allclose(after.unaligned()[0].points, before.points)
    assert after[0].mean_reprojection_px == pytest.approx(before.mean_reprojection_px)


def test_to_plane(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", str(out), "--to", "plane"]) == 0
    shown = capsys.readouterr().out
    model = unposed.load(out)[0]
    step = unposed.load(out).summary["models"][0]["alignment"]["steps"][0]
    centre = rotation_and_centre(np.asarray(model.cam_from_world))[1]
    assert np.mean(centre[:, 2] > 0) >= 0.9
    distance = np.median(np.linalg.norm(model.points - np.median(centre, axis=0), axis=1))
    on_plane = np.abs(model.points[:, 2]) <= 0.013 * distance  # the median of positions turns with the axes
    assert on_plane.sum() >= step["points_on_plane"] > 0.1 * step["points_of_model"]
    assert f"{step['points_on_plane']} of {step['points_of_model']} points on the plane" in shown


def test_export_in_the_original_frame(out: Path, tmp_path: Path) -> None:
    before = unposed.load(out)[0].points
    unposed.align(out, "scale", *unposed.load(out)[0].photo_names[:2], 100.0)
    for original in (False, True):
        folder = tmp_path / f"ply{original}"
        line = ["export", str(out), "--to", "colmap", "-o", str(folder), *(["--original"] if original else [])]
        assert main(line) == 0
        found = unposed.load(out) if not original else unposed.load(out).unaligned()

        model = pycolmap.Reconstruction(next(folder.rglob("points3D.*")).parent)
        first = model.points3D[min(model.points3D)].xyz
        assert np.allclose(first, found[0].points[0])
    assert np.allclose(unposed.load(out).unaligned()[0].points, before)


def tagged(
    model: Model, wrong: dict[int, tuple[float, float]], mirrored: bool = False, heights: Collection[int] | None = None
) -> Model:
    """The model with GPS positions of photos that are where it says, in a world 30 times as large; without heights but
    those of some rows, if they are given."""
    origin = GeodeticOrigin(52.5, 13.4, 40.0)
    frame = origin.ecef_from_enu
    centre = 30.0 * rotation_and_centre(np.asarray(model.cam_from_world))[1]
    level = np.column_stack([centre[:, 0], centre[:, 2], -centre[:, 1]])
    if mirrored:
        level[:, 1] *= -1.0
    photos = list(model.photos.photos)
    for row, index in enumerate(model.sparse.photos.tolist()):
        ecef = frame[:3, :3] @ level[row] + frame[:3, 3]
        latitude, longitude, height = geodetic(ecef)
        if row in wrong:
            latitude, longitude = wrong[row]
        altitude = height if heights is None or row in heights else None
        exif = Exif(latitude_deg=latitude, longitude_deg=longitude, altitude_m=altitude)
        photos[index] = replace(photos[index], exif=exif)
    return Model(model.sparse, Photos(tuple(photos), {}))


def geodetic(ecef: Any) -> tuple[float, float, float]:
    """By iteration, to a micrometre."""
    longitude, latitude, height = float(np.arctan2(ecef[1], ecef[0])), 0.9, 0.0
    for _ in range(50):
        latitude_deg, longitude_deg = np.degrees([latitude, longitude])
        off = GeodeticOrigin(float(latitude_deg), float(longitude_deg), height)
        _, north, up = (ecef - ecef_m(latitude_deg, longitude_deg, height)) @ off.ecef_from_enu[:3, :3]
        latitude, height = latitude + float(north) / 6.37e6, height + float(up)
    return float(np.degrees(latitude)), float(np.degrees(longitude)), height


def test_gps_of_a_wrong_hemisphere_is_left_out(reconstructed: Any) -> None:
    model = tagged(unposed.load(reconstructed.out)[0], {2: (-52.5, 13.4), 5: (52.5, -13.4)})
    (found,), origin = from_gps([model], AlignmentOptions())
    assert not isinstance(found, str)
    assert found.similarity.scale == pytest.approx(30.0, rel=1e-4)
    facts: Any = found.facts
    assert list(facts["wrong"]) == [model.photo_names[2], model.photo_names[5]]
    assert facts["rms"] < 1e-3
    assert origin.latitude_deg == pytest.approx(52.5, abs=0.01)


def test_mirrored_gps_is_refused(reconstructed: Any) -> None:
    model = tagged(unposed.load(reconstructed.out)[0], {}, mirrored=True)
    (found,), _ = from_gps([model], AlignmentOptions())
    good, _ = from_gps([tagged(unposed.load(reconstructed.out)[0], {})], AlignmentOptions())
    assert not isinstance(good[0], str)
    usual: Any = good[0].facts
    mirrored: Any = {} if isinstance(found, str) else found.facts
    assert isinstance(found, str) or mirrored["rms"] > 100 * usual["rms"]


def test_mirrored_gps_of_one_height_is_refused(reconstructed: Any) -> None:
    """Turned about the line from west to east it fits exactly, with the photos upside down."""
    model = unposed.load(reconstructed.out)[0]
    poses = np.array(model.cam_from_world, np.float64)
    centre = rotation_and_centre(poses)[1]
    centre[:, 1] = centre[0, 1]  # y is down
    flat = poses.copy()
    flat[:, :, 3] = -np.einsum("nij,nj->ni", flat[:, :, :3], centre)
    model = Model(replace(model.sparse, cam_from_world=flat), model.photos)
    (found,), _ = from_gps([tagged(model, {}, mirrored=True)], AlignmentOptions())
    assert isinstance(found, str) and "upside down" in found
    (found,), _ = from_gps([tagged(model, {}, mirrored=True)], AlignmentOptions(min_upright=-1.0))
    assert not isinstance(found, str)
    (found,), _ = from_gps([tagged(model, {})], AlignmentOptions())
    assert not isinstance(found, str)


@pytest.mark.parametrize(("known", "height_m"), [((), 0.0), ((3,), None)], ids=["none", "one"])
def test_gps_without_heights_says_so(reconstructed: Any, known: tuple[int, ...], height_m: float | None) -> None:
    model = tagged(unposed.load(reconstructed.out)[0], {}, heights=known)
    (found,), origin = from_gps([model], AlignmentOptions())
    assert not isinstance(found, str)
    assert (found.facts["up"], found.facts["heights"]) == ("photos", len(known))
    assert found.similarity.scale == pytest.approx(30.0, rel=0.3)
    assert height_m is None or origin.height_m == height_m


def test_gps_of_one_spot_is_refused(reconstructed: Any) -> None:
    model = tagged(unposed.load(reconstructed.out)[0], {})
    (spot, *_) = (photo.exif for photo in model.photos.photos)
    photos = Photos(tuple(replace(photo, exif=spot) for photo in model.photos.photos), {})
    (found,), _ = from_gps([Model(model.sparse, photos)], AlignmentOptions())
    assert found == "its known positions coincide, or are too few"


def test_georeference_is_beside_the_models_and_goes_with_them(
    reconstructed: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import unposed.alignment.align as module

    def with_positions(models: Any, options: AlignmentOptions) -> Any:
        return from_gps([tagged(model, {}) for model in models], options)

    monkeypatch.setattr(module, "from_gps", with_positions)
    unposed.align(out, "gps")
    facts = json.loads((out / "georeference.json").read_text())
    centre = unposed.load(out)[0].images[unposed.load(out)[0].photo_names[0]].center
    matrix = np.array(facts["earth_centred"]["from_model"])
    assert np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3]) == pytest.approx(6.365e6, rel=1e-2)
    assert facts["origin"]["epsg"] == 4979

    def predicted(model: SparseModel, photos: Photos, resources: Resources) -> MetricScale:
        return MetricScale(1.0, 0.1, np.arange(2), np.ones(2), np.zeros(2, bool))

    monkeypatch.setattr(module, "_estimator", lambda *given: ("metric.any", predicted))
    unposed.align(out, "depth", device="cpu")
    assert json.loads((out / "georeference.json").read_text()) == facts  # the scale by GPS is kept
    unposed.align(out, "gravity")
    assert not (out / "georeference.json").exists()  # it says nothing of this frame


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (["gps"], "no photo of the models has a GPS position"),
        (["north"], "expected gps, poses, points, gravity"),
        (["poses"], "expected a file of poses after it"),
        (["scale", "a", "b", "1"], "a is not in it"),
        (["poses", "missing.json"], "no such file"),
    ],
)
def test_bad_requests(out: Path, target: list[str], message: str) -> None:
    before = (out / "summary.json").read_bytes()
    with pytest.raises((InputError, ConfigError), match=message):
        unposed.align(out, *target)
    assert (out / "summary.json").read_bytes() == before


def test_metres_are_a_number_above_zero(out: Path) -> None:
    first, second = unposed.load(out)[0].photo_names[:2]
    for metres in ("0", "-3", "far", "nan"):
        with pytest.raises(ConfigError, match="number of metres above 0"):
            unposed.align(out, "scale", first, second, metres)
    with pytest.raises(InputError, match="at one place"):
        unposed.align(out, "scale", first, first, 2.0)


def test_baselines_of_rigs_grow_with_the_model(reconstructed: Any) -> None:
    model = unposed.load(reconstructed.out)[0].sparse
    count = len(model.photos)
    sensors = np.tile(np.eye(3, 4), (2, 1, 1))
    sensors[1, :, 3] = [0.2, 0.0, 0.1]
    numbers = np.arange(count)
    rigs = Rigs(numbers // 2, numbers % 2, np.zeros(2, np.int64), sensors, np.zeros(2, bool))
    moved = moved_model(replace(model, rigs=rigs), Similarity(3.0, np.eye(3), np.ones(3)))
    assert moved.rigs is not None
    assert np.allclose(moved.rigs.sensor_from_rig[1, :, 3], [0.6, 0.0, 0.3])
    assert np.allclose(moved.rigs.sensor_from_rig[:, :, :3], np.eye(3))


def control_file(reconstructed: Any, out: Path, file: Path, wrong: bool = False) -> Path:
    """Eight points of the yard as surveyed, 1000 km from the origin, with their marks in all photos."""
    model = unposed.load(out)[0]
    truth = json.loads(reconstructed.truth.read_text())["images"]
    poses = np.array([reconstructed.true_pose(name) for name in model.photo_names])
    centre, true_centre = (
        rotation_and_centre(np.asarray(each, np.float64))[1] for each in (model.cam_from_world, poses)
    )
    there = fit_similarity(centre, true_centre)
    far = np.argsort(-np.linalg.norm(model.points - np.median(model.points, axis=0), axis=1), kind="stable")
    rows = ["# a survey", "point;photo;x;y;X;Y;Z;sigma_m"]
    for number, point in enumerate(there(model.points[far[100:900:100]])):
        east, north, up = point + np.array([1e6, 0.0, 0.0])
        if wrong and number == 3:
            north, up = up, north
        for name, pose in zip(model.photo_names, poses, strict=True):
            pixel = np.array(truth[name]["K"]) @ (pose[:, :3] @ point + pose[:, 3])
            x, y = pixel[:2] / pixel[2] + 0.5  # K is for pixels whose first has its centre at (0, 0)
            if wrong and number == 1 and name == model.photo_names[4]:
                x, y = 240.0, 160.0 + (60.0 if y < 160.0 else -60.0)
            if 0.0 <= x <= 480.0 and 0.0 <= y <= 320.0:
                rows.append(f"P{number};{name};{x:.4f};{y:.4f};{east:.6f};{north:.6f};{up:.6f};0.01")
    file.write_text("\n".join(rows), "utf-8")
    return file


def test_to_control_points_of_which_some_are_wrong(
    reconstructed: Any, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = unposed.load(out)[0].photo_names[4]
    file = control_file(reconstructed, out, tmp_path / "survey.csv", wrong=True)
    (out / "report.html").write_text("about this model", "utf-8")
    assert main(["align", str(out), "--to", "points", str(file), "--set", "max_relative_error=0.3"]) == 0
    page = (out / "report.html").read_text("utf-8")
    assert "--to points" in page and "--set max_relative_error=0.3" in page
    assert unposed.load(out)[0].photo_names[0] in page
    said = capsys.readouterr().out
    assert f"P1 in {first}: " in said and "pixels from where the others see it, not used" in said
    assert "P3: off by" in said
    made = unposed.load(out)
    step = made.summary["models"][0]["alignment"]["steps"][0]
    assert list(step["wrong"]) == ["P3"] and list(step["wrong_marks"]) == [f"P1 in {first}"]
    assert step["wrong_marks"][f"P1 in {first}"] > 59.0
    used = {name: each for name, each in step["points"].items() if each["used"]}
    assert len(used) == 7 and all(each["photos"] >= 2 for each in used.values())
    assert max(each["error_m"] for each in used.values()) < 0.03
    assert max(each["error_px"] for each in used.values()) < 1.0
    poses = np.array([reconstructed.true_pose(name) for name in made[0].photo_names])
    centre, true_centre = (
        rotation_and_centre(np.asarray(each, np.float64))[1] for each in (made[0].cam_from_world, poses)
    )
    assert np.abs(centre - true_centre - [1e6, 0.0, 0.0]).max() < 0.1
    assert made[0].mean_reprojection_px == pytest.approx(made.summary["models"][0]["mean_reprojection_px"], abs=1e-3)
    assert "refinement" in made.summary["models"][0]


def test_control_points_where_the_summary_has_no_settings(reconstructed: Any, out: Path, tmp_path: Path) -> None:
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    del summary["settings"]
    (out / "summary.json").write_text(json.dumps(summary), "utf-8")
    (out / "report.html").write_text("about this model", "utf-8")
    made = unposed.align(out, "points", control_file(reconstructed, out, tmp_path / "survey.csv"))
    assert made.summary["models"][0]["scale"]["from"] == "points"
    assert not (out / "report.html").exists()  # its figures are of another adjustment


def test_photos_are_calibrated_again_for_control_points(
    reconstructed: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(self: VanishingPoints, photos: Photo) -> PhotoCalibration:
        if photos.name == made.photos[0].name:
            raise StageError("the photo is damaged or cut off")
        return PhotoCalibration(500.0, 0.05)

    made = unposed.load(out)
    monkeypatch.setattr(VanishingPoints, "__call__", told)
    photos = Photos(tuple(replace(photo, exif=Exif()) for photo in made.photos.photos), {})
    settings = {**made.summary["settings"], "calibration": {"use": "vanishing-points"}}
    for wired, sigma in ((settings, [0.05]), (made.summary["settings"], None)):
        priors = camera_priors(replace(made, photos=photos, summary={**made.summary, "settings": wired}))
        assert priors is not None
        assert (None if priors.guess_log_sigma is None else priors.guess_log_sigma.tolist()) == sigma


def test_files_of_control_points_that_are_wrong(out: Path, tmp_path: Path) -> None:
    name = unposed.load(out)[0].photo_names[0]
    head = "point,photo,x,y,X,Y,Z"
    for text, reason in (
        ("", "is empty"),
        ("point,photo,x,y,X,Y\n", "no column Z"),
        (f"{head}\nA,{name},10,10,0,0,0\n", "0 of the control points"),
        (f"{head}\nA,{name[:-1]},10,10,0,0,0\n", f"line 2: {name[:-1]} is no photo of the reconstruction.*{name}"),
        (f"{head}\nA,{name},1000,10,0,0,0\n", "outside"),
        (f"{head}\n\nA,{name},10,ten,0,0,0\n", "line 3: y is 'ten', expected a number"),
        (f"{head}\nA,{name},10,10,0,0,0\nA,{name},10,10,0,0,1\n", "other coordinates"),
        (f"{head}\nA,{name},10,10,0,0,0\nA,{name},10,11,0,0,0\n", "marked twice"),
        (f"{head},sigma_m\nA,{name},10,10,0,0,0,-1\n", "above 0"),
        (f"{head}\nA,{name},10,10,0,0\n", "Z is '', expected a number"),
    ):
        file = tmp_path / "points.csv"
        file.write_text(text, "utf-8")
        with pytest.raises(InputError, match=reason):
            unposed.align(out, "points", file)
    with pytest.raises(ConfigError, match="expected a file of control points"):
        unposed.align(out, "points")
