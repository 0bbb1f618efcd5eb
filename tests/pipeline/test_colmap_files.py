"""A COLMAP model that is cut short, or says more than it holds, ends in one line, in no time and no memory."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from unposed.pipeline.colmap_files import check_binary_model, keypoints_by_image
from unposed.pipeline.colmap_model import read_model
from unposed.pipeline.errors import InputError

FILES = ("cameras", "frames", "images", "points3D", "rigs")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with rigs of two cameras, as no run of ours writes it, so that every kind of record is there."""
    folder = tmp_path_factory.mktemp("model")
    made = pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(
            num_rigs=2, num_cameras_per_rig=2, num_frames_per_rig=4, num_points3D=60, num_points2D_without_point3D=3
        )
    )
    made.write_binary(folder)
    assert sorted(file.stem for file in folder.glob("*.bin")) == sorted(FILES)
    return folder


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_a_whole_model_is_read(model: Path) -> None:
    check_binary_model(model)
    assert read_model(model).num_points3D() == 60


@pytest.mark.parametrize("name", FILES)
def test_cut_short_anywhere(copy: Path, name: str) -> None:
    file = copy / f"{name}.bin"
    data = file.read_bytes()
    for length in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        file.write_bytes(data[:length])
        if name == "cameras":  # the number of parameters depends on the model, so the last few bytes may be missed
            try:
                check_binary_model(copy)
            except InputError:
                continue
            assert length > len(data) - 8 * 4 * 9
        else:
            with pytest.raises(InputError, match=rf"{name}\.bin: is damaged or cut short"):
                check_binary_model(copy)


@pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize("name", FILES)
def test_a_count_that_the_file_cannot_hold(copy: Path, name: str, count: int) -> None:
    file = copy / f"{name}.bin"
    file.write_bytes(struct.pack("<Q", count) + file.read_bytes()[8:])
    begun = time.process_time()
    with pytest.raises(InputError, match="damaged or cut short"):
        read_model(copy)
    assert time.process_time() - begun < 1.0


INNER: dict[str, Callable[[bytes], int]] = {
    "frames": lambda data: 8 + 64,
    "images": lambda data: data.index(b"\0", 8 + 64) + 1,
    "points3D": lambda data: 8 + 43,
    "rigs": lambda data: 8 + 4,
}
"""Where the first record of a file has a count of its own."""


@pytest.mark.parametrize("name", INNER)
def test_a_count_inside_of_a_record(copy: Path, name: str) -> None:
    file = copy / f"{name}.bin"
    data = bytearray(file.read_bytes())
    at = INNER[name](bytes(data))
    data[at : at + 4] = struct.pack("<I", 0x7FFFFFFF)
    file.write_bytes(data)
    with pytest.raises(InputError, match="damaged or cut short"):
        read_model(copy)


def test_points_of_a_photo_that_is_not_there(copy: Path) -> None:
    """Whole files of other models: each is sound by itself."""
    other = pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=40, num_points3D=30)
    )
    (copy / "other").mkdir()
    other.write_binary(copy / "other")
    (copy / "other" / "points3D.bin").replace(copy / "points3D.bin")
    with pytest.raises(InputError, match="cannot be read as a COLMAP model"):
        read_model(copy)


def test_key_points_are_read_as_pycolmap_has_them(model: Path) -> None:
    found = keypoints_by_image(model)
    images = pycolmap.Reconstruction(model).images
    assert set(found) == set(images)
    for number, image in images.items():
        np.testing.assert_array_equal(found[number], [point.xy for point in image.points2D])


def test_a_text_model_has_its_key_points_from_pycolmap(model: Path, tmp_path: Path) -> None:
    pycolmap.Reconstruction(model).write_text(tmp_path)
    assert keypoints_by_image(tmp_path) == {}


def test_a_million_points_are_checked_in_a_moment(tmp_path: Path) -> None:
    point = struct.pack("<Q3d3BdQ", 1, 0.0, 0.0, 0.0, 1, 2, 3, 0.5, 2) + bytes(16)
    (tmp_path / "points3D.bin").write_bytes(struct.pack("<Q", 200_000) + 200_000 * point)
    begun = time.process_time()
    check_binary_model(tmp_path)
    assert time.process_time() - begun < 1.0
