"""Checks of cameras and poses, in a COLMAP model or in transforms.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unposed.optim.poses import camera_centres

from .finding import TRAINERS, Finding, LintLimits, several
from .posed_images import OPENGL, PosedImages
from .scene_folder import SceneFolder

PINHOLES = frozenset({"PINHOLE", "SIMPLE_PINHOLE"})
CLASSIC = PINHOLES | {
    *("SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV"),
    *("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"),
}
"""Camera models of the ids 0 to 10, which all readers know by name."""
READ: dict[str, frozenset[str]] = {
    "inria": PINHOLES,
    "gsplat": PINHOLES | {"SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"},
    "nerfstudio": CLASSIC - {"FULL_OPENCV", "FOV", "THIN_PRISM_FISHEYE"},
    "brush": PINHOLES,
    "opensplat": PINHOLES | {"SIMPLE_RADIAL", "OPENCV"},
    "lichtfeld": PINHOLES | {"EQUIRECTANGULAR"},
}
"""Camera models that each program trains right as they are. Brush renders others without undistorting them, LichtFeld
Studio needs another mode."""
PLACES: dict[str, tuple[str, ...]] = {
    "inria": ("sparse/0",),
    "gsplat": ("sparse/0", "sparse"),
    "opensplat": ("sparse/0", ""),
    "lichtfeld": ("sparse/0", "sparse", ""),
}
"""Where each program looks for a COLMAP model; nerfstudio and Brush also read transforms.json."""


def check_place(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Where the model is, and that there is one."""
    if not scene.model_places:
        if scene.transforms is None and not scene.transforms_problem:
            text = "holds neither a COLMAP model nor transforms.json"
            yield Finding("no-cameras", TRAINERS, ".", text, "write cameras to sparse/0")
        else:
            without = tuple(trainer for trainer in PLACES if trainer != "opensplat")
            text = "has no COLMAP model, which these programs read alone"
            yield Finding("no-model", without, "sparse/0", text, "write a binary COLMAP model there")
        return
    if scene.model_problem:
        text = f"cannot be read: {scene.model_problem}"
        yield Finding("model-unreadable", TRAINERS, scene.model_place, text, "write the model again")
    homeless = tuple(each for each, places in PLACES.items() if not set(places) & set(scene.model_places))
    homeless = tuple(each for each in homeless if each != "opensplat" or scene.transforms is None)
    if homeless:
        text = "is not where these programs look"
        yield Finding("model-place", homeless, scene.model_place, text, "move the model to sparse/0")
    if "colmap/sparse/0" not in scene.model_places and scene.transforms is None:
        text = "neither transforms.json nor colmap/sparse/0 is there, which are read by default"
        yield Finding("model-nerfstudio", ("nerfstudio",), ".", text, "link colmap/sparse to sparse")
    yield from _check_format(scene)
    yield from _check_largest(scene)


def _check_format(scene: SceneFolder) -> Iterator[Finding]:
    place = scene.model_places[0]
    binary, text_files = (
        {name for name in ("cameras", "images", "points3D") if _join(place, f"{name}.{end}") in scene.files}
        for end in ("bin", "txt")
    )
    if not binary and text_files:
        remedy = "write it as binary, too"
        if scene.transforms_poses is None:
            text = "is text only, which is not read"
            yield Finding("model-text", ("opensplat",), scene.model_place, text, remedy)
        text = "is text only, which takes this reader minutes where there are many points"
        yield Finding("model-text-slow", ("inria",), scene.model_place, text, remedy, True)
    elif binary and text_files:
        newest_text, oldest = (
            [(scene.root / _join(place, f"{name}.{end}")).stat().st_mtime for name in names]
            for names, end in ((text_files, "txt"), (binary, "bin"))
        )
        if abs(max(newest_text) - max(oldest)) > 2.0:
            text = "text and binary files are of different times: nerfstudio reads text, the others binary"
            yield Finding("model-twice", TRAINERS, scene.model_place, text, "remove the older ones")
    if "points3D" not in binary | text_files:
        text = "has no points3D file, with which training starts"
        yield Finding("no-points", TRAINERS, scene.model_place, text, "write the points")


