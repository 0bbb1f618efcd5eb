"""Dense points and depth maps of a finished reconstruction: compute, write, and read back as points of its model."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, project
from unposed.pipeline.artifacts import Bytes, Depths, Floats, Ints, Photos, SparseModel
from unposed.pipeline.config import build
from unposed.pipeline.errors import InputError
from unposed.pipeline.ply_files import NORMAL_VERTEX, vertices, write_ply
from unposed.pipeline.progress import Progress, Quiet, forward_step
from unposed.pipeline.registry import Registry
from unposed.pipeline.regular_files import read_bytes
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import Resources
from unposed.pipeline.threads import one_thread_each
from unposed.pipeline.weights.files import ready_plugin

from .loading import load
from .options import Settings
from .settings import options_of

POINTS = "points-{}.ply"
STEPS = 65535
"""Of the depth maps' 16 bits; 0 is unknown."""


@dataclass(frozen=True, eq=False)
class DenseModel:
    """Depth maps and dense points of the models of a reconstruction, the largest first."""

    photos: Photos
    """The whole collection."""
    depths: tuple[Depths, ...]
    """One per model."""

    def facts(self) -> dict[str, Any]:
        """Figures for people and programs."""
        per_model = [
            {
                "photos": len(each.photos),
                "points": len(each.points),
                "views_per_point": round(float(np.diff(each.points.start).mean()), 2) if len(each.points) else 0.0,
                "agreed_share": {
                    self.photos[index].name: round(float(agreed.mean()), 4)
                    for index, agreed in zip(each.photos.tolist(), each.agreed, strict=True)
                },
            }
            for each in self.depths
        ]
        return {"models": per_model}


