"""Arrays from hostile files of NumPy: time and memory follow the size of the file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.array_files import read_npy, read_npz


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.zeros((0, 3)),
        np.array(2.5),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", one=array, two=array)
    for found in (read_npy(tmp_path / "a.npy"), *read_npz(tmp_path / "a.npz").values()):
        assert found.dtype == array.dtype and np.array_equal(found, array)
    found[...] = found  # it can be written to, as other arrays


HOSTILE = {
    "nothing": b"",
    "no array": b"PK" * 50,
    "a shape of 2^60": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
    "a shape below zero": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2), }", bytes(16)),
    "2^60 empty texts": npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
    "fewer values than it says": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", bytes(16)),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
    "a header that does not end": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,"),
    "brackets within brackets": npy("(" * 110),
    "another version": npy("{}", version=b"\x09\x00"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_array_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(HOSTILE[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", HOSTILE[name])
    for read, file in ((read_npy, "a.npy"), (read_npz, "a.npz")):
        with pytest.raises(ValueError, match="no array") as caught:
            read(tmp_path / file)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("at", "value"), [(4, 99), (6, 0x20), (8, 77)], ids=["version", "flags", "method"])
def test_an_archive_of_another_kind_is_a_value_error(tmp_path: Path, at: int, value: int) -> None:
    np.savez(file := io.BytesIO(), a=np.zeros(3))
    data = bytearray(file.getvalue())
    for start in (data.find(b"PK\x03\x04"), data.find(b"PK\x01\x02") + 2):
        data[start + at] = value
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="no a"):
        read_npz(tmp_path / "a.npz")
