"""What enters a key, and what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

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
    same = replace(PHOTO, name="b.jpg", path=Path("/there/b.jpg"))
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
    assert both == photos_key(Photos((replace(PHOTO, path=Path("/elsewhere")), other), {"x": "no picture"}))
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
