"""Input and output of COLMAP's mappers: the view graph as a database, reconstructions as sparse models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap

from unposed.optim.view_graph import Keypoints, ViewGraph
from unposed.pipeline.artifacts import (
    CameraPriors,
    Floats,
    Photos,
    SparseModel,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.colmap_model import from_colmap
from unposed.pipeline.stage import PerPair

Configuration = pycolmap.TwoViewGeometryConfiguration


def fill(
    database: pycolmap.Database,
    photos: Photos,
    cameras: CameraPriors,
    graph: ViewGraph,
    verification: PerPair[TwoViewGeometry],
) -> None:
    """Write cameras, photos with key points, and verified pairs. Image ids are photo indices plus one."""
    _write_photos(database, photos, cameras, graph)
    for edge, (a, b) in enumerate(graph.pairs.tolist()):
        if a in graph.unmatched or b in graph.unmatched:
            continue
        own, start = graph.match_rows(edge), graph.keypoints.start
        matches = np.stack([graph.row_a[own] - start[a], graph.row_b[own] - start[b]], axis=1).astype(np.uint32)
        database.write_matches(a + 1, b + 1, matches)
        database.write_two_view_geometry(a + 1, b + 1, _two_view_geometry(verification[a, b], matches, photos, a, b))


def _write_photos(database: pycolmap.Database, photos: Photos, cameras: CameraPriors, graph: ViewGraph) -> None:
    # A reconstruction makes the rigs and frames of plain photos, which the database needs explicitly.
    model = pycolmap.Reconstruction()
    for row, camera in enumerate(cameras.cameras):
        entry = pycolmap.Camera(
            camera_id=row + 1, model=camera.model, width=camera.width, height=camera.height, params=list(camera.params)
        )
        entry.has_prior_focal_length = cameras.focal_source[row] != "guess"
        model.add_camera_with_trivial_rig(entry)
        database.write_camera(entry, use_camera_id=True)
        database.write_rig(model.rig(row + 1), use_rig_id=True)
    keypoints = graph.keypoints
    for index in range(len(photos)):
        if index in graph.unmatched:
            continue
        camera_id = int(cameras.camera_of_photo[index]) + 1
        image = pycolmap.Image(name=photos[index].name, camera_id=camera_id, image_id=index + 1)
        model.add_image_with_trivial_frame(image)
        database.write_frame(model.frame(index + 1), use_frame_id=True)
        database.write_image(model.image(index + 1), use_image_id=True)
        database.write_keypoints(index + 1, keypoints.xy[keypoints.rows_of(index)].astype(np.float32))


def _two_view_geometry(
    geometry: TwoViewGeometry, matches: np.ndarray, photos: Photos, a: int, b: int
) -> pycolmap.TwoViewGeometry:
    """The fundamental matrix, which leaves focal lengths to the mapper, or the homography of a pure rotation."""
    result = pycolmap.TwoViewGeometry()
    result.inlier_matches = matches
    if geometry.kind == "rotation":
        result.config = Configuration.PANORAMIC
        result.cam2_from_cam1 = pycolmap.Rigid3d(geometry.b_from_a)
        k_a, k_b = (
            _calibration(focal, photos[index].width, photos[index].height)
            for focal, index in zip(geometry.focals_px, (a, b), strict=True)
        )
        result.H = k_b @ geometry.b_from_a[:, :3] @ np.linalg.inv(k_a)
        result.tri_angle = 0.0
    else:
        result.config = Configuration.UNCALIBRATED
        result.F = geometry.fundamental
    return result


def _calibration(focal_px: float, width: int, height: int) -> Floats:
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])


def sparse_models(
    manager: pycolmap.ReconstructionManager, photos: Photos, graph: ViewGraph, mapper: str
) -> SparseModels:
    """The reconstructed models with coloured points, the largest first, and the photos that are in none."""
    found = []
    for number in range(manager.size()):
        model = manager.get(number)
        model.update_point_3d_errors()
        converted = _without_unused_cameras(from_colmap(model, photos))
        found.append(replace(converted, rgb=_colours(converted, graph.keypoints)))
    found.sort(key=lambda model: (-len(model.photos), -len(model.points)))
    registered = {int(index) for model in found for index in model.photos}
    left_out = {
        index: graph.unmatched.get(index, f"{mapper} could not register it")
        for index in range(len(photos))
        if index not in registered
    }
    return SparseModels(tuple(found), left_out)


def _without_unused_cameras(model: SparseModel) -> SparseModel:
    used, camera_of_photo = np.unique(model.camera_of_photo, return_inverse=True)
    cameras = tuple(model.cameras[row] for row in used)
    return replace(model, cameras=cameras, camera_of_photo=camera_of_photo.astype(np.int32))


def _colours(model: SparseModel, keypoints: Keypoints) -> np.ndarray:
    """Mean colour of a point's key points."""
    if keypoints.rgb is None:
        return np.zeros((len(model.points), 3), np.uint8)
    owned = [keypoints.rgb[keypoints.rows_of(int(photo))] for photo in model.photos]
    of_keypoint = np.concatenate([np.zeros((0, 3), np.uint8), *owned])[model.obs_xy].astype(np.float64)
    times = np.bincount(model.obs_point, minlength=len(model.points))
    sums = [np.bincount(model.obs_point, channel, minlength=len(model.points)) for channel in of_keypoint.T]
    mean = np.stack(sums, axis=1) / np.maximum(times, 1)[:, None]
    return np.rint(mean).astype(np.uint8)
