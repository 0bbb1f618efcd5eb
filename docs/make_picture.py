"""The picture of the README, drawn from a reconstruction of the bundled sample: photos in, cameras and points out.

    python docs/make_picture.py [FILE.jpg]

Everything in it is what `unposed.reconstruct` gives. Left away is what would spoil the sight: the walls on the
viewer's side, as the front of a doll's house is, and points that stand alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import unposed
from unposed import Reconstruction
from unposed.pipeline.artifacts import SparseModel

Array = NDArray[np.floating]
Rgb = tuple[int, int, int]
Line = tuple[tuple[float, float], tuple[float, float]]
Thing = tuple[float, Callable[[Image.Image], None]]
"""Depth, and how to draw it."""

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "synthetic" / "sample-photos"

SETTINGS = {
    "features.max_keypoints": 32768,
    "features.max_side_px": 1728,
    "features.contrast_threshold": 0.0,
    "matching.max_ratio": 0.95,
}
"""For more points than the defaults find: poses do not need them, pictures do."""

WIDTH, HEIGHT = 1400, 800
FINE = 3
"""The picture is drawn so many times larger; shrinking it smooths every edge."""

STRIP = (12, 3, 17, 8, 0)
"""Photos shown on the left, out of order as they may be."""
STRIP_LEFT, STRIP_TOP, STRIP_WIDTH, STRIP_GAP = 40, 64, 189, 11

BEHIND = 7
"""The viewer stands on the side of this photo, outside and above the ring of cameras."""
ELEVATION_DEG, DISTANCE, SINK = 37.0, 3.5, 0.2
"""Of the eye; it looks at a place `SINK` below the middle of the ring. Lengths are in radii of the ring."""
FOCAL_PX, CENTRE_PX = 1420.0, (832.0, 432.0)
FRUSTUM = 0.145
"""Depth of a camera as drawn."""
POINT = 0.0072
"""Radius of a point."""
CELL, CROWD = 0.09, 5
"""Points stand alone where a cube of this size holds fewer."""
HAZE = 0.16
"""How much darker points get per radius of depth."""
FADE_PX = 290, 480
"""On their way to the photos on the left, points fade."""

NIGHT: Rgb = (18, 21, 27)
DUSK: Rgb = (47, 54, 67)
GLOW_PX = 620.0, 400.0
INK: Rgb = (214, 219, 228)
AMBER: Rgb = (255, 188, 96)


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera that looks at the reconstruction; its unit of length is the radius of the ring of cameras."""

    origin: Array
    """The middle of the ring."""
    up: Array
    back: Array
    """Horizontal, from the middle towards the viewer."""
    radius: float

    @property
    def forward(self) -> Array:
        tilt = np.radians(ELEVATION_DEG)
        tilted: Array = -np.cos(tilt) * self.back - np.sin(tilt) * self.up
        return tilted

    @property
    def eye(self) -> Array:
        return self.origin - self.radius * (SINK * self.up + DISTANCE * self.forward)

    def project(self, world: Array) -> tuple[Array, Array]:
        """Pixels (n, 2) of the enlarged picture, and depths (n,)."""
        right = unit(np.cross(self.forward, self.up))
        axes = np.stack([right, np.cross(self.forward, right), self.forward])
        seen = (world - self.eye) / self.radius @ axes.T
        pixels: Array = FINE * (FOCAL_PX * seen[:, :2] / seen[:, 2:] + CENTRE_PX)
        return pixels, seen[:, 2]


def main(file: Path) -> None:
    made = unposed.reconstruct(SAMPLE, preset="classic", settings=SETTINGS)
    picture = draw(made).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    picture.save(file, quality=82, optimize=True, progressive=True)


def draw(made: Reconstruction) -> Image.Image:
    """The picture, FINE times enlarged."""
    scene = made.sparse.models[0]
    photos = [Image.open(photo.path).convert("RGB") for photo in made.photos.photos]
    view = stand(scene.cam_from_world)
    picture = background()
    things = [*points(view, scene), *cameras(view, scene, photos)]
    for _, paint in sorted(things, key=lambda thing: -thing[0]):  # what is near covers what is far
        paint(picture)
    strip(picture, [photos[index] for index in STRIP])
    write(picture, (STRIP_LEFT, 26), f"{len(photos)} photos, in any order", "la")
    found = f"{len(scene.photos)} cameras and {len(scene.points):,} points"
    write(picture, (WIDTH - STRIP_LEFT, HEIGHT - 26), found, "rd")
    return picture


def stand(cam_from_world: Array) -> View:
    """Where the viewer stands. Photographers hold their cameras upright on average, which tells where up is."""
    centres = centres_of(cam_from_world)
    up = -unit(cam_from_world[:, 1, :3].mean(0))
    origin = centres.mean(0)
    level = (centres - origin) - np.outer((centres - origin) @ up, up)
    return View(origin, up, unit(level[BEHIND]), float(np.linalg.norm(level, axis=1).mean()))


def centres_of(cam_from_world: Array) -> Array:
    centres: Array = -np.einsum("pji,pj->pi", cam_from_world[:, :, :3], cam_from_world[:, :, 3])
    return centres


def points(view: View, scene: SparseModel) -> Iterator[Thing]:
    shown = ~in_the_way(view, scene.points) & (in_same_cell((scene.points - view.origin) / view.radius) >= CROWD)
    xy, depth = view.project(scene.points[shown])
    light = 1 - HAZE * (depth - DISTANCE).clip(0)
    light *= ((xy[:, 0] / FINE - FADE_PX[0]) / (FADE_PX[1] - FADE_PX[0])).clip(0, 1)
    dark = backdrop(xy / FINE)
    colours = np.rint(dark + light[:, None] * (scene.rgb[shown] - dark)).astype(int).tolist()
    for (x, y), z, lit, colour in zip(xy, depth, light, colours, strict=True):
        if lit > 0:
            r = FINE * FOCAL_PX * POINT / z
            yield z, partial(disk, box=(x - r, y - r, x + r, y + r), colour=tuple(colour))


