"""Exports, read back by programs that are not ours."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from unposed.pipeline.artifacts import Camera, Photo, Photos, Scene, Scenes
from unposed.plugins.export.colmap import Colmap
from unposed.plugins.export.ply import Ply

PHOTOS = Photos(tuple(Photo(f"{i}.jpg", Path("nowhere"), str(i), 400, 200) for i in range(3)), {})


def make_scene(photos: list[int], points: int) -> Scene:
    """Cameras on the x axis that look along z; every photo sees every point."""
    n = len(photos)
    rng = np.random.default_rng(points)
    poses = np.tile(np.eye(3, 4), (n, 1, 1))
    poses[:, 0, 3] = -np.arange(n)
    return Scene(
        cameras=(Camera("SIMPLE_PINHOLE", 400, 200, (100.0, 200.0, 100.0)),),
        photos=np.array(photos, np.int32),
        camera_of_photo=np.zeros(n, np.int32),
        cam_from_world=poses,
        xy=rng.uniform(0, 200, (n * points, 2)),
        xy_start=np.arange(n + 1, dtype=np.int64) * points,
        points=np.c_[rng.uniform(-1, 1, (points, 2)), np.full(points, 50.0)],
        rgb=rng.integers(0, 256, (points, 3)).astype(np.uint8),
        error_px=np.full(points, 0.5),
        obs_xy=(np.arange(n) * points + np.arange(points)[:, None]).reshape(-1),
        obs_point=np.repeat(np.arange(points), n),
    )


SCENES = Scenes((make_scene([0, 1], 6), make_scene([2], 3)), {})


@pytest.mark.parametrize(("file_format", "ending"), [("binary", "bin"), ("text", "txt")])
def test_colmap_models_of_all_components(tmp_path: Path, file_format: str, ending: str) -> None:
    Colmap(format=file_format)(SCENES, PHOTOS, tmp_path / "new")
    for number, scene in enumerate(SCENES.components):
        folder = tmp_path / "new" / "sparse" / str(number)
        assert {file.suffix for file in folder.iterdir()} == {f".{ending}"}
        model = pycolmap.Reconstruction(folder)
        assert model.num_points3D() == len(scene.points)
        assert model.compute_num_observations() == len(scene.obs_xy)
        assert {image.name for image in model.images.values()} == {PHOTOS[int(i)].name for i in scene.photos}


def test_ply_points_are_what_colmap_reads(tmp_path: Path) -> None:
    Ply()(SCENES, PHOTOS, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["points-0.ply", "points-1.ply"]
    for number, scene in enumerate(SCENES.components):
        model = pycolmap.Reconstruction()
        model.import_PLY(tmp_path / f"points-{number}.ply")
        points = [point for _, point in sorted(model.points3D.items())]
        np.testing.assert_allclose([p.xyz for p in points], scene.points, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal([p.color for p in points], scene.rgb)


def read_ply(file: Path) -> tuple[list[str], bytes]:
    head, _, body = file.read_bytes().partition(b"end_header\n")
    return head.decode("ascii").splitlines(), body


def test_ply_cameras_are_frusta_of_the_right_shape(tmp_path: Path) -> None:
    Ply(cameras=True)(SCENES, PHOTOS, tmp_path)
    header, body = read_ply(tmp_path / "cameras-0.ply")
    assert "element vertex 10" in header
    assert "element edge 16" in header
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], 10)["xyz"]
    edges = np.frombuffer(body, "<i4", offset=10 * 15).reshape(-1, 2)
    # A picture of 400 x 200 and a focal length of 100: 45 degrees are half of the width; depth is 2 % of 50.
    expected = np.array([[0, 0, 0], [-2, -1, 1], [2, -1, 1], [2, 1, 1], [-2, 1, 1]])
    np.testing.assert_allclose(vertices[:5], expected, atol=1e-6)
    np.testing.assert_allclose(vertices[5:], expected + np.eye(3)[0], atol=1e-6)
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    assert sorted(lengths[:8].round(5)) == sorted([*[round(6**0.5, 5)] * 4, 2, 2, 4, 4])
    assert (edges[8:] - edges[:8] == 5).all()


def test_a_scene_without_points_still_exports(tmp_path: Path) -> None:
    Ply(cameras=True)(Scenes((make_scene([0], 0),), {}), PHOTOS, tmp_path)
    header, body = read_ply(tmp_path / "points-0.ply")
    assert "element vertex 0" in header
    assert body == b""
    assert len(read_ply(tmp_path / "cameras-0.ply")[1]) == 5 * 15 + 8 * 8
