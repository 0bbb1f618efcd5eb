"""Checks of transforms.json."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, LintLimits, several
from .scene_folder import SceneFolder

FILE = "transforms.json"
READERS = ("nerfstudio", "opensplat")
CAMERA_KEYS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
NAMED_PARTS = ("train_filenames", "val_filenames", "test_filenames")


def check_transforms(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Keys that a program demands, and keys that contradict each other."""
    if scene.transforms_problem:
        text = f"cannot be read: {scene.transforms_problem}"
        yield Finding("json-unreadable", READERS, FILE, text, "write it again, or remove it")
    content = scene.transforms
    if content is None:
        return
    frames = content["frames"]
    for key, why in (("camera_model", "stops"), ("ply_file_path", "stops; nerfstudio starts at random points")):
        if key not in content:
            trainers = READERS if key == "ply_file_path" else ("opensplat",)
            yield Finding(f"json-{key.replace('_', '-')}", trainers, FILE, f"no {key}: OpenSplat {why}", f"add {key}")
    if (cloud := content.get("ply_file_path")) and str(cloud) not in scene.files:
        text = f"names {cloud} as its points, which is not there"
        yield Finding("json-points", READERS, FILE, text, "write the points, or correct ply_file_path")
    lacking = [key for key in CAMERA_KEYS if key not in content and any(key not in frame for frame in frames)]
    if lacking:
        text = f"no {', '.join(lacking)}, without which the parser stops"
        yield Finding("json-intrinsics", READERS, FILE, text, "add them, at the top or in all frames")
    at_top = [key for key in CAMERA_KEYS if key in content]
    if both := [key for key in at_top if any(frame.get(key, content[key]) != content[key] for frame in frames)]:
        text = f"{', '.join(both)} of frames differ from those at the top, which nerfstudio takes for all"
        yield Finding("json-twice", READERS, FILE, text, "leave them out at the top")
    if "camera_angle_x" in content and "fl_x" in content:
        text = "has camera_angle_x, which Brush prefers to fl_x"
        yield Finding("json-angle", ("brush",), FILE, text, "leave camera_angle_x out", True)
    if any(frame.get("k4", content.get("k4", 0.0)) for frame in frames):
        yield Finding("json-k4", ("opensplat",), FILE, "k4 is not read", "undistort the images")
    bent = any(frame.get(key, content.get(key)) for frame in frames for key in ("k1", "k2", "p1", "p2"))
    if bent and scene.model is None:
        yield Finding("json-distorted", ("brush",), FILE, "distortion is not undone", "undistort the images")
    models = {str(frame["camera_model"]) for frame in frames if "camera_model" in frame}
    models -= {str(content.get("camera_model"))}
    if models:
        text = f"frames have other camera models ({', '.join(sorted(models))}) than the file"
        yield Finding("json-models", ("nerfstudio",), FILE, text, "write one camera_model at the top")
    for key in ("mask_path", "depth_file_path"):
        having = [frame for frame in frames if key in frame]
        if 0 < len(having) < len(frames):
            text = f"{key} in {len(having)} of {len(frames)} frames: the parser stops"
            yield Finding("json-partly", ("nerfstudio",), FILE, text, "give it to all frames, or to none")
        if missing := [str(frame[key]) for frame in having if str(frame[key]) not in scene.files]:
            yield Finding("json-files", ("nerfstudio",), FILE, f"{several(missing)} is not there", "write the file")
    present = [key for key in NAMED_PARTS if key in content]
    if present and len(present) < len(NAMED_PARTS):
        text = f"has {present[0]} but not all of {', '.join(NAMED_PARTS)}: the parser stops"
        yield Finding("json-split", ("nerfstudio",), FILE, text, "write all three")
    paths = {str(frame["file_path"]) for frame in frames}
    listed = [content[key] if isinstance(content[key], list) else [] for key in present]
    if unknown := sorted({str(name) for names in listed for name in names} - paths):
        text = f"{several(unknown)} is held out, or trained, and is no frame"
        yield Finding("json-split", ("nerfstudio",), FILE, text, "write names as file_path has them")


CHECKS = (check_transforms,)
