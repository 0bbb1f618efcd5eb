"""Downloads from a server of our own: terms, resumption, other files under the same name, no network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.weights import download
from unposed.pipeline.weights.catalogue import Weights
from unposed.pipeline.weights.download import accept, fetch, is_accepted

CONTENT = np.random.default_rng(0).bytes(300_000)

TOYS = Weights("w", "w.pth", "toys", (), "BSD-3-Clause", "https://example.org/licence")


@dataclass
class Site:
    """What the server gives, and what it was asked."""

    content: bytes = CONTENT
    cut_after: int | None = None
    """Bytes after which it hangs up."""
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""
    weights: Weights = TOYS

    @property
    def tag(self) -> str:
        """As servers make them."""
        return f'"{hashlib.md5(self.content).hexdigest()}"'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine; the folders are the test's own."""
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path))
    monkeypatch.delenv("UNPOSED_WEIGHTS", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            start, body = 0, state.content
            if asked and self.headers.get("If-Range") == state.tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            self.wfile.write(body[start:][: state.cut_after])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    state.weights = replace(state.weights, urls=(f"http://127.0.0.1:{server.server_port}/w.pth",))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_fetched_before_the_licence_is_accepted(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accept it with `unposed weights accept w`"):
        fetch(site.weights)
    assert site.asked == [] and not is_accepted(site.weights)
    accept(site.weights)
    heard: list[tuple[int, int | None]] = []
    file = fetch(site.weights, lambda done, total: heard.append((done, total)))
    assert file == tmp_path / "weights/w.pth" and file.read_bytes() == CONTENT
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in file.parent.iterdir()] == ["w.pth"]
    assert fetch(site.weights) == file and len(site.asked) == 1
    assert not is_accepted(replace(site.weights, licence="GPL-3.0"))


def test_it_goes_on_where_it_stopped(site: Site) -> None:
    accept(site.weights)
    site.cut_after = 100_000
    with pytest.raises(InputError, match=r"put it here as .*w\.pth; what came is kept") as caught:
        fetch(site.weights)
    assert "\n" not in str(caught.value)
    site.cut_after = None
    assert fetch(site.weights).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-"]


def test_another_file_by_now_is_begun_again(site: Site) -> None:
    accept(site.weights)
    site.cut_after = 100_000
    with pytest.raises(InputError):
        fetch(site.weights)
    site.cut_after, site.content = None, CONTENT[::-1]
    assert fetch(site.weights).read_bytes() == CONTENT[::-1]


def test_a_remainder_of_nothing_is_begun_again(site: Site, tmp_path: Path) -> None:
    accept(site.weights)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/w.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "weights/w.pth.part-of").write_text(site.tag)
    assert fetch(site.weights).read_bytes() == CONTENT


def test_what_is_not_the_published_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    accept(site.weights)
    with pytest.raises(InputError, match="not the file that was published"):
        fetch(replace(site.weights, sha256="00"))
    assert not list((tmp_path / "weights").glob("*.p*th")) and not (tmp_path / "weights/w.pth.part").exists()
    assert fetch(replace(site.weights, sha256=hashlib.sha256(CONTENT).hexdigest())).read_bytes() == CONTENT


def test_the_next_address_is_tried_and_offline_is_one_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(site.weights)
    monkeypatch.setattr(download, "PATIENCE_S", 2.0)
    dead = "http://127.0.0.1:9/w.pth"
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:9/w\.pth: .*refused.* Fetch it elsewhere") as caught:
        fetch(replace(site.weights, urls=(dead,)))
    assert "\n" not in str(caught.value)
    assert fetch(replace(site.weights, urls=(dead, *site.weights.urls))).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    accept(site.weights)
    (tmp_path / "weights").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="weights cannot be written"):
        fetch(site.weights)
