"""Readers of untrusted bytes, each as a function that raises nothing but what it promises.

`benchmarks/fuzz.py` lets atheris look for bytes that break a promise; tests try some thousand mutants, always the same.
"""

from __future__ import annotations

import io
import json
import pickle
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from fuzz_folders import FOLDER_TARGETS
from fuzz_input import Target, scratch_file
from PIL import Image
from safetensors.torch import save

from unposed.alignment.control_file import read_control_marks
from unposed.dense_points import read_points_seen
from unposed.gaussian_files import write_gaussians_ply
from unposed.networks.errors import WeightsError
from unposed.networks.loading import read_parameters
from unposed.networks.mast3r.checkpoint import read_checkpoint
from unposed.optim.view_graph import Keypoints
from unposed.pipeline.artifacts import Features, Photo, Photos
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.images.content import bytes_content
from unposed.pipeline.images.exif import read_exif
from unposed.pipeline.images.image_file import UnreadableImage, frames, open_image
from unposed.pipeline.images.pixels import read_mask, read_rgb
from unposed.pipeline.ply_files import vertices, write_ply
from unposed.pipeline.pose_files import read_poses
from unposed.pipeline.presets import read_preset
from unposed.pipeline.stage import StageError
from unposed.pipeline.store.codec import CodecError, decode, encode
from unposed.pipeline.yaml_text import read_yaml
from unposed.plugins.cameras.given import given_cameras, given_poses
from unposed.plugins.cameras.rigs import rigs_of
from unposed.plugins.coarse.given import read_initial_models
from unposed.plugins.doubts.known import read_doubts
from unposed.plugins.export.splat_depths import read_about
from unposed.plugins.fine.known_keypoints import known_keypoints
from unposed.plugins.retrieval.asmk import read_codebook
from unposed.plugins.retrieval.pairs_file import PairsFile
from unposed.plugins.retrieval.unpickle import read_arrays
from unposed.surface.gaussians.scene import Gaussians
from unposed.viewer.splats import read_splat


def _image(data: bytes) -> None:
    """Header, EXIF and pixels, as the intake and a stage read them."""
    path = scratch_file("photo", data)
    with open_image(path) as image:
        if frames(image) > 1 or image.width * image.height > 4_000_000:
            return
        exif, orientation = read_exif(image)
        width, height = image.size if orientation < 5 else image.size[::-1]
    photo = Photo("photo", path, bytes_content(data), width, height, orientation, exif)
    assert max(read_rgb(photo, 64).shape[:2]) <= 64
    read_mask(photo)


def _images() -> list[bytes]:
    rng, made = np.random.default_rng(0), []
    pixels = Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8))
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    exif.get_ifd(34665)[37386] = 35.0
    for kind, options in (
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("BMP", {}),
    ):
        file = io.BytesIO()
        pixels.save(file, kind, **options)
        made.append(file.getvalue())
    for compression in ("raw", "tiff_lzw"):
        file = io.BytesIO()
        pixels.save(file, "TIFF", compression=compression)
        made.append(file.getvalue())
    for mode in ("RGBA", "P", "I;16"):
        file = io.BytesIO()
        (Image.fromarray(rng.integers(0, 60000, (40, 56), np.uint16)) if mode == "I;16" else pixels.convert(mode)).save(
            file, "PNG"
        )
        made.append(file.getvalue())
    return made


def _entry() -> dict[str, object]:
    return {"R_w2c": np.eye(3).tolist(), "t_w2c": [0, 1, 2], "K": np.eye(3).tolist(), "width": 40, "height": 30}


def _known() -> list[bytes]:
    truth = {"images": {"a.png": {**_entry(), "dist": [0.1, 0, 0, 0]}, "b.png": _entry()}, "units": "m"}
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist(), "fl_x": 9.0, "w": 40, "h": 30}
    return [json.dumps(truth).encode(), json.dumps({"frames": [frame, {**frame, "file_path": "b.png"}]}).encode()]


