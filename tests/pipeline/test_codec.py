"""decode(encode(x)) is x, and bytes that are no value of the expected type are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from unposed.pipeline.artifacts import Camera, DepthGrid, Features, PairMatches, Photo, SceneGraph, SparseModels
from unposed.pipeline.store.codec import MAGIC, CodecError, decode, encode


@dataclass(frozen=True, eq=False)
class Leaf:
    """An artifact from elsewhere, reached through an annotation."""

    data: Any


@dataclass(frozen=True, eq=False)
class Branch:
    """Leaves within containers."""

    leaves: tuple[Leaf, ...]
    by_name: Mapping[str, Leaf]
    best: Leaf | None = None


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(max_len=5),
)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(Path, st.just("a/b.jpg"))
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers(), st.text()), inner, max_size=3)
        | st.builds(Leaf, inner)
    ),
    max_leaves=12,
)
BRANCHES = st.builds(
    Branch,
    st.lists(st.builds(Leaf, VALUES), max_size=3).map(tuple),
    st.dictionaries(st.text(), st.builds(Leaf, VALUES), max_size=2),
    st.none() | st.builds(Leaf, VALUES),
)


def same(a: Any, b: Any) -> bool:
    """Equal in type and value, bit for bit where it is an array; NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b) or (a != a and b != b)


@given(BRANCHES)
def test_what_is_written_is_read(value: Branch) -> None:
    assert same(decode(encode(value), Branch), value)


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(0, 255))
def test_any_bytes_give_a_value_or_a_codec_error(noise: bytes, position: int, byte: int) -> None:
    sound = encode(Branch((Leaf(np.arange(6.0).reshape(2, 3)),), {"x": Leaf({"deep": (1, 2.5, "text")})}))
    changed = bytearray(sound)
    changed[position % len(sound)] = byte
    for payload in (noise, sound[:16] + noise, bytes(changed), sound[: position % len(sound)]):
        try:
            decode(payload, Branch)
        except CodecError:
            continue


def test_arrays_are_read_only_and_memory_order_is_forgotten() -> None:
    leaf = decode(encode(Leaf(np.asfortranarray(np.arange(6.0).reshape(2, 3)))), Leaf)
    assert leaf.data.flags.c_contiguous and leaf.data.flags.aligned and not leaf.data.flags.writeable
    np.testing.assert_array_equal(leaf.data, [[0, 1, 2], [3, 4, 5]])


def test_artifacts_of_ours_are_known_to_everyone() -> None:
    camera = Camera("PINHOLE", 4, 3, (1.0, 1.0, 2.0, 1.5))
    assert decode(encode(Leaf(camera)), Leaf).data == camera
    scenes = SparseModels((), {3: "blurred"}, ("weak bridge",))
    assert same(decode(encode(scenes), SparseModels), scenes)
    photo = Photo("a b/ü.jpg", Path("/x/a b/ü.jpg"), "00", 4, 3)
    assert decode(encode(photo), Photo) == photo


def test_pairs_with_depth_keep_their_precision_and_cost_no_more_than_their_arrays() -> None:
    rng = np.random.default_rng(0)
    depths, confidences = rng.random((2, 48, 64), np.float32)
    grid = DepthGrid((4.5, 4.5), (8.0, 8.0), depths, confidences.astype(np.float16), 900.0)
    xy, depth = rng.random((7000, 2), np.float32), rng.random(7000).astype(np.float16)
    pair = PairMatches(xy, xy, depth, depth_a=depth, depth_b=depth, grids=(grid, grid))
    payload = encode(pair)
    assert same(decode(payload, PairMatches), pair)
    arrays = (xy, xy, depth, depth, depth, *[grid.depth, grid.confidence] * 2)
    assert len(payload) < sum(array.nbytes for array in arrays) + 1000


def test_numpy_scalars_become_plain_numbers() -> None:
    assert same(decode(encode(Leaf((np.float32(0.5), np.int64(3), np.True_))), Leaf).data, (0.5, 3, True))


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), b"bytes", lambda: 0, Leaf])
def test_what_cannot_be_written_says_so(value: object) -> None:
    with pytest.raises(CodecError, match="cannot be stored"):
        encode(Leaf(value))


def forged(tree: Any) -> bytes:
    """A payload with a header of one's choice."""
    header = json.dumps(tree).encode()
    return b"unposed1" + len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "tree",
    [
        ["object", "Popen", ["list", "true"]],
        ["object", "Branch", ["tuple"]],
        ["array", "O", 1],
        ["array", "<f8", 1 << 60],
        ["array", "<f8", -1],
        ["array", "V8", 1],
        ["map", [["list"], 1]],
        ["call", "os.system"],
        {"a": 1},
        [],
    ],
)
def test_forged_payloads_are_refused(tree: Any) -> None:
    with pytest.raises(CodecError):
        decode(forged(tree), Leaf)


def test_two_classes_of_one_name_are_refused() -> None:
    impostor = dataclasses.make_dataclass("Features", [("data", int)], frozen=True)
    with pytest.raises(CodecError, match="two classes are called Features"):
        decode(encode(Leaf(1)), tuple[impostor, Features])  # type: ignore[valid-type]


@pytest.mark.parametrize("text", ["1+", "f4,i4", "(2,3)f4", "O", "V8", "f4" + "0" * 99, "<f", "U0"])
def test_a_type_of_arrays_is_a_name_and_no_expression(text: str) -> None:
    """NumPy would parse it; and of items without a size there may be any number."""
    header = json.dumps(["array", text, 1 << 40]).encode()
    with pytest.raises(CodecError):
        decode(MAGIC + len(header).to_bytes(8, "little") + header, SceneGraph)
