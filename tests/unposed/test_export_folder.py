"""The folder of an export: replaced when it is ours, refused when it is not, untouched when writing fails."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from unposed.export_folder import NEW, replaced_export
from unposed.pipeline.errors import InputError


def export(folder: Path, **files: str) -> None:
    with replaced_export(folder) as new:
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def test_an_older_export_is_replaced(tmp_path: Path) -> None:
    export(tmp_path / "out", a="1", b="2")
    (tmp_path / "out" / "images_4_png").mkdir()  # as gsplat makes of it
    export(tmp_path / "out", b="3", c="4")
    assert names(tmp_path / "out") == ["b", "c"]
    assert (tmp_path / "out" / "b").read_text() == "3"
    assert not (tmp_path / "out" / NEW).exists()


def test_other_files_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images_4_png").mkdir()
    with pytest.raises(InputError, match=r"mine holds other files \(images_4_png\)"):
        export(tmp_path / "mine", a="1")
    export(tmp_path / "out", a="1")
    (tmp_path / "out" / "point_cloud").mkdir()
    with pytest.raises(InputError, match=r"holds other files \(point_cloud\)"):
        export(tmp_path / "out", a="2")
    assert (tmp_path / "out" / "a").read_text() == "1"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file: give a new folder"):
        export(tmp_path / "file", a="1")


@pytest.mark.parametrize(
    ("number", "text"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_trouble_in_writing_leaves_the_older_export(tmp_path: Path, number: int, text: str) -> None:
    export(tmp_path / "out", a="1")
    for folder in (tmp_path / "out", tmp_path / "new" / "er"):
        with (
            pytest.raises(InputError, match=rf"cannot be written \({text}\): make room, or give"),
            replaced_export(folder) as new,
        ):
            new.mkdir()
            (new / "a").write_text("2")
            raise OSError(number, text)
    assert names(tmp_path / "out") == ["a"]
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert not (tmp_path / "new" / "er").exists()


def test_an_export_that_was_cut_short_while_moving_is_replaced(tmp_path: Path) -> None:
    export(tmp_path / "out", a="1")
    (tmp_path / "out" / ".unposed-export").write_text("a\nb\n")
    (tmp_path / "out" / "b").touch()
    export(tmp_path / "out", c="1")
    assert names(tmp_path / "out") == ["c"]


def test_a_strangers_folder_that_looks_like_ours_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / ".new").mkdir(parents=True)
    (folder / ".new" / "mine").touch()
    with pytest.raises(InputError):
        export(folder, a="1")
    assert (folder / ".new" / "mine").exists()