PHOTOS = Photos(tuple(Photo(name, Path(name), "", 40, 30) for name in ("a.png", "b.png")), {})
IN_FOLDERS = Photos(
    tuple(Photo(f"{side}/{n}.png", Path(f"{n}.png"), "", 40, 30) for side in ("left", "right") for n in range(3)), {}
)


def _given(data: bytes) -> None:
    with suppress(InputError):
        given_poses(scratch_file("known.json", data), PHOTOS)
    given_cameras(scratch_file("known.json", data), PHOTOS)


def _rigs() -> list[bytes]:
    right = {"image_prefix": "right/", "cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [1, 0, 0]}
    right |= {"camera_model_name": "PINHOLE", "camera_params": [30, 30, 20, 15]}
    return [json.dumps([{"cameras": [{"image_prefix": "left/", "ref_sensor": True}, right]}]).encode()]


def _initial() -> list[bytes]:
    camera = {"model": "PINHOLE", "width": 40, "height": 30, "params": [30, 30, 20, 15]}
    photos = {name: {"camera": 0, "pose": np.eye(3, 4).tolist()} for name in ("a.png", "b.png")}
    return [json.dumps({"models": [{"cameras": [camera], "photos": photos}]}).encode()]


def _doubts() -> list[bytes]:
    listed = {"photos": ["a.png", "b.png"], "doubts": [["a.png", "b.png", "they look alike"]], "rival_margin": 2.5}
    return [json.dumps(listed).encode()]


def _keypoints(data: bytes) -> None:
    start, size = np.array([0, 3, 6]), np.array([[40, 30]] * 2)
    known_keypoints(scratch_file("keypoints.npz", data), PHOTOS, Keypoints(np.zeros((6, 2)), start, size))


def _archives() -> list[bytes]:
    arrays = {"names": np.array(["a.png", "b.png"]), "start": np.array([0, 2, 4]), "keypoint": np.arange(4) % 2}
    arrays |= {"xy": np.zeros((4, 2)), "points": np.zeros((2, 3)), "point": np.arange(4) % 2}
    made = []
    for write in (np.savez, np.savez_compressed):
        write(file := io.BytesIO(), **arrays)
        made.append(file.getvalue())
    return made


def _codebook() -> list[bytes]:
    np.save(file := io.BytesIO(), np.zeros((4, 3), np.float32))
    return [file.getvalue()]


def _gaussians() -> list[bytes]:
    ones = np.ones((3, 4), np.float32)
    path = scratch_file("sound.ply", b"")
    write_gaussians_ply(Gaussians(ones[:, :3], ones[:, :3], ones, ones[:, 0], ones[:, :3]), path)
    return [path.read_bytes()]


@cache
def _points_seen() -> tuple[bytes, bytes]:
    """Three points, and the photos that see each."""
    path = scratch_file("sound-fused.ply", b"")
    write_ply(path, {"vertex": vertices(np.zeros((3, 3)), np.zeros((3, 3), np.uint8), np.ones((3, 3)))})
    numbers = np.array([2, 0, 1, 1, 0, 2, 0, 1], "<u4")
    return path.read_bytes(), (3).to_bytes(8, "little") + numbers.tobytes()


def _seen(points: bytes, seen: bytes) -> None:
    scratch_file("fused.ply.vis", seen)
    read_points_seen(scratch_file("fused.ply", points))


def _about() -> list[bytes]:
    entry = {"photo": "a.png", "model": 0, "fx": 30, "fy": 30, "cx": 20, "cy": 15, "width": 40, "height": 30}
    return [json.dumps({"inverse_depth_per_level": 1e-4, "maps": {"a.png": entry}}).encode()]


def _tensors() -> list[bytes]:
    state = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    made = []
    for content in (state, {"model": state, "args": None}):
        for zipped in (True, False):
            torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=zipped)
            made.append(file.getvalue())
    return made


def _features() -> list[bytes]:
    ones = np.ones(3, np.float32)
    value = Features(np.zeros((3, 2), np.float32), ones, np.zeros((3, 4), np.uint8), np.zeros((3, 3), np.uint8), ones)
    return [encode(value)]


