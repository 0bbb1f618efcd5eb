"""Pickles of arrays are read back; anything else in them is refused, and nothing of it runs."""

import os
import pickle
import struct
import time
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


def test_references_to_references_are_read_once(tmp_path):
    """Forty lists, each of which holds the one before ten times: 10^40 values, if they were copied."""
    value = [ARRAYS[0]]
    for _ in range(40):
        value = [value] * 10
    begun = time.process_time()
    back = read_arrays(write(tmp_path / "a.pkl", value))
    assert time.process_time() - begun < 1.0
    for _ in range(40):
        assert back[0] is back[9]
        back = back[0]
    np.testing.assert_array_equal(back[0], ARRAYS[0])


def test_what_holds_itself_is_refused(tmp_path):
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="holds itself"):
        read_arrays(write(tmp_path / "a.pkl", value))


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    "content",
    [
        RECONSTRUCT + b".",
        RECONSTRUCT + b"}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xsb.",
        RECONSTRUCT + b"N}X\x09\x00\x00\x00_functionNs\x86b.",
        b"cnumpy\ndtype\n.",
        b"cnumpy\ndtype\n}X\x0b\x00\x00\x00PLAIN_KINDSX\x01\x00\x00\x00Osb.",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R.",
    ],
    ids=["a function", "its name", "its slot", "a class", "what a class holds", "a type without an array"],
)
def test_nothing_of_the_reader_is_changed_or_given_out(tmp_path, content):
    file = tmp_path / "a.pkl"
    file.write_bytes(b"\x80\x02" + content)
    with pytest.raises(ValueError, match="not a pickle of plain arrays"):
        read_arrays(file)
    test_arrays_come_back(tmp_path, ARRAYS[0], 2)


@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x96"], ids=["text", "bytes", "bytearray"])
def test_a_size_that_the_file_does_not_have_is_refused(tmp_path, opcode):
    file = tmp_path / "a.pkl"
    file.write_bytes(b"\x80\x05" + opcode + struct.pack("<Q", 1 << 60) + b"x.")
    with pytest.raises(ValueError, match=r"^a\.pkl: "):
        read_arrays(file)


def test_text_that_is_made_bytes_again_and_again_is_refused(tmp_path):
    """A hundred copies of a text, each from a reference of a few bytes."""
    text = "x" * 10_000
    content = b"\x80\x02(c_codecs\nencode\nq\x00X" + struct.pack("<I", len(text)) + text.encode() + b"q\x01"
    content += b"X\x06\x00\x00\x00latin1q\x02" + 100 * b"h\x00h\x01h\x02\x86R" + b"l."
    file = tmp_path / "a.pkl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="more bytes than it holds"):
        read_arrays(file)


def test_a_place_far_beyond_all_others_makes_no_table(tmp_path):
    """A table up to the place 2^31 would take 32 GB."""
    file = tmp_path / "a.pkl"
    file.write_bytes(b"\x80\x02]r" + struct.pack("<I", 1 << 31) + b".")
    with pytest.raises(ValueError, match="remembers more values than it holds"):
        read_arrays(file)


def test_frames_within_frames_hide_nothing(tmp_path):
    """A reader that reads ahead by the inner frame meets other operations than one that goes step by step."""
    hidden = b"]r" + struct.pack("<I", 1 << 31) + b"."
    inner = b"\x95" + struct.pack("<Q", 3) + b"N."
    file = tmp_path / "a.pkl"
    for outer in range(30):
        file.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", outer) + inner + hidden + b"N" * 30 + b".")
        assert read_arrays(file) is None
