"""Rotation averaging: absolute rotations of photos from relative rotations of pairs."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Index


def average_rotations(photos: int, pairs: Index, b_from_a: Array, weight: Array, seed: int = 0) -> Array:
    """Average relative rotations b_from_a (e, 3, 3) to (photos, 3, 3) world-to-camera rotations R with
    b_from_a = R_b R_a^T; NaN for photos without an edge.

    pycolmap averages robustly (L1 start, then iteratively reweighted least squares with Geman-McClure weights), edges
    weighted by their number of matches. Only the largest connected component is solved: call this per component.
    """
    import pycolmap

    pycolmap.logging.minloglevel = 2  # it logs every filtering, even one that removes nothing
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=2, height=2, params=[1.0, 1.0, 1.0])
    reconstruction.add_camera_with_trivial_rig(camera)
    for photo in range(photos):
        image = pycolmap.Image(name=str(photo), camera_id=1, image_id=photo + 1)
        reconstruction.add_image_with_trivial_frame(image)
    graph = pycolmap.PoseGraph()
    for (a, b), rotation, matches in zip(pairs.tolist(), b_from_a, weight, strict=True):
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
