"""Drawings of a collection: its similarity matrix and its view graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unposed.pipeline.artifacts import Photo
from unposed.report.graph_layout import laid_out
from unposed.report.pictures import readable_rgb

from .pair_table import PairFacts, PairTable

SIDE = 1000
"""Side of a drawing in pixels; drawn at twice this size and reduced, for smooth lines."""

MOST_THUMBNAILS = 150
"""Collections of more photos are drawn with dots instead of thumbnails."""

PAPER, INK = (250, 249, 246), (40, 44, 52)
VERIFIED, FLAT, DOUBTED, FAILED = (38, 110, 166), (122, 172, 208), (205, 61, 48), (226, 222, 214)
"""Colours of pairs: general geometry; planar or pure rotation; doubted; matched without geometry."""


def similarity_drawing(table: PairTable) -> Image.Image:
    """Matrix of all photos by name: similarity above the diagonal, verified matches below; dark is similar."""
    index = {photo.name: row for row, photo in enumerate(table.photos.photos)}
    photos = max(len(index), 1)
    cell = max(1, SIDE // photos)
    rows = np.array([(index[p.photos[0]], index[p.photos[1]]) for p in table.pairs], np.int64).reshape(-1, 2)
    image = np.tile(np.array(PAPER, np.float64), (photos, photos, 1))
    image[np.arange(photos), np.arange(photos)] = INK
    if len(rows):
        alike = np.array([pair.similarity or 0.0 for pair in table.pairs])
        verified = np.array([0 if pair.doubt else pair.verified for pair in table.pairs], np.float64)
        image[rows[:, 0], rows[:, 1]] = _shade(alike, INK)
        image[rows[:, 1], rows[:, 0]] = _shade(verified, VERIFIED)
        doubted = np.array([bool(pair.doubt) for pair in table.pairs])
        image[rows[doubted, 1], rows[doubted, 0]] = DOUBTED
    drawing = Image.fromarray(image.round().astype(np.uint8)).resize((photos * cell,) * 2, Image.Resampling.NEAREST)
    if max(drawing.size) > SIDE:
        drawing.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return drawing


def graph_drawing(table: PairTable) -> Image.Image:
    """The view graph: photos near to those they share most with, and the matched pairs. Blue pairs are verified, wider
    with more matches, pale ones planar; red ones doubted; grey ones without geometry."""
    side = 2 * SIDE
    drawing = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(drawing)
    names = [photo.name for photo in table.photos.photos]
    place = dict(zip(names, _laid_out(table, names) * 0.86 * side + 0.07 * side, strict=True))
    chosen = sorted((pair for pair in table.pairs if pair.chosen), key=lambda pair: (_layer(pair), pair.verified))
    most = max((pair.verified for pair in chosen), default=1) or 1
    for pair in chosen:
        width = 2 if pair.kind == "none" else round(2 + 10 * (pair.verified / most) ** 0.5)
        ends = [tuple(place[name].tolist()) for name in pair.photos]
        draw.line(ends, fill=(FAILED, DOUBTED, FLAT, VERIFIED)[_layer(pair)], width=width)
    thumbnail = int(min(0.14, 0.55 / max(len(names), 1) ** 0.5) * side)
    font = ImageFont.load_default(size=max(16, thumbnail // 8))
    for photo in table.photos.photos:
        x, y = place[photo.name]
        small = _thumbnail(photo, thumbnail) if len(names) <= MOST_THUMBNAILS else None
        if small is None:
            draw.ellipse((x - 9, y - 9, x + 9, y + 9), fill=INK)
            continue
        corner = (round(x - small.width / 2), round(y - small.height / 2))
        drawing.paste(small, corner)
        label = photo.name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        where = (corner[0] + 4, corner[1] + 2)
        draw.text(where, label, font=font, fill="white", stroke_width=3, stroke_fill=INK)
    return drawing.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _layer(pair: PairFacts) -> int:
    """Later layers cover earlier ones."""
    if pair.kind == "none":
        return 0
    return 1 if pair.doubt else 3 if pair.kind == "general" else 2


def _laid_out(table: PairTable, names: list[str]) -> NDArray[np.float64]:
    """(photos, 2) in the unit square, by the verified pairs that are not doubted."""
    index = {name: row for row, name in enumerate(names)}
    used = [pair for pair in table.pairs if pair.kind != "none" and not pair.doubt]
    pairs = np.array([[index[name] for name in pair.photos] for pair in used], np.int64).reshape(-1, 2)
    return laid_out(len(names), pairs, np.array([pair.verified for pair in used], np.int64))


def _shade(value: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """(n, 3) from paper to a colour, in a nonlinear scale, as a few pairs are many times as similar as all others."""
    strong = np.sqrt(value / max(float(np.quantile(value, 0.98)), 1e-9)).clip(0.0, 1.0)[:, None]
    mixed: NDArray[np.float64] = (1.0 - strong) * np.array(PAPER) + strong * np.array(colour)
    return mixed


def _thumbnail(photo: Photo, side: int) -> Image.Image | None:
    image = readable_rgb(photo, side)
    if image is None:  # then it is a dot
        return None
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
