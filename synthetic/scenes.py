"""Scenes by name: the ordinary case, and one for every way in which photos are hard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from . import patterns as p
from .camera import Lens, Shot, look_at, simple_lens
from .patterns import Rng, sized
from .texture import Texture, texture
from .world import Surface, World, box, cylinder, rectangle, sphere


@dataclass(frozen=True, eq=False)
class Scene:
    """A world and the photos to take of it. The seed is that of the sensor noise."""

    name: str
    world: World
    shots: tuple[Shot, ...]
    seed: int = 0


def easy(photos: int = 20, width: int = 640, seed: int = 0) -> Scene:
    """Once around the courtyard's still life, a step of 18 degrees between neighbours at the default count."""
    lens = simple_lens(width, width * 2 // 3, 62)
    return Scene("easy", courtyard(seed), _ring(lens, photos, radius=4.3, height=(1.5, 2.3), target=(0, 0, 0.75)))


def wide_baseline(photos: int = 8, width: int = 640, seed: int = 0) -> Scene:
    """The courtyard from few places: 45 degrees between neighbours."""
    lens = simple_lens(width, width * 2 // 3, 68)
    return Scene("wide_baseline", courtyard(seed), _ring(lens, photos, 4.6, (1.6, 2.6), (0, 0, 0.7)))


def two_disjoint(photos: int = 12, width: int = 640, seed: int = 0) -> Scene:
    """Two courtyards that share no surface, a kilometre apart; names begin with a or b. Expect two models."""
    lens = simple_lens(width, width * 2 // 3, 62)
    worlds = [courtyard(seed), courtyard(seed + 1000, at=(1000.0, 0.0))]
    shots = [
        replace(shot, name=f"{letter}{shot.name}")
        for letter, x in (("a", 0.0), ("b", 1000.0))
        for shot in _arc(lens, photos // 2, 4.3, (1.5, 2.2), (x, 0, 0.75), span_deg=18 * (photos // 2 - 1))
    ]
    return Scene("two_disjoint", World(sum((world.surfaces for world in worlds), ())), tuple(shots))


def pure_rotation(photos: int = 8, width: int = 640, seed: int = 0) -> Scene:
    """A camera that turns on the spot: matches abound, depth cannot be known."""
    lens = simple_lens(width, width * 2 // 3, 62)
    eye = np.array([0.3, -4.2, 1.6])
    headings = np.radians(np.linspace(50, 130, photos))
    shots = [
        Shot(_name(i), lens, look_at(eye, eye + (np.cos(a), np.sin(a), -0.15 + 0.04 * np.sin(5 * a))))
        for i, a in enumerate(headings)
    ]
    return Scene("pure_rotation", courtyard(seed), tuple(shots))


def planar_wall(photos: int = 10, width: int = 640, seed: int = 0) -> Scene:
    """Nothing but one wall of posters, seen from an arc: the focal length and the pose are hard to tell apart."""
    rng = np.random.default_rng(seed)
    sheet = np.concatenate([_poster_picture(rng, i, (1024, 512)) for i in range(4)], axis=1)
    wall = rectangle((-4, 0, 4), (8, 0, 0), (0, 0, -4), texture(sheet))
    lens = simple_lens(width, width * 3 // 4, 55)
    shots = [
        Shot(_name(i), lens, look_at((4.2 * s, -5.5 + 0.9 * s * s, 2 + 0.6 * np.sin(4 * s)), (0.9 * s, 0, 2), 4 * s))
        for i, s in enumerate(np.linspace(-1, 1, photos))
    ]
    return Scene("planar_wall", World((wall,)), tuple(shots))


def repeated_facade(photos: int = 24, width: int = 640, seed: int = 0) -> Scene:
    """A building whose front and back, and every window in them, are the same; only what stands around differs.

    A reconstruction that trusts matches alone folds the back onto the front.
    """
    rng = np.random.default_rng(seed)
    front = texture(p.facade((512, 1024), rng, floors=4, windows=8))
    ends = [texture(p.blocks((512, 512), rng, 24, 12, colour, p.STONE)) for colour in (p.CLAY, p.SLATE)]
    roof = texture(p.plaster((256, 512), rng, p.STONE))
    ground = texture(p.plaster((1024, 1024), rng, p.MOSS, 1.6))
    surfaces = (
        rectangle((-16, 16, 0), (32, 0, 0), (0, -32, 0), ground),
        *box((0, 0, 0), (8, 5, 4), (front, ends[0], front, ends[1]), roof),
        *_crate(rng, (-2.6, -4.2, 0), 0.9, 20, 0),
        *_crate(rng, (3.4, 4.4, 0), 1.1, 50, 1),
        sphere((2.4, -4.6, 0.5), 0.5, texture(p.marble((256, 512), rng, p.CREAM, p.BRICK))),
        cylinder((-3.6, 4.2, 0), 0.3, 1.8, texture(p.quilt((512, 512), rng, (p.INK, p.OCHRE, p.CREAM)))),
    )
    lens = simple_lens(width, width * 2 // 3, 66)
    return Scene("repeated_facade", World(surfaces), _ring(lens, photos, 9.5, (1.6, 2.4), (0, 0, 1.4)))


def portrait_landscape(photos: int = 16, width: int = 640, seed: int = 0) -> Scene:
    """One camera, held upright for every other photo; half of those are stored sideways with an EXIF note."""
    lens = Lens(
        width, width * 2 // 3, 0.86 * width, 0.86 * width, 0.507 * width, 0.328 * width, make="Oblique", model="Pivot 1"
    )
    # Turned by a quarter clockwise: what was right is down, so x of the new picture is height - y of the old.
    upright = replace(lens, width=lens.height, height=lens.width, cx=lens.height - lens.cy, cy=lens.cx)
    shots = [
        replace(shot, lens=upright, stored_sideways=i % 4 == 3) if i % 2 else shot
        for i, shot in enumerate(_ring(lens, photos, 4.3, (1.5, 2.2), (0, 0, 0.9)))
    ]
    return Scene("portrait_landscape", courtyard(seed), tuple(shots))


def two_cameras(photos: int = 16, width: int = 640, seed: int = 0) -> Scene:
    """Two bodies, taken in turn: sizes, focal lengths and distortion differ; EXIF names them."""
    wide = replace(
        simple_lens(width, width * 3 // 4, 74, make="Oblique", model="Wide 7", sensor_mm=7.6),
        dist=(-0.11, 0.025, 0.0, 0.0),
    )
    tele = replace(
        simple_lens(width * 5 // 4, width * 5 // 6, 46, make="Plumb", model="Long 4", sensor_mm=23.5),
        dist=(0.03, -0.01, 0.0004, -0.0003),
    )
    near, far = _ring(wide, photos, 3.9, (1.5, 2.0), (0, 0, 0.8)), _ring(tele, photos, 4.9, (1.5, 2.4), (0, 0, 0.8))
    shots = tuple((far if i % 2 else near)[i] for i in range(photos))
    return Scene("two_cameras", courtyard(seed), shots)


def turntable(photos: int = 20, width: int = 640, seed: int = 0) -> Scene:
    """A small thing on black through a long lens: little perspective, so the focal length hardly shows."""
    rng = np.random.default_rng(seed)
    surfaces = (
        cylinder((0, 0, 0), 0.26, 0.1, texture(p.planks((128, 1024), rng, p.OCHRE, 2))),
        *box((0, 0, 0.1), (0.3, 0.26, 0.2), [_poster(rng, i, (512, 512)) for i in range(4)], _poster(rng, 4)),
        sphere((0.02, 0, 0.4), 0.11, texture(p.marble((512, 1024), rng))),
        cylinder((-0.1, -0.08, 0.3), 0.03, 0.25, texture(p.quilt((512, 256), rng, (p.BRICK, p.CREAM, p.INK)))),
    )
    lens = simple_lens(width, width * 3 // 4, 16)
    black = (0.0, 0.0, 0.0)
    world = World(surfaces, zenith=black, horizon=black)
    return Scene("turntable", world, _ring(lens, photos, 2.6, (0.6, 0.75), (0, 0, 0.27)))


def low_texture(photos: int = 14, width: int = 640, seed: int = 0) -> Scene:
    """A bare room: blank walls and floor, all detail on one crate, one sphere and one small poster."""
    rng = np.random.default_rng(seed)
    blank = [texture(p.plaster((512, 512), rng, colour, 0.08)) for colour in (p.CREAM, p.CREAM, p.SAND, p.STONE, p.SAND)]
    surfaces = (
        *_room(blank, 9.0, 2.8),
        *_crate(rng, (0.5, 0.3, 0), 0.9, 25, 2),
        sphere((-0.9, -0.2, 0.4), 0.4, texture(p.marble((256, 512), rng, p.TEAL, p.CREAM))),
        rectangle((-0.5, 4.49, 2.1), (1, 0, 0), (0, 0, -1.2), _poster(rng, 1, (512, 512))),
    )
    lens = simple_lens(width, width * 2 // 3, 64)
    shots = _arc(lens, photos, 3.6, (1.4, 1.8), (0, 0.4, 0.7), span_deg=11 * (photos - 1))
    return Scene("low_texture", World(surfaces), shots)


COLUMNS = ((-1.5, 1.1, 1.3), (1.75, 0.95, 0.8), (-5.2, 5.2, 2.3), (5.2, 5.2, 2.3), (5.2, -5.2, 2.3), (-5.2, -5.2, 2.3))
"""Of the courtyard: x, y and height of the shaft; two in the still life, one in each corner."""

SCENES: Mapping[str, Callable[..., Scene]] = {
    scene.__name__: scene
    for scene in (
        easy,
        wide_baseline,
        two_disjoint,
        pure_rotation,
        planar_wall,
        repeated_facade,
        portrait_landscape,
        two_cameras,
        turntable,
        low_texture,
    )
}
"""All take (photos, width, seed) and give the same scene for the same arguments."""


def courtyard(seed: int = 0, at: tuple[float, float] = (0.0, 0.0)) -> World:
    """A walled yard, 12 m across, with a still life of plinth, sphere, columns and crates in its middle."""
    rng = np.random.default_rng(seed)
    x, y = at
    floor = texture(p.blocks((2048, 2048), rng, 18, 18, p.SAND, p.SLATE, offset=0.0, variety=0.1))
    walls = [
        texture(p.blocks((256, 1024), rng, 14, 30, p.CLAY, p.CREAM)),
        texture(p.plaster((256, 1024), rng, p.SAND, 1.3)),
        texture(p.blocks((256, 1024), rng, 5, 12, p.STONE, p.CREAM)),
        texture(p.plaster((256, 1024), rng, p.SKY, 1.3)),
    ]
    stone = [texture(p.marble((512, 512), rng, p.CREAM, p.SLATE)) for _ in range(2)]
    surfaces = [
        *_room([*walls, floor], 12.0, 2.6, (x, y)),
        *box((x, y, 0), (1.3, 1.3, 0.55), stone, stone[1], 12),
        sphere((x, y, 1.17), 0.62, texture(p.marble((512, 1024), rng, p.CREAM, p.BRICK))),
        *_crate(rng, (x + 1.55, y - 0.75, 0), 0.85, 28, 0),
        *_crate(rng, (x + 1.50, y - 0.70, 0.85), 0.5, 62, 1),
        *_crate(rng, (x - 1.55, y - 0.85, 0), 0.7, -18, 2),
        *_crate(rng, (x + 0.1, y + 1.9, 0), 0.8, 40, 3),
        sphere((x - 0.45, y - 1.6, 0.28), 0.28, texture(p.marble((256, 512), rng, p.TEAL, p.CREAM))),
        sphere((x + 0.75, y - 1.75, 0.2), 0.2, texture(p.quilt((256, 512), rng, (p.OCHRE, p.INK, p.CREAM)))),
    ]
    for dx, dy, height in COLUMNS:
        surfaces += _column(rng, (x + dx, y + dy), height)
    surfaces += _hung_posters(rng, (x, y))
    return World(tuple(surfaces))


def _room(textures: list[Texture], side: float, height: float, at: tuple[float, float] = (0.0, 0.0)) -> list[Surface]:
    """Four walls that face inward (north, east, south, west) and a floor."""
    h = side / 2
    x, y = at
    down = (0, 0, -height)
    corners = [((-h, h), (side, 0)), ((h, h), (0, -side)), ((h, -h), (-side, 0)), ((-h, -h), (0, side))]
    walls = [
        rectangle((x + cx, y + cy, height), (*edge, 0), down, tex)
        for ((cx, cy), edge), tex in zip(corners, textures[:4], strict=True)
    ]
    return [*walls, rectangle((x - h, y + h, 0), (side, 0, 0), (0, -side, 0), textures[4])]


def _column(rng: Rng, at: tuple[float, float], height: float) -> list[Surface]:
    """A shaft between two slabs."""
    slabs = [texture(p.plaster((128, 256), rng, p.STONE, 1.5)) for _ in range(2)]
    shaft = texture(p.marble((512, 512), rng, p.CREAM, p.CLAY))
    return [
        *box((*at, 0), (0.56, 0.56, 0.14), slabs[:1], slabs[1]),
        cylinder((*at, 0.14), 0.2, height, shaft),
        *box((*at, 0.14 + height), (0.56, 0.56, 0.16), slabs[1:], slabs[0]),
    ]


def _crate(rng: Rng, foot: tuple[float, float, float], side: float, turn_deg: float, kind: int) -> tuple[Surface, ...]:
    """A cube with three posters, boards on the fourth side and patches on the lid."""
    sides = [*(_poster(rng, kind + i) for i in range(3)), texture(p.planks((256, 256), rng))]
    lid = texture(p.quilt((256, 256), rng, (p.OCHRE, p.CREAM, p.TEAL, p.INK)))
    return box(foot, (side, side, side), sides, lid, turn_deg)


def _hung_posters(rng: Rng, at: tuple[float, float]) -> list[Surface]:
    """Two or three posters on every wall of the courtyard, a centimetre before it."""
    posters = []
    for wall, places in enumerate([(-3.4, 0.3, 3.3), (-2.2, 2.4), (-3.6, -0.4, 2.9), (-2.8, 1.9)]):
        angle = np.radians(90 - 90 * wall)
        outward = np.array([np.cos(angle), np.sin(angle), 0])
        right = np.array([outward[1], -outward[0], 0])
        for i, along in enumerate(places):
            width, height = ((1.1, 1.5), (1.6, 1.2), (0.9, 1.3))[i]
            corner = np.array([*at, 2.15]) + 5.99 * outward + (along - width / 2) * right
            shape = sized(width, height, 280)
            posters.append(rectangle(corner, width * right, (0, 0, -height), _poster(rng, wall + i, shape)))
    return posters


def _poster_picture(rng: Rng, kind: int, shape: tuple[int, int]) -> p.Floats:
    paper, inks = (
        (p.CREAM, (p.INK, p.BRICK, p.OCHRE, p.INK)),
        (p.TEAL, (p.CREAM, p.OCHRE, p.INK, p.CREAM)),
        (p.OCHRE, (p.INK, p.CREAM, p.BRICK, p.INK)),
        (p.INK, (p.CREAM, p.BRICK, p.TEAL, p.OCHRE)),
    )[kind % 4]
    return p.poster(shape, rng, paper, inks)


def _poster(rng: Rng, kind: int, shape: tuple[int, int] = (256, 256)) -> Texture:
    return texture(_poster_picture(rng, kind, shape))


def _ring(
    lens: Lens,
    photos: int,
    radius: float,
    height: tuple[float, float],
    target: tuple[float, float, float],
) -> tuple[Shot, ...]:
    """Evenly once around, without taking the first place twice."""
    return _arc(lens, photos, radius, height, target, 360 * (photos - 1) / photos)


def _arc(
    lens: Lens,
    photos: int,
    radius: float,
    height: tuple[float, float],
    target: tuple[float, float, float],
    span_deg: float,
) -> tuple[Shot, ...]:
    """Around the target from the south, not as a machine would: height, distance and roll waver a little."""
    shots = []
    for i, angle in enumerate(np.radians(np.linspace(-90, span_deg - 90, photos))):
        wave = np.array([np.sin(2.3 * i + 1), np.sin(1.7 * i), np.sin(2.9 * i + 2)])
        r = radius * (1 + 0.06 * wave[0])
        z = height[0] + (height[1] - height[0]) * (0.5 + 0.5 * wave[1])
        eye = (target[0] + r * np.cos(angle), target[1] + r * np.sin(angle), z)
        aim = (target[0] + 0.03 * radius * wave[2], target[1], target[2])
        shots.append(Shot(_name(i), lens, look_at(eye, aim, 2 * wave[2])))
    return tuple(shots)


def _name(index: int) -> str:
    return f"{index:04d}.jpg"
