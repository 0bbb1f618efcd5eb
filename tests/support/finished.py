"""What `unposed reconstruct` would leave of rendered photos if it made no error: true cameras, points on surfaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from unposed.optim.cameras import intrinsics_of, params_of
from unposed.pipeline.artifacts import Camera, Photos, SparseModel
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.images.photos import scan
from unposed.synthetic.camera import project_points, viewing_rays
from unposed.synthetic.photos import PhotoSet
from unposed.synthetic.render import cast


def true_model(made: PhotoSet, points: int = 400, seed: int = 0) -> tuple[SparseModel, Photos]:
    """A model of all photos, whose points are seen wherever nothing hides them."""
    photos, shots = scan(made.images), {shot.name: shot for shot in made.scene.shots}
    ordered = [shots[photo.name] for photo in photos.photos]
    rng, found = np.random.default_rng(seed), []
    for shot in ordered:
        xy = rng.uniform(0, (shot.lens.width, shot.lens.height), (-(-points // len(ordered)), 2))
        depth = cast(made.scene.world, shot, xy)
        hit = np.isfinite(depth)
        found.append(shot.centre + (viewing_rays(shot, xy[hit]) * depth[hit]).T)
    world = np.concatenate(found)
    xys, of_point, start = [], [], [0]
    for shot in ordered:
        xy, depth = project_points(shot, world)
        seen = (depth > 0) & ((xy > 0) & (xy < (shot.lens.width, shot.lens.height))).all(axis=1)
        seen[seen] = cast(made.scene.world, shot, xy[seen]) > depth[seen] * (1 - 1e-3)
        xys.append(xy[seen])
        of_point.append(np.flatnonzero(seen))
        start.append(start[-1] + int(seen.sum()))
    obs_point = np.concatenate(of_point)
    order = np.lexsort((np.arange(len(obs_point)), obs_point))
    cameras = []
    for shot in ordered:
        lens = shot.lens
        intrinsics = intrinsics_of("OPENCV", (lens.fx, lens.fy, lens.cx, lens.cy, *lens.dist))
        cameras.append(Camera("OPENCV", lens.width, lens.height, params_of("OPENCV", intrinsics)))
    distinct = sorted(set(cameras), key=cameras.index)
    model = SparseModel(
        cameras=tuple(distinct),
        photos=np.arange(len(ordered), dtype=np.int32),
        camera_of_photo=np.array([distinct.index(camera) for camera in cameras], np.int32),
        cam_from_world=np.array([shot.cam_from_world for shot in ordered]),
        xy=np.concatenate(xys),
        xy_start=np.array(start, np.int64),
        points=world,
        rgb=np.full((len(world), 3), 128, np.uint8),
        error_px=np.zeros(len(world)),
        obs_xy=order.astype(np.int64),
        obs_point=obs_point[order].astype(np.int64),
    )
    return model, photos


def write_finished(made: PhotoSet, out: Path, points: int = 400) -> Path:
    """Write such a model as the output folder of a run."""
    model, photos = true_model(made, points)
    write_models([model], photos, out / "sparse")
    summary = {
        "models": [{"model": "sparse/0"}],
        "photos": {photo.name: {} for photo in photos.photos},
        "photos_folder": str(made.images),
        "masks_folder": None,
        "registered": len(photos.photos),
        "total": len(photos.photos),
        "warnings": [],
    }
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return out
