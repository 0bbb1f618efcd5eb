"""The worlds that are photographed, and their furniture; every piece differs with its random seed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from . import patterns as p
from .patterns import Rng, sized
from .texture import Floats, Texture, texture
from .world import Surface, World, box, cylinder, rectangle, sphere

COLUMNS = ((-1.5, 1.1, 1.3), (1.75, 0.95, 0.8), (-5.2, 5.2, 2.3), (5.2, 5.2, 2.3), (5.2, -5.2, 2.3), (-5.2, -5.2, 2.3))
"""Columns of the courtyard, x, y and height of the shaft in metres: two in the still life, one in each corner."""


@lru_cache(maxsize=1)  # used by half of the scenes; its textures take longer than rendering a small photo
def courtyard(seed: int = 0) -> World:
    """A walled yard, 12 m across, with a still life of plinth, sphere, columns and crates in the middle."""
    rng = np.random.default_rng(seed)
    floor = texture(p.blocks((2048, 2048), rng, 18, 18, p.SAND, p.STONE, offset=0.0, variety=0.1))
    walls = [
        texture(p.blocks((256, 1024), rng, 14, 30, p.CLAY, p.CREAM)),
        texture(p.plaster((256, 1024), rng, p.SAND, 1.3)),
        texture(p.blocks((256, 1024), rng, 5, 12, p.STONE, p.CREAM)),
        texture(p.plaster((256, 1024), rng, p.SKY, 1.3)),
    ]
    stone = [texture(p.marble((512, 512), rng, p.CREAM, p.SLATE)) for _ in range(2)]
    surfaces = [
        *room([*walls, floor], 12.0, 2.6),
        *box((0, 0, 0), (1.3, 1.3, 0.55), stone, stone[1], 12),
        sphere((0, 0, 1.17), 0.62, texture(p.marble((512, 1024), rng, p.CREAM, p.BRICK))),
        *crate(rng, (1.55, -0.75, 0), 0.85, 28, 0),
        *crate(rng, (1.5, -0.7, 0.85), 0.5, 62, 1),
        *crate(rng, (-1.55, -0.85, 0), 0.7, -18, 2),
        *crate(rng, (0.1, 1.9, 0), 0.8, 40, 3),
        sphere((-0.45, -1.6, 0.28), 0.28, texture(p.marble((256, 512), rng, p.TEAL, p.CREAM))),
        sphere((0.75, -1.75, 0.2), 0.2, texture(p.quilt((256, 512), rng, (p.OCHRE, p.NAVY, p.CREAM)))),
    ]
    for x, y, height in COLUMNS:
        surfaces += _column(rng, (x, y), height)
    surfaces += _hung_posters(rng)
    return World(tuple(surfaces))


def building(seed: int = 0, at: float = 0.0, equal_fronts: bool = True) -> World:
    """A house 8 m wide on a square. With `equal_fronts` its front and back have the same texture: a doppelganger."""
    rng = np.random.default_rng(seed)
    front, back = (texture(p.facade((512, 1024), rng, floors=4, windows=8)) for _ in range(2))
    ends = [texture(p.blocks((512, 512), rng, 24, 12, colour, p.STONE)) for colour in (p.CLAY, p.SLATE)]
    roof = texture(p.plaster((256, 512), rng, p.STONE))
    paving = texture(p.blocks((2048, 2048), rng, 36, 36, p.STONE, p.SAND, offset=0.0, variety=0.2))
    surfaces = (
        rectangle((at - 16, 16, 0), (32, 0, 0), (0, -32, 0), paving),
        *box((at, 0, 0), (8, 5, 4), (front, ends[0], front if equal_fronts else back, ends[1]), roof),
        *crate(rng, (at - 4.6, -3.4, 0), 1.1, 20, 0),
        *crate(rng, (at + 5.2, -3.2, 0), 1.2, 65, 1),
        *crate(rng, (at + 4.9, 3.5, 0), 1.2, 50, 2),
        *crate(rng, (at - 5.3, 3.2, 0), 1.1, -30, 3),
        sphere((at + 2.4, -4.6, 0.5), 0.5, texture(p.marble((256, 512), rng, p.CREAM, p.BRICK))),
        cylinder((at - 2.6, 4.2, 0), 0.3, 1.8, texture(p.quilt((512, 512), rng, (p.NAVY, p.OCHRE, p.CREAM)))),
    )
    return World(surfaces)


def two_fronts(seed: int = 0) -> World:
    """A hall 6 m wide on open ground whose front and back are the same porch in relief; its ends and surroundings
    differ."""
    rng = np.random.default_rng(seed)
    ends = [texture(p.blocks((512, 512), rng, 20, 12, colour, p.STONE)) for colour in (p.CLAY, p.TEAL)]
    wall = texture(p.facade((512, 1024), rng, floors=2, windows=4))
    roof, stone = texture(p.plaster((256, 512), rng, p.STONE)), texture(p.marble((512, 512), rng, p.CREAM, p.SLATE))
    shaft = texture(p.marble((512, 512), rng, p.CREAM, p.CLAY))
    step = texture(p.planks((128, 512), rng))
    porch = [
        *box((0, -2.7, 0), (5.2, 1.4, 0.3), [step], stone),
        *box((0, -3.0, 2.6), (5.2, 0.6, 0.4), [stone], roof),
        *(cylinder((x, -3.0, 0.3), 0.17, 2.3, shaft) for x in (-2.3, -0.9, 0.9, 2.3)),
        *(sphere((x, -3.9, 0.35), 0.35, texture(p.marble((256, 512), rng, p.OCHRE, p.NAVY))) for x in (-2.0, 2.0)),
    ]
    ground = texture(p.plaster((2048, 2048), rng, p.SAND, 1.4))
    surfaces = (
        rectangle((-13, 13, 0), (26, 0, 0), (0, -26, 0), ground),
        *box((0, 0, 0), (6, 4.2, 3.4), (wall, ends[0], wall, ends[1]), roof),
        *porch,
        *turned_around(porch),
        *crate(rng, (-4.4, -3.3, 0), 1.0, 15, 0),
        *crate(rng, (4.3, -3.6, 0), 1.1, 50, 1),
        *crate(rng, (4.6, 3.2, 0), 0.9, 70, 2),
        *crate(rng, (-4.2, 3.9, 0), 1.1, -20, 3),
    )
    return World(surfaces)


def turned_around(surfaces: list[Surface]) -> list[Surface]:
    """Surfaces rotated by 180 degrees about the vertical axis."""
    half_turn = np.diag([-1.0, -1.0, 1.0])
    return [replace(surface, world_from_local=half_turn @ surface.world_from_local) for surface in surfaces]


def room(textures: list[Texture], side: float, height: float) -> list[Surface]:
    """Four inward-facing walls (north, east, south, west) and a floor."""
    h = side / 2
    down = (0, 0, -height)
    corners = [((-h, h), (side, 0)), ((h, h), (0, -side)), ((h, -h), (-side, 0)), ((-h, -h), (0, side))]
    walls = [
        rectangle((x, y, height), (*edge, 0), down, tex)
        for ((x, y), edge), tex in zip(corners, textures[:4], strict=True)
    ]
    return [*walls, rectangle((-h, h, 0), (side, 0, 0), (0, -side, 0), textures[4])]


def _column(rng: Rng, at: tuple[float, float], height: float) -> list[Surface]:
    """A shaft between two slabs."""
    slabs = [texture(p.plaster((128, 256), rng, p.STONE, 1.5)) for _ in range(2)]
    shaft = texture(p.marble((512, 512), rng, p.CREAM, p.CLAY))
    return [
        *box((*at, 0), (0.56, 0.56, 0.14), slabs[:1], slabs[1]),
        cylinder((*at, 0.14), 0.2, height, shaft),
        *box((*at, 0.14 + height), (0.56, 0.56, 0.16), slabs[1:], slabs[0]),
    ]


def crate(rng: Rng, foot: tuple[float, float, float], side: float, turn_deg: float, kind: int) -> tuple[Surface, ...]:
    """A cube with three posters, boards on the fourth side and patches on the lid."""
    sides = [*(poster_texture(rng, kind + i) for i in range(3)), texture(p.planks((256, 256), rng))]
    lid = texture(p.quilt((256, 256), rng, (p.OCHRE, p.CREAM, p.TEAL, p.NAVY)))
    return box(foot, (side, side, side), sides, lid, turn_deg)


def _hung_posters(rng: Rng) -> list[Surface]:
    """Two or three posters on every wall of the courtyard, a centimetre in front of it."""
    posters = []
    for wall, places in enumerate([(-3.4, 0.3, 3.3), (-2.2, 2.4), (-3.6, -0.4, 2.9), (-2.8, 1.9)]):
        angle = np.radians(90 - 90 * wall)
        outward = np.array([np.cos(angle), np.sin(angle), 0])
        right = np.array([outward[1], -outward[0], 0])
        for i, along in enumerate(places):
            width, height = ((1.1, 1.5), (1.6, 1.2), (0.9, 1.3))[i]
            corner = np.array([0, 0, 2.15]) + 5.99 * outward + (along - width / 2) * right
            shape = sized(width, height, 280)
            posters.append(rectangle(corner, width * right, (0, 0, -height), poster_texture(rng, wall + i, shape)))
    return posters


def poster_image(rng: Rng, kind: int, shape: tuple[int, int]) -> Floats:
    paper, inks = (
        (p.CREAM, (p.NAVY, p.BRICK, p.OCHRE, p.NAVY)),
        (p.TEAL, (p.CREAM, p.OCHRE, p.NAVY, p.CREAM)),
        (p.OCHRE, (p.NAVY, p.CREAM, p.BRICK, p.NAVY)),
        (p.NAVY, (p.CREAM, p.BRICK, p.TEAL, p.OCHRE)),
    )[kind % 4]
    return p.printed_sheet(shape, rng, paper, inks)


def poster_texture(rng: Rng, kind: int, shape: tuple[int, int] = (256, 256)) -> Texture:
    return texture(poster_image(rng, kind, shape))
