"""Pixels and depths of the ray caster, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unposed.synthetic.camera import Lens, Shot, look_at, project_points, simple_lens, viewing_rays
from unposed.synthetic.patterns import printed_sheet
from unposed.synthetic.render import cast, depth, render, transfer
from unposed.synthetic.texture import GAMMA, Texture, look_up, texture
from unposed.synthetic.world import World, box, cylinder, rectangle, sphere

DARK = (0.0, 0.0, 0.0)
LENS = Lens(160, 120, 150.0, 150.0, 83.0, 57.0, (-0.1, 0.02, 0.001, 0.0))
NORTHWARD = look_at((0, -5, 1), (0, 0, 1))


def plain(*colour: float) -> Texture:
    return texture(np.broadcast_to(np.array(colour), (8, 8, 3)))


def evenly_lit(*surfaces: object) -> World:
    """No sun, no sky: every surface shows its texture's own colours up to the fixed shading of its slope."""
    return World(surfaces, sun=DARK, ambient=(1.0, 1.0, 1.0), zenith=DARK, horizon=DARK)  # type: ignore[arg-type]


WHITE = plain(1, 1, 1)
WALL = rectangle((-9, 0, 9), (18, 0, 0), (0, 0, -18), WHITE)


def test_depth_of_a_frontal_wall_is_its_distance() -> None:
    np.testing.assert_allclose(depth(World((WALL,)), Shot("a", LENS, NORTHWARD)), 5.0, rtol=1e-12)


@pytest.mark.parametrize("flat", [1.0, 0.0])
def test_depth_of_round_things_is_the_quadratic_s_root(flat: float) -> None:
    """flat 1: a sphere; 0: a cylinder, which is a sphere that forgot its z."""
    thing = sphere((0.2, 0, 1), 1.3, WHITE) if flat else cylinder((0.2, 0, -9), 1.3, 20, WHITE)
    shot = Shot("a", LENS, NORTHWARD)
    y, x = np.mgrid[:120, :160] + 0.5
    ray = viewing_rays(shot, np.column_stack([x.ravel(), y.ravel()])) * [[1], [1], [flat]]
    offset = (shot.centre - (0.2, 0, 1)) * (1, 1, flat)
    a, b, c = (ray * ray).sum(axis=0), offset @ ray, offset @ offset - 1.3**2
    hits = b * b > a * c
    expected = np.where(hits, (-b - np.sqrt(np.where(hits, b * b - a * c, 0))) / a, np.inf)
    np.testing.assert_allclose(depth(World((thing,)), shot).ravel(), expected, rtol=1e-9)


def test_a_box_hides_what_is_behind_it_and_is_closed_all_round() -> None:
    faces = box((0, 0, 0), (1, 1, 1), [WHITE], WHITE, turn_deg=30)
    for eye in ((3, 1, 0.6), (-2, 2, 3), (0.5, -2, -2)):
        shot = Shot("a", simple_lens(60, 60, 10), look_at(eye, (0, 0, 0.5)))
        hull = depth(World(faces), shot)
        assert np.isfinite(hull).all()
        np.testing.assert_array_equal(depth(World((*faces, sphere((0, 0, 0.5), 0.49, WHITE))), shot), hull)


def test_walls_are_air_from_behind() -> None:
    shot = Shot("a", LENS, look_at((0, 5, 1), (0, 0, 1)))
    assert np.isinf(depth(World((WALL,)), shot)).all()


def test_pixel_centres_lie_at_half_integers() -> None:
    """A bright square's centre of mass, weighted by light, is where its centre projects."""
    square = rectangle((0.213, 0, 1.377), (0.5, 0, 0), (0, 0, -0.5), WHITE)
    shot = Shot("a", Lens(40, 32, 150.0, 150.0, 8.3, 17.1), NORTHWARD, noise=0)
    light = (render(evenly_lit(square), shot, samples=32)[:, :, 0] / 255.0) ** GAMMA
    y, x = np.mgrid[:32, :40] + 0.5
    found = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    np.testing.assert_allclose(found, project_points(shot, [(0.463, 0, 1.127)])[0][0], atol=0.02)
    assert light.sum() / light.max() == pytest.approx((0.5 * 150 / 5) ** 2, rel=0.01)


def test_a_texture_s_texels_land_where_they_project() -> None:
    image = np.random.default_rng(0).uniform(0.2, 0.8, (8, 8, 3))
    wall = rectangle((-1, 0, 2), (2, 0, 0), (0, 0, -2), texture(image))
    shot = Shot("a", LENS, look_at((0.8, -3.5, 1.4), (0, 0, 1), 5), noise=0)
    photo = render(evenly_lit(wall), shot)
    row, column = (i.ravel() for i in np.mgrid[1:7, 1:7])
    xy, _ = project_points(shot, np.column_stack([-1 + (column + 0.5) / 4, 0 * row, 2 - (row + 0.5) / 4]))
    seen = photo[xy[:, 1].astype(int), xy[:, 0].astype(int)] / 255.0 / 0.75 ** (1 / GAMMA)
    error = np.abs(seen - image[row, column])
    assert np.median(error) < 0.03
    assert error.max() < 0.1


def test_far_texture_turns_into_its_mean_not_into_noise() -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2
    wall = rectangle((-1, 0, 2), (2, 0, 0), (0, 0, -2), texture(np.repeat(checks[..., None], 3, axis=2)))
    photo = render(evenly_lit(wall), Shot("a", simple_lens(24, 24, 20), NORTHWARD, noise=0))
    np.testing.assert_allclose((photo / 255.0) ** GAMMA, 0.5 * 0.75, atol=0.01)


