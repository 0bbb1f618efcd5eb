"""Draw flat Gaussians over each other, and the derivatives of the image.

Pixel p of an image is sum_k w_k c_k over the Gaussians k from front to back, with

    w_k = a_k prod_{j < k} (1 - a_j),   a_k = min(0.99, o_k) exp(-q_k / 2),   q_k = (p - m_k)^T Q_k (p - m_k).

The image is cut into small tiles, each with the list of the Gaussians that reach it, from front to back. The tiles are
worked on together, layer by layer: the logarithms of a_k are the product of six numbers per Gaussian with
the monomials 1, x, y, x^2, xy, y^2 of a tile's pixels, what passes is multiplied up from layer to layer, and sums over
Gaussians or pixels are products of matrices. So everything runs at the speed of vector operations on whole arrays, and
nothing has to be compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from unposed.optim.arrays import Array, Array32, Index, Mask

LEAST_ALPHA = 1.0 / 255.0
"""Below this a Gaussian does not change an 8-bit pixel."""
MOST_ALPHA = 0.99
"""So that what lies behind always counts a little, and derivatives stay finite."""
TILE_PX = (8, 4)
"""Width and height. Most Gaussians are a few pixels wide: of larger tiles they would cover little, and smaller ones are
more to list."""
LEAST_FILLED = 0.75
"""Length of the shortest list over that of the longest one, among tiles that are worked on together: each part takes
time by itself, and what shorter lists lack of the longest is computed in vain."""
MOST_CELLS = 1 << 20
"""Pairs of Gaussian and pixel that are worked on together at most: of a large image, all of them would need memory for
several numbers each."""
NOTHING = -20.0
"""Logarithm of the opacity of what is not there: far below the least that is drawn, and where exponentials are normal
numbers, since others take three times as long."""


@dataclass(frozen=True, eq=False)
class FlatGaussians:
    """Gaussians in an image."""

    mean: Array32
    """(n, 2) pixels."""
    conic: Array32
    """(n, 3) a, b, c of the inverse covariance [[a, b], [b, c]] in 1 / square pixels."""
    opacity: Array32
    """(n,)."""
    rgb: Array32
    """(n, 3)."""
    depth: Array32
    """(n,) in front of the camera."""


@dataclass(frozen=True, eq=False)
class _Grid:
    """The tiles of an image."""

    across: int
    down: int
    width: int
    height: int

    def whole(self, tiles: Tensor) -> Tensor:
        """(channels, height, width) image of tiles (tiles, channels, pixels)."""
        wide, tall = TILE_PX
        grid = tiles.reshape(self.down, self.across, -1, tall, wide).permute(2, 0, 3, 1, 4)
        return grid.reshape(-1, self.down * tall, self.across * wide)[:, : self.height, : self.width]

    def tiles(self, image: Tensor) -> Tensor:
        """(tiles, channels, pixels) of an image (channels, height, width); zero beyond its edges."""
        wide, tall = TILE_PX
        whole = image.new_zeros(len(image), self.down * tall, self.across * wide)
        whole[:, : self.height, : self.width] = image
        grid = whole.reshape(-1, self.down, tall, self.across, wide).permute(1, 3, 0, 2, 4)
        return grid.reshape(self.down * self.across, -1, tall * wide)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Pairs of Gaussian and tile: by layers, each of which holds the next Gaussian of all tiles that have another one,
    tiles with long lists first. So the tiles of a layer are the first of those before it."""

    gaussian: Index
    there: Mask
    """Whether the row is a pair. Some are not, so that many layers are equally long."""
    mean: Array
    """(rows, 2) of the Gaussian, from the middle of the tile."""
    tiles: Tensor
    """By the length of their lists."""
    slabs: list[tuple[int, slice]]
    """Layers that are equally long are one array (layers, tiles): how many tiles, and the rows."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What the derivatives of a slab are made of: alpha, and the weight of its colours in the image."""

    alpha: Tensor
    weight: Tensor
    """(layers, tiles, pixels)."""


