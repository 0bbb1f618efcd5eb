"""Faults of folders to train Gaussian splats from, planted in a copy of our own export one at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image
from PIL.ExifTags import IFD, Base

from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel
from unposed.pipeline.colmap_model import write_models

NAMES = tuple(f"{i}.png" for i in range(9))
SIDES = (400, 200)


def scene(photos: int = 9, points: int = 40) -> SparseModel:
    """Cameras on the x axis that look along z and see all points."""
    poses = np.tile(np.eye(3, 4), (photos, 1, 1))
    poses[:, 0, 3] = -np.arange(photos) / photos
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(-0.3, 1.1, points), rng.uniform(-0.4, 0.4, points), rng.uniform(2, 3, points)]
    in_camera = np.einsum("nij,pj->npi", poses[:, :, :3], xyz) + poses[:, None, :, 3]
    xy = 300.0 * in_camera[..., :2] / in_camera[..., 2:] + (200.0, 100.0)
    return SparseModel(
        cameras=(Camera("PINHOLE", *SIDES, (300.0, 300.0, 200.0, 100.0)),),
        photos=np.arange(photos, dtype=np.int32),
        camera_of_photo=np.zeros(photos, np.int32),
        cam_from_world=poses,
        xy=xy.reshape(-1, 2),
        xy_start=np.arange(photos + 1, dtype=np.int64) * points,
        points=xyz,
        rgb=rng.integers(0, 256, (points, 3)).astype(np.uint8),
        error_px=np.full(points, 0.5),
        obs_xy=(np.arange(photos) * points + np.arange(points)[:, None]).reshape(-1),
        obs_point=np.repeat(np.arange(points), photos),
    )


def rewrite(folder: Path, change: Callable[[SparseModel], SparseModel], names: tuple[str, ...] = NAMES) -> None:
    """Another COLMAP model in the place of that of the folder, and no other file that tells of cameras or points."""
    for name in ("sparse", "colmap"):
        shutil.rmtree(folder / name)
    for name in ("transforms.json", "sparse_pc.ply"):
        (folder / name).unlink()
    made = tuple(Photo(name.replace(".png", ".jpg"), Path(), "", *SIDES) for name in names)
    write_models([change(scene())], Photos(made, {}), folder / "sparse")


def edit_json(folder: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


def rewrite_cameras(folder: Path, model: str, params: tuple[float, ...]) -> None:
    rewrite(folder, lambda made: replace(made, cameras=(Camera(model, *SIDES, params),)))


def moved_poses(change: Callable[[np.ndarray], None]) -> Callable[[SparseModel], SparseModel]:
    def apply(made: SparseModel) -> SparseModel:
        poses = made.cam_from_world.copy()
        change(poses)
        return replace(made, cam_from_world=poses)

    return apply


def moved_points(change: Callable[[np.ndarray], None]) -> Callable[[SparseModel], SparseModel]:
    def apply(made: SparseModel) -> SparseModel:
        points = made.points.copy()
        change(points)
        return replace(made, points=points)

    return apply


def put(array: np.ndarray, at: object, value: object) -> None:
    array[at] = value


def as_text(folder: Path, keep_binary: bool) -> None:
    place = folder / "sparse" / "0"
    pycolmap.Reconstruction(place).write_text(place)
    (place / "points3D.ply").unlink()
    for name in ("cameras", "images", "points3D", "rigs", "frames"):
        if keep_binary:
            os.utime(place / f"{name}.txt", (1e9, 1e9))
        else:
            (place / f"{name}.bin").unlink()


def save(folder: Path, name: str, change: Callable[[Image.Image], Image.Image], **options: object) -> None:
    file = folder / name
    with Image.open(file) as image:
        image.load()
    change(image).save(file, **options)


def with_exif(**tags: int) -> bytes:
    exif = Image.Exif()
    if "orientation" in tags:
        exif[Base.Orientation] = tags["orientation"]
    if "exposure" in tags:
        exif.get_ifd(IFD.Exif)[Base.ExposureTime] = 0.01
    return exif.tobytes()


def for_all(folder: Path, change: Callable[[np.ndarray], np.ndarray], name: str = "images") -> None:
    for file in (folder / name).iterdir():
        Image.fromarray(change(np.asarray(Image.open(file)).copy())).save(file, quality=95)


def padded(pixels: np.ndarray) -> np.ndarray:
    pixels[:, :1] = 0
    return pixels


def masks(folder: Path, white: int = 9, size: tuple[int, int] = SIDES, mode: str = "L", hole: bool = False) -> None:
    (folder / "masks").mkdir()
    for number in range(9):
        mask = Image.new(mode, size, "white" if number < white else "black")
        if hole:
            mask.paste("black", (0, 0, 100, 100))
        mask.save(folder / "masks" / f"{number}.png")


def depths(folder: Path, bits: int = 16, last: float = 1.0, params: bool = True) -> None:
    (folder / "depths").mkdir()
    kind = np.uint16 if bits == 16 else np.uint8
    for number in range(9):
        Image.fromarray(np.full((200, 400), 100, kind)).save(folder / "depths" / f"{number}.png")
    scales = {str(number): {"scale": last if number == 8 else 1.0, "offset": 0.0} for number in range(9)}
    if params:
        (folder / "sparse" / "0" / "depth_params.json").write_text(json.dumps(scales))


def second_model(folder: Path) -> None:
    """The first model has fewer images than the second."""
    shutil.move(folder / "sparse" / "0", folder / "sparse" / "1")
    shutil.rmtree(folder / "images_2")
    few = replace(scene(2), photos=np.arange(2, dtype=np.int32))
    made = tuple(Photo(f"{number}.jpg", Path(), "", *SIDES) for number in range(2))
    shutil.move(write_models([few], Photos(made, {}), folder / "other")[0], folder / "sparse" / "0")


def flat_ply(folder: Path, name: str, lines: str = "", count: int = 1) -> None:
    head = f"ply\nformat ascii 1.0\nelement vertex {count}\nproperty float x\nproperty float y\nproperty float z\n"
    (folder / name).write_text(f"{head}{lines}end_header\n" + "1 2 3\n" * count)


def turned_json(content: dict) -> None:
    """As ns-process-data turns the world."""
    turn = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    for frame in content["frames"]:
        frame["transform_matrix"] = (turn @ frame["transform_matrix"]).tolist()


def said_turned_json(content: dict) -> None:
    """The same, as it says it."""
    turned_json(content)
    content["applied_transform"] = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]


def opencv_json(content: dict) -> None:
    for frame in content["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])).tolist()


def tilted(poses: np.ndarray) -> None:
    half = np.sqrt(0.5)
    poses[:, :, :3] = poses[:, :, :3] @ [[half, -half, 0], [half, half, 0], [0, 0, 1]]


def behind(poses: np.ndarray) -> None:
    poses[:, 2, 3] -= 50.0


def only_json(folder: Path) -> None:
    shutil.rmtree(folder / "sparse")
    shutil.rmtree(folder / "colmap", ignore_errors=True)
    (folder / "colmap").unlink(missing_ok=True)


def uneven(folder: Path) -> None:
    """404 pixels, of which an eighth, rounded down, is still 50."""
    for_all(folder, lambda pixels: np.pad(pixels, ((0, 0), (2, 2), (0, 0)), mode="edge"))
    for name in ("images_2", "images_4"):
        shutil.rmtree(folder / name)


def grow(folder: Path) -> None:
    """Images of more than 1600 px without a smaller copy."""
    for file in (folder / "images").iterdir():
        Image.new("RGB", (1608, 800), "grey").save(file)
    shutil.rmtree(folder / "images_2")


def rename_all(folder: Path, stem: str, ending: str = ".jpg") -> None:
    """Images under other names, everywhere."""
    names = tuple(f"{stem.format(number)}.png" for number in range(9))
    rewrite(folder, lambda made: made, names)
    for place in ("images", "images_2", "images_4", "images_8"):
        for number in range(9):
            new = folder / place / names[number].replace(".png", ending)
            new.parent.mkdir(exist_ok=True)
            (folder / place / f"{number}.jpg").rename(new)


def put_scale(frame: dict) -> None:
    frame["transform_matrix"][0] = [2.0 * value for value in frame["transform_matrix"][0]]


def _text_only(folder: Path) -> None:
    (folder / "sparse/0/points3D.ply").touch()
    as_text(folder, keep_binary=False)


def _renumber_camera(folder: Path) -> None:
    place = folder / "sparse" / "0"
    pycolmap.Reconstruction(place).write_text(place)
    for name in ("cameras", "images", "rigs"):
        file = place / f"{name}.txt"
        lines = file.read_text().splitlines()
        if name == "cameras":
            lines = [line if line[0] == "#" else f"7{line[1:]}" for line in lines]
        if name == "rigs":
            lines = [line if line[0] == "#" else line.replace("CAMERA 1", "CAMERA 7") for line in lines]
        if name == "images":
            lines = [line.replace(" 1 ", " 7 ") if line.endswith(".jpg") else line for line in lines]
            lines = [
                " ".join([*line.split()[:8], "7", line.split()[9]]) if line.endswith(".jpg") else line for line in lines
            ]
        file.write_text("\n".join([*lines, ""]))
    (place / "frames.txt").write_text((place / "frames.txt").read_text().replace("CAMERA 1", "CAMERA 7"))
    made = pycolmap.Reconstruction()
    made.read_text(place)
    for file in place.glob("*.txt"):
        file.unlink()
    made.write_binary(place)
    (place / "test.txt").write_text("0.jpg\n8.jpg\n")


def _without_last_observations(made: SparseModel) -> SparseModel:
    keep = made.obs_xy < made.xy_start[8]
    return replace(made, obs_xy=made.obs_xy[keep], obs_point=made.obs_point[keep])


def _one_point_less(file: Path) -> None:
    data = file.read_bytes()
    count = int(data.split(b"element vertex ")[1].split()[0])
    file.write_bytes(data.replace(f"vertex {count}".encode(), f"vertex {count - 1}".encode(), 1))


PLANTED: dict[str, Callable[[Path], object]] = {
    # where the model is, and its format
    "no-cameras": lambda d: (only_json(d), (d / "transforms.json").unlink()),
    "no-model": only_json,
    "model-unreadable": lambda d: (d / "sparse/0/images.bin").write_bytes(
        (d / "sparse/0/images.bin").read_bytes()[:99]
    ),
    "model-place": lambda d: ((d / "colmap/sparse").unlink(), (d / "sparse/0").rename(d / "model")),
    "model-nerfstudio": lambda d: rewrite(d, lambda made: made),
    "model-text": lambda d: ((d / "transforms.json").unlink(), as_text(d, keep_binary=False)),
    "model-text-slow": lambda d: as_text(d, keep_binary=False),
    "model-twice": lambda d: as_text(d, keep_binary=True),
    "no-points": lambda d: rewrite(
        d,
        lambda made: replace(
            made, points=made.points[:0], rgb=made.rgb[:0], obs_xy=made.obs_xy[:0], obs_point=made.obs_point[:0]
        ),
    ),
    "model-smaller": second_model,
    # cameras
    "camera-model": lambda d: rewrite_cameras(d, "RADIAL", (300.0, 200.0, 100.0, 0.01, 0.0)),
    "camera-text": lambda d: (rewrite_cameras(d, "SIMPLE_PINHOLE", (300.0, 200.0, 100.0)), _text_only(d)),
    "camera-mixed": lambda d: rewrite(
        d,
        lambda made: replace(
            made,
            cameras=(*made.cameras, Camera("OPENCV_FISHEYE", *SIDES, (300.0, 300.0, 200.0, 100.0, 0, 0, 0, 0))),
            camera_of_photo=np.array([0] * 8 + [1], np.int32),
        ),
    ),
    "off-centre": lambda d: rewrite_cameras(d, "PINHOLE", (300.0, 300.0, 203.0, 100.0)),
    "half-pixel": lambda d: rewrite_cameras(d, "PINHOLE", (300.0, 300.0, 199.5, 99.5)),
    # poses
    "pose-invalid": lambda d: (only_json(d), edit_json(d, lambda c: put_scale(c["frames"][0]))),
    "camera-far": lambda d: rewrite(d, moved_poses(lambda poses: put(poses, (8, 0, 3), -90.0))),
    "frame-far": lambda d: rewrite(
        d,
        lambda made: moved_points(lambda p: put(p, (slice(None), 1), p[:, 1] + 5e5))(
            moved_poses(lambda p: put(p, (slice(None), 1, 3), -5e5))(made)
        ),
    ),
    "frame-tilted": lambda d: rewrite(d, moved_poses(tilted)),
    "worlds-images": lambda d: edit_json(d, lambda c: c["frames"].pop()),
    "worlds-differ": lambda d: edit_json(d, turned_json),
    # transforms.json
    "json-unreadable": lambda d: (d / "transforms.json").write_text("{"),
    "json-camera-model": lambda d: edit_json(d, lambda c: c.pop("camera_model")),
    "json-ply-file-path": lambda d: edit_json(d, lambda c: c.pop("ply_file_path")),
    "json-points": lambda d: edit_json(d, lambda c: c.update(ply_file_path="lost.ply")),
    "json-intrinsics": lambda d: edit_json(d, lambda c: (c.pop("fl_x"), c["frames"][0].pop("fl_x"))),
    "json-twice": lambda d: edit_json(d, lambda c: c["frames"][0].update(fl_x=1.0)),
    "json-angle": lambda d: edit_json(d, lambda c: c.update(camera_angle_x=1.0)),
    "json-k4": lambda d: edit_json(d, lambda c: c.update(k4=0.1)),
    "json-distorted": lambda d: (only_json(d), edit_json(d, lambda c: [f.update(k1=0.1) for f in c["frames"]])),
    "json-models": lambda d: edit_json(d, lambda c: c["frames"][0].update(camera_model="OPENCV_FISHEYE")),
    "json-partly": lambda d: edit_json(d, lambda c: c["frames"][0].update(mask_path="images/0.jpg")),
    "json-files": lambda d: edit_json(d, lambda c: [f.update(depth_file_path="lost.png") for f in c["frames"]]),
    "json-split": lambda d: edit_json(d, lambda c: c.pop("val_filenames")),
    # names
    "name-letters": lambda d: rename_all(d, "photo {}"),
    "name-dots": lambda d: rename_all(d, "a.{}"),
    "name-repeated": lambda d: rewrite(d, lambda made: made, tuple(f"{number}/a.png" for number in range(9))),
    "name-stem": lambda d: rewrite(d, lambda made: made, ("0.jpg", "0.jpeg", *NAMES[2:])),
    "name-suffix": lambda d: shutil.copytree(d / "images", d / "distorted" / "images"),
    "image-missing": lambda d: (d / "images/3.jpg").unlink(),
    "id-order": lambda d: rewrite(d, lambda made: made, tuple(reversed(NAMES))),
    "id-start": lambda d: _renumber_camera(d),
    "split-incomplete": lambda d: (d / "val_list.txt").unlink(),
    "split-name": lambda d: (d / "val_list.txt").rename(d / "validation_list.txt"),
    "split-unknown": lambda d: (d / "sparse/0/test.txt").write_text("lost.jpg\n"),
    "split-test": lambda d: (d / "sparse/0/test.txt").unlink(),
    # images
    "image-unreadable": lambda d: (d / "images/3.jpg").write_bytes(b""),
    "image-mode": lambda d: save(d, "images/3.jpg", lambda image: image.convert("L")),
    "image-ending": lambda d: rename_all(d, "{}", ".JPG"),
    "exif-orientation": lambda d: save(d, "images/3.jpg", lambda image: image, exif=with_exif(orientation=6)),
    "exif-exposure": lambda d: save(d, "images/3.jpg", lambda image: image, exif=with_exif(exposure=1)),
    "alpha-mixed": lambda d: save(d, "images/3.jpg", lambda image: image.convert("RGBA"), format="PNG"),
    "copies-missing": lambda d: shutil.rmtree(d / "images_4"),
    "copies-differ": lambda d: (d / "images_4/.DS_Store").touch(),
    "copies-mixed": lambda d: (d / "images_4/3.jpg").rename(d / "images_4/3.png"),
    "copies-ending": lambda d: [f.rename(f.with_suffix(".png")) for f in sorted((d / "images_4").iterdir())],
    "copies-size": lambda d: save(d, "images_4/3.jpg", lambda image: image.resize((101, 50))),
    "copies-uneven": uneven,
    "image-size": lambda d: save(d, "images/3.jpg", lambda image: image.resize((200, 100))),
    "black-border": lambda d: for_all(d, padded),
    # points
    "points-nan": lambda d: rewrite(d, moved_points(lambda points: put(points, (0, 0), np.nan))),
    "points-double": lambda d: rewrite(d, moved_points(lambda points: put(points, 1, points[0]))),
    "points-far": lambda d: rewrite(d, moved_points(lambda points: put(points, (0, 2), 1e4))),
    "points-behind": lambda d: rewrite(d, moved_poses(behind)),
    "points-grey": lambda d: rewrite(d, lambda made: replace(made, rgb=np.zeros_like(made.rgb))),
    "image-blind": lambda d: rewrite(d, _without_last_observations),
    "ply-unreadable": lambda d: (d / "sparse/0/points3D.ply").write_bytes(b"ply\n"),
    "ply-normals": lambda d: flat_ply(d, "sparse/0/points3D.ply"),
    "ply-stale": lambda d: _one_point_less(d / "sparse/0/points3D.ply"),
    "ply-stray": lambda d: flat_ply(d, "views.ply"),
    # masks and depths
    "masks-partly": lambda d: (masks(d), (d / "masks/3.png").unlink()),
    "masks-names": lambda d: (masks(d), [f.rename(f.with_suffix(".jpg")) for f in sorted((d / "masks").iterdir())]),
    "masks-size": lambda d: masks(d, size=(200, 100)),
    "masks-mode": lambda d: masks(d, mode="RGB"),
    "masks-black": lambda d: masks(d, white=8),
    "masks-copies": masks,
    "masks-unread": lambda d: masks(d, hole=True),
    "depth-bits": lambda d: depths(d, bits=8),
    "depth-params": lambda d: depths(d, params=False),
    "depth-names": lambda d: (depths(d), (d / "depths/3.png").unlink()),
    "depth-scale": lambda d: depths(d, last=9.0),
    "depth-size": lambda d: (depths(d), Image.new("I;16", (400, 300)).save(d / "depths/3.png")),
}
"""By the name of the check that is to find it: what it takes to plant a fault in a copy of our own export."""
