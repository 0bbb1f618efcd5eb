"""What trainers of splats make of our folder: their points, seen by their cameras, fall where the photos show them.

nerfstudio's own parsers run where nerfstudio is installed (`pip install --no-deps nerfstudio==1.1.5 jaxtyping` is
enough: what needs more is replaced by stand-ins here). The others are doubles, see trainer_readers.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pycolmap
import pytest
from PIL import Image
from trainer_readers import READERS, SMALLER, View, ply_points, size_of

from unposed.linting.lint import lint
from unposed.optim.cameras import intrinsics_of, project
from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel, SparseModels
from unposed.pipeline.config import build
from unposed.pipeline.registry import Registry

NAMES = tuple(f"{number:02d}.png" for number in range(10))
SIDES = (404, 301)
CAMERAS = (
    Camera("SIMPLE_RADIAL", *SIDES, (310.0, 206.0, 147.0, -0.08)),
    Camera("OPENCV", *SIDES, (290.0, 291.0, 200.0, 152.0, 0.05, -0.01, 1e-3, -1e-3)),
)


def ring() -> SparseModel:
    """Two cameras with distortion, ten tilted photos on half a circle; observations without error."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.8, 0.8, (200, 3))
    poses = []
    for angle in np.linspace(-1.2, 1.2, len(NAMES)):
        rotation = exp_so3(np.array([[0.3, 0.0, 0.1]]))[0] @ exp_so3(np.array([[0.0, angle, 0.0]]))[0]
        poses.append(np.c_[rotation, [0.1 * angle, 0.2, 4.0]])
    xy, seen = [], []
    for number, pose in enumerate(poses):
        camera = CAMERAS[number % 2]
        in_camera = points @ pose[:, :3].T + pose[:, 3]
        at = project(in_camera, intrinsics_of(camera.model, camera.params), False)
        inside = ((at > 0) & (at < SIDES)).all(axis=1)
        xy.append(at[inside])
        seen.append(np.flatnonzero(inside))
    point = np.concatenate(seen)
    order = np.lexsort((np.arange(len(point)), point))
    return SparseModel(
        cameras=CAMERAS,
        photos=np.arange(len(NAMES), dtype=np.int32),
        camera_of_photo=np.arange(len(NAMES), dtype=np.int32) % 2,
        cam_from_world=np.array(poses),
        xy=np.concatenate(xy),
        xy_start=np.cumsum([0, *map(len, xy)]),
        points=points,
        rgb=rng.integers(0, 256, (len(points), 3)).astype(np.uint8),
        error_px=np.full(len(points), 0.1),
        obs_xy=order,
        obs_point=point[order],
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(4)
    for name in NAMES:
        Image.fromarray(rng.integers(60, 256, (30, 40, 3), np.uint8)).resize(SIDES).save(folder / name)
    return Photos(tuple(Photo(name, folder / name, "", *SIDES) for name in NAMES), {})


def write(photos: Photos, to: str, folder: Path, **options: Any) -> Path:
    build(Registry().find("export", to), options, to)(SparseModels((ring(),), {}), photos, folder)
    return folder


@pytest.fixture(scope="module")
def scene(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(photos, "splat", tmp_path_factory.mktemp("scene") / "out")


def observations(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per image, where it sees points, as shares of its sides, and these points."""
    model = pycolmap.Reconstruction(next(folder.rglob("cameras.bin")).parent)
    found = {}
    for image in model.images.values():
        seen = [point for point in image.points2D if point.has_point3D()]
        at = np.array([point.xy for point in seen]) / (image.camera.width, image.camera.height)
        found[image.name] = at, np.array([model.points3D[point.point3D_id].xyz for point in seen])
    return found


def assert_points_meet_observations(views: list[View], points: np.ndarray, folder: Path) -> None:
    expected = observations(folder)
    assert [view.name for view in views] == sorted(expected)
    met = 0
    for view in views:
        at, _ = expected[view.name]
        # Which point of the trainer's is which does not matter: each observation has one at its place.
        apart = np.linalg.norm(view.project(points)[None] - (at * size_of(view.file))[:, None], axis=2).min(axis=1)
        assert apart.max() < 0.05
        met += len(at)
    assert met > 500


CASES = [(name, factor) for name in READERS for factor in ((1, 2, 4, 8) if name in SMALLER else (1,))]


@pytest.mark.parametrize(("trainer", "factor"), CASES)
def test_points_meet_observations(scene: Path, trainer: str, factor: int) -> None:
    assert_points_meet_observations(*READERS[trainer](scene, factor), scene)


@pytest.mark.parametrize("trainer", READERS)
def test_the_narrow_folder_is_enough(photos: Photos, tmp_path: Path, trainer: str) -> None:
    folder = write(photos, trainer, tmp_path / "out")
    assert_points_meet_observations(*READERS[trainer](folder, 1), folder)
    assert lint(folder, [trainer]) == ()
    readme = (folder / "README.txt").read_text()
    assert readme.count("THIS") == 1
    assert "transforms.json" not in readme and not (folder / "transforms.json").exists()


def test_all_of_them_show_the_photo_that_they_mean(scene: Path) -> None:
    """The same picture at every size, and in every program."""
    for name, factor in CASES:
        for view in READERS[name](scene, factor)[0]:
            assert view.file.name == view.name
            assert view.file.parent.name == ("images" if factor == 1 else f"images_{factor}")


# -- nerfstudio itself


class Anything(type):
    """A class of which every attribute is a class again."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class StandIn(types.ModuleType):
    """A module that has everything, and does nothing."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything("StandIn", (), {"__init__": lambda self, *args, **options: None})


class Open3d(types.ModuleType):
    """What nerfstudio uses of Open3D: points and colours of a PLY file."""

    class io:
        @staticmethod
        def read_point_cloud(file: str) -> Any:
            points = ply_points(Path(file))
            return types.SimpleNamespace(points=points, colors=np.zeros_like(points))


@pytest.fixture(scope="module")
def parsers() -> Iterator[dict[str, Any]]:
    if importlib.util.find_spec("nerfstudio") is None:
        pytest.skip("needs nerfstudio: pip install --no-deps nerfstudio==1.1.5 jaxtyping")
    before = dict(sys.modules)
    sys.modules["torch.utils.tensorboard"] = StandIn("torch.utils.tensorboard")
    sys.modules["open3d"] = Open3d("open3d")
    names = ("nerfstudio_dataparser", "colmap_dataparser")
    try:
        while True:  # whatever is not installed is not needed to read a folder
            try:
                found = [importlib.import_module(f"nerfstudio.data.dataparsers.{name}") for name in names]
                break
            except ModuleNotFoundError as missing:
                assert missing.name and not missing.name.startswith("nerfstudio")
                sys.modules[missing.name] = StandIn(missing.name)
                for name in [name for name in sys.modules if name.startswith("nerfstudio")]:
                    del sys.modules[name]
        yield {"json": found[0].NerfstudioDataParserConfig, "colmap": found[1].ColmapDataParserConfig}
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


def nerfstudio_views(outputs: Any, points: np.ndarray, at: dict[str, Any]) -> float:
    """Largest distance in pixels of nerfstudio's points, seen by its cameras, from the observations."""
    cameras, farthest = outputs.cameras, 0.0
    for number, file in enumerate(outputs.image_filenames):
        world_from_cam = np.eye(4)
        world_from_cam[:3] = cameras.camera_to_worlds[number].numpy()
        pose = np.linalg.inv(world_from_cam @ np.diag([1.0, -1.0, -1.0, 1.0]))[:3]
        intrinsics = (float(getattr(cameras, key)[number]) for key in ("fx", "fy", "cx", "cy"))
        view = View(file.name, file, *intrinsics, pose)
        width, height = size_of(file)
        assert (int(cameras.width[number]), int(cameras.height[number])) == (width, height)
        shares, _ = at[file.name]
        apart = view.project(points)[None] - (shares * (width, height))[:, None]
        farthest = max(farthest, float(np.linalg.norm(apart, axis=2).min(axis=1).max()))
    return farthest


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["json", "colmap"])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_nerfstudio_itself_reads_the_folder(scene: Path, parsers: dict[str, Any], kind: str, factor: int) -> None:
    expected = observations(scene)
    names = {}
    for split in ("train", "val", "test"):
        config = parsers[kind](data=scene, downscale_factor=factor, load_3D_points=True)
        outputs = config.setup().get_dataparser_outputs(split=split)
        names[split] = [file.name for file in outputs.image_filenames]
        points = outputs.metadata["points3D_xyz"].numpy().astype(float)
        assert len(points) == 200
        assert nerfstudio_views(outputs, points, expected) < 0.05
    assert names["val"] == names["test"] == ["00.jpg", "08.jpg"]
    assert sorted(names["train"] + names["val"]) == sorted(expected)


@pytest.mark.filterwarnings("ignore")
def test_nerfstudio_reads_its_narrow_folder_and_masks(photos: Photos, parsers: dict[str, Any], tmp_path: Path) -> None:
    Image.new("L", SIDES, "white").save(tmp_path / "mask.png")
    masked = Photos(tuple(replace(photo, mask=tmp_path / "mask.png") for photo in photos.photos), {})
    folder = write(masked, "nerfstudio", tmp_path / "out")
    assert lint(folder, ["nerfstudio"]) == ()
    outputs = parsers["json"](data=folder, downscale_factor=2).setup().get_dataparser_outputs(split="train")
    assert [file.parent.name for file in outputs.mask_filenames] == ["masks_2"] * 8
    assert all(file.exists() for file in outputs.mask_filenames)
    outputs = parsers["colmap"](data=folder, masks_path=Path("masks")).setup().get_dataparser_outputs(split="train")
    assert all(file.exists() for file in outputs.mask_filenames)
