"""Arrays from hostile files of NumPy: time and memory follow the size of the file."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.array_files import FREE_BYTES, MAX_UNPACKED, read_npy, read_npz


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


def packed(array: np.ndarray[Any, Any]) -> bytes:
    np.savez_compressed(file := io.BytesIO(), a=array)
    return file.getvalue()


def peak_bytes_of_refusing(path: Path, reason: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            read_npz(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(data := packed(np.zeros(5_000_000)))
    assert len(data) < 60_000
    peak = peak_bytes_of_refusing(tmp_path / "a.npz", r"times its size, and 50 times .*numpy\.savez")
    assert peak < 20 * len(data)


def test_an_archive_that_hides_what_it_unpacks_to_is_not_unpacked(tmp_path: Path) -> None:
    """Its lists of contents say 1,000 bytes, of 40 MB."""
    data = bytearray(packed(np.zeros(5_000_000)))
    true = (40_000_000 + 128).to_bytes(4, "little")
    at = data.rfind(true)
    assert at > data.find(b"PK\x01\x02")
    data[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(data)
    assert peak_bytes_of_refusing(tmp_path / "a.npz", "no archive of arrays") < FREE_BYTES


def test_the_same_contents_listed_many_times_are_counted_each_time(tmp_path: Path) -> None:
    """Entries that all lie at the same place: an archive of 1 MB of noise that lists it a hundred times."""
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        np.save(part := io.BytesIO(), noise)
        archive.writestr("0.npy", part.getvalue())
        for number in range(1, 100):
            again = zipfile.ZipInfo(f"{number}.npy")
            first = archive.infolist()[0]
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size, again.compress_size = first.file_size, first.compress_size
            archive.filelist.append(again)
    assert (tmp_path / "a.npz").stat().st_size < 1.1 * (1 << 20)
    assert peak_bytes_of_refusing(tmp_path / "a.npz", "no archive of arrays that is read") < 4 << 20


def test_equal_values_within_reason_are_read(tmp_path: Path) -> None:
    repeated = np.repeat(np.random.default_rng(0).random(40_000), MAX_UNPACKED // 2)
    for values in (np.zeros(FREE_BYTES // 8 - 16), repeated):
        (tmp_path / "a.npz").write_bytes(packed(values))
        assert np.array_equal(read_npz(tmp_path / "a.npz")["a"], values)
