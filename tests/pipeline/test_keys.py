"""What enters a key, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from unposed.pipeline import environment
from unposed.pipeline.artifacts import Exif, Features, Photo, Photos
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.graph import Node
from unposed.pipeline.ports import read_ports
from unposed.pipeline.stage import Grain
from unposed.pipeline.store.keys import photo_key, photos_key, stage_key

PHOTO = Photo("a.jpg", Path("/here/a.jpg"), "c0ffee", 40, 30)


@dataclass(frozen=True)
class Network:
    """A stage with weights."""

    grain: ClassVar[Grain] = Grain.PHOTO
    version: ClassVar[int] = 1
    weights: Path | None = None
    sizes: tuple[int, ...] = (1, 2)

    def __call__(self, photos: Photo) -> Features:
        raise NotImplementedError


def key(stage: Any, name: str = "features") -> str:
    """The key of a stage in a node."""
    return stage_key(Node(name, "features.network", stage, read_ports(Network), {}, None, frozenset()))


def test_a_photo_is_its_content_and_what_was_read_from_it() -> None:
    same = replace(PHOTO, name="b.jpg", path=Path("/there/b.jpg"), decoding_bytes=9)
    assert photo_key(same) == photo_key(PHOTO)
    others = [
        replace(PHOTO, content="decaf"),
        replace(PHOTO, mask_content="00"),
        replace(PHOTO, orientation=6),
        replace(PHOTO, exif=Exif(focal_mm=35.0)),
    ]
    assert len({photo_key(photo) for photo in (PHOTO, *others)}) == 5


def test_the_collection_is_also_its_names_and_order() -> None:
    other = replace(PHOTO, name="b.jpg")
    both = photos_key(Photos((PHOTO, other), {}))
    assert both == photos_key(Photos((replace(PHOTO, path=Path("/elsewhere")), other), {"x": "no image"}))
    assert both != photos_key(Photos((other, PHOTO), {}))
    assert both != photos_key(Photos((PHOTO, replace(other, name="c.jpg")), {}))


def test_a_stage_is_its_code_and_config_whatever_the_node_is_called() -> None:
    assert key(Network()) == key(Network(sizes=(1, 2)), name="tokens")
    assert key(Network()) != key(Network(sizes=(1,)))

    class Newer(Network):
        version = 2

    Newer.__module__, Newer.__qualname__ = Network.__module__, Network.__qualname__
    assert key(Newer()) != key(Network())


def test_a_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "b.pt").write_bytes(b"weights")
    first = key(Network(tmp_path / "a.pt"))
    assert first == key(Network(tmp_path / "b.pt"))
    (tmp_path / "a.pt").write_bytes(b"other weights")
    assert key(Network(tmp_path / "a.pt")) != first


def test_a_file_that_is_not_there_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^features\.weights: .*a\.pt: No such file"):
        key(Network(tmp_path / "a.pt"))


def test_what_another_version_of_a_library_has_made_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = key(Network())
    with monkeypatch.context() as patch:
        versions = {**environment.library_versions(), "opencv-python-headless": "5.0"}
        patch.setattr(environment, "library_versions", lambda: versions)
        assert key(Network()) != here
    with monkeypatch.context() as patch:
        patch.setattr(environment, "cpu_kind", lambda: "x86_64 Nehalem")
        assert key(Network()) != here
    assert key(Network()) == here


def test_the_kind_of_cpu_is_what_openblas_takes_it_for() -> None:
    """Not what is soldered in: by these variables a machine computes as an older one does."""
    code = "from unposed.pipeline.environment import cpu_kind; print(cpu_kind())"
    kinds = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **more}, capture_output=True, text=True, check=True
        ).stdout
        for more in ({}, {}, {"OPENBLAS_CORETYPE": "Nehalem"})
    ]
    assert kinds[0] == kinds[1]
    if "x86_64" in kinds[0]:
        assert "Nehalem" in kinds[2] and kinds[2] != kinds[0]
