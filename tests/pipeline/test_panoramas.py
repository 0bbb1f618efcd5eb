"""Panoramas: which files are some, the views that are cut from them, and how they are put together again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unposed.optim.rigs import frame_poses, photo_poses
from unposed.pipeline.artifacts import Camera, Exif, Photo, Photos, SparseModel, View
from unposed.pipeline.colmap_model import from_colmap, to_colmap
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.panoramas import VIEWS, closes, cut_view, panorama_pixels, views_of
from unposed.pipeline.images.photos import scan, single_photos
from unposed.pipeline.images.pixels import read_grey, read_mask, read_rgb
from unposed.pipeline.whole_panoramas import whole_panoramas
from unposed.plugins.cameras.exif import ExifCameras
from unposed.synthetic.camera import Shot, simple_lens
from unposed.synthetic.render import render
from unposed.synthetic.wide_scenes import panoramas

WIDTH = 512
SCENE = panoramas(photos=2, width=WIDTH)


@pytest.fixture(scope="module")
def rendered() -> np.ndarray:
    return render(SCENE.world, SCENE.shots[0])


@pytest.fixture
def folder(rendered: np.ndarray, tmp_path: Path) -> Path:
    """Two panoramas and an ordinary photo."""
    Image.fromarray(rendered).save(tmp_path / "b.png")
    Image.fromarray(np.roll(rendered, 100, axis=1)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(rendered[:200, :300]).save(tmp_path / "c.png")
    return tmp_path


def test_views_are_what_pinhole_cameras_there_would_see(rendered: np.ndarray) -> None:
    shot = SCENE.shots[0]
    side = round(WIDTH / np.pi)
    for name, turn in VIEWS.items():
        pose = np.array(turn, float) @ shot.cam_from_world
        expected = render(SCENE.world, Shot(shot.name, simple_lens(side, side, 90.0), pose))
        view = cut_view(rendered, View(name, WIDTH), side)
        difference = np.abs(view.astype(float) - expected)
        assert np.median(difference) < 4.0 and difference.mean() < 9.0, name
    ahead, right = (np.mean([cut_view(rendered, View(n, WIDTH), side) for n in names]) for names in (["up"], ["down"]))
    assert abs(float(ahead) - float(right)) > 10.0  # else the comparison would not tell views apart


def test_a_pixel_of_a_view_lies_in_the_panorama_where_it_was_taken_from() -> None:
    side, rng = 200, np.random.default_rng(0)
    y, x = np.mgrid[0 : WIDTH // 2, 0:WIDTH].astype(np.float32) + 0.5
    where = np.stack([x, y], axis=-1)
    for name, turn in VIEWS.items():
        pixels = rng.integers(20, side - 20, (50, 2))
        rays = np.concatenate([(pixels + 0.5) / (side / 2) - 1.0, np.ones((50, 1))], axis=1) @ np.array(turn, float)
        seen = cut_view(where, View(name, WIDTH), side)[pixels[:, 1], pixels[:, 0]]
        expected = panorama_pixels(rays, WIDTH)
        inside = np.abs(expected[:, 0] - WIDTH / 2) < WIDTH / 2 - 4
        inside &= np.abs(expected[:, 1] - WIDTH / 4) < WIDTH / 4 - 2
        np.testing.assert_allclose(seen[inside], expected[inside], atol=0.05)


def test_panoramas_of_a_folder_become_views(folder: Path) -> None:
    photos = scan(folder)
    assert [photo.name for photo in photos.photos] == sorted(
        [f"{file}/{view}" for file in ("a.jpg", "b.png") for view in VIEWS] + ["c.png"]
    )
    view = photos[0]
    assert (view.width, view.height, view.path) == (163, 163, folder / "a.jpg")
    assert read_rgb(view).shape == (163, 163, 3) and read_grey(view, 80).shape == (80, 80)
    assert not np.array_equal(read_grey(photos[0]), read_grey(photos[1]))
    again = scan(folder, names=[photo.name for photo in photos.photos])
    assert again == photos
    with pytest.raises(InputError, match="a panorama of all directions"):
        single_photos(folder / "a.jpg", folder / "c.png")


def test_a_panorama_shows_in_its_pixels_or_says_so(rendered: np.ndarray, tmp_path: Path) -> None:
    grey = rendered.mean(axis=2)
    assert closes(grey) and closes(np.roll(grey, 37, axis=1))
    assert not closes(grey[:, 60:])  # a strip is missing at the seam
    assert not closes(grey[:-80])  # no pole at the lower border; the upper one is sky
    assert not closes(np.full((256, 512), 90.0))
    object_on_black = np.zeros((256, 512))
    object_on_black[80:170, 200:300] = grey[100:190, 200:300]
    assert not closes(object_on_black)
    plain = np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    said = PngImagePlugin.PngInfo()
    said.add_itxt("XML:com.adobe.xmp", '<x GPano:ProjectionType="equirectangular"/>')
    Image.fromarray(plain).save(tmp_path / "said.png", pnginfo=said)
    said = PngImagePlugin.PngInfo()
    said.add_itxt(
        "XML:com.adobe.xmp",
        '<x GPano:ProjectionType="equirectangular" GPano:CroppedAreaImageWidthPixels="128" '
        'GPano:FullPanoWidthPixels="300"/>',
    )
    Image.fromarray(plain).save(tmp_path / "part.png", pnginfo=said)
    Image.fromarray(plain).save(tmp_path / "silent.png")
    names = [photo.name for photo in scan(tmp_path).photos]
    assert names == ["part.png", *sorted(f"said.png/{view}" for view in VIEWS), "silent.png"]


def test_masks_are_cut_as_the_photos_are(folder: Path) -> None:
    mask = np.full((WIDTH // 2, WIDTH), 255, np.uint8)
    mask[WIDTH * 3 // 8 :] = 0  # below 45 degrees
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "a.jpg.png")
    masks = {photo.name: read_mask(photo) for photo in scan(folder, masks=folder / "masks").photos}
    assert masks["b.png/down"] is None
    down, up = masks["a.jpg/down"], masks["a.jpg/up"]
    assert down is not None and up is not None
    assert not down.all() and up.all()
    assert down[80, 80] == 0


def test_views_have_a_known_camera_and_a_rig(folder: Path) -> None:
    photos = scan(folder)
    cameras = ExifCameras()(photos)
    assert cameras.grouping == "assumed" and cameras.focal_source == ("given", "guess")
    first = cameras.cameras[cameras.camera_of_photo[0]]
    assert first == Camera("SIMPLE_PINHOLE", 163, 163, (81.5, 81.5, 81.5))
    rigs = cameras.rigs
    assert rigs is not None and rigs.central
    assert rigs.frame_of_photo.tolist() == [0] * 6 + [1] * 6 + [2]
    assert rigs.known.tolist() == [True] * 12 + [False]
    assert ExifCameras()(Photos(photos.photos[-1:], {})).rigs is None


def model_of(photos: Photos) -> SparseModel:
    """A model of all photos, of views and of others, with random points."""
    rng = np.random.default_rng(0)
    cameras = ExifCameras()(photos)
    rigs = cameras.rigs
    assert rigs is not None
    turns = np.linalg.qr(rng.standard_normal((3, 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    frames = np.concatenate([turns, rng.standard_normal((3, 3, 1))], axis=2)
    count, n = 4, len(photos)
    obs_xy = rng.permutation(count * n)[: 2 * n]
    return SparseModel(
        cameras=cameras.cameras,
        photos=np.arange(n, dtype=np.int32),
        camera_of_photo=cameras.camera_of_photo.astype(np.int32),
        cam_from_world=photo_poses(rigs, frames[rigs.frame_of_photo]),
        xy=rng.uniform(0.0, 160.0, (count * n, 2)),
        xy_start=count * np.arange(n + 1, dtype=np.int64),
        points=rng.standard_normal((n, 3)),
        rgb=np.zeros((n, 3), np.uint8),
        error_px=np.zeros(n),
        obs_xy=np.sort(obs_xy.reshape(n, 2), axis=1).ravel().astype(np.int64),
        obs_point=np.repeat(np.arange(n), 2),
        rigs=rigs,
    )


def test_rigs_are_written_to_colmap_models_and_read_again(folder: Path) -> None:
    photos = scan(folder)
    model = model_of(photos)
    colmap = to_colmap(model, photos)
    assert (len(colmap.rigs), len(colmap.frames), colmap.num_reg_images()) == (2, 3, 13)
    again = from_colmap(colmap, photos)
    np.testing.assert_allclose(again.cam_from_world, model.cam_from_world, atol=1e-12)
    assert again.rigs is not None and model.rigs is not None
    cameras = [[each.cameras[k] for k in each.camera_of_photo] for each in (model, again)]
    assert cameras[0] == cameras[1] and len(again.cameras) == len(VIEWS) + 1  # each sensor has its own
    assert from_colmap(to_colmap(again, photos), photos).cameras == again.cameras
    np.testing.assert_array_equal(again.rigs.frame_of_photo, model.rigs.frame_of_photo)
    # COLMAP's reference is the sensor whose camera comes first, and not the front.
    for frame in range(2):
        own = again.rigs.frame_of_photo == frame
        poses = frame_poses(again.rigs, again.cam_from_world)[own]
        np.testing.assert_allclose(poses, np.broadcast_to(poses[0], poses.shape), atol=1e-12)
    np.testing.assert_allclose(frame_poses(model.rigs, again.cam_from_world)[:6].std(axis=0), 0.0, atol=1e-12)


def test_panoramas_are_put_together_again(folder: Path) -> None:
    photos = scan(folder)
    model = model_of(photos)
    (whole,), together = whole_panoramas([model], photos)
    assert [photo.name for photo in together.photos] == ["a.jpg", "b.png", "c.png"]
    assert [whole.cameras[k].model for k in whole.camera_of_photo] == ["EQUIRECTANGULAR"] * 2 + ["SIMPLE_RADIAL"]
    front = [i for i, photo in enumerate(photos.photos) if photo.name.endswith("front")]
    np.testing.assert_allclose(whole.cam_from_world[:2], model.cam_from_world[front], atol=1e-12)
    colmap = to_colmap(whole, together)
    # A key point is where COLMAP projects to what its view sees there.
    name_of = {at: photos[i].name.rpartition("/")[0] or photos[i].name for at, i in enumerate(model.photos.tolist())}
    for point in range(len(model.points)):
        expected = set()
        for row in model.obs_xy[model.obs_point == point].tolist():
            at = int(np.searchsorted(model.xy_start, row, side="right")) - 1
            image = colmap.find_image_with_name(name_of[at])
            focal, x, y = model.cameras[model.camera_of_photo[at]].params[:3]
            ray = [(model.xy[row, 0] - x) / focal, (model.xy[row, 1] - y) / focal, 1.0]
            ray = image.cam_from_world().rotation.matrix() @ model.cam_from_world[at, :, :3].T @ ray
            expected.add((image.image_id, *np.round(image.camera.img_from_cam(ray), 3)))
        elements = colmap.point3D(point + 1).track.elements
        found = {
            (each.image_id, *np.round(colmap.images[each.image_id].points2D[each.point2D_idx].xy, 3))
            for each in elements
        }
        assert found == expected


def test_positions_of_a_panorama_are_kept_and_its_focal_length_is_not() -> None:
    exif = Exif(make="a", model="b", focal_mm=1.3, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
    view = views_of(replace(Photo("p.jpg", Path("p.jpg"), "c", 4000, 2000), exif=exif))[0]
    assert view.exif == Exif(make="a", model="b", latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)
    assert (view.name, view.width) == ("p.jpg/front", 1273)
