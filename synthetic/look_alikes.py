"""Places that repeat: boxes with equal sides, streets of equal houses, rooms of equal lockers.

What tells their parts from each other is what a person would go by: the ground, a number beside the door, a sticker.
"""

from __future__ import annotations

import numpy as np

from . import patterns as p
from .camera import Lens, Shot, look_at, simple_lens
from .places import crate, poster_texture
from .scenes import Scene, ring
from .texture import texture
from .world import Surface, World, box, cylinder, rectangle, sphere

HOUSES, HOUSE_STEP_M = 5, 6.5
"""Of the street, from one house to the next."""

LOCKERS, LOCKER_M = 10, 0.5
"""Of each wall of the room, and their width."""


def equal_sides(photos: int = 32, width: int = 640, seed: int = 0) -> Scene:
    """A carton with the same print on all four sides, among things that differ, from all around.

    Laid on one another the sides become one, and a ring of photos a quarter of a ring.
    """
    rng = np.random.default_rng(seed)
    side, lid = poster_texture(rng, 1, (512, 512)), texture(p.planks((256, 256), rng))
    surfaces = (
        rectangle((-7, 7, 0), (14, 0, 0), (0, -14, 0), texture(p.plaster((2048, 2048), rng, p.SAND, 1.4))),
        *box((0, 0, 0), (2.4, 2.4, 2.2), [side], lid),
        *crate(rng, (-1.9, -1.7, 0), 0.6, 20, 0),
        *crate(rng, (2.0, -1.5, 0), 0.5, 65, 2),
        *crate(rng, (1.8, 1.9, 0), 0.6, 50, 3),
        sphere((-1.8, 1.8, 0.35), 0.35, texture(p.marble((256, 512), rng, p.TEAL, p.CREAM))),
    )
    lens = simple_lens(width, width * 2 // 3, 62)
    return Scene("equal_sides", World(surfaces), ring(lens, photos, 5.0, (1.6, 2.3), (0, 0, 0.9), 90))


def equal_houses(photos: int = 36, width: int = 640, seed: int = 0) -> Scene:
    """A street of equal houses, each with its own number, pavement and things before it, from the other side.

    Houses differ by a translation only: no rotation contradicts a model that lays one on another.
    """
    rng = np.random.default_rng(seed)
    front, end = (texture(p.facade((512, 512), rng, floors=2, windows=4)), texture(p.plaster((256, 256), rng, p.CLAY)))
    roof = texture(p.planks((256, 512), rng, p.BRICK))
    length = HOUSES * HOUSE_STEP_M
    surfaces: list[Surface] = [
        rectangle(
            (-length / 2 - 6, 4, 0),
            (length + 12, 0, 0),
            (0, -16, 0),
            texture(p.blocks((1024, 2048), rng, 24, 60, p.STONE, p.SAND, variety=0.2)),
        )
    ]
    for house in range(HOUSES):
        x = (house - (HOUSES - 1) / 2) * HOUSE_STEP_M
        surfaces += box((x, 2.5, 0), (5.5, 5.0, 4.0), (front, end), roof)
        number = poster_texture(rng, house, (128, 128))
        surfaces.append(rectangle((x + 2.1, -0.01, 1.9), (0.5, 0, 0), (0, 0, -0.5), number))
        surfaces += crate(rng, (x + rng.uniform(-2.2, 2.2), -1.2, 0), rng.uniform(0.5, 0.8), rng.uniform(0, 90), house)
        bark = texture(p.quilt((512, 128), rng, (p.NAVY, p.OCHRE, p.CREAM)))
        surfaces.append(cylinder((x + rng.uniform(-2.5, 2.5), -2.2, 0), 0.15, 2.2, bark))
    lens = simple_lens(width, width * 2 // 3, 66)
    return Scene("equal_houses", World(tuple(surfaces)), _along(lens, photos, length - 4.0))


def lockers(photos: int = 40, width: int = 640, seed: int = 0) -> Scene:
    """A room whose four walls are rows of equal lockers, some with a sticker, around a bench, from a walk around it."""
    rng = np.random.default_rng(seed)
    door = p.plaster((512, 128), rng, p.TEAL, 1.2)
    door[:, :4] = door[:6] = np.asarray(p.NAVY, np.float32)
    door[60:150:18, 30:98] = np.asarray(p.SLATE, np.float32)
    front, half, height = texture(door), LOCKERS * LOCKER_M / 2, 1.9
    ground = texture(p.plaster((1024, 1024), rng, p.STONE, 1.3))
    surfaces: list[Surface] = [rectangle((-half, half, 0), (2 * half, 0, 0), (0, -2 * half, 0), ground)]
    for wall in range(4):
        heading = np.radians(90 * wall)
        out, right = np.array([np.sin(heading), np.cos(heading), 0]), np.array([np.cos(heading), -np.sin(heading), 0])
        stuck = rng.choice(LOCKERS, 3, replace=False)
        for number in range(LOCKERS):
            corner = half * out + (number * LOCKER_M - half) * right + np.array([0, 0, height])
            surfaces.append(rectangle(corner, LOCKER_M * right, (0, 0, -height), front))
            if number in stuck:
                at = corner - 0.01 * out + 0.1 * right - np.array([0, 0, rng.uniform(0.6, 1.2)])
                sticker = poster_texture(rng, wall + number, (128, 128))
                surfaces.append(rectangle(at, 0.3 * right, (0, 0, -0.3), sticker))
    surfaces += box((0.2, 0, 0), (1.6, 0.5, 0.45), [texture(p.planks((128, 256), rng))], poster_texture(rng, 0))
    lens = simple_lens(width, width * 2 // 3, 72)
    return Scene("lockers", World(tuple(surfaces)), _around_the_room(lens, photos, 0.55 * half))


LOOK_ALIKES = {scene.__name__: scene for scene in (equal_sides, equal_houses, lockers)}
"""Each takes (photos, width, seed) and is deterministic."""


def _along(lens: Lens, photos: int, length: float) -> tuple[Shot, ...]:
    """A walk along x, 8 m before the houses, looking at them and a little ahead or back as people do."""
    shots = []
    for i, x in enumerate(np.linspace(-length / 2, length / 2, photos)):
        eye = (x, -8.0 + 0.4 * np.sin(1.9 * i), 1.7 + 0.15 * np.sin(2.7 * i))
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, (x + 1.5 * np.sin(0.8 * i), 0, 1.6), np.sin(2.1 * i))))
    return tuple(shots)


def _around_the_room(lens: Lens, photos: int, radius: float) -> tuple[Shot, ...]:
    """A round along a circle, looking across the room at the wall on the other side."""
    shots = []
    for i, angle in enumerate(np.linspace(0, 2 * np.pi, photos, endpoint=False)):
        r = radius * (1 + 0.08 * np.sin(2.3 * i))
        eye = np.array([r * np.cos(angle), r * np.sin(angle), 1.5 + 0.15 * np.sin(1.7 * i)])
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, (-eye[0], -eye[1], 0.8), np.sin(2.9 * i))))
    return tuple(shots)
