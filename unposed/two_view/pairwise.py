"""Two photos: their matches, the relative pose of their cameras, and 3D points.

The matcher and the verification of a preset run on two photos without a ranking or a mapper.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.pair.two_view_geometry import estimate_two_view_geometry
from unposed.optim.pointmaps.pair_triangulation import (
    PairPoints,
    normalized_points,
    points_at_depth,
    predicted_depth_scales,
    triangulate_pair,
)
from unposed.pipeline.artifacts import Bytes, PairMatches, Photo, Photos, TwoViewGeometry
from unposed.pipeline.errors import ConfigError, InputError, NoReconstruction
from unposed.pipeline.graph import Graph, Node, build_graph
from unposed.pipeline.images.pixels import photo_per_px, read_rgb
from unposed.pipeline.ports import read_ports
from unposed.pipeline.presets import apply_settings, read_preset
from unposed.pipeline.registry import Registry

from ..options import DEFAULTS, RunChanges, RunOptions, Settings
from ..output import locked_folder, publish
from ..photo_sources import two_photos
from ..run_log import RunLog
from ..run_setup import chosen_preset, setting_lines, workplace
from .pair import Pair
from .pair_files import write_pair

NODES = ("matching", "verification")
"""Nodes of a preset that two photos need, apart from those that these read."""
GRID_PX = 2
"""Spacing of the depth grids of two photos, if the matcher has such an option; finer than for many pairs."""
COLOUR_SIDE_PX = 1600
MIN_RELATIVE_CONFIDENCE = 0.5
"""Predicted points are kept from this share of the photo's median confidence on."""


