"""Scenes by name: an easy one, and one for each difficulty of structure from motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import patterns as p
from .camera import Lens, Shot, look_at, simple_lens
from .places import building, courtyard, crate, poster_image, poster_texture, room, two_fronts
from .render import render
from .texture import texture
from .world import Surface, World, box, cylinder, rectangle, sphere


@dataclass(frozen=True, eq=False)
class Scene:
    """A world and the photos to take of it."""

    name: str
    world: World
    shots: tuple[Shot, ...]
    backdrop: NDArray[np.uint8] | None = None
    """(height, width, 3) what every photo shows where the world ends, at the same pixels: a background that stands
    still before a camera that does, while the world turns. None: the sky."""


def easy(photos: int = 20, width: int = 640, seed: int = 0, widest_step_deg: float = 18.0) -> Scene:
    """A ring around the still life of the courtyard, or an arc where photos are too few for a ring."""
    lens = simple_lens(width, width * 2 // 3, 62)
    shots = ring(lens, photos, 4.3, (1.5, 2.3), (0, 0, 0.75), widest_step_deg)
    return Scene("easy", courtyard(seed), shots)


def wide_baseline(photos: int = 12, width: int = 640, seed: int = 0) -> Scene:
    """The courtyard with 30 degrees between neighbouring photos."""
    lens = simple_lens(width, width * 2 // 3, 68)
    return Scene("wide_baseline", courtyard(seed), ring(lens, photos, 4.6, (1.6, 2.6), (0, 0, 0.7), 30))


def two_disjoint(photos: int = 12, width: int = 640, seed: int = 0) -> Scene:
    """The courtyard (names begin with a) and a building a kilometre away (b): two models are expected."""
    lens = simple_lens(width, width * 2 // 3, 62)
    step, half = 15, photos // 2
    yard = _arc(lens, half, 4.3, (1.5, 2.2), (0, 0, 0.75), step * (half - 1))
    house = _arc(lens, photos - half, 10.0, (1.5, 2.2), (1000, 0, 1.5), step * (photos - half - 1))
    world = World(courtyard(seed).surfaces + building(seed + 1, at=1000.0, equal_fronts=False).surfaces)
    shots = [
        replace(shot, name=f"{letter}{shot.name}")
        for letter, arc in zip("ab", (yard, house), strict=True)
        for shot in arc
    ]
    return Scene("two_disjoint", world, tuple(shots))


def pure_rotation(photos: int = 8, width: int = 640, seed: int = 0) -> Scene:
    """A camera that rotates in place: many matches, and no baseline."""
    lens = simple_lens(width, width * 2 // 3, 62)
    eye = np.array([0.3, -4.2, 1.6])
    headings = np.radians(np.linspace(50, 130, photos))
    shots = [
        Shot(_name(i), lens, look_at(eye, eye + np.array([np.cos(a), np.sin(a), -0.15 + 0.04 * np.sin(5 * a)])))
        for i, a in enumerate(headings)
    ]
    return Scene("pure_rotation", courtyard(seed), tuple(shots))


def planar_wall(photos: int = 10, width: int = 640, seed: int = 0) -> Scene:
    """A single wall of posters along an arc: a planar scene, for which focal length and pose are hardly separable."""
    rng = np.random.default_rng(seed)
    sheet = np.concatenate([poster_image(rng, i, (1024, 512)) for i in range(4)], axis=1)
    wall = rectangle((-4, 0, 4), (8, 0, 0), (0, 0, -4), texture(sheet))
    lens = simple_lens(width, width * 3 // 4, 55)
    shots = [
        Shot(_name(i), lens, look_at((4.2 * s, -5.5 + 0.9 * s * s, 2 + 0.6 * np.sin(4 * s)), (0.9 * s, 0, 2), 4 * s))
        for i, s in enumerate(np.linspace(-1, 1, photos))
    ]
    return Scene("planar_wall", World((wall,)), tuple(shots))


def repeated_facade(photos: int = 24, width: int = 640, seed: int = 0) -> Scene:
    """A building whose front and back have the same texture, while ends and surroundings differ.

    A reconstruction from matches alone folds the back onto the front.
    """
    lens = simple_lens(width, width * 2 // 3, 66)
    return Scene("repeated_facade", building(seed), ring(lens, photos, 9.5, (1.6, 2.4), (0, 0, 1.4), 90))


def symmetric_hall(photos: int = 36, width: int = 640, seed: int = 0) -> Scene:
    """A hall with two equal fronts in relief, symmetric under a rotation by 180 degrees but for its ends and
    surroundings."""
    lens = simple_lens(width, width * 2 // 3, 64)
    return Scene("symmetric_hall", two_fronts(seed), ring(lens, photos, 8.0, (1.6, 2.3), (0, 0, 1.2), 90))


def portrait_landscape(photos: int = 20, width: int = 640, seed: int = 0) -> Scene:
    """One camera, upright in every other photo; half of these are stored sideways with an EXIF orientation."""
    lens = Lens(
        width, width * 2 // 3, 0.86 * width, 0.86 * width, 0.503 * width, 0.331 * width, make="Oblique", model="Pivot 1"
    )
    # Rotated by 90 degrees clockwise: x of the new image is height - y of the old one.
    upright = replace(lens, width=lens.height, height=lens.width, cx=lens.height - lens.cy, cy=lens.cx)
    shots = [
        replace(shot, lens=upright, stored_sideways=i % 4 == 3) if i % 2 else shot
        for i, shot in enumerate(ring(lens, photos, 4.3, (1.5, 2.2), (0, 0, 0.9)))
    ]
    return Scene("portrait_landscape", courtyard(seed), tuple(shots))


def two_cameras(photos: int = 20, width: int = 640, seed: int = 0) -> Scene:
    """Two cameras in turn, with different sizes, focal lengths and distortion; EXIF names them."""
    wide = replace(
        simple_lens(width, width * 3 // 4, 74, make="Oblique", model="Wide 7", sensor_mm=7.6),
        dist=(-0.11, 0.025, 0.0, 0.0),
    )
    tele = replace(
        simple_lens(width * 5 // 4, width * 5 // 6, 46, make="Plumb", model="Long 4", sensor_mm=23.5),
        dist=(0.03, -0.01, 0.0004, -0.0003),
    )
    near, far = ring(wide, photos, 3.9, (1.5, 2.0), (0, 0, 0.8)), ring(tele, photos, 4.9, (1.5, 2.4), (0, 0, 0.8))
    shots = [replace(far[i], exposure=1.2) if i % 2 else replace(near[i], exposure=0.9) for i in range(photos)]
    return Scene("two_cameras", courtyard(seed), tuple(shots))


def turntable(photos: int = 20, width: int = 640, seed: int = 0) -> Scene:
    """A small object on black through a long lens: little perspective, so the focal length is weakly constrained."""
    lens = simple_lens(width, width * 3 // 4, 18)
    black = (0.0, 0.0, 0.0)
    world = World(_small_object(seed), zenith=black, horizon=black)
    return Scene("turntable", world, ring(lens, photos, 2.6, (0.8, 1.0), (0, 0, 0.28)))


def _small_object(seed: int) -> tuple[Surface, ...]:
    """A box on planks, with a ball and a roll on top, half a metre high."""
    rng = np.random.default_rng(seed)
    return (
        *box((0, 0, 0.06), (0.44, 0.44, 0.04), [texture(p.planks((32, 256), rng))], texture(p.planks((256, 256), rng))),
        *box(
            (0, 0, 0.1),
            (0.3, 0.26, 0.2),
            [poster_texture(rng, i, (512, 512)) for i in range(4)],
            poster_texture(rng, 4),
        ),
        sphere((0.02, 0, 0.4), 0.11, texture(p.marble((512, 1024), rng))),
        cylinder((-0.1, -0.08, 0.3), 0.03, 0.25, texture(p.quilt((512, 256), rng, (p.BRICK, p.CREAM, p.NAVY)))),
    )


def turning_object(photos: int = 20, width: int = 640, seed: int = 0, heights_m: tuple[float, ...] = (0.75,)) -> Scene:
    """The object of `turntable`, turned before a camera on a tripod, in front of the courtyard: seen from the object
    the camera goes around it and takes the background along. One round for each height of the camera.

    Matches of the background obey one geometry, of a camera that does not move, which is not that of the object.
    """
    lens, target = simple_lens(width, width * 3 // 4, 30), np.array([0.0, 0.0, 0.28])
    turns = np.arange(photos) // len(heights_m) * 2.0 * np.pi / -(-photos // len(heights_m))
    shots = []
    for i, angle in enumerate(turns.tolist()):
        z = heights_m[i % len(heights_m)]
        eye = (1.5 * np.cos(angle), 1.5 * np.sin(angle), z)
        shots.append(Shot(_name(i), lens, look_at(eye, target)))
    behind = Shot(
        "backdrop", simple_lens(width, width * 3 // 4, 62), look_at((0.4, -4.3, 1.9), (0, 0, 0.75)), noise=0.0
    )
    return Scene("turning_object", World(_small_object(seed)), tuple(shots), render(courtyard(seed), behind))


def low_texture(photos: int = 14, width: int = 640, seed: int = 0) -> Scene:
    """A bare room: blank walls and floor, with texture on one crate, one sphere and one small poster."""
    rng = np.random.default_rng(seed)
    blank = [
        texture(p.plaster((512, 512), rng, colour, 0.08)) for colour in (p.CREAM, p.CREAM, p.SAND, p.STONE, p.SAND)
    ]
    surfaces = (
        *room(blank, 9.0, 2.8),
        *crate(rng, (0.5, 0.3, 0), 0.9, 25, 2),
        sphere((-0.9, -0.2, 0.4), 0.4, texture(p.marble((256, 512), rng, p.TEAL, p.CREAM))),
        rectangle((-0.5, 4.49, 2.1), (1, 0, 0), (0, 0, -1.2), poster_texture(rng, 1, (512, 512))),
    )
    lens = simple_lens(width, width * 2 // 3, 64)
    shots = _arc(lens, photos, 3.6, (1.4, 1.8), (0, 0.4, 0.7), span_deg=11 * (photos - 1))
    return Scene("low_texture", World(surfaces), shots)


SCENES: Mapping[str, Callable[..., Scene]] = {
    scene.__name__: scene
    for scene in (
        easy,
        wide_baseline,
        two_disjoint,
        pure_rotation,
        planar_wall,
        repeated_facade,
        symmetric_hall,
        portrait_landscape,
        two_cameras,
        turntable,
        low_texture,
    )
}
"""Each takes (photos, width, seed) and is deterministic."""


def ring(
    lens: Lens,
    photos: int,
    radius: float,
    height: tuple[float, float],
    target: tuple[float, float, float],
    widest_step_deg: float = 18.0,
) -> tuple[Shot, ...]:
    """Poses evenly around the target, or as far as the steps reach; a full ring repeats no position."""
    return _arc(lens, photos, radius, height, target, min(360 / photos, widest_step_deg) * (photos - 1))


def _arc(
    lens: Lens,
    photos: int,
    radius: float,
    height: tuple[float, float],
    target: tuple[float, float, float],
    span_deg: float,
) -> tuple[Shot, ...]:
    """Poses along an arc around the target, centred in the south, with height, distance and roll that vary as when
    hand-held."""
    shots = []
    for i, angle in enumerate(np.radians(np.linspace(-span_deg / 2, span_deg / 2, photos) - 90)):
        wave = np.array([np.sin(2.3 * i + 1), np.sin(1.7 * i), np.sin(2.9 * i + 2)])
        r = radius * (1 + 0.06 * wave[0])
        z = height[0] + (height[1] - height[0]) * (0.5 + 0.5 * wave[1])
        eye = (target[0] + r * np.cos(angle), target[1] + r * np.sin(angle), z)
        aim = (target[0] + 0.03 * radius * wave[2], target[1], target[2])
        shots.append(Shot(_name(i), lens, look_at(eye, aim, 2 * wave[2])))
    return tuple(shots)


def _name(index: int) -> str:
    return f"{index:04d}.jpg"