TARGETS: dict[str, Target] = {
    "image": Target(_image, (UnreadableImage, StageError, OSError), _images),
    **FOLDER_TARGETS,
    "poses": Target(lambda data: read_poses(scratch_file("poses.json", data)), (InputError,), _known),
    "trajectory": Target(
        lambda data: read_poses(scratch_file("poses.txt", data)),
        (InputError,),
        lambda: [b"# time x y z and a quaternion\n1.0 0 0 0 0 0 0 1\n2.0 1 0 0.5 0 0 0.7 0.7\n"],
    ),
    "given": Target(_given, (InputError,), lambda: _known()[:1]),
    "given-text": Target(
        lambda data: given_cameras(scratch_file("known.txt", data), PHOTOS),
        (InputError,),
        lambda: [b"# cameras\n1 PINHOLE 40 30 30 30 20 15\n2 SIMPLE_RADIAL 80 60 30 20 15 0.1\n"],
    ),
    "rigs": Target(
        lambda data: rigs_of(IN_FOLDERS, scratch_file("rigs.json", data), of_folders=False, refined=True),
        (InputError,),
        _rigs,
    ),
    "initial": Target(
        lambda data: read_initial_models(scratch_file("models.json", data), PHOTOS), (StageError,), _initial
    ),
    "pairs": Target(
        lambda data: PairsFile(scratch_file("pairs.txt", data))(PHOTOS),
        (StageError,),
        lambda: [b"a.png b.png\nb.png a.png 0.5\n", b"# tabs\na.png\tb.png\t1.0\n"],
    ),
    "doubts": Target(lambda data: read_doubts(scratch_file("doubts.json", data)), (StageError,), _doubts),
    "keypoints": Target(_keypoints, (StageError,), _archives),
    "control": Target(
        lambda data: read_control_marks(scratch_file("control.csv", data), PHOTOS.photos),
        (InputError,),
        lambda: [b"point,photo,x,y,X,Y,Z\np,a.png,1,2,0,0,1\np,b.png,3,4,0,0,1\n"],
    ),
    "codebook": Target(lambda data: read_codebook(scratch_file("words.npy", data)), (ValueError,), _codebook),
    "splat": Target(lambda data: read_splat(scratch_file("splat.ply", data)), (InputError,), _gaussians),
    "dense-points": Target(lambda data: _seen(data, _points_seen()[1]), (InputError,), lambda: [_points_seen()[0]]),
    "dense-seen": Target(lambda data: _seen(_points_seen()[0], data), (InputError,), lambda: [_points_seen()[1]]),
    "dense-maps": Target(lambda data: read_about(scratch_file("depths.json", data).parent), (InputError,), _about),
    "weights": Target(lambda data: read_parameters(scratch_file("net.pth", data), "model"), (WeightsError,), _tensors),
    "weights-mast3r": Target(
        lambda data: read_checkpoint(scratch_file("mast3r.pth", data)), (WeightsError,), lambda: _tensors()[::2]
    ),
    "safetensors": Target(
        lambda data: read_checkpoint(scratch_file("net.safetensors", data)),
        (WeightsError,),
        lambda: [save({"a.weight": torch.zeros(2, 3)})],
    ),
    "yaml": Target(
        lambda data: read_yaml(data.decode("utf-8", "replace"), "text"),
        (ConfigError,),
        lambda: [b"features: {use: sift, max: [1, 2.5e-3]}\nmatching: &m {use: x}\nmore: *m\n", b"- a\n- {b: c}\n"],
    ),
    "preset": Target(
        lambda data: read_preset(scratch_file("preset.yaml", data)),
        (ConfigError,),
        lambda: [b"about: text\nextends: classic\nfeatures: {use: sift}\nfine: null\n"],
    ),
    "pickle": Target(
        lambda data: read_arrays(scratch_file("arrays.pkl", data)),
        (ValueError,),
        lambda: [pickle.dumps({"a": [np.arange(6.0).reshape(2, 3), (1, "x")]}, protocol) for protocol in (0, 2, 5)],
    ),
    "stored": Target(lambda data: decode(data, Features), (CodecError,), _features),
}
