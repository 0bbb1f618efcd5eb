"""Exports, read back by programs that are not ours."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel, SparseModels
from unposed.pipeline.errors import InputError
from unposed.pipeline.ply_files import NORMAL_VERTEX
from unposed.plugins.export.colmap import ColmapExport
from unposed.plugins.export.ply import PlyExport
from unposed.plugins.export.splat import SplatExport
from unposed.plugins.export.splat_images import plain_names

PHOTOS = Photos(tuple(Photo(f"{i}.jpg", Path("nowhere"), str(i), 400, 200) for i in range(3)), {})


def make_scene(photos: list[int], points: int) -> SparseModel:
    """Cameras on the x axis that look along z; every photo sees every point."""
    n = len(photos)
    rng = np.random.default_rng(points)
    poses = np.tile(np.eye(3, 4), (n, 1, 1))
    poses[:, 0, 3] = -np.arange(n)
    return SparseModel(
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


SCENES = SparseModels((make_scene([0, 1], 6), make_scene([2], 3)), {})


@pytest.mark.parametrize(("file_format", "ending"), [("binary", "bin"), ("text", "txt")])
def test_colmap_models_of_all_components(tmp_path: Path, file_format: str, ending: str) -> None:
    ColmapExport(format=file_format)(SCENES, PHOTOS, tmp_path / "new")
    for number, scene in enumerate(SCENES.models):
        folder = tmp_path / "new" / "sparse" / str(number)
        assert {file.suffix for file in folder.iterdir()} == {f".{ending}"}
        model = pycolmap.Reconstruction(folder)
        assert model.num_points3D() == len(scene.points)
        assert model.compute_num_observations() == len(scene.obs_xy)
        assert {image.name for image in model.images.values()} == {PHOTOS[int(i)].name for i in scene.photos}


def test_ply_points_are_what_colmap_reads(tmp_path: Path) -> None:
    PlyExport()(SCENES, PHOTOS, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["points-0.ply", "points-1.ply"]
    for number, scene in enumerate(SCENES.models):
        model = pycolmap.Reconstruction()
        model.import_PLY(tmp_path / f"points-{number}.ply")
        points = [point for _, point in sorted(model.points3D.items())]
        np.testing.assert_allclose([p.xyz for p in points], scene.points, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal([p.color for p in points], scene.rgb)


def read_ply(file: Path) -> tuple[list[str], bytes]:
    head, _, body = file.read_bytes().partition(b"end_header\n")
    return head.decode("ascii").splitlines(), body


def test_ply_cameras_are_frusta_of_the_right_shape(tmp_path: Path) -> None:
    PlyExport(cameras=True)(SCENES, PHOTOS, tmp_path)
    header, body = read_ply(tmp_path / "cameras-0.ply")
    assert "element vertex 10" in header
    assert "element edge 16" in header
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], 10)["xyz"]
    edges = np.frombuffer(body, "<i4", offset=10 * 15).reshape(-1, 2)
    # An image of 400 x 200 and a focal length of 100: 45 degrees are half of the width; depth is 2 % of 50.
    expected = np.array([[0, 0, 0], [-2, -1, 1], [2, -1, 1], [2, 1, 1], [-2, 1, 1]])
    np.testing.assert_allclose(vertices[:5], expected, atol=1e-6)
    np.testing.assert_allclose(vertices[5:], expected + np.eye(3)[0], atol=1e-6)
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    assert sorted(lengths[:8].round(5)) == sorted([*[round(6**0.5, 5)] * 4, 2, 2, 4, 4])
    assert (edges[8:] - edges[:8] == 5).all()


def test_ply_cameras_have_the_size_and_colour_of_the_options(tmp_path: Path) -> None:
    PlyExport(cameras=True, camera_size=0.04, camera_rgb=(1, 2, 3))(SCENES, PHOTOS, tmp_path)
    _, body = read_ply(tmp_path / "cameras-0.ply")
    rows = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], 10)
    np.testing.assert_allclose(rows["xyz"][1], (-4, -2, 2), atol=1e-6)
    np.testing.assert_array_equal(rows["rgb"], [(1, 2, 3)] * 10)


def test_a_scene_without_points_still_exports(tmp_path: Path) -> None:
    PlyExport(cameras=True)(SparseModels((make_scene([0], 0),), {}), PHOTOS, tmp_path)
    header, body = read_ply(tmp_path / "points-0.ply")
    assert "element vertex 0" in header
    assert body == b""
    assert len(read_ply(tmp_path / "cameras-0.ply")[1]) == 5 * 15 + 8 * 8


# -- splat: a folder to train from


def smooth_photo(file: Path, seed: int) -> np.ndarray:
    """400 x 200, written without loss; colours change slowly from place to place."""
    coarse = np.random.default_rng(seed).integers(0, 256, (10, 20, 3), np.uint8)
    image = Image.fromarray(coarse).resize((400, 200), Image.Resampling.BICUBIC)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return np.asarray(image).astype(np.float64)


def colour_at(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    column, row = np.floor(xy).astype(int).T
    return image[row, column]


@pytest.mark.parametrize("sharp_megapixels", [4.0, 0.0])
def test_splat_is_a_folder_of_pinhole_photos(tmp_path: Path, sharp_megapixels: float) -> None:
    names = ["a/1.png", "b/1.png", "ä b.png"]
    images = [smooth_photo(tmp_path / "in" / name, seed) for seed, name in enumerate(names)]
    photos = Photos(tuple(Photo(name, tmp_path / "in" / name, "", 400, 200) for name in names), {})
    bent = Camera("SIMPLE_RADIAL", 400, 200, (300.0, 206.0, 95.0, -0.15))
    scene = replace(make_scene([0, 1], 400), cameras=(bent,))
    scene = replace(scene, xy=np.random.default_rng(1).uniform(1, (399, 199), scene.xy.shape))
    export = SplatExport(quality=100, frame="keep", sharp_megapixels=sharp_megapixels)
    export(SparseModels((scene, make_scene([2], 3)), {}), photos, tmp_path / "out")

    assert sorted(file.name for file in (tmp_path / "out" / "images").iterdir()) == ["a_1.jpg", "b_1.jpg"]
    assert [folder.name for folder in (tmp_path / "out" / "sparse").iterdir()] == ["0"]
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    (camera,) = model.cameras.values()
    assert camera.model.name == "PINHOLE"
    assert list(camera.params) == [300.0, 300.0, camera.width / 2, camera.height / 2]
    seen = 0
    for image in model.images.values():
        new = np.asarray(Image.open(tmp_path / "out" / "images" / image.name)).astype(np.float64)
        assert new.shape == (camera.height, camera.width, 3)
        row = image.image_id - 1
        np.testing.assert_array_equal(image.cam_from_world().matrix(), scene.cam_from_world[row])
        own = scene.xy[scene.xy_start[row] : scene.xy_start[row + 1]]
        reference = pycolmap.Camera(model=bent.model, width=400, height=200, params=list(bent.params))
        kept = np.array([point.xy for point in image.points2D])
        rays = reference.cam_from_img(own) * 300.0 + (camera.width / 2, camera.height / 2)
        inside = ((rays > 0) & (rays < (camera.width, camera.height))).all(axis=1)
        np.testing.assert_allclose(kept, rays[inside], atol=1e-6)
        apart = np.abs(colour_at(new, kept) - colour_at(images[row], own[inside])).max(axis=1)
        assert np.median(apart) < 6.0  # of 255: half a pixel of a slow slope, and JPEG
        seen += int(inside.sum())
    assert model.compute_num_observations() < seen < len(scene.xy)
    assert all(point.track.length() == 2 for point in model.points3D.values())
    assert model.num_points3D() == model.compute_num_observations() / 2


def test_splat_hides_what_is_masked_or_transparent(tmp_path: Path) -> None:
    smooth_photo(tmp_path / "0.png", 0)
    veiled = np.full((200, 400, 4), 255, np.uint8)
    veiled[:, :100, 3] = 0
    Image.fromarray(veiled).save(tmp_path / "1.png")
    photos = Photos(tuple(Photo(f"{i}.png", tmp_path / f"{i}.png", "", 400, 200) for i in range(2)), {})
    SplatExport()(SparseModels((make_scene([0, 1], 6),), {}), photos, tmp_path / "out")
    masks = tmp_path / "out" / "masks"
    assert sorted(file.name for file in masks.iterdir()) == ["0.png", "1.png"]  # one for every photo, or for none
    assert np.asarray(Image.open(masks / "0.png")).min() == 255
    with Image.open(tmp_path / "out" / "masks_4" / "1.png") as small:
        assert small.size == (100, 50)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "1.png"))
    np.testing.assert_array_equal(mask, np.where(np.arange(400) < 100, 0, 255)[None].repeat(200, 0))


def test_splat_names_are_plain_and_distinct() -> None:
    names = ["a/1.jpg", "a_1.png", "A/1.JPG", "ä b.tif", "ö b.tif", "x.y.heic"]
    assert plain_names(names) == ["a_1.jpg", "a_1_2.jpg", "A_1_3.jpg", "_b.jpg", "_b_2.jpg", "x_y.jpg"]


def test_splat_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photo was registered"):
        SplatExport()(SparseModels((), {}), PHOTOS, tmp_path / "out")


def test_splat_names_a_photo_that_is_no_longer_whole(tmp_path: Path) -> None:
    smooth_photo(tmp_path / "0.jpg", 0)
    smooth_photo(tmp_path / "1.jpg", 1)
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:900])
    photos = Photos(tuple(Photo(f"{i}.jpg", tmp_path / f"{i}.jpg", "", 400, 200) for i in range(2)), {})
    with pytest.raises(InputError, match=r"1\.jpg: photo: the file is damaged"):
        SplatExport()(SparseModels((make_scene([0, 1], 6),), {}), photos, tmp_path / "out")


def test_splat_is_read_by_every_trainer(tmp_path: Path) -> None:
    """The same cameras and points in all places where programs look, at sizes that halve without a rest."""
    names = [f"{i}.png" for i in range(9)]
    for seed, name in enumerate(names):
        smooth_photo(tmp_path / name, seed)
    photos = Photos(tuple(Photo(name, tmp_path / name, "", 400, 200) for name in [*names, "lost.png"]), {})
    model = make_scene(list(range(9)), 50)
    turned = model.cam_from_world.copy()
    turned[:, :, :3] = exp_so3(np.array([[0.1, -0.2, 0.3]]))[0]
    model = replace(model, cam_from_world=turned, cameras=(Camera("SIMPLE_RADIAL", 400, 200, (300.0, 206, 95, -0.1)),))
    SplatExport()(SparseModels((model,), {}), photos, tmp_path / "out")
    out = tmp_path / "out"

    written = pycolmap.Reconstruction(out / "sparse" / "0")
    (camera,) = written.cameras.values()
    assert camera.width % 8 == camera.height % 8 == 0 and camera.width > 350
    for factor in (1, 2, 4, 8):
        files = sorted((out / ("images" if factor == 1 else f"images_{factor}")).iterdir())
        assert [file.name for file in files] == [f"{i}.jpg" for i in range(9)]
        assert {np.asarray(Image.open(file)).shape[1::-1] for file in files} == {
            (camera.width // factor, camera.height // factor)
        }
    assert pycolmap.Reconstruction(out / "colmap" / "sparse" / "0").num_images() == 9

    transforms = json.loads((out / "transforms.json").read_text())
    assert [transforms[key] for key in ("fl_x", "fl_y", "cx", "cy")] == list(camera.params)
    by_name = {image.name: image for image in written.images.values()}
    for frame in transforms["frames"]:
        image = by_name[Path(frame["file_path"]).name]
        world_from_cam = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])  # axes of OpenCV again
        np.testing.assert_allclose(world_from_cam[:3], image.cam_from_world().inverse().matrix(), atol=1e-12)

    header, body = read_ply(out / transforms["ply_file_path"])
    vertices = np.frombuffer(body, NORMAL_VERTEX)
    assert [line.split()[-1] for line in header if line.startswith("property")] == list(NORMAL_VERTEX.names or ())
    points = np.array([point.xyz for _, point in sorted(written.points3D.items())])
    np.testing.assert_allclose(np.stack([vertices[axis] for axis in "xyz"], axis=1), points, rtol=1e-6)
    normals = np.stack([vertices[axis] for axis in ("nx", "ny", "nz")], axis=1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, rtol=1e-5)
    centre = np.mean([image.projection_center() for image in written.images.values()], axis=0)
    assert (np.einsum("pi,pi->p", normals, centre - points) > 0).all()
    assert (out / "sparse" / "0" / "points3D.ply").read_bytes() == (out / "sparse_pc.ply").read_bytes()

    lists = {part: (out / f"{part}_list.txt").read_text().split() for part in ("train", "val", "test")}
    assert lists["val"] == lists["test"] == ["0.jpg", "8.jpg"] == (out / "sparse/0/test.txt").read_text().split()
    assert lists["train"] == [f"{i}.jpg" for i in range(1, 8)]
    assert transforms["train_filenames"] == [f"images/{name}" for name in lists["train"]]
    readme = (out / "README.txt").read_text()
    assert readme.startswith("9 of 10 photos") and readme.endswith("not in the largest model:\n  lost.png\n")


def two_photos(folder: Path) -> Photos:
    for i in range(2):
        smooth_photo(folder / f"{i}.png", i)
    return Photos(tuple(Photo(f"{i}.png", folder / f"{i}.png", "", 400, 200) for i in range(2)), {})


def test_splat_keeps_exif_upright(tmp_path: Path) -> None:
    smooth_photo(tmp_path / "0.png", 0)
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    exif.get_ifd(IFD.Exif)[Base.ExposureTime] = IFDRational(1, 125)
    exif.get_ifd(IFD.Exif)[Base.ExifImageWidth] = 200
    for name, data in (("0.jpg", exif.tobytes()), ("1.jpg", b"Exif\0\0MM\0*\0\0\0\x08\0\x09damaged")):
        Image.open(tmp_path / "0.png").save(tmp_path / name, exif=data)
    photos = Photos(tuple(Photo(f"{i}.jpg", tmp_path / f"{i}.jpg", "", 400, 200) for i in range(2)), {})
    SplatExport(halvings=1)(SparseModels((make_scene([0, 1], 6),), {}), photos, tmp_path / "out")
    for folder in ("images", "images_2"):
        with Image.open(tmp_path / "out" / folder / "0.jpg") as image:
            kept = image.getexif()
        assert kept[Base.Orientation] == 1
        assert kept.get_ifd(IFD.Exif)[Base.ExposureTime] == IFDRational(1, 125)
        assert Base.ExifImageWidth not in kept.get_ifd(IFD.Exif)
    assert (tmp_path / "out" / "images" / "1.jpg").exists()
    assert not (tmp_path / "out" / "images_4").exists()


def test_splat_has_no_point_twice(tmp_path: Path) -> None:
    model = make_scene([0, 1], 40)
    model.points[30:] = model.points[:10]
    SplatExport()(SparseModels((model,), {}), two_photos(tmp_path), tmp_path / "out")
    points = [point.xyz for point in pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0").points3D.values()]
    assert 20 < len(points) <= 30 and len(np.unique(points, axis=0)) == len(points)


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["5.jpg", "b/5.jpg"], ["1_5.jpg", "2_b_5.jpg"]),
        (["a.jpg", "1_a.jpg"], ["1.jpg", "2.jpg"]),
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
    ],
)
def test_no_splat_name_is_the_end_of_another(names: list[str], plain: list[str]) -> None:
    assert plain_names(names) == plain


def test_splat_link_becomes_a_copy_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refused)
    SplatExport()(SparseModels((make_scene([0, 1], 6),), {}), two_photos(tmp_path), tmp_path / "out")
    copied = tmp_path / "out" / "colmap" / "sparse" / "0" / "images.bin"
    assert not copied.parent.parent.is_symlink()
    assert copied.read_bytes() == (tmp_path / "out" / "sparse" / "0" / "images.bin").read_bytes()
