"""Rotation averaging: absolute rotations of photos from relative rotations of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, Index
from ..rigs import Rigs, frames_of

if TYPE_CHECKING:
    import pycolmap


def average_rotations(
    photos: int, pairs: Index, b_from_a: Array, weight: Array, seed: int = 0, rigs: Rigs | None = None
) -> Array:
    """Average relative rotations b_from_a (e, 3, 3) to (photos, 3, 3) world-to-camera rotations R with
    b_from_a = R_b R_a^T; NaN for photos without an edge.

    pycolmap averages robustly (L1 start, then iteratively reweighted least squares with Geman-McClure weights), edges
    weighted by their number of matches. Only the largest connected component is solved: call this per component. Photos
    of a frame of `rigs` share one unknown, and edges between them are not looked at.
    """
    import pycolmap

    pycolmap.logging.minloglevel = 2  # it logs every filtering, even one that removes nothing
    frame = frames_of(rigs, photos)
    reconstruction = _reconstruction(frame, rigs)
    graph = pycolmap.PoseGraph()
    for (a, b), rotation, matches in zip(pairs.tolist(), b_from_a, weight, strict=True):
        if frame[a] == frame[b]:
            continue
        pose = pycolmap.Rigid3d(np.concatenate([rotation, np.zeros((3, 1))], axis=1))
        edge = pycolmap.PoseGraphEdge(cam2_from_cam1=pose)
        edge.num_matches = round(matches)
        graph.add_edge(a + 1, b + 1, edge)
    options = pycolmap.RotationEstimatorOptions()
    options.random_seed = seed
    options.max_rotation_error_deg = 180.0  # the caller filters, by rotation_residuals_deg
    options.reweighting = pycolmap.RotationAveragingReweighting.INLIER_MATCH_COUNT
    out = np.full((photos, 3, 3), np.nan)
    if not pycolmap.run_rotation_averaging(options, graph, reconstruction, []):
        return out
    for photo in range(photos):
        image = reconstruction.image(photo + 1)
        if image.has_pose:
            out[photo] = image.cam_from_world().rotation.matrix()
    return out


def _reconstruction(frame: Index, rigs: Rigs | None) -> pycolmap.Reconstruction:
    """A reconstruction without poses, in which the photos of a frame (photos,) belong together.

    Camera 1 takes all photos outside of rigs. COLMAP tells the sensors of a rig by their cameras: each has its own.
    """
    import pycolmap

    out = pycolmap.Reconstruction()
    sensors = 0 if rigs is None else len(rigs.sensor_from_rig)
    for number in range(1, sensors + 2):
        camera = pycolmap.Camera(camera_id=number, model="SIMPLE_PINHOLE", width=2, height=2, params=[1.0, 1.0, 1.0])
        out.add_camera_with_trivial_rig(camera) if number == 1 else out.add_camera(camera)
    tied = np.zeros(len(frame), bool)
    if rigs is not None:
        tied = rigs.known
        ids = [pycolmap.sensor_t(pycolmap.SensorType.CAMERA, sensor + 2) for sensor in range(sensors)]
        for number in np.unique(rigs.rig_of_sensor).tolist():
            rig = pycolmap.Rig(rig_id=number + 2)
            reference, *others = np.flatnonzero(rigs.rig_of_sensor == number).tolist()
            rig.add_ref_sensor(ids[reference])
            for sensor in others:
                rig.add_sensor(ids[sensor], pycolmap.Rigid3d(np.nan_to_num(rigs.sensor_from_rig[sensor])))
            out.add_rig(rig)
        for number in np.unique(frame[tied]).tolist():
            members = np.flatnonzero(frame == number)
            sensor_of = rigs.sensor_of_photo[members]
            whole = pycolmap.Frame(frame_id=len(frame) + number + 1, rig_id=int(rigs.rig_of_sensor[sensor_of[0]]) + 2)
            images = [
                pycolmap.Image(
                    name=str(photo), camera_id=int(sensor) + 2, image_id=int(photo) + 1, frame_id=whole.frame_id
                )
                for photo, sensor in zip(members.tolist(), sensor_of.tolist(), strict=True)
            ]
            for image in images:
                whole.add_data_id(image.data_id)
            out.add_frame(whole)
            for image in images:
                out.add_image(image)
    for photo in np.flatnonzero(~tied).tolist():
        out.add_image_with_trivial_frame(pycolmap.Image(name=str(photo), camera_id=1, image_id=photo + 1))
    return out
