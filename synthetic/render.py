"""Render photos: tiles of rays, first hits, texture, sun with shadows, and sensor noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera import Shot, project_points, viewing_rays
from .texture import GAMMA, look_up
from .world import Surface, World, hit, normals, texture_coordinates

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
_TILE_PX = 48


def render(world: World, shot: Shot, seed: int = 0, samples: int = 2) -> NDArray[np.uint8]:
    """Render a photo (height, width, 3), gamma encoded; every pixel averages samples x samples rays."""
    lens = shot.lens
    image = np.empty((lens.height, lens.width, 3), np.float32)
    offsets = (np.arange(samples) + 0.5) / samples
    for rows, columns in _tiles(lens.height, lens.width):
        y = (np.arange(rows.start, rows.stop)[:, None] + offsets).ravel()
        x = (np.arange(columns.start, columns.stop)[:, None] + offsets).ravel()
        directions = viewing_rays(shot, np.column_stack([np.tile(x, len(y)), np.repeat(y, len(x))])).astype(np.float32)
        light = _radiance(world, shot, directions, 1 / (samples * lens.fx))
        blocks = light.reshape(len(y) // samples, samples, len(x) // samples, samples, 3)
        image[rows, columns] = blocks.mean(axis=(1, 3))
    encoded = np.clip(image * np.float32(shot.exposure), 0, 1) ** np.float32(1 / GAMMA) * 255
    # The name is part of the seed: two photos from one place must not share their noise.
    noise = np.random.default_rng([seed, *shot.name.encode()]).standard_normal(image.shape, np.float32)
    levels: NDArray[np.uint8] = np.clip(np.rint(encoded + np.float32(shot.noise) * noise), 0, 255).astype(np.uint8)
    return levels


def depth(world: World, shot: Shot) -> Doubles:
    """(height, width) depth along the optical axis at pixel centres; inf for sky."""
    lens = shot.lens
    result = np.empty((lens.height, lens.width))
    for rows, columns in _tiles(lens.height, lens.width):
        y, x = np.mgrid[rows, columns] + 0.5
        result[rows, columns] = cast(world, shot, np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    return result


def cast(world: World, shot: Shot, xy_px: ArrayLike) -> Doubles:
    """(n,) depths at pixels (n, 2); inf for sky."""
    if not len(np.asarray(xy_px)):
        return np.empty(0)
    directions = viewing_rays(shot, xy_px)
    return _first_hit(_in_cone(world, shot.centre, directions), shot.centre, directions)[0].astype(float)


def transfer(world: World, a: Shot, b: Shot, xy_a: ArrayLike) -> tuple[Doubles, NDArray[np.bool_]]:
    """Pixels in photo b of what photo a shows at pixels (n, 2), and whether b sees it: within the image and not
    occluded."""
    depth_a = cast(world, a, xy_a)
    seen = np.isfinite(depth_a)
    points = a.centre + (viewing_rays(a, xy_a) * np.where(seen, depth_a, 1.0)).T
    xy_b, depth_b = project_points(b, points)
    seen &= (depth_b > 0) & ((xy_b >= 0) & (xy_b <= (b.lens.width, b.lens.height))).all(axis=1)
    seen[seen] = cast(world, b, xy_b[seen]) > depth_b[seen] * (1 - 1e-4)
    return xy_b, seen


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, _TILE_PX):
        for left in range(0, width, _TILE_PX):
            yield slice(top, min(top + _TILE_PX, height)), slice(left, min(left + _TILE_PX, width))


def _radiance(world: World, shot: Shot, directions: Floats, sample_angle: float) -> Floats:
    """(n, 3) linear radiance along rays (3, n)."""
    candidates = _in_cone(world, shot.centre, directions)
    t, which = _first_hit(candidates, shot.centre, directions)
    light = _sky(world, directions)
    facing = np.zeros_like(t)
    albedo = np.zeros_like(light)
    up = np.zeros_like(t)
    to_sun = np.asarray(world.to_sun, t.dtype) / np.linalg.norm(world.to_sun).astype(t.dtype)
    for index, surface in enumerate(candidates):
        rows = np.flatnonzero(which == index)
        if not len(rows):
            continue
        ray, far = directions[:, rows], t[rows]
        point = _local(surface, shot.centre, t.dtype) + surface.local_from_world[:, :3].astype(t.dtype) @ (ray * far)
        normal = normals(surface, point)
        # The footprint is long across grazing surfaces; its geometric mean keeps detail without visible aliasing.
        cosine = np.abs((normal * ray).sum(axis=0)) / np.sqrt((ray * ray).sum(axis=0))
        footprint = far * (sample_angle * surface.texels_per_metre) / np.sqrt(np.maximum(cosine, 0.02))
        albedo[rows] = look_up(surface.texture, *texture_coordinates(surface, point), footprint.astype(np.float32))
        facing[rows] = to_sun @ normal
        up[rows] = normal[2]
    lit = np.flatnonzero((which >= 0) & (facing > 0))
    facing[facing < 0] = 0
    facing[lit] *= _sunlit(world, shot.centre, directions[:, lit] * t[lit], to_sun)
    met = which >= 0
    # A surface that looks up sees the whole sky, one that looks sideways half of it.
    shine = (0.75 + 0.25 * up)[:, None] * np.asarray(world.ambient) + facing[:, None] * np.asarray(world.sun)
    light[met] = albedo[met] * shine[met]
    return light


def _sky(world: World, directions: Floats) -> Floats:
    height = np.clip(directions[2] / np.sqrt((directions * directions).sum(axis=0)), 0, 1)[:, None]
    low, high = np.asarray(world.horizon, np.float32), np.asarray(world.zenith, np.float32)
    sky: Floats = (low + (high - low) * np.sqrt(height)).astype(directions.dtype)
    return sky


def _first_hit(surfaces: tuple[Surface, ...], origin: Doubles, directions: Floats) -> tuple[Floats, Ints]:
    """Ray parameter of the nearest hit, inf without one, and the index of its surface, -1 without one."""
    best = np.full(directions.shape[1], np.inf, directions.dtype)
    which = np.full(directions.shape[1], -1)
    for index, surface in enumerate(surfaces):
        turn = surface.local_from_world[:, :3].astype(directions.dtype)
        t = hit(surface, _local(surface, origin, directions.dtype), turn @ directions)
        nearer = t < best
        np.copyto(best, t, where=nearer)
        np.copyto(which, index, where=nearer)
    return best, which


def _sunlit(world: World, origin: Doubles, offsets: Floats, to_sun: Floats) -> NDArray[np.bool_]:
    """Whether the points origin + offsets (3, n) are in the sun."""
    lit = np.ones(offsets.shape[1], bool)
    if not len(lit):
        return lit
    middle = offsets.mean(axis=1)
    spread = np.sqrt(((offsets - middle[:, None]) ** 2).sum(axis=0).max())
    centre, radius = world.balls
    away = centre - (origin + middle)
    along = away @ to_sun
    apart = (along < -radius - spread) | ((away * away).sum(axis=1) - along * along > (radius + spread) ** 2)
    for index in np.flatnonzero(~apart):
        surface = world.surfaces[index]
        turn = surface.local_from_world[:, :3].astype(offsets.dtype)
        start = _local(surface, origin, offsets.dtype) + turn @ offsets
        lit &= ~np.isfinite(hit(surface, start, (turn @ to_sun)[:, None]))
    return lit


def _in_cone(world: World, origin: Doubles, directions: Floats) -> tuple[Surface, ...]:
    """The surfaces that are not seen from behind and whose bounding ball meets the cone of the rays."""
    unit = directions / np.sqrt((directions * directions).sum(axis=0))
    axis = unit.mean(axis=1)
    axis /= np.linalg.norm(axis)
    half_angle = np.arccos(np.clip((axis @ unit).min(), -1, 1)) + 1e-3
    centre, radius = world.balls
    distance = np.linalg.norm(centre - origin, axis=1)
    beyond = np.maximum(distance, radius)
    angle = np.arccos(np.clip((centre - origin) @ axis / beyond, -1, 1))
    met = (distance <= radius) | (angle <= half_angle + np.arcsin(radius / beyond))
    met &= world.fronts @ np.append(origin, 1.0) > 0
    return tuple(world.surfaces[index] for index in np.flatnonzero(met))


def _local(surface: Surface, point: Doubles, dtype: np.dtype[np.floating] | type[np.float64]) -> Floats:
    """A world point (3, 1) in the surface's frame, subtracted in float64 to keep precision far from the origin."""
    local = surface.local_from_world[:, :3] @ point + surface.local_from_world[:, 3]
    return local.astype(dtype)[:, None]
