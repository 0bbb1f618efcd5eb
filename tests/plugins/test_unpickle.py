"""Pickles of arrays are read back; anything else in them is refused, and nothing of it runs."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from unposed.plugins.retrieval.unpickle import read_arrays

ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(5, dtype=">i2"),
    np.zeros((0, 7), np.uint8),
    np.array(3.5),
    np.array([True, False]),
]


class Evil:
    """Asks for a call when it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def write(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(tmp_path, array, protocol):
    back = read_arrays(write(tmp_path / "a.pkl", {"state": [array, (1, "x", None)]}, protocol))
    assert back["state"][1] == (1, "x", None)
    assert back["state"][0].dtype == array.dtype
    np.testing.assert_array_equal(back["state"][0], array)


def test_numbers_of_numpy(tmp_path):
    assert read_arrays(write(tmp_path / "a.pkl", {"size": np.int64(7)})) == {"size": 7}


@pytest.mark.parametrize(
    "value",
    [
        Evil(os.system, "true"),
        Evil(eval, "1"),
        Evil(np.load, "x"),
        Evil(np.ndarray, (10**15,)),
        Evil(getattr, "x", "upper"),
        np.array([{}], dtype=object),
        np.zeros(2, dtype=[("a", "f4")]),
        np.array(["text"]),
        Path("x"),
    ],
    ids=["system", "eval", "numpy.load", "ndarray", "getattr", "objects", "records", "text", "path"],
)
def test_anything_else_is_refused_in_one_line(tmp_path, value):
    with pytest.raises(ValueError, match="not a pickle of plain arrays") as refusal:
        read_arrays(write(tmp_path / "evil.pkl", {"state": value}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kept", [0, 1, 20, 150])
def test_a_torn_file_is_refused(tmp_path, kept):
    file = write(tmp_path / "a.pkl", {"state": ARRAYS[0]})
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="not a pickle of plain arrays"):
        read_arrays(file)


def test_content_that_does_not_fill_the_shape_is_refused(tmp_path):
    content = pickle.dumps(ARRAYS[0], 4)
    file = tmp_path / "a.pkl"
    file.write_bytes(content.replace(b"K\x03K\x04\x86", b"K\x03K\x7f\x86"))
    assert file.read_bytes() != content
    with pytest.raises(ValueError, match="not a pickle"):
        read_arrays(file)


def test_the_published_layout(tmp_path, reference):
    codebook = read_arrays(reference("fixtures/tiny_retrieval_codebook.pkl"))
    assert codebook["type"] == "Codebook"
    assert codebook["state"]["centroids"].shape == (codebook["params"]["size"], 32)
