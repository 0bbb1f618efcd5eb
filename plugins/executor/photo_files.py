"""The files of photos on a machine of a cluster, known by their content: machines need not share paths.

A file under the path that the driver uses serves if its bytes are those of the photo. A machine that lacks a file gets
its bytes from the driver once, in a temporary folder that all its workers share.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.images.content import bytes_content, file_content


class PhotoMissing(Exception):
    """This machine does not have the photo; the argument is its content."""


class NoRoom(Exception):
    """A photo's file cannot be written on this machine; one line with the remedy."""


class PhotoFiles:
    """What one worker knows of the files on its machine. `at_home`: it is the driver's, whose paths need no check."""

    def __init__(self, run_name: str, at_home: bool) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"unposed-{run_name}"
        self._at_home = at_home
        self._found: dict[str, Path] = {}

    def located(self, photo: Photo, sent: Mapping[str, Callable[[], bytes]]) -> Photo:
        """The photo with paths that hold on this machine; `sent` gives bytes by content. PhotoMissing, NoRoom."""
        path = self._path(photo.path, photo.content, sent)
        mask = None if photo.mask is None else self._path(photo.mask, photo.mask_content, sent)
        return photo if (path, mask) == (photo.path, photo.mask) else replace(photo, path=path, mask=mask)

    def tidy(self) -> None:
        """Remove what was written on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._found.clear()

    def _path(self, path: Path, content: str, sent: Mapping[str, Callable[[], bytes]]) -> Path:
        found = self._found.get(content)
        if found is None or not found.is_file():
            found = self._found[content] = self._search(path, content) or self._write(path, content, sent)
        return found

    def _search(self, path: Path, content: str) -> Path | None:
        for candidate in (path, self._own(path, content)):
            if candidate.is_file():  # not a pipe, which would never end
                if self._at_home and candidate is path:
                    return path
                try:
                    if file_content(candidate) == content:
                        return candidate
                except OSError:
                    continue
        return None

    def _own(self, path: Path, content: str) -> Path:
        return self.folder / f"{content}{path.suffix}"

    def _write(self, path: Path, content: str, sent: Mapping[str, Callable[[], bytes]]) -> Path:
        if content not in sent:
            raise PhotoMissing(content)
        data = sent[content]()
        if bytes_content(data) != content:
            raise PhotoMissing(content)
        own = self._own(path, content)
        try:
            self.folder.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(own)  # all or nothing: another worker may be reading it
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise NoRoom(
                f"no photo can be written to {self.folder.parent} ({error.strerror}): free some space there, or start "
                "Ray on it with another TMPDIR"
            ) from error
        return own