def dense(
    out: str | Path,
    folder: str | Path,
    photos: str | Path | None = None,
    *,
    method: str = "sweep",
    settings: Settings = (),
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> DenseModel:
    """Estimate depth maps and dense points of the finished reconstruction in `out`, and write them to `folder`.

    photos: the photo folder, if it has moved.
    method: a plugin of the slot `dense`; settings are its options as lines `key=value`.
    device, workers: where to compute, and how many photos at once.

    points-0.ply holds coloured points with normals, points-0.ply.vis the photos that see each of them, as COLMAP writes
    fused.ply.vis; depths/NAME.png inverse depths in 16 bits, trust/NAME.png how surely they are right, and depths.json
    the one scale of all depth maps and their cameras. Export with `seeds` takes the points along.
    """
    plugin: Any = ready_plugin(build(Registry().find("dense", method), options_of(settings), f"dense.{method}"))
    folder = empty_folder(folder)
    made = load(out, photos)
    if not made.sparse.models:
        raise InputError(f"{out}: there is no model in it: no photo was registered")
    shown = progress or Quiet()
    resources = machine(device, workers)
    done = []
    with closing(shown), one_thread_each():
        for number, model in enumerate(made.sparse.models):
            with shown_as(shown, f"dense-{number}" if len(made) > 1 else "dense", resources) as reporting:
                done.append(plugin(model, made.photos, reporting))
    result = DenseModel(made.photos, tuple(done))
    write_dense(result, folder)
    return result


@contextmanager
def shown_as(shown: Progress, node: str, resources: Resources) -> Iterator[Resources]:
    """Resources whose reports are shown as the progress of a node."""

    def report(done: int, total: int, message: str) -> None:
        forward_step(shown, node, done, total, message)

    started = time.perf_counter()
    shown.begin(node, 1, 0)
    yield replace(resources, reporter=report)
    shown.advance(node, False)
    shown.end(node, time.perf_counter() - started)


def empty_folder(folder: str | Path) -> Path:
    """The folder, if it is new or empty."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: give a new folder")
    return folder


def write_dense(result: DenseModel, folder: Path) -> None:
    """Write points and depth maps, see `dense`."""
    folder.mkdir(parents=True, exist_ok=True)
    largest = max((float(each.inverse.max()) for depths in result.depths for each in depths.maps), default=0.0)
    scale = largest / STEPS or 1.0
    maps = {}
    for number, depths in enumerate(result.depths):
        write_points_seen(depths, folder / POINTS.format(number))
        for index, estimate, agreed in zip(depths.photos.tolist(), depths.maps, depths.agreed, strict=True):
            name, camera = result.photos[index].name, estimate.camera
            file = str(PurePosixPath(name).with_suffix(".png"))
            if file in maps:  # a.jpg and a.png would share one
                file = f"{name}.png"
            levels = np.where(estimate.inverse > 0, np.clip(np.rint(estimate.inverse / scale), 1, STEPS), 0)
            _write_png(folder / "depths" / file, levels.astype(np.uint16))
            trust = np.where(agreed, np.clip(np.rint(estimate.score * 255), 1, 255), 0)
            _write_png(folder / "trust" / file, trust.astype(np.uint8))
            maps[file] = {
                "photo": name,
                "model": number,
                "width": camera.width,
                "height": camera.height,
                **{key: getattr(camera, key) for key in ("fx", "fy", "cx", "cy")},
            }
    about = {"inverse_depth_per_level": scale, "unknown_level": 0, "maps": maps}
    (folder / "depths.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_png(file: Path, image: NDArray[np.unsignedinteger]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole, data = cv2.imencode(".png", image)
    assert whole
    file.write_bytes(data.tobytes())  # OpenCV itself cannot write to every path


def write_points_seen(depths: Depths, file: Path) -> None:
    """A PLY file, and file.vis with the photos of the model, by their row, that see each point."""
    points = depths.points
    write_ply(file, {"vertex": vertices(points.xyz, points.rgb, points.normal)})
    counts = np.diff(points.start).astype(np.uint32)
    lists = np.insert(points.seen_by.astype(np.uint32), points.start[:-1], counts)
    file.with_name(f"{file.name}.vis").write_bytes(struct.pack("<Q", len(points)) + lists.astype("<u4").tobytes())


@dataclass(frozen=True, eq=False)
class SeenPoints:
    """Points as `write_points_seen` has written them."""

    xyz: Floats
    rgb: Bytes
    point: Ints
    photo: Ints
    """(m,) observations: a row of the points and one of the photos of the model."""


def read_points_seen(file: Path) -> SeenPoints:
    """Read points and the photos that see them; InputError if they are not as `dense` writes them."""
    try:
        head, _, body = read_bytes(file).partition(b"end_header\n")
        count = int(head.split(b"element vertex ")[1].split()[0])
        rows = np.frombuffer(body, NORMAL_VERTEX, count)
        data = read_bytes(file.with_name(f"{file.name}.vis"))
        (listed,) = struct.unpack_from("<Q", data)
        numbers = np.frombuffer(data, "<u4", offset=8)
        starts, at = np.empty(count, np.int64), 0
        for point in range(count):
            starts[point] = at
            at += 1 + int(numbers[at])
        if listed != count or at != len(numbers):
            raise ValueError
    except (OSError, ValueError, IndexError, struct.error):
        raise InputError(f"{file}: no points as unposed dense writes them, with {file.name}.vis beside") from None
    photo = np.delete(numbers, starts).astype(np.int64)
    of_point = np.repeat(np.arange(count), numbers[starts].astype(np.int64))
    xyz = np.stack([rows[axis] for axis in ("x", "y", "z")], axis=1).astype(np.float64)
    return SeenPoints(xyz, np.stack([rows[each] for each in ("red", "green", "blue")], axis=1), of_point, photo)


def with_seeds(models: tuple[SparseModel, ...], folder: str | Path) -> tuple[SparseModel, ...]:
    """The models with the dense points in a folder that `dense` has written, as points with tracks."""
    folder = Path(folder)
    files = [folder / POINTS.format(number) for number in range(len(models))]
    if not files or not files[0].is_file():
        raise InputError(f"{folder}: no {POINTS.format(0)} in it: give the folder that unposed dense has written")
    return tuple(
        densified(model, read_points_seen(file), file) if file.is_file() else model
        for model, file in zip(models, files, strict=True)
    )


def densified(model: SparseModel, seeds: SeenPoints, file: Path) -> SparseModel:
    """The model with more points. Their key points are where they project to, so that their error is zero."""
    if len(seeds.photo) and int(seeds.photo.max()) >= len(model.photos):
        raise InputError(f"{file} belongs to another model: run unposed dense again")
    xy, inside = np.empty((len(seeds.photo), 2)), np.zeros(len(seeds.photo), bool)
    for row, camera_number in enumerate(model.camera_of_photo.tolist()):
        own, camera, pose = np.flatnonzero(seeds.photo == row), model.cameras[camera_number], model.cam_from_world[row]
        y = seeds.xyz[seeds.point[own]] @ pose[:, :3].T + pose[:, 3]
        ahead = y[:, 2] > 0
        own, y = own[ahead], y[ahead]
        xy[own] = project(y, intrinsics_of(camera.model, camera.params), CAMERA_MODELS[camera.model].fisheye)
        inside[own] = ((xy[own] > 0) & (xy[own] < (camera.width, camera.height))).all(axis=1)
    if len(inside) and inside.mean() < 0.5:
        raise InputError(f"{file} belongs to another model: its points are not where the photos are")
    old_photo = np.searchsorted(model.xy_start, np.arange(len(model.xy)), side="right") - 1
    photo = np.concatenate([old_photo, seeds.photo[inside]])
    order = np.argsort(photo, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    new_xy = place[len(model.xy) :]
    obs_xy = np.concatenate([place[model.obs_xy], new_xy])
    obs_point = np.concatenate([model.obs_point, seeds.point[inside] + len(model.points)])
    sort = np.lexsort((obs_xy, obs_point))
    return replace(
        model,
        xy=np.concatenate([model.xy, xy[inside]])[order],
        xy_start=np.searchsorted(photo[order], np.arange(len(model.photos) + 1)).astype(np.int64),
        points=np.concatenate([model.points, seeds.xyz]),
        rgb=np.concatenate([model.rgb, seeds.rgb]),
        error_px=np.concatenate([model.error_px, np.zeros(len(seeds.xyz))]),
        obs_xy=obs_xy[sort],
        obs_point=obs_point[sort],
    )