def test_magnified_texture_is_interpolated() -> None:
    ramp = texture(np.repeat((np.linspace(0, 1, 4) ** (1 / GAMMA))[None, :, None], 4, axis=0).repeat(3, axis=2))
    u = np.linspace(0.125, 0.875, 9, dtype=np.float32)
    colours = look_up(ramp, u, np.full_like(u, 0.4), np.zeros_like(u))
    np.testing.assert_allclose(colours[:, 1], np.linspace(0, 1, 9), atol=1e-6)


def test_texture_sides_must_be_powers_of_two() -> None:
    with pytest.raises(ValueError, match="powers of two, got 12 x 8"):
        texture(np.zeros((8, 12, 3)))


def test_the_sun_casts_the_shadow_that_geometry_says() -> None:
    """A ball 2 m above a white floor under a slanting sun: the shadow's centre lies where the ray through it ends."""
    to_sun = (0.5, -0.25, 1.0)
    floor = rectangle((-8, 8, 0), (16, 0, 0), (0, -16, 0), WHITE)
    world = World((floor, sphere((0, 0, 2), 0.4, WHITE)), to_sun=to_sun, ambient=DARK, sun=(0.8, 0.8, 0.8))
    shot = Shot("a", simple_lens(160, 160, 60), look_at((0.01, -3, 6), (-0.5, 0.5, 0)), noise=0)
    photo = render(world, shot)
    inside, beside = np.array([[-1.0, 0.5, 0]]), np.array([[-1.0, -0.3, 0], [-1.0, 1.3, 0], [-0.2, 0.5, 0]])
    for points, lit in ((inside, False), (beside, True)):
        xy = project_points(shot, points)[0].astype(int)
        assert ((photo[xy[:, 1], xy[:, 0], 0] > 100) == lit).all()


def poster_yard() -> tuple[World, Shot, Shot]:
    sheet = texture(
        printed_sheet((256, 256), np.random.default_rng(3), (0.9, 0.9, 0.8), ((0.1, 0.1, 0.2), (0.7, 0.2, 0.1)))
    )
    wall = rectangle((-2, 0, 3), (4, 0, 0), (0, 0, -4), sheet)
    world = evenly_lit(wall, sphere((0, -1.5, 1), 0.4, plain(0, 1, 0)))
    left = Shot("l", LENS, look_at((-2, -5, 1.2), (0, 0, 1)), noise=0)
    return world, left, replace(left, name="r", cam_from_world=look_at((1.5, -4.5, 0.8), (0, 0, 1), 8))


def test_two_photos_show_a_surface_point_in_one_colour() -> None:
    world, left, right = poster_yard()
    y, x = np.mgrid[4:116:3, 4:156:3] + 0.5
    xy = np.column_stack([x.ravel(), y.ravel()])
    there, seen = transfer(world, left, right, xy)
    assert 0.3 < seen.mean() < 0.95
    photos = [render(world, shot) / 255.0 for shot in (left, right)]
    a, b = (
        photo[at[seen, 1].astype(int).clip(0, 119), at[seen, 0].astype(int).clip(0, 159)]
        for photo, at in zip(photos, (xy, there), strict=True)
    )
    difference = np.abs(a - b).max(axis=1)
    shuffled = np.abs(a - np.roll(b, 97, axis=0)).max(axis=1)
    assert np.median(difference) < 0.05 < 0.2 < np.mean(shuffled)
    back, _ = transfer(world, right, left, there[seen])
    np.testing.assert_allclose(back, xy[seen], atol=1e-6)


def test_transfer_knows_what_is_hidden() -> None:
    world, left, right = poster_yard()
    ball = np.array([0, -1.5, 1])
    beyond = right.centre + (ball - right.centre) * (-right.centre[1] / (ball - right.centre)[1])
    assert abs(beyond[1]) < 1e-9
    assert not transfer(world, left, right, project_points(left, [beyond])[0])[1][0]
    assert transfer(World(world.surfaces[:1]), left, right, project_points(left, [beyond])[0])[1][0]


def test_cast_gives_infinity_for_sky_and_nothing_for_nothing() -> None:
    shot = Shot("a", LENS, look_at((0, -5, 1), (0, -9, 3)))
    assert np.isinf(cast(World((WALL,)), shot, [(80, 60)])).all()
    assert cast(World((WALL,)), shot, np.empty((0, 2))).shape == (0,)


def test_the_same_arguments_give_the_same_photo_and_noise_is_each_photo_s_own() -> None:
    world, left, _ = poster_yard()
    noisy = replace(left, noise=2.0)
    photo = render(world, noisy, seed=4)
    np.testing.assert_array_equal(photo, render(world, noisy, seed=4))
    clean = render(world, left).astype(float)
    for other in (render(world, noisy, seed=5), render(world, replace(noisy, name="x"), seed=4)):
        a, b = ((p - clean)[(clean > 20) & (clean < 235)] for p in (photo, other))
        assert np.std(a) == pytest.approx(2.0, rel=0.06)
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_exposure_scales_the_light() -> None:
    shot = Shot("a", LENS, NORTHWARD, noise=0)
    grey = World((rectangle((-9, 0, 9), (18, 0, 0), (0, 0, -18), plain(0.5, 0.5, 0.5)),))
    light = [(render(grey, replace(shot, exposure=e))[60, 80] / 255.0) ** GAMMA for e in (1.0, 1.5)]
    np.testing.assert_allclose(light[1] / light[0], 1.5, rtol=0.03)
