"""Worlds of textured surfaces and their intersection with rays.

A surface is one of three unit shapes under an affine map, so that rays are intersected in the frame of the shape.
Surfaces are one-sided and invisible from behind, so that a camera can look into a room from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .texture import Texture

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
NEAR = 1e-3
"""Closer hits are those of the surface that a shadow ray starts from."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A unit shape under an affine map. square: 0 <= x, y <= 1, z = 0, seen from +z; cylinder: x^2 + y^2 = 1, 0 <= z <=
    1; sphere: radius 1."""

    shape: Literal["square", "cylinder", "sphere"]
    world_from_local: Doubles
    """(3, 4) affine."""
    texture: Texture

    @cached_property
    def local_from_world(self) -> Doubles:
        inverse = np.linalg.inv(self.world_from_local[:, :3])
        return np.column_stack([inverse, -inverse @ self.world_from_local[:, 3]])

    @cached_property
    def ball(self) -> tuple[Doubles, float]:
        """Centre and radius of a bounding ball."""
        low = {"square": (0, 0, 0), "cylinder": (-1, -1, 0), "sphere": (-1, -1, -1)}[self.shape]
        high = (1, 1, 0 if self.shape == "square" else 1)
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
        corners = self.world_from_local[:, :3] @ corners + self.world_from_local[:, 3:]
        centre = corners.mean(axis=1)
        return centre, float(np.linalg.norm(corners.T - centre, axis=1).max())

    @cached_property
    def texels_per_metre(self) -> float:
        x, y, z = self.world_from_local[:, :3].T
        area = {
            "square": np.linalg.norm(np.cross(x, y)),
            "cylinder": 2 * np.pi * np.linalg.norm(x) * np.linalg.norm(z),
            "sphere": 4 * np.pi * np.linalg.norm(x) ** 2,
        }[self.shape]
        return float(np.sqrt(self.texture.width[0] * self.texture.height[0] / area))


@dataclass(frozen=True, eq=False)
class World:
    """Surfaces under one sun. Colours are linear; a white surface facing the sun is near 1."""

    surfaces: tuple[Surface, ...]
    to_sun: tuple[float, float, float] = (-0.45, -0.6, 0.66)
    sun: tuple[float, float, float] = (0.78, 0.72, 0.62)
    ambient: tuple[float, float, float] = (0.34, 0.37, 0.42)
    zenith: tuple[float, float, float] = (0.16, 0.34, 0.68)
    horizon: tuple[float, float, float] = (0.72, 0.80, 0.88)

    @cached_property
    def balls(self) -> tuple[Doubles, Doubles]:
        """Centres (n, 3) and radii (n,) of balls that the surfaces are in."""
        balls = [surface.ball for surface in self.surfaces]
        return np.array([centre for centre, _ in balls]).reshape(-1, 3), np.array([radius for _, radius in balls])

    @cached_property
    def fronts(self) -> Doubles:
        """(n, 4): a point (x, y, z, 1) whose product with a row is not positive sees nothing of that surface."""
        everywhere = np.array([0.0, 0.0, 0.0, 1.0])
        fronts = [each.local_from_world[2] if each.shape == "square" else everywhere for each in self.surfaces]
        return np.array(fronts).reshape(-1, 4)


def rectangle(corner: ArrayLike, right: ArrayLike, down: ArrayLike, texture: Texture) -> Surface:
    """A rectangle by its top-left corner and its two edges, seen from the front."""
    right, down = np.asarray(right, float), np.asarray(down, float)
    normal = np.cross(down, right)
    return Surface("square", np.column_stack([right, down, normal / np.linalg.norm(normal), corner]), texture)


def sphere(centre: ArrayLike, radius: float, texture: Texture) -> Surface:
    return Surface("sphere", np.column_stack([radius * np.eye(3), centre]), texture)


def cylinder(foot: ArrayLike, radius: float, height: float, texture: Texture) -> Surface:
    """A vertical cylinder without caps."""
    return Surface("cylinder", np.column_stack([np.diag([radius, radius, height]), foot]), texture)


def box(
    foot: ArrayLike, size: tuple[float, float, float], sides: Sequence[Texture], lid: Texture, turn_deg: float = 0.0
) -> tuple[Surface, ...]:
    """A box above the centre of its foot: four sides (south, east, north, west; textures in turn), lid and bottom."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    x, y = np.array([c, s, 0]) * size[0], np.array([-s, c, 0]) * size[1]
    z = np.array([0, 0, size[2]])
    foot = np.asarray(foot, float)
    edges = [(-x - y, x), (x - y, y), (x + y, -x), (-x + y, -y)]
    walls = [
        rectangle(foot + corner / 2 + z, right, -z, sides[i % len(sides)]) for i, (corner, right) in enumerate(edges)
    ]
    return (*walls, rectangle(foot + (y - x) / 2 + z, x, -y, lid), rectangle(foot - (x + y) / 2, x, y, lid))


def hit(surface: Surface, origin: Floats, direction: Floats) -> Floats:
    """(n,) ray parameters at which rays (3, n) or (3, 1) in the local frame enter the surface; inf where they miss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if surface.shape == "square":
            t = -origin[2] / direction[2]
            x, y = origin[0] + t * direction[0], origin[1] + t * direction[1]
            found = (direction[2] < 0) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        else:
            axes = 2 if surface.shape == "cylinder" else 3
            speed = (direction[:axes] ** 2).sum(axis=0)
            nearest = -(origin[:axes] * direction[:axes]).sum(axis=0) / speed
            # From the point of the ray nearest to the axis: the usual discriminant cancels in float32 far away.
            inside = 1 - ((origin[:axes] + nearest * direction[:axes]) ** 2).sum(axis=0)
            t = nearest - np.sqrt(inside / speed)
            z = origin[2] + t * direction[2]
            found = (inside > 0) & ((z >= 0) & (z <= 1) if axes == 2 else True)
        return np.where(found & (t > NEAR), t, np.inf).astype(direction.dtype)


def texture_coordinates(surface: Surface, point: Floats) -> tuple[Floats, Floats]:
    """(u, v) in [0, 1]^2 of local points (3, n) on the surface; on a sphere equal areas have equal areas of texture."""
    x, y, z = point
    if surface.shape == "square":
        return x, y
    around = np.arctan2(y, x) / point.dtype.type(2 * np.pi) + point.dtype.type(0.5)
    return around, (1 - z if surface.shape == "cylinder" else (1 - z) / 2)


def normals(surface: Surface, point: Floats) -> Floats:
    """Unit normals (3, n) or (3, 1) in the world at local points (3, n)."""
    if surface.shape == "square":
        local = np.array([[0], [0], [1]], point.dtype)
    else:
        local = point * np.array([[1], [1], [surface.shape == "sphere"]], point.dtype)
    world: Floats = surface.local_from_world[:, :3].T.astype(point.dtype) @ local
    world /= np.sqrt((world * world).sum(axis=0))
    return world
