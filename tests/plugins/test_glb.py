"""glTF files of points and cameras: read back by the rules of the format, and by a program of others."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from splat_faults import scene

from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import Photo, Photos, SparseModel, SparseModels
from unposed.plugins.export.glb import GlbExport

WIDTHS = {5126: 4, 5123: 2, 5125: 4}
COUNTS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
KINDS = {5126: "<f4", 5123: "<u2", 5125: "<u4"}


def written(model: SparseModel, folder: Path, **options: Any) -> Path:
    photos = Photos(tuple(Photo(f"{i}.png", folder / f"{i}.png", "", 400, 200) for i in model.photos), {})
    GlbExport(**options)(SparseModels((model,), {}), photos, folder)
    return folder / "model-0.glb"


def read(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The description and the values of all accessors, with what the format demands of them."""
    data = file.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    content = json.loads(data[20 : 20 + size])
    assert content["asset"]["version"] == "2.0"
    if "buffers" not in content:
        return content, []
    binary, kind = struct.unpack_from("<I4s", data, 20 + size)
    body = data[28 + size :]
    assert kind == b"BIN\0" and binary == len(body) == content["buffers"][0]["byteLength"] and binary % 4 == 0
    values = []
    for accessor in content["accessors"]:
        view = content["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        wide = WIDTHS[accessor["componentType"]] * COUNTS[accessor["type"]]
        assert wide % 4 == 0 and view["byteLength"] == wide * accessor["count"]
        part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        values.append(np.frombuffer(part, KINDS[accessor["componentType"]]).reshape(accessor["count"], -1))
        if "min" in accessor:
            np.testing.assert_array_equal(values[-1].min(axis=0), np.float32(accessor["min"]))
    return content, values


def shown(linear: np.ndarray) -> np.ndarray:
    """The bytes that a viewer shows of linear colours of 16 bits."""
    level = linear / 65535.0
    srgb = np.where(level <= 0.0031308, level * 12.92, 1.055 * np.maximum(level, 1e-9) ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * srgb).astype(np.uint8)


def test_points_and_cameras_are_those_of_the_model(tmp_path: Path) -> None:
    model = scene()
    content, values = read(written(model, tmp_path / "out"))
    (points, cameras) = (mesh["primitives"][0] for mesh in content["meshes"])
    assert (points["mode"], cameras["mode"]) == (0, 1)
    np.testing.assert_allclose(values[points["attributes"]["POSITION"]], model.points, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(shown(values[points["attributes"]["COLOR_0"]][:, :3]), model.rgb)
    corners = values[cameras["attributes"]["POSITION"]]
    np.testing.assert_allclose(corners[::5], camera_centres(model.cam_from_world), atol=1e-5)
    edges = values[cameras["indices"]]
    assert len(edges) == 16 * len(model.photos) and edges.max() == len(corners) - 1
    (root,) = content["scenes"][0]["nodes"]
    assert content["nodes"][root]["rotation"] == [1, 0, 0, 0]  # y down becomes y up
    assert content["nodes"][root]["children"] == [0, 1]


def test_without_cameras_or_points_nothing_empty_is_written(tmp_path: Path) -> None:
    content, _ = read(written(scene(), tmp_path / "points", cameras=False))
    assert [mesh["name"] for mesh in content["meshes"]] == ["points"]
    model = replace(scene(), points=np.zeros((0, 3)), rgb=np.zeros((0, 3), np.uint8))
    content, _ = read(written(model, tmp_path / "none", cameras=False))
    assert "meshes" not in content


def test_another_program_reads_it(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh, which viser brings along, reads glTF")
    model = scene()
    parts = trimesh.load(written(model, tmp_path / "out")).dump()
    (cloud,) = (each for each in parts if isinstance(each, trimesh.PointCloud))
    np.testing.assert_allclose(cloud.vertices, np.asarray(model.points) * (1, -1, -1), atol=1e-5)
    assert len(cloud.colors) == len(model.rgb)