def _check_largest(scene: SceneFolder) -> Iterator[Finding]:
    if not scene.model_places[0]:  # the folder itself, which has none beside it
        return
    place = PurePosixPath(scene.model_places[0])
    beside = [each for each in scene.model_places if PurePosixPath(each).parent == place.parent and each]
    sizes = {each: _image_count(scene.root / each) for each in beside}
    largest = max(sizes, key=lambda each: sizes[each], default=str(place))
    if sizes.get(largest, 0) > sizes.get(str(place), 0) and largest != str(place):
        text = f"has {sizes[largest]} images, {place} has {sizes[str(place)]} and is read in its place"
        remedy = "put the largest model into sparse/0"
        yield Finding("model-smaller", tuple(each for each in TRAINERS if each != "brush"), largest, text, remedy)


def check_camera_models(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Cameras that a program does not read, or reads as if they had no distortion."""
    if scene.model is None:
        return
    file = f"{scene.model_place}/cameras"
    for name in sorted({camera.model for camera in scene.model.cameras.values()}):
        if unable := tuple(each for each in scene.of_model if name not in READ[each]):
            text = f"{name} is not read, or trained as if nothing were distorted"
            yield Finding("camera-model", unable, file, text, "undistort the images to PINHOLE cameras")
        if name == "SIMPLE_PINHOLE" and not (scene.root / scene.model_place / "cameras.bin").exists():
            text = "SIMPLE_PINHOLE in text is refused"
            yield Finding("camera-text", ("inria",), file, text, "write PINHOLE cameras")
    kinds = {"FISHEYE" in camera.model for camera in scene.model.cameras.values()}
    if len(kinds) > 1:
        text = "perspective and fisheye cameras are mixed"
        yield Finding("camera-mixed", ("nerfstudio",), file, text, "undistort all images to PINHOLE cameras")


def check_principal_points(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Principal points that are not in the middle: Inria's code and its forks take them to be."""
    posed = scene.posed
    if posed is None:
        return
    file = "transforms.json" if scene.model is None else f"{scene.model_place}/cameras"
    farthest, halves = 0.0, 0
    for camera in posed.cameras.values():
        at = {"SIMPLE_PINHOLE": 1, "PINHOLE": 2}.get(camera.model)
        if at is None or not camera.width:
            continue
        off = np.array(camera.params[at : at + 2]) - (camera.width / 2, camera.height / 2)
        halves += bool(np.allclose(off, -0.5, atol=1e-9))
        farthest = max(farthest, float(np.abs(off).max(initial=0.0)))
    if halves and halves == len(posed.cameras):
        text = "principal points are (w - 1) / 2: the middle of the first pixel is taken for (0, 0), and not (0.5, 0.5)"
        remedy = "add 0.5 to principal points and key points"
        yield Finding("half-pixel", TRAINERS, file, text, remedy)
    elif farthest > limits.off_centre_px:
        text = f"a principal point is {farthest:.1f} px off the middle, and is dropped"
        remedy = "crop or undistort images so that it is in the middle"
        yield Finding("off-centre", ("inria",), file, text, remedy)


def check_poses(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Poses that are none, far cameras, and frames that lose digits or stand askew."""
    posed = scene.posed
    if posed is None or not posed.names:
        return
    file = "transforms.json" if scene.model is None else f"{scene.model_place}/images"
    rotation = posed.cam_from_world[:, :, :3]
    off = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max(axis=(1, 2))
    wrong = ~((off < 1e-3) & np.isfinite(posed.cam_from_world).all(axis=(1, 2)))
    if wrong.any():
        named = several([posed.names[row] for row in np.flatnonzero(wrong)])
        text = f"{named} has a pose that is no rotation, or not finite"
        yield Finding("pose-invalid", TRAINERS, file, text, "leave the image out, or write its pose again")
        return
    middle = np.median(posed.centres, axis=0)
    distance = np.linalg.norm(posed.centres - middle, axis=1)
    usual = float(np.median(distance))
    far = np.flatnonzero((distance > limits.camera_ratio * usual) & (usual > 0.0))
    if len(far):
        named = several([posed.names[row] for row in far])
        text = f"{named} is far from the other cameras: scale and learning rates follow the farthest"
        yield Finding("camera-far", TRAINERS, file, text, "leave the image out")
    if np.linalg.norm(middle) > limits.frame_ratio * max(usual, 1e-12) > 0.0 and usual > 0.0:
        text = "the frame is far from its origin, as of coordinates on the map: 32-bit numbers lose the details"
        yield Finding("frame-far", TRAINERS, file, text, "move the scene to the origin, and keep the offset elsewhere")
    up = -rotation[:, 1].mean(axis=0)
    steepest = float(np.abs(up).max() / max(float(np.linalg.norm(up)), 1e-12))
    tilt_deg = float(np.degrees(np.arccos(min(1.0, steepest))))
    if np.linalg.norm(up) > 0.5 and tilt_deg > limits.tilt_deg:
        text = f"up is {tilt_deg:.0f} degrees off every axis: these programs show and train the scene askew"
        yield Finding("frame-tilted", ("brush", "inria"), file, text, "turn cameras and points upright", True)


def check_agreement(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """transforms.json and a COLMAP model in one folder: OpenSplat reads the one, Brush and others the other."""
    model, other = scene.model, scene.transforms_poses
    if model is None or other is None or not model.names:
        return
    rows = {name: row for row, name in enumerate(model.names)}
    common = [
        (rows[name.removeprefix("images/")], row)
        for row, name in enumerate(other.names)
        if name.removeprefix("images/") in rows
    ]
    if len(common) < max(len(model.names), len(other.names)):
        text = f"{len(other.names)} images here, {len(model.names)} in {scene.model_place}, {len(common)} in both"
        # Who reads transforms.json alone trains what the folder holds if that has all of its images.
        is_whole = set(scene.images) <= {name.removeprefix("images/") for name in other.names}
        trainers = scene.of_model if is_whole else TRAINERS
        yield Finding("worlds-images", trainers, "transforms.json", text, "write both from the same images")
    if not common:
        return
    ours, theirs = map(list, zip(*common, strict=True))
    said = _applied(model, scene.transforms)
    if any(_difference(each, ours, other.cam_from_world[theirs]) <= limits.pose_error for each in (model, said)):
        return
    text = f"cameras are not those of {scene.model_place}, which other programs read"
    remedy = "write both in one world, with an applied_transform of the identity"
    turned = other.cam_from_world[theirs].copy()
    turned = np.einsum("ij,njk->nik", OPENGL, turned)
    if _difference(model, ours, turned) <= limits.pose_error:
        text, remedy = "cameras look backwards: axes are OpenCV's", "negate the second and third column (OpenGL's axes)"
    yield Finding("worlds-differ", ("brush", "nerfstudio", "opensplat"), "transforms.json", text, remedy)


def _applied(model: PosedImages, transforms: Mapping[str, Any] | None) -> PosedImages:
    """The model in the world of transforms.json, as its `applied_transform` says how nerfstudio has turned it."""
    try:
        applied = np.asarray((transforms or {})["applied_transform"], np.float64)[:3].reshape(3, 4)
    except (LookupError, ValueError, TypeError, OverflowError):
        return model
    rotation = model.cam_from_world[:, :, :3] @ applied[:, :3].T
    centres = model.centres @ applied[:, :3].T + applied[:, 3]
    return replace(model, cam_from_world=np.concatenate([rotation, -rotation @ centres[:, :, None]], axis=2))


def _difference(model: PosedImages, rows: list[int], cam_from_world: np.ndarray) -> float:
    """Largest difference of rotations, and of positions over the extent of the cameras."""
    rotation = np.abs(model.cam_from_world[rows, :, :3] - cam_from_world[:, :, :3]).max()
    centres = camera_centres(cam_from_world)
    extent = float(np.ptp(model.centres, axis=0).max())
    moved = np.abs(model.centres[rows] - centres).max() / max(extent, 1e-12)
    return float(max(rotation, moved))


def _image_count(folder: Path) -> int:
    """How many images a model says to have."""
    if (binary := folder / "images.bin").is_file():
        with binary.open("rb") as file:
            return int.from_bytes(file.read(8), "little")
    if not (text := folder / "images.txt").is_file():
        return 0
    with text.open(encoding="utf-8", errors="replace") as lines:
        return sum(not line.startswith("#") for line in lines) // 2


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


CHECKS = (check_place, check_camera_models, check_principal_points, check_poses, check_agreement)