def pairwise(
    photo_a: str | Path | Bytes,
    photo_b: str | Path | Bytes,
    out: str | Path | None = None,
    *,
    preset: str | Path = "auto",
    settings: Settings = (),
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> Pair:
    """Match two photos and estimate the relative pose of their cameras.

    photo_a, photo_b: files, or images (height, width, 3) uint8 RGB.
    out: folder that receives pair.json, matches.jpg, points.ply, and depth-a.npz and depth-b.npz from matchers that
    predict depth.
    The other options are those of `reconstruct`. Raises NoReconstruction if no geometry explains the matches (what was
    found is written all the same).
    """
    with workplace(options.merged(changes)) as (place, shown), RunLog(None, shown) as log:
        graph = _graph(chosen_preset(preset), setting_lines(settings))
        photos = two_photos(photo_a, photo_b, place.cache)
        names = " and ".join(photo.name for photo in photos.photos)
        if photos[0].content == photos[1].content:
            raise InputError(f"{names} are the same photo")
        place, photos = place.fitting(graph, photos, log.note)
        with place.open_store(log.note) as store:
            done = place.run(graph, photos, store, log)
            if failures := done.failures:
                raise NoReconstruction(f"{' and '.join(failures[0].photos)}: {failures[0].reason}")
            found = _pair(photos, done.value("matching")[0, 1], done.value("verification")[0, 1], place.options.seed)
    if out is not None:
        out = Path(out)
        with locked_folder(out) as new:
            write_pair(found, new)
            publish(new, out)
    if found.geometry.kind == "none":
        raise NoReconstruction(f"no geometry explains the {len(found.matches.weight)} matches of {names}")
    return found


def _graph(name: str, settings: list[str]) -> Graph:
    """The matcher and the verification of the preset, and the nodes that these read, over a single pair."""
    preset, registry = apply_settings(read_preset(name), settings), Registry()
    kept: dict[str, Any] = {"graph": {"use": "exhaustive"}}
    wanted = list(NODES)
    while wanted:
        node = wanted.pop()
        if node not in preset and node in NODES:
            raise ConfigError(f"{name}: has no node {node!r}, which two photos need")
        if node in preset and node not in kept:
            kept[node] = preset[node]
            wanted += _reads(node, preset[node], registry)
    whole = build_graph({**kept, "outputs": list(kept)}, registry)
    return Graph({name: _finer(node) for name, node in whole.nodes.items()}, NODES, None)


def _reads(node: str, options: Any, registry: Registry) -> list[str]:
    """Names that a node of a preset reads; none for malformed nodes, which build_graph reports."""
    try:
        slot, _, plugin = options["use"].rpartition(".")
        ports = read_ports(registry.find(slot or node, plugin))
        return [options.get("from", {}).get(port.name, port.name) for port in ports.inputs]
    except (ConfigError, AttributeError, KeyError, TypeError):
        return []


def _finer(node: Node) -> Node:
    stage: Any = node.stage
    adjustable = any(each.name == "grid_px" for each in fields(stage)) and "grid_px" not in node.given
    return replace(node, stage=replace(stage, grid_px=GRID_PX)) if adjustable else node


def _pair(photos: Photos, matches: PairMatches, geometry: TwoViewGeometry, seed: int) -> Pair:
    b_from_a, focals = (each.astype(np.float64) for each in (geometry.b_from_a, geometry.focals_px))
    if matches.grids is not None:
        focals = np.array([grid.focal_px for grid in matches.grids])
        if geometry.kind != "none" and geometry.focal_source != "prior":
            b_from_a = _pose(photos, matches, geometry, focals, seed)
    nothing = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    pair = Pair(photos, matches, geometry, b_from_a, focals, *nothing, depths=matches.grids)
    if geometry.kind == "none":
        return pair
    sizes = [(photo.width, photo.height) for photo in photos.photos]
    keep = geometry.inliers
    xy = [matches.xy_a[keep].astype(np.float64), matches.xy_b[keep].astype(np.float64)]
    planes = [normalized_points(xy[i], focals[i], sizes[i]) for i in (0, 1)]
    seen = triangulate_pair(planes[0], planes[1], b_from_a)
    if matches.grids is not None and matches.depth_a is not None and matches.depth_b is not None:
        depth_a, depth_b = (each[keep].astype(np.float64) for each in (matches.depth_a, matches.depth_b))
        scales = predicted_depth_scales(seen, depth_a, depth_b, b_from_a)
        depths = tuple(replace(g, depth=g.depth * np.float32(s)) for g, s in zip(matches.grids, scales, strict=True))
        return _with_predicted(replace(pair, depths=(depths[0], depths[1])))
    return _with_triangulated(pair, seen, xy[0])


def _pose(photos: Photos, matches: PairMatches, geometry: TwoViewGeometry, focals: Array, seed: int) -> Array:
    """Relative pose from the verified matches under the focal lengths that the matcher predicts."""
    keep = geometry.inliers
    found = estimate_two_view_geometry(
        matches.xy_a[keep],
        matches.xy_b[keep],
        matches.weight[keep],
        (photos[0].width, photos[0].height),
        (photos[1].width, photos[1].height),
        focals_px=(float(focals[0]), float(focals[1])),
        seed=seed,
    )
    return geometry.b_from_a.astype(np.float64) if found.kind == "none" else found.b_from_a


def _with_triangulated(pair: Pair, seen: PairPoints, xy_a: Array) -> Pair:
    there = np.isfinite(seen.depth_a)
    points = points_at_depth(seen.normalized_a[there], seen.depth_a[there])
    return replace(pair, points=points, rgb=_colours(pair.photos[0], xy_a[there]))


def _with_predicted(pair: Pair) -> Pair:
    assert pair.depths is not None
    points, colours = [], []
    for side, (photo, grid) in enumerate(zip(pair.photos.photos, pair.depths, strict=True)):
        row, column = np.indices(grid.depth.shape).reshape(2, -1)
        depth, confidence = grid.depth.ravel().astype(np.float64), grid.confidence.ravel()
        good = np.isfinite(depth) & (depth > 0.0) & (confidence >= MIN_RELATIVE_CONFIDENCE * np.nanmedian(confidence))
        xy: Array = np.array(grid.origin_px) + np.array(grid.step_px) * np.column_stack([column, row])[good]
        xyz = points_at_depth(normalized_points(xy, grid.focal_px, (photo.width, photo.height)), depth[good])
        points.append(xyz if side == 0 else (xyz - pair.b_from_a[:, 3]) @ pair.b_from_a[:, :3])
        colours.append(_colours(photo, xy))
    return replace(pair, points=np.concatenate(points), rgb=np.concatenate(colours))


def _colours(photo: Photo, xy: Array) -> Bytes:
    image = read_rgb(photo, COLOUR_SIDE_PX)
    column, row = np.clip(
        (xy / photo_per_px(photo, image)).astype(np.int64), 0, (image.shape[1] - 1, image.shape[0] - 1)
    ).T
    rgb: Bytes = image[row, column]
    return rgb
