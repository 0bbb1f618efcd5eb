"""What COLMAP's mappers need and give: our key points and verified pairs as its database, its models as our scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pycolmap

from unposed.pipeline.artifacts import Bytes, CameraPriors, Floats, Photos, SparseModel, SparseModels, TwoViewGeometry
from unposed.pipeline.colmap_model import from_colmap
from unposed.pipeline.stage import PerPair

from ..evidence import Evidence

Configuration = pycolmap.TwoViewGeometryConfiguration


def fill(
    database: pycolmap.Database,
    photos: Photos,
    cameras: CameraPriors,
    evidence: Evidence,
    verification: PerPair[TwoViewGeometry],
) -> None:
    """Write cameras, photos with key points, and verified pairs. Image ids are photo indices plus one."""
    _write_photos(database, photos, cameras, evidence)
    views, rows = evidence.views, evidence.matches
    for edge, (a, b) in enumerate(rows.pairs.tolist()):
        if a in evidence.unusable or b in evidence.unusable:
            continue
        geometry, own = verification[a, b], slice(rows.start[edge], rows.start[edge + 1])
        ends = [rows.row_a[own] - views.start[a], rows.row_b[own] - views.start[b]]
        matches = np.stack(ends, axis=1).astype(np.uint32)
        database.write_matches(a + 1, b + 1, matches)
        database.write_two_view_geometry(a + 1, b + 1, _two_view_geometry(geometry, matches, photos, a, b))


def _write_photos(database: pycolmap.Database, photos: Photos, cameras: CameraPriors, evidence: Evidence) -> None:
    # An empty model knows how to make the rigs and frames of plain photos, which the database wants spelled out.
    model = pycolmap.Reconstruction()
    for row, camera in enumerate(cameras.cameras):
        entry = pycolmap.Camera(
            camera_id=row + 1, model=camera.model, width=camera.width, height=camera.height, params=list(camera.params)
        )
        entry.has_prior_focal_length = cameras.focal_source[row] != "guess"
        model.add_camera_with_trivial_rig(entry)
        database.write_camera(entry, use_camera_id=True)
        database.write_rig(model.rig(row + 1), use_rig_id=True)
    views = evidence.views
    for index in range(len(photos)):
        if index in evidence.unusable:
            continue
        camera_id = int(cameras.camera_of_photo[index]) + 1
        image = pycolmap.Image(name=photos[index].name, camera_id=camera_id, image_id=index + 1)
        model.add_image_with_trivial_frame(image)
        database.write_frame(model.frame(index + 1), use_frame_id=True)
        database.write_image(model.image(index + 1), use_image_id=True)
        database.write_keypoints(index + 1, views.xy[views.start[index] : views.start[index + 1]].astype(np.float32))


def _two_view_geometry(
    geometry: TwoViewGeometry, matches: np.ndarray, photos: Photos, a: int, b: int
) -> pycolmap.TwoViewGeometry:
    """A fundamental matrix leaves the focal lengths to the mapper; a pure rotation has none, but a homography."""
    result = pycolmap.TwoViewGeometry()
    result.inlier_matches = matches
    if geometry.kind == "rotation":
        result.config = Configuration.PANORAMIC
        result.cam2_from_cam1 = pycolmap.Rigid3d(geometry.cam_from_local[1])
        k_a, k_b = (
            _calibration(focal, photos[index].width, photos[index].height)
            for focal, index in zip(geometry.focals_px, (a, b), strict=True)
        )
        result.H = k_b @ geometry.cam_from_local[1][:, :3] @ np.linalg.inv(k_a)
        result.tri_angle = 0.0
    else:
        result.config = Configuration.UNCALIBRATED
        result.F = geometry.fundamental
    return result


def _calibration(focal_px: float, width: int, height: int) -> Floats:
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])


def scenes(manager: pycolmap.ReconstructionManager, photos: Photos, evidence: Evidence, mapper: str) -> SparseModels:
    """The models found, largest first, their points coloured; photos in none of them are left out."""
    found = []
    for number in range(manager.size()):
        model = manager.get(number)
        model.update_point_3d_errors()
        scene = _without_unused_cameras(from_colmap(model, photos))
        found.append(replace(scene, rgb=_colours(scene, evidence.rgb_of)))
    found.sort(key=lambda scene: (-len(scene.photos), -len(scene.points)))
    placed = {int(index) for scene in found for index in scene.photos}
    left_out = {
        index: evidence.unusable.get(index, f"{mapper} could not place it")
        for index in range(len(photos))
        if index not in placed
    }
    return SparseModels(tuple(found), left_out)


def _without_unused_cameras(scene: SparseModel) -> SparseModel:
    used, camera_of_photo = np.unique(scene.camera_of_photo, return_inverse=True)
    cameras = tuple(scene.cameras[row] for row in used)
    return replace(scene, cameras=cameras, camera_of_photo=camera_of_photo.astype(np.int32))


def _colours(scene: SparseModel, rgb_of: Callable[[int], Bytes]) -> np.ndarray:
    """Mean colour of a point's key points."""
    of_keypoint = _stacked(rgb_of(int(index)) for index in scene.photos)[scene.obs_xy].astype(np.float64)
    times = np.bincount(scene.obs_point, minlength=len(scene.points))
    sums = [np.bincount(scene.obs_point, channel, minlength=len(scene.points)) for channel in of_keypoint.T]
    mean = np.stack(sums, axis=1) / np.maximum(times, 1)[:, None]
    return np.rint(mean).astype(np.uint8)


def _stacked(rows: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty((0, 3), np.uint8), *rows])
