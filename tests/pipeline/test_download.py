"""Downloads from a server of our own: terms, resumption, other files under the same name, no network."""

from __future__ import annotations

import hashlib
import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
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
    answer: tuple[int, dict[str, str], bytes] | None = None
    """What it says instead, whatever it is asked: status, headers, body."""

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
            if state.answer is not None and self.path == "/w.pth":
                status, headers, body = state.answer
                self.send_response(status, "a\x1b[31mreason")
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                return
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


@pytest.mark.parametrize(
    "answer",
    [(416, {}, b""), (206, {"Content-Range": "bytes 7-9/10"}, b"abc"), (206, {"Content-Range": "junk"}, b"abc")],
    ids=["nothing beyond", "another part", "no part"],
)
def test_a_server_that_never_begins_is_one_line_and_the_next_is_tried(
    site: Site, answer: tuple[int, dict[str, str], bytes]
) -> None:
    accept(site.weights)
    site.answer = answer
    with pytest.raises(InputError, match="does not send the file from its beginning"):
        fetch(site.weights)
    other = site.weights.urls[0].replace("w.pth", "other.pth")
    assert fetch(replace(site.weights, urls=(*site.weights.urls, other))).read_bytes() == CONTENT


@pytest.mark.parametrize("says", [True, False], ids=["it says so", "it just goes on"])
def test_more_than_the_file_can_be_is_refused(site: Site, tmp_path: Path, says: bool) -> None:
    accept(site.weights)
    site.answer = 200, {"Content-Length": str(len(CONTENT))} if says else {}, CONTENT
    with pytest.raises(InputError, match="100000"):
        fetch(replace(site.weights, most_bytes=100_000))
    assert sum(file.stat().st_size for file in (tmp_path / "weights").iterdir()) < 100_000
    assert fetch(replace(site.weights, most_bytes=len(CONTENT))).read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/w.pth"])
def test_no_address_of_another_kind_is_followed(site: Site, target: str) -> None:
    accept(site.weights)
    site.answer = 302, {"Location": target}, b""
    with pytest.raises(InputError, match=r"not as safe|is not allowed"):
        fetch(site.weights)


def test_from_a_safe_address_to_an_unsafe_one() -> None:
    guard, request = download._SameOrSafer(), urllib.request.Request("https://example.org/w")
    headers, nothing = HTTPMessage(), io.BytesIO()
    with pytest.raises(urllib.error.URLError, match="not as safe"):
        guard.redirect_request(request, nothing, 302, "", headers, "http://example.org/w")
    assert guard.redirect_request(request, nothing, 302, "", headers, "https://example.com/w") is not None


@pytest.mark.parametrize("name", ["w.pth.part", "w.pth.part-of"])
def test_a_link_in_the_folder_is_not_written_through(site: Site, tmp_path: Path, name: str) -> None:
    accept(site.weights)
    (tmp_path / "weights").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "weights" / name).symlink_to(tmp_path / "precious")
    assert fetch(site.weights).read_bytes() == CONTENT
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_first_download_is_remembered_by_its_hash(site: Site, tmp_path: Path) -> None:
    accept(site.weights)
    fetch(site.weights).unlink()
    site.content = CONTENT[::-1]
    with pytest.raises(InputError, match=r"not the file that came the first time.*fetched-weights\.json"):
        fetch(site.weights)
    (tmp_path / "fetched-weights.json").unlink()
    assert fetch(site.weights).read_bytes() == CONTENT[::-1]


def test_a_trickle_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(site.weights)
    monkeypatch.setattr(download, "WITHIN_S", 0.0)
    monkeypatch.setattr(download, "LEAST_BYTES", 10**9)
    with pytest.raises(InputError, match=r"it sent .* bytes within"):
        fetch(site.weights)
