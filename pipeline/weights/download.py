"""Download published weights under an accepted licence, resumed where interrupted, and checked.

An interrupted download continues if the server still has the same file. The file gets its name when it is complete, so
that every file in a folder of weights is usable. Where the catalogue does not know the hash of a file, that of the
first download from an address is remembered, and a later one must have the same. A server may not send more than the
file can be, nor lead to an address that is less safe.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from ..durable import sync_folder
from ..errors import ConfigError, InputError
from ..logs import module_logger
from ..store.records import recall, remember
from ..store.store import default_folder
from .catalogue import Weights
from .files import weight_folders

LOG = module_logger(__name__)

ACCEPTED, FETCHED = "accepted-licences", "fetched-weights"
CHUNK = 1 << 20
PATIENCE_S = 30.0
LEAST_BYTES, WITHIN_S = 100_000, 60.0
"""A download that brings less in a minute is given up: at this speed the smallest network takes an hour."""

Watcher = Callable[[int, int | None], None]
"""Receives the number of bytes so far, and of all bytes where the server states it."""


class _Changed(Exception):
    """The server's file differs from the one whose part is here."""


def accept(weights: Weights) -> None:
    """Remember that the user accepts the licence of these weights."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        remember(ACCEPTED, recall(ACCEPTED) | {weights.name: {"licence": weights.licence, "when": now}})
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}: the acceptance cannot be remembered") from error


def is_accepted(weights: Weights) -> bool:
    """Whether the user has accepted the licence that these weights have."""
    said = recall(ACCEPTED).get(weights.name)
    return isinstance(said, Mapping) and said.get("licence") == weights.licence


def fetch(weights: Weights, watch: Watcher = lambda done, total: None, folder: Path | None = None) -> Path:
    """Download the file to `folder`, by default the first folder of weights, unless it is there.

    ConfigError if the licence was not accepted, InputError with instructions if it cannot be downloaded.
    """
    folder = weight_folders()[0] if folder is None else folder
    file = folder / weights.file
    if file.is_file():
        return file
    if not is_accepted(weights):
        raise ConfigError(
            f"{weights.name}: read its licence ({weights.licence}, {weights.licence_url}) and accept it with "
            f"`unposed weights accept {weights.name}`"
        )
    problems = []
    for url in weights.urls:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            LOG.info("fetching %s from %s", file, url)
            return _fetch(url, file, weights, watch)
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            problems.append(f"{url}: {_reason(error)}")
            LOG.warning("%s", problems[-1])
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    raise InputError(f"{'; '.join(problems)}. Fetch it elsewhere, and put it here as {file}; what came is kept")


def _fetch(url: str, file: Path, weights: Weights, watch: Watcher) -> Path:
    part, mark = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part-of")
    for path in (part, mark):
        if path.is_symlink():  # somebody else's doing: it would be written through
            path.unlink()
    try:
        _receive(url, part, mark, weights.most_bytes, watch)
    except _Changed:
        part.unlink(missing_ok=True)
        try:
            _receive(url, part, mark, weights.most_bytes, watch)
        except _Changed as error:
            raise urllib.error.URLError("the server does not send the file from its beginning") from error
    found, known = _sha256(part), recall(FETCHED).get(url)
    if weights.sha256 not in (None, found):
        part.unlink()
        raise urllib.error.URLError("what came is not the file that was published: it was thrown away")
    if weights.sha256 is None and isinstance(known, str) and known != found:
        part.unlink()
        raise urllib.error.URLError(
            "what came is not the file that came the first time: it was thrown away; if a new one was published, "
            f"delete {default_folder() / FETCHED}.json"
        )
    part.replace(file)
    sync_folder(file.parent)
    mark.unlink(missing_ok=True)
    with suppress(OSError):
        remember(FETCHED, {**recall(FETCHED), url: found})
    return file


class _SameOrSafer(urllib.request.HTTPRedirectHandler):
    """Redirections from one web address to another that is as safe."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.lower().startswith(allowed):
            raise urllib.error.URLError(f"it leads to {newurl[:200]}, which is not as safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, part: Path, mark: Path, most_bytes: int, watch: Watcher) -> None:
    """Append the missing bytes to `part`. `mark` holds the server's tag of the version of the file."""
    done, tag = part.stat().st_size if part.exists() else 0, _read(mark)
    request = urllib.request.Request(url, headers={"User-Agent": "unposed", "Accept-Encoding": "identity"})
    if done and tag:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", tag)
    response: HTTPResponse
    try:
        response = urllib.request.build_opener(_SameOrSafer).open(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        error.close()  # it holds an answer that nobody reads
        if error.code == 416:  # nothing beyond what we have: another file, or all of it
            raise _Changed from error
        raise
    with response:
        if response.status != 206:
            done = 0
        total = _total(response, done)
        if total is not None and total > most_bytes:
            raise urllib.error.URLError(f"it wants to send {total} bytes, and the file has {most_bytes} at most")
        mark.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "", encoding="utf-8")
        with part.open("ab" if done else "wb") as file:
            since, before = time.monotonic(), done
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                done += len(chunk)
                watch(done, total)
                if done > most_bytes:
                    file.truncate(0)
                    raise urllib.error.URLError(f"it sends more than the {most_bytes} bytes that the file has at most")
                if time.monotonic() - since > WITHIN_S:
                    if done - before < LEAST_BYTES:
                        raise urllib.error.URLError(f"it sent {done - before} bytes within {WITHIN_S:.0f} s")
                    since, before = time.monotonic(), done
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done != total:
        raise urllib.error.URLError(f"it ended after {done} of {total} bytes")


def _total(response: HTTPResponse, done: int) -> int | None:
    if response.status == 206:
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if stated is None or int(stated[1]) != done:
            raise _Changed
        return int(stated[2])
    length = response.headers.get("Content-Length")
    return int(length) if length and length.isdecimal() else None


def _read(mark: Path) -> str:
    try:
        return mark.read_text(encoding="utf-8")
    except OSError:
        return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