@dataclass(frozen=True, eq=False)
class Raster:
    """An image of Gaussians, and what its derivatives are made of."""

    image: Tensor
    """(height, width, 3)."""
    covered: Tensor
    """(height, width) how much of each pixel they cover."""
    _flat: FlatGaussians
    _grid: _Grid
    _rows: _Rows
    _colours: Tensor
    """(rows, 3)."""
    _drawn: list[_Drawn]

    def derivatives(self, by_image: Tensor) -> tuple[Array32, Array32, Array32, Array32]:
        """Derivatives by means, conics, opacities and colours from those (height, width, 3) by the image; can be asked
        for once."""
        rows, conic = self._rows, self._flat.conic
        by_tile = self._grid.tiles(by_image.permute(2, 0, 1))[rows.tiles]
        behind = np.zeros((len(by_tile), by_tile.shape[2]), conic.dtype)
        parts = [by_image.new_zeros(9, 0)]
        for (width, own), each in zip(reversed(rows.slabs), reversed(self._drawn), strict=True):
            parts.append(_derivatives(each, self._colours[own], by_tile[:width], behind[:width]))
        return _by_gaussian(rows, torch.cat(parts[::-1], dim=1).numpy(), conic, self._flat.opacity)


def rasterise(flat: FlatGaussians, width: int, height: int, derivatives: bool = True) -> Raster:
    """Draw Gaussians on black. derivatives: whether they will be asked for; they need two numbers for each pair of
    Gaussian and pixel."""
    grid = _Grid(-(-width // TILE_PX[0]), -(-height // TILE_PX[1]), width, height)
    rows = _rows_of(flat, grid)
    coefficients = torch.from_numpy(_coefficients(rows, flat.conic, flat.opacity))
    colours = torch.from_numpy(flat.rgb[rows.gaussian])
    image = colours.new_zeros(len(rows.tiles), 4, math.prod(TILE_PX))
    reaching = np.ones((len(image), image.shape[2]), flat.mean.dtype)
    kept = []
    for tiles_of, own in rows.slabs:
        drawn = _drawn(coefficients[:, own], colours[own], image[:tiles_of, :3], reaching[:tiles_of])
        kept += [drawn] if derivatives else []
    image[:, 3] = 1.0 - torch.from_numpy(reaching)
    tiles = image.new_zeros(grid.across * grid.down, *image.shape[1:])
    tiles[rows.tiles] = image
    whole = grid.whole(tiles)
    return Raster(whole[:3].permute(1, 2, 0), whole[3], flat, grid, rows, colours, kept)


def _half_sides(conic: Array32, opacity: Array32) -> Array32:
    """(n, 2) half sides sqrt(q (Q^-1)_ii) of the box of the ellipse in which o exp(-q / 2) is at least 1 / 255; below
    zero, so that nothing is drawn, for ellipses so thin that rounding leaves Q no determinant."""
    a, b, c = conic.T
    reach = 2.0 * np.log(np.maximum(opacity / LEAST_ALPHA, 1.0))
    with np.errstate(invalid="ignore"):  # of the thin ones
        determinant = a * c - b * b
        thin = ~(determinant > 0.0)
        squares = (reach / np.where(thin, 1.0, determinant))[:, None] * np.stack([c, a], axis=1)
        return np.where(thin[:, None], np.asarray(-1.0, conic.dtype), np.sqrt(squares))


def _rows_of(flat: FlatGaussians, grid: _Grid) -> _Rows:
    mean, half = flat.mean, _half_sides(flat.conic, flat.opacity)
    frame = np.array([grid.width, grid.height], mean.dtype)
    low = np.maximum(np.ceil(mean - half - 0.5), 0)
    high = np.minimum(np.floor(mean + half - 0.5), frame - 1)
    order = np.argsort(flat.depth, kind="stable")  # at one depth in a fixed order
    order = order[(high >= low).all(axis=1)[order]]
    first, last = ((each[order] / np.array(TILE_PX, mean.dtype)).astype(np.int32) for each in (low, high))
    wide, tall = (last - first + 1).T
    number = wide * tall
    start = np.concatenate([[0], number.cumsum()])
    member = np.repeat(np.arange(len(order), dtype=np.int32), number)
    down, right = np.divmod(np.arange(start[-1], dtype=np.int32) - start[:-1].astype(np.int32)[member], wide[member])
    tile = (first[:, 1] * grid.across + first[:, 0])[member] + down * grid.across + right
    # One row for each Gaussian, from front to back; to take the matrix by columns sorts by tile, by counting.
    by_gaussian = sparse.csr_matrix((member, tile, start), (len(order), grid.across * grid.down))
    by_tile = by_gaussian.tocsc()
    return _layered(order[by_tile.data], by_tile.indptr.astype(np.int64), mean, grid)


def _layered(gaussian: Index, start: Index, mean: Array32, grid: _Grid) -> _Rows:
    """Rows by layers, of Gaussians by tile: tile t has those from start[t] to start[t + 1]."""
    count = np.diff(start)
    tiles = np.argsort(-count, kind="stable")
    tiles = tiles[: np.count_nonzero(count)]
    count, start = count[tiles], start[tiles]
    middle = (np.stack([tiles % grid.across, tiles // grid.across], axis=1) + 0.5) * TILE_PX
    listed, there, middles, slabs, done = [], [], [], [], 0
    for first, last, width in _slabs(count):
        place = np.arange(first, last)[:, None]
        known = place < count[:width]
        listed.append(np.where(known, start[:width] + place, 0).ravel())
        there.append(known.ravel())
        middles.append(np.broadcast_to(middle[:width], (*known.shape, 2)).reshape(-1, 2))
        slabs.append((width, slice(done, done + known.size)))
        done += known.size
    rows = gaussian[np.concatenate([np.zeros(0, np.int64), *listed])]
    from_middle = mean[rows] - np.concatenate([np.zeros((0, 2)), *middles])
    return _Rows(rows, np.concatenate([np.zeros(0, bool), *there]), from_middle, torch.from_numpy(tiles), slabs)


def _slabs(count: Index) -> list[tuple[int, int, int]]:
    """First layer, last layer and number of tiles of each slab, of tiles with lists of descending lengths."""
    edges = [0]
    while edges[-1] < len(count):
        edges.append(int(np.searchsorted(-count, -LEAST_FILLED * count[edges[-1]], side="right")))
    slabs, done = [], 0
    for first, end in reversed(list(pairwise(edges))):
        layers = max(1, MOST_CELLS // (end * math.prod(TILE_PX)))
        starts = range(done, done := int(count[first]), layers)
        slabs += [(each, min(each + layers, done), end) for each in starts]
    return slabs


@lru_cache(maxsize=4)
def _monomials(kind: torch.dtype, tile_px: tuple[int, int]) -> Tensor:
    """(6, pixels) 1, x, y, x^2, xy, y^2 of the pixels of a tile, from its middle."""
    x, y = (torch.arange(side, dtype=kind) - 0.5 * (side - 1) for side in tile_px)
    y, x = (each.ravel() for each in torch.meshgrid(y, x, indexing="ij"))
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])


def _coefficients(rows: _Rows, conic: Array32, opacity: Array32) -> Array32:
    """(6, rows) logarithms of alpha by the monomials; in double precision, since those of long and thin ellipses nearly
    cancel."""
    halves = -0.5 * conic.astype(np.float64)
    a, b, c = halves[rows.gaussian].T
    x, y = rows.mean.T
    along_x, along_y = a * x + b * y, b * x + c * y
    logarithm = np.log(np.clip(opacity, 0.5 * LEAST_ALPHA, MOST_ALPHA))[rows.gaussian]
    found = np.empty((6, len(x)), conic.dtype)
    constant = logarithm + along_x * x + along_y * y
    for row, values in zip(found, (constant, -2.0 * along_x, -2.0 * along_y, a, 2.0 * b, c), strict=True):
        row[:] = values
    found[:, ~rows.there] = np.array([[NOTHING], *[[0.0]] * 5])
    return found


def _drawn(coefficients: Tensor, colours: Tensor, image: Tensor, reaching: Array32) -> _Drawn:
    """Draw a slab onto an image (tiles, 3, pixels), and dim what reaches (tiles, pixels) the next one."""
    tiles, _, pixels = image.shape
    alpha = (coefficients.T @ _monomials(coefficients.dtype, TILE_PX)).exp_().reshape(-1, tiles, pixels)
    torch.threshold_(alpha, LEAST_ALPHA, 0.0)
    weight = torch.empty_like(alpha)
    # By numpy, which takes half the time of torch to begin an operation.
    for each, share in zip(alpha.numpy(), weight.numpy(), strict=True):
        np.multiply(reaching, each, out=share)
        np.subtract(reaching, share, out=reaching)
    image += colours.reshape(-1, tiles, 3).permute(1, 2, 0) @ weight.transpose(0, 1)
    return _Drawn(alpha, weight)


def _derivatives(drawn: _Drawn, colours: Tensor, by_image: Tensor, behind: Array32) -> Tensor:
    """(9, rows) derivatives of a slab by its coefficients and colours, by those by the image (tiles, 3, pixels).

    behind: (tiles, pixels) derivative by the light from behind the slab, as if nothing were in front; becomes that from
    behind the slab before. With that of what is behind a Gaussian, b, and of its own colour, l, the derivative by the
    logarithm of its alpha is w (l - b), and b becomes b + a (l - b).
    """
    alpha, weight = drawn.alpha, drawn.weight
    layers, tiles, pixels = alpha.shape
    by_rgb = by_image @ weight.permute(1, 2, 0)
    red, green, blue = colours.reshape(layers, tiles, 3, 1).unbind(dim=2)
    light = red * by_image[:, 0]
    light.addcmul_(green, by_image[:, 1]).addcmul_(blue, by_image[:, 2])
    change = np.empty_like(behind)
    for each, difference in zip(alpha.numpy()[::-1], light.numpy()[::-1], strict=True):
        np.subtract(difference, behind, out=difference)
        np.multiply(each, difference, out=change)
        np.add(behind, change, out=behind)
    by_power = weight.mul_(light).reshape(-1, pixels)
    by_coefficient = _monomials(alpha.dtype, TILE_PX) @ by_power.T
    return torch.cat([by_coefficient, by_rgb.permute(1, 2, 0).reshape(3, -1)])


def _by_gaussian(
    rows: _Rows, by_row: Array32, conic: Array32, opacity: Array32
) -> tuple[Array32, Array32, Array32, Array32]:
    """Derivatives by means, conics, opacities and colours from those (9, rows) by coefficients and colours of rows."""
    total, by_x, by_y, by_xx, by_xy, by_yy = by_row[:6].astype(np.float64)
    x, y = rows.mean.T
    moments = (  # about the mean of the Gaussian
        *(total, by_x - x * total, by_y - y * total),
        by_xx - x * (2.0 * by_x - x * total),
        by_xy - x * by_y - y * by_x + x * y * total,
        by_yy - y * (2.0 * by_y - y * total),
        *by_row[6:],
    )
    sums = [np.bincount(rows.gaussian, each, len(opacity)) for each in moments]
    total, by_x, by_y, by_xx, by_xy, by_yy, *by_rgb = sums
    a, b, c = conic.T
    by_mean = np.stack([a * by_x + b * by_y, b * by_x + c * by_y], axis=1)
    by_conic = np.stack([-0.5 * by_xx, -by_xy, -0.5 * by_yy], axis=1)
    by_opacity = np.where(opacity < MOST_ALPHA, total / np.maximum(opacity, LEAST_ALPHA), 0.0)
    kind = conic.dtype
    return by_mean.astype(kind), by_conic.astype(kind), by_opacity.astype(kind), np.stack(by_rgb, axis=1).astype(kind)
