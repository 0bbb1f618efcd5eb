"""Export points, and cameras as wire frames, as glTF 2.0 files that 3D programs and browsers open."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array
from unposed.pipeline.artifacts import Bytes, Photos, SparseModel, SparseModels
from unposed.pipeline.config import Within

from .ply import Channel, camera_frusta

POINTS, LINES = 0, 1
"""Kinds of primitives."""
FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
"""Kinds of numbers."""
UP = (1.0, 0.0, 0.0, 0.0)
"""Half a turn around x, as a quaternion x y z w: there y points up and z to the viewer, here down and away."""


@dataclass(frozen=True)
class GlbExport:
    """Writes folder/model-0.glb with coloured points and every camera as a pyramid of lines, model-1.glb for the next
    model, and so on."""

    cameras: bool = True
    """Also the cameras."""
    camera_size: Annotated[float, Within("(0, inf)")] = 0.02
    """Height of a pyramid over the median absolute depth of the points in its camera."""
    camera_rgb: tuple[Channel, Channel, Channel] = (255, 64, 32)
    """Colour of the pyramids, red, green and blue."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(sparse.models):
            (folder / f"model-{number}.glb").write_bytes(self._file(model))

    def _file(self, model: SparseModel) -> bytes:
        file = _Gltf()
        if len(model.points):
            file.add("points", POINTS, np.asarray(model.points, np.float64), model.rgb)
        if self.cameras and len(model.photos):
            xyz, edges = camera_frusta(model, self.camera_size)
            rgb = np.broadcast_to(np.array(self.camera_rgb, np.uint8), xyz.shape)
            file.add("cameras", LINES, xyz, rgb, edges)
        return file.packed()


class _Gltf:
    """A scene that is put together mesh by mesh."""

    def __init__(self) -> None:
        self.data = b""
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.meshes: list[dict[str, Any]] = []

    def add(self, name: str, mode: int, xyz: Array, rgb: Bytes, edges: NDArray[np.integer] | None = None) -> None:
        """Add vertices (n, 3) with colours (n, 3), joined by edges (e, 2) if there are any."""
        place = xyz.astype("<f4")
        # Colours are linear there, not sRGB. Elements begin at multiples of four bytes, so that they have an opacity.
        level = np.asarray(rgb, np.float64) / 255.0
        linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
        rgba = np.rint(np.concatenate([linear, np.ones((len(rgb), 1))], axis=1) * 65535).astype("<u2")
        low, high = (each.tolist() for each in (place.min(axis=0), place.max(axis=0)))
        attributes = {
            "POSITION": self._stored(place, FLOAT, "VEC3", min=low, max=high),
            "COLOR_0": self._stored(rgba, UNSIGNED_SHORT, "VEC4", normalized=True),
        }
        primitive: dict[str, Any] = {"attributes": attributes, "mode": mode}
        if edges is not None:
            primitive["indices"] = self._stored(edges.astype("<u4").reshape(-1), UNSIGNED_INT, "SCALAR")
        self.meshes.append({"name": name, "primitives": [primitive]})

    def _stored(self, values: NDArray[Any], kind: int, shape: str, **more: Any) -> int:
        """The number of the accessor of new values."""
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes})
        self.data += np.ascontiguousarray(values).tobytes()
        about = {"bufferView": len(self.views) - 1, "componentType": kind, "count": len(values), "type": shape}
        self.accessors.append({**about, **more})
        return len(self.accessors) - 1

    def packed(self) -> bytes:
        """The binary file: a header, the description and the numbers."""
        nodes = [{"name": mesh["name"], "mesh": number} for number, mesh in enumerate(self.meshes)]
        root: dict[str, Any] = {"name": "model", "rotation": UP}
        # Lists that are there must not be empty.
        root |= {"children": list(range(len(nodes)))} if nodes else {}
        content: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "unposed"},
            "scene": 0,
            "scenes": [{"nodes": [len(nodes)]}],
            "nodes": [*nodes, root],
        }
        if self.meshes:
            content |= {"meshes": self.meshes, "accessors": self.accessors, "bufferViews": self.views}
            content["buffers"] = [{"byteLength": len(self.data)}]
        text = json.dumps(content, separators=(",", ":")).encode("utf-8")
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if self.data:
            chunks += struct.pack("<I4s", len(self.data), b"BIN\0") + self.data
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