def in_the_way(view: View, world: Array) -> NDArray[np.bool_]:
    """Outside the ring of cameras, on the viewer's side."""
    away = (world - view.origin) / view.radius
    level = away - np.outer(away @ view.up, view.up)
    distance = np.linalg.norm(level, axis=1)
    hiding: NDArray[np.bool_] = (distance > 1) & (level @ view.back > -0.1 * distance)
    return hiding


def in_same_cell(xyz: Array) -> NDArray[np.int64]:
    """How many points, itself included, each one's cube of the grid holds."""
    cells = np.floor(xyz / CELL).astype(np.int64)
    _, which, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    of_point: NDArray[np.int64] = count[which.ravel()]
    return of_point


def disk(picture: Image.Image, box: tuple[float, float, float, float], colour: Rgb) -> None:
    ImageDraw.Draw(picture).ellipse(box, fill=colour)


def cameras(view: View, scene: SparseModel, photos: list[Image.Image]) -> Iterator[Thing]:
    """Every camera as a pyramid of lines, with its photo as the base."""
    for pose, which, index in zip(scene.cam_from_world, scene.camera_of_photo, scene.photos, strict=True):
        lens = scene.cameras[which]
        # Parameters begin with a focal length; half the picture over it is the slope of the pyramid's sides.
        x, y = lens.width / (2 * lens.params[0]), lens.height / (2 * lens.params[0])
        pyramid = FRUSTUM * view.radius * np.array([(0, 0, 0), (-x, -y, 1), (x, -y, 1), (x, y, 1), (-x, y, 1)])
        xy, depth = view.project((pyramid - pose[:, 3]) @ pose[:, :3])
        from_behind = depth[0] < depth[1:].mean()
        yield depth[1:].mean(), partial(camera, xy=xy, photo=photos[index], from_behind=from_behind)


def camera(picture: Image.Image, xy: Array, photo: Image.Image, from_behind: bool) -> None:
    apex, *corners = [(float(x), float(y)) for x, y in xy]
    sides = [(apex, corner) for corner in corners]
    if not from_behind:
        lines(picture, sides)
    paste(picture, photo, xy[1:])
    lines(picture, [(corners[i - 1], corners[i]) for i in range(4)])
    if from_behind:
        lines(picture, sides)


def lines(picture: Image.Image, ends: list[Line]) -> None:
    for line in ends:
        ImageDraw.Draw(picture).line(line, fill=AMBER, width=FINE)


def paste(picture: Image.Image, photo: Image.Image, corners: Array) -> None:
    """The photo, seen at an angle: its corners, clockwise from the top left, come to lie where told."""
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    width, height = (high - low).tolist()
    small = photo.resize((2 * width, 2 * width * photo.height // photo.width), Image.Resampling.LANCZOS)
    target = np.array([(0, 0), (small.width, 0), small.size, (0, small.height)], float)
    # Eight numbers of the homography from the picture to the photo: two linear equations from every corner.
    rows, values = [], []
    for (x, y), (u, v) in zip(corners - low, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    small.putalpha(235)
    warp = np.linalg.solve(np.array(rows), np.array(values)).tolist()
    flat = small.transform((width, height), Image.Transform.PERSPECTIVE, warp, Image.Resampling.BICUBIC)
    picture.paste(flat, (int(low[0]), int(low[1])), flat)


def strip(picture: Image.Image, photos: list[Image.Image]) -> None:
    """Photos below one another, and an arrow to what becomes of them."""
    width = FINE * STRIP_WIDTH
    top = FINE * STRIP_TOP
    for photo in photos:
        small = photo.resize((width, width * photo.height // photo.width), Image.Resampling.LANCZOS)
        corners = Image.new("L", small.size)
        ImageDraw.Draw(corners).rounded_rectangle((0, 0, small.width - 1, small.height - 1), 6 * FINE, fill=255)
        picture.paste(small, (FINE * STRIP_LEFT, top), corners)
        top += small.height + FINE * STRIP_GAP
    x, y, r = FINE * (STRIP_LEFT + STRIP_WIDTH + 40), FINE * HEIGHT // 2, FINE * 13
    arrow = [(x - r / 2, y - r), (x + r / 2, y), (x - r / 2, y + r)]
    ImageDraw.Draw(picture).line(arrow, fill=AMBER, width=3 * FINE, joint="curve")


def write(picture: Image.Image, at: tuple[int, int], text: str, anchor: str) -> None:
    place = (FINE * at[0], FINE * at[1])
    ImageDraw.Draw(picture).text(place, text, INK, ImageFont.load_default(17 * FINE), anchor)


def background() -> Image.Image:
    colours = backdrop(np.moveaxis(np.mgrid[:HEIGHT, :WIDTH][::-1], 0, -1).astype(float))
    return Image.fromarray(np.rint(colours).astype(np.uint8)).resize((FINE * WIDTH, FINE * HEIGHT))


def backdrop(xy: Array) -> Array:
    """Night, and a glow where the scene is."""
    away = (xy - CENTRE_PX) / GLOW_PX
    colours: Array = NIGHT + np.exp(-np.square(away).sum(-1))[..., None] * np.subtract(DUSK, NIGHT)
    return colours


def unit(v: Array) -> Array:
    of_length_one: Array = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return of_length_one


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "reconstruction.jpg")
