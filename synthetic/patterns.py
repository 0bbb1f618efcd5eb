"""Procedural texture images with detail at all scales, from the size of a wall to that of a grain.

Every function returns a float32 image (h, w, 3) in [0, 1] whose sides are powers of two. Nothing repeats unless stated:
no two bricks, tiles or posters are equal, so that matches are unambiguous as in most real scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .texture import Floats

Rng = np.random.Generator
Shape = tuple[int, int]
Colour = tuple[float, float, float]

CLAY: Colour = (0.71, 0.42, 0.31)
SAND: Colour = (0.86, 0.77, 0.62)
CREAM: Colour = (0.94, 0.90, 0.81)
STONE: Colour = (0.66, 0.65, 0.62)
SLATE: Colour = (0.34, 0.38, 0.42)
NAVY: Colour = (0.13, 0.15, 0.21)
TEAL: Colour = (0.15, 0.46, 0.47)
OCHRE: Colour = (0.87, 0.63, 0.24)
BRICK: Colour = (0.73, 0.29, 0.22)
SKY: Colour = (0.50, 0.63, 0.66)


def sized(width_m: float, height_m: float, texels_per_metre: float) -> Shape:
    """(h, w), powers of two, close to the requested resolution."""
    h, w = (2 ** max(3, round(np.log2(side * texels_per_metre))) for side in (height_m, width_m))
    return h, w


def cloud(shape: Shape, rng: Rng, slope: float = 1.2) -> Floats:
    """Fractal noise with zero mean and unit variance; amplitude proportional to frequency^-slope."""
    h, w = shape
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)).astype(np.float32)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal(shape, np.float32)) * frequency**-slope
    spectrum[0, 0] = 0
    image: Floats = np.fft.irfft2(spectrum, shape).astype(np.float32)
    image /= image.std()
    return image


def plaster(shape: Shape, rng: Rng, colour: Colour = CREAM, contrast: float = 1.0) -> Floats:
    """A wall with stains, grain and chips; low contrast gives a blank wall without features."""
    tone = 0.07 * cloud(shape, rng, 1.3) + 0.035 * cloud(shape, rng, 0.6)
    chips = np.clip(cloud(shape, rng, 1.0) - 1.7, 0, 0.6) * -0.35
    tint = np.stack([0.01 * cloud(shape, rng, 1.5) for _ in range(3)], axis=-1)
    return _float32(np.asarray(colour) + contrast * (tint + (tone + chips)[..., None]))


def marble(shape: Shape, rng: Rng, colour: Colour = CREAM, vein: Colour = SLATE) -> Floats:
    """Veins along contour lines of fractal noise, over mottled stone."""
    lines = np.abs(np.sin(2.4 * cloud(shape, rng, 1.5)))
    fine = np.abs(np.sin(3.0 * cloud(shape, rng, 1.25)))
    amount = np.clip(0.9 * np.exp(-9 * lines) + 0.6 * np.exp(-10 * fine) + 0.1 * cloud(shape, rng, 0.8), 0, 1)
    return _mix(colour, vein, amount)


def blocks(
    shape: Shape,
    rng: Rng,
    rows: int,
    columns: int,
    colour: Colour,
    joint: Colour,
    offset: float = 0.5,
    variety: float = 0.16,
) -> Floats:
    """Bricks (offset 0.5) or tiles (offset 0) with joints, each with its own shade and stains."""
    h, w = shape
    y = (np.arange(h, dtype=np.float32) + np.float32(0.5))[:, None] * np.float32(rows / h)
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5)) * np.float32(columns / w)
    row = np.floor(y).astype(int)
    x = x + np.float32(offset) * (row % 2).astype(np.float32)
    column = np.floor(x).astype(int) % columns
    to_joint = np.minimum(_to_edge(y) * np.float32(h / rows), _to_edge(x) * np.float32(w / columns))
    thickness = np.float32(max(0.03 * min(h / rows, w / columns), 0.7))
    amount = np.clip(to_joint / thickness - np.float32(0.5), 0, 1)
    shade = 1 + variety * (rng.standard_normal((rows, columns, 1)) + 0.3 * rng.standard_normal((rows, columns, 3)))
    faces = (np.asarray(colour) * np.clip(shade, 0.55, 1.4)).astype(np.float32)
    sheet: Floats = faces[row, column]
    _paint(sheet, 1 - amount, joint)
    sheet += (np.float32(0.065) * cloud(shape, rng, 1.0))[..., None]
    return sheet


def planks(shape: Shape, rng: Rng, colour: Colour = OCHRE, rows: int = 6) -> Floats:
    """Boards with grain along the width of the image."""
    h, w = shape
    streaks = np.repeat(cloud((h, max(w // 16, 2)), rng, 0.9), 16, axis=1)[:, :w]
    smooth = (streaks + np.roll(streaks, 5, axis=1) + np.roll(streaks, 11, axis=1)) / 3
    wood = blocks(shape, rng, rows, 1, colour, NAVY, offset=0.0, variety=0.1)
    return _float32(wood + 0.1 * smooth[..., None])


def printed_sheet(shape: Shape, rng: Rng, paper: Colour, inks: tuple[Colour, ...]) -> Floats:
    """A poster: discs, bars, a headline and columns of small random glyphs."""
    h, w = shape
    sheet = np.broadcast_to(np.asarray(paper, np.float32), (h, w, 3)).copy()
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) + np.float32(0.5)
    for i in range(7):
        radius = rng.uniform(0.06, 0.24) * min(h, w)
        distance = np.hypot(y - rng.uniform(0.28, 0.8) * h, x - rng.uniform(0.1, 0.9) * w)
        ring = np.abs(distance - radius * 0.8) - radius * 0.2 if i % 2 else distance - radius
        _paint(sheet, np.clip(0.5 - ring, 0, 1), inks[i % len(inks)])
    for i in range(3):
        line = np.abs((y - h * rng.uniform(0.3, 0.8)) + (x - w / 2) * rng.uniform(-0.8, 0.8))
        _paint(sheet, np.clip(rng.uniform(0.006, 0.02) * h - line, 0, 1), inks[-1 - i % len(inks)])
    _print(sheet, rng, (0.05, 0.22), (0.06, 0.94), rows=1, letters=7, ink=inks[0])
    _print(sheet, rng, (0.62, 0.95), (0.06, 0.48), rows=7, letters=16, ink=inks[-1])
    _print(sheet, rng, (0.74, 0.95), (0.54, 0.94), rows=4, letters=14, ink=inks[0])
    sheet += (0.02 * cloud(shape, rng, 0.5) + 0.02 * cloud(shape, rng, 1.3))[..., None]
    edge = np.minimum(np.minimum(y, h - y) / h, np.minimum(x, w - x) / w) < 0.015
    sheet[edge] = np.asarray(paper) * 0.6
    return sheet


def facade(shape: Shape, rng: Rng, floors: int, windows: int, wall: Colour = SAND) -> Floats:
    """Rows of equal windows in a wall of varying stains: repeated structure."""
    h, w = shape
    bay = (h // floors, w // windows)
    if bay[0] * floors != h or bay[1] * windows != w:
        raise ValueError("floors and windows must divide the image's sides")
    bays = [[_bay(bay, rng, wall) for _ in range(windows)] for _ in range(floors)]
    return np.concatenate([np.concatenate(floor, axis=1) for floor in bays])


def quilt(shape: Shape, rng: Rng, colours: tuple[Colour, ...]) -> Floats:
    """Nested patches of three sizes: strong corners at every scale."""
    h, w = shape
    sheet = np.zeros((h, w, 3), np.float32)
    for generation, weight in ((4, 0.5), (16, 0.3), (64, 0.2)):
        rows, columns = min(generation, h), min(max(1, generation * w // h), w)
        pick = np.asarray(colours, np.float32)[rng.integers(len(colours), size=(rows, columns))]
        sheet += weight * pick[np.arange(h) * rows // h][:, np.arange(w) * columns // w]
    return sheet + (0.04 * cloud(shape, rng, 0.7))[..., None]


def _bay(shape: Shape, rng: Rng, wall: Colour) -> Floats:
    h, w = shape
    bay = plaster(shape, rng, wall)
    y, x = (np.arange(h) + 0.5)[:, None] / h, (np.arange(w) + 0.5) / w
    for half_h, half_w, colour in ((0.33, 0.29, CREAM), (0.30, 0.25, NAVY)):
        _paint(bay, (np.abs(y - 0.5) < half_h) & (np.abs(x - 0.5) < half_w), colour)
    _paint(bay, (np.abs(y - 0.5) < 0.30) & (np.abs(x - 0.5) < 0.25) & (y + x < 0.93), SLATE)
    _paint(bay, (np.abs(y - 0.44) < 0.012) & (np.abs(x - 0.5) < 0.25), CREAM)
    _paint(bay, (np.abs(x - 0.5) < 0.014) & (np.abs(y - 0.5) < 0.30), CREAM)
    _paint(bay, (np.abs(y - 0.85) < 0.02) & (np.abs(x - 0.5) < 0.36), STONE)
    return bay


def _print(
    sheet: Floats, rng: Rng, y: tuple[float, float], x: tuple[float, float], rows: int, letters: int, ink: Colour
) -> None:
    """Fill a part of the sheet with lines of random 7 x 5 glyphs; about one in six is a space."""
    h, w, _ = sheet.shape
    stencil = np.zeros((rows, 10, letters, 7), bool)
    stencil[:, 1:8, :, 1:6] = rng.random((rows, 7, letters, 5)) < 0.55
    stencil &= (rng.random((rows, 1, letters, 1)) > 0.16) | (rows == 1)
    image = stencil.reshape(rows * 10, letters * 7)
    top, bottom, left, right = int(y[0] * h), int(y[1] * h), int(x[0] * w), int(x[1] * w)
    i = np.arange(bottom - top) * image.shape[0] // (bottom - top)
    j = np.arange(right - left) * image.shape[1] // (right - left)
    _paint(sheet[top:bottom, left:right], image[i][:, j], ink)


def _paint(sheet: Floats, amount: NDArray[np.generic], colour: Colour) -> None:
    sheet += amount.astype(np.float32)[..., None] * (np.asarray(colour, np.float32) - sheet)


def _mix(a: Colour, b: Colour, amount: NDArray[np.floating]) -> Floats:
    return _float32(np.asarray(a) + amount[..., None] * (np.asarray(b) - np.asarray(a)))


def _to_edge(x: Floats) -> Floats:
    """Distance to the nearest integer."""
    return _float32(np.abs(x - np.rint(x)))


def _float32(image: NDArray[np.floating]) -> Floats:
    return image.astype(np.float32, copy=False)
