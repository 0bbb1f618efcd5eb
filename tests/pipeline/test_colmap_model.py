"""SparseModels to COLMAP models and back: nothing is lost, nothing depends on chance."""

import dataclasses
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings, strategies as st

from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel
from unposed.pipeline.colmap_model import from_colmap, to_colmap, write_models
from unposed.pipeline.errors import InputError

CAMERAS = (
    Camera("SIMPLE_RADIAL", 640, 480, (500.5, 320.0, 240.0, -0.01)),
    Camera("OPENCV", 300, 400, (310.0, 311.0, 150.2, 200.1, 0.1, -0.2, 0.001, 0.002)),
    Camera("PINHOLE", 640, 480, (1.0 / 3.0, 500.0, 320.0, 240.0)),
)


def collection(n: int) -> Photos:
    return Photos(tuple(Photo(f"room {i % 2}/é{i}.jpg", Path("nowhere"), str(i), 640, 480) for i in range(n)), {})


def make_scene(seed: int, n: int, registered: int, points: int) -> SparseModel:
    """A scene of random numbers in which every track sees a key point once, some key points are never seen."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(points, points + 5, registered)
    xy_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    seen = rng.random((registered, points)) < 0.6
    rows = [rng.permutation(size)[:points] + start for size, start in zip(sizes, xy_start, strict=False)]
    obs_point, photo_row = np.nonzero(seen.T)
    obs_xy = np.array(rows, np.int64).reshape(registered, points)[photo_row, obs_point]
    order = np.lexsort((obs_xy, obs_point))
    rotations = np.linalg.qr(rng.standard_normal((registered, 3, 3)))[0]
    rotations *= np.linalg.det(rotations)[:, None, None]
    return SparseModel(
        cameras=CAMERAS,
        photos=np.sort(rng.choice(n, registered, replace=False)).astype(np.int32),
        camera_of_photo=rng.integers(0, len(CAMERAS), registered).astype(np.int32),
        cam_from_world=np.concatenate([rotations, rng.standard_normal((registered, 3, 1)) * 100], axis=2),
        xy=rng.uniform(0, 640, (xy_start[-1], 2)),
        xy_start=xy_start,
        points=rng.standard_normal((points, 3)) * 1e3,
        rgb=rng.integers(0, 256, (points, 3)).astype(np.uint8),
        error_px=rng.uniform(0, 2, points),
        obs_xy=obs_xy[order],
        obs_point=obs_point[order].astype(np.int64),
    )


def assert_same(a: SparseModel, b: SparseModel) -> None:
    """Everything to the bit, rotations to the rounding of a quaternion."""
    assert a.cameras == b.cameras and a.rigs is b.rigs is None
    for field in dataclasses.fields(SparseModel):
        if field.name in ("cameras", "rigs"):
            continue
        left, right = getattr(a, field.name), getattr(b, field.name)
        assert left.dtype == right.dtype, field.name
        if field.name == "cam_from_world":
            np.testing.assert_array_equal(left[:, :, 3], right[:, :, 3])
            np.testing.assert_allclose(left, right, rtol=0, atol=4e-15 if left.size else 0, err_msg=field.name)
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 12), st.data())
def test_from_undoes_to(seed: int, n: int, points: int, data: st.DataObject) -> None:
    scene = make_scene(seed, n, data.draw(st.integers(1, n)), points)
    photos = collection(n)
    model = to_colmap(scene, photos)
    assert model.is_valid()
    assert_same(from_colmap(model, photos), scene)


def test_a_written_model_reads_back_the_same(tmp_path: Path) -> None:
    photos = collection(8)
    scenes = [make_scene(1, 8, 5, 30), make_scene(2, 8, 3, 10)]
    folders = write_models(scenes, photos, tmp_path / "sparse")
    assert folders == [tmp_path / "sparse" / "0", tmp_path / "sparse" / "1"]
    for folder, scene in zip(folders, scenes, strict=True):
        names = {f"{part}.bin" for part in ("cameras", "images", "points3D", "rigs", "frames")}
        assert {file.name for file in folder.iterdir()} == names
        assert_same(from_colmap(pycolmap.Reconstruction(folder), photos), scene)


def test_the_model_says_what_the_scene_says() -> None:
    """Through COLMAP's own accessors, not by going back."""
    photos, scene = collection(6), make_scene(3, 6, 4, 20)
    model = to_colmap(scene, photos)
    assert (model.num_cameras(), model.num_rigs(), model.num_frames()) == (3, 3, 4)
    assert sorted(model.reg_image_ids()) == (scene.photos + 1).tolist()
    assert model.compute_num_observations() == len(scene.obs_xy)
    image = model.find_image_with_name(photos[int(scene.photos[2])].name)
    assert image.camera_id == scene.camera_of_photo[2] + 1
    for point_row, xy_row in zip(scene.obs_point, scene.obs_xy, strict=True):
        if scene.xy_start[2] <= xy_row < scene.xy_start[3]:
            keypoint = image.points2D[int(xy_row - scene.xy_start[2])]
            assert keypoint.point3D_id == point_row + 1
            np.testing.assert_array_equal(keypoint.xy, scene.xy[xy_row])
    np.testing.assert_array_equal(model.point3D(7).xyz, scene.points[6])
    assert model.point3D(7).error == scene.error_px[6]


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    photos, scene = collection(8), make_scene(4, 8, 6, 40)
    once, again = (
        {file.name: file.read_bytes() for file in write_models([scene], photos, tmp_path / name)[0].iterdir()}
        for name in ("once", "again")
    )
    assert once == again


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    photos, scene = collection(3), make_scene(4, 3, 3, 5)
    write_models([scene], photos, tmp_path)
    with pytest.raises(FileExistsError):
        write_models([scene], photos, tmp_path)


def test_images_without_a_pose_stay_out_and_unknown_ones_are_named() -> None:
    photos, scene = collection(6), make_scene(6, 6, 4, 20)
    model = to_colmap(scene, photos)
    left_out = next(index for index in range(6) if index not in scene.photos)
    model.add_image_with_trivial_frame(pycolmap.Image(name=photos[left_out].name, camera_id=1, image_id=left_out + 1))
    assert_same(from_colmap(model, photos), scene)
    with pytest.raises(InputError, match="none of the 1 photos"):
        from_colmap(model, Photos(photos.photos[:1], {}))
