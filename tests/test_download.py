"""Downloads from a server of our own that breaks off, changes its files and lies about their length."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import logging
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.datasets import download
from understudy.datasets.download import fetch, verify
from understudy.robots import InputError

CONTENT = np.random.default_rng(0).bytes(400_000)
CHANGED = np.random.default_rng(1).bytes(300_000)


@dataclasses.dataclass
class Behaviour:
    """How the server answers."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    cut: int | None = None  # after so many bytes the connection ends
    stall: bool = False  # ... or nothing more is sent
    status: int = 200
    length: int | str | None = "right"  # what Content-Length says; none for no such line
    chunked: bool = False
    pause: float = 0.0
    asked: list[dict[str, str]] = dataclasses.field(default_factory=list[dict[str, str]])


class Server(http.server.ThreadingHTTPServer):
    """Serves one file at any address, as its behaviour says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = Behaviour()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data/file.hdf5"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        how = self.server.behaviour
        how.asked.append(dict(self.headers.items()))
        start, size = self.start_of_range(how), len(how.content)
        if how.status != 200 or (start or 0) >= size:
            self.send_error(416 if how.status == 200 else how.status)
            return
        body = how.content[start or 0 :]
        headers = {
            "Content-Range": None if start is None else f"bytes {start}-{size - 1}/{size}",
            "Transfer-Encoding": "chunked" if how.chunked else None,
            "Content-Length": None if how.chunked else len(body) if how.length == "right" else how.length,
            "ETag": how.etag,
            "Last-Modified": how.modified,
        }
        self.send_response(200 if start is None else 206)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.send_body(how, body if how.cut is None else body[: how.cut])

    def start_of_range(self, how: Behaviour) -> int | None:
        asked, version = self.headers["Range"], self.headers["If-Range"]
        if asked is None or not how.ranges or (how.heeds_if_range and version not in (how.etag, how.modified)):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def send_body(self, how: Behaviour, body: bytes) -> None:
        try:
            for begin in range(0, len(body), 50_000):
                piece = body[begin : begin + 50_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if how.chunked else piece)
                time.sleep(how.pause)
            if how.chunked and how.cut is None:
                self.wfile.write(b"0\r\n\r\n")
            if how.stall:
                self.server.over.wait(10)
        except ConnectionError:
            pass  # the client gave up, as some tests want it to

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.hdf5"


def names(target: Path) -> list[str]:
    return sorted(path.name.removeprefix("file.hdf5") for path in target.parent.iterdir())


def break_off(server: Server, target: Path, after: int = 150_000) -> None:
    """Fetch from a server that stops half-way, and see that nothing looks whole."""
    server.behaviour.cut = after
    with pytest.raises(InputError, match="broke off"):
        fetch(server.url, target)
    assert not target.exists() and (target.parent / "file.hdf5.partial").stat().st_size == after
    server.behaviour.cut = None
    server.behaviour.asked.clear()


def check_whole(target: Path, content: bytes = CONTENT) -> None:
    assert target.read_bytes() == content
    assert names(target) == ["", ".sha256"]
    assert hashlib.sha256(content).hexdigest() in (target.parent / "file.hdf5.sha256").read_text()
    assert verify(target)


def test_a_file_is_fetched_whole(server: Server, target: Path):
    told: list[tuple[int, int | None]] = []
    fetch(server.url, target, progress=lambda done, total: told.append((done, total)), begins=CONTENT[:8])
    check_whole(target)
    assert told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT)) and told == sorted(told)
    assert server.url in (target.parent / "file.hdf5.sha256").read_text()
    if shutil.which("sha256sum"):
        command = ["sha256sum", "--strict", "-c", "file.hdf5.sha256"]
        assert b"file.hdf5: OK" in subprocess.run(command, cwd=target.parent, capture_output=True, check=True).stdout


def test_a_file_that_is_there_is_not_fetched(server: Server, target: Path):
    target.parent.mkdir()
    target.write_text("mine")
    fetch(server.url, target)
    assert target.read_text() == "mine" and not server.behaviour.asked and verify(target) is False


MONDAY, TUESDAY = "Mon, 06 Jan 2020 10:00:00 GMT", "Tue, 07 Jan 2020 10:00:00 GMT"


@pytest.mark.parametrize(
    ("etag", "modified", "asked_with"),
    [('"one"', None, '"one"'), (None, MONDAY, MONDAY), ('"one"', MONDAY, '"one"'), ('W/"one"', MONDAY, MONDAY)],
)
def test_the_rest_is_fetched(server: Server, target: Path, etag: str | None, modified: str | None, asked_with: str):
    server.behaviour.etag, server.behaviour.modified = etag, modified
    break_off(server, target)
    server.behaviour.cut = 100_000
    with pytest.raises(InputError, match="250000 of 400000 bytes are kept, and it goes on from there"):
        fetch(server.url, target)
    server.behaviour.cut = None
    told: list[tuple[int, int | None]] = []
    fetch(server.url, target, progress=lambda done, total: told.append((done, total)))
    check_whole(target)
    asked = [(headers["Range"], headers["If-Range"]) for headers in server.behaviour.asked]
    assert asked == [("bytes=150000-", asked_with), ("bytes=250000-", asked_with)]
    assert told[0] == (250_000, len(CONTENT))


def alter(server: Server, target: Path, how: str) -> str:
    """Take away what going on needs; returns the address to fetch from then."""
    part, note = (target.parent / f"file.hdf5.partial{more}" for more in ("", ".json"))
    if how == "no ranges":
        server.behaviour.ranges = False
    elif how == "no note":
        note.unlink()
    elif how == "too long":
        part.write_bytes(CONTENT + b"more")
    elif how == "elsewhere":
        return f"{server.url}?v=2"
    else:
        note.write_text(how)
    return server.url


@pytest.mark.parametrize(
    "how", ["no ranges", "no note", "too long", "elsewhere", "", "[]", "{", '{"address": 3}', "no version", "weak"]
)
def test_what_cannot_go_on_begins_again(server: Server, target: Path, how: str):
    """Notes that were cut off among it, and a weak ETag alone."""
    server.behaviour.etag = {"no version": None, "weak": 'W/"one"'}.get(how, '"one"')
    break_off(server, target)
    fetch(server.url if server.behaviour.etag != '"one"' else alter(server, target, how), target)
    check_whole(target)
    assert len(server.behaviour.asked) == 1 and ("Range" in server.behaviour.asked[0]) is (how == "no ranges")


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("by", ["etag", "modified"])
@pytest.mark.parametrize("after", [150_000, 350_000])  # the second is beyond the new end: 416
def test_a_file_that_changed_begins_again(server: Server, target: Path, heeds_if_range: bool, by: str, after: int):
    if by == "modified":
        server.behaviour.etag, server.behaviour.modified = None, MONDAY
    break_off(server, target, after)
    server.behaviour.content, server.behaviour.heeds_if_range = CHANGED, heeds_if_range
    setattr(server.behaviour, by, '"two"' if by == "etag" else TUESDAY)
    fetch(server.url, target)
    check_whole(target, CHANGED)
    assert len(server.behaviour.asked) == (1 if heeds_if_range else 2)


def test_a_part_that_is_whole_is_only_moved(server: Server, target: Path):
    """As after a kill between the last byte and the move."""
    break_off(server, target)
    (target.parent / "file.hdf5.partial").write_bytes(CONTENT)
    fetch(server.url, target)
    check_whole(target)
    assert not server.behaviour.asked


# What goes wrong: one sentence, with the address and the place for the file.


def refused(server: Server, target: Path) -> str:
    with pytest.raises(InputError) as caught:
        fetch(server.url, target)
    said = str(caught.value)
    assert said.startswith(f"{server.url}: ") and f"get the file elsewhere and put it at {target}" in said
    assert "\n" not in said and not target.exists()
    return said


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "403 Forbidden"), (404, "404 Not Found"), (500, "500 Internal"), (503, "503 Service"), (416, "nobody")],
)
def test_a_server_that_refuses(server: Server, target: Path, status: int, words: str):
    server.behaviour.status = status
    assert words in refused(server, target)
    assert names(target) == []
    server.behaviour.status = 200
    break_off(server, target)
    server.behaviour.status = status
    refused(server, target)
    server.behaviour.status = 200
    fetch(server.url, target)
    check_whole(target)


@pytest.mark.parametrize("length", [len(CONTENT) + 1, None, "many"])
def test_lengths_that_are_wrong(server: Server, target: Path, length: int | str | None):
    server.behaviour.length = length
    kept = "broke off; try again later (400000 of 400001 bytes are kept"
    assert (kept if isinstance(length, int) else "without its length") in refused(server, target)


def test_a_file_in_chunks_says_itself_where_it_ends(server: Server, target: Path):
    server.behaviour.chunked, server.behaviour.cut = True, 150_000
    assert "broke off" in refused(server, target)
    server.behaviour.cut = None
    told: list[int | None] = []
    fetch(server.url, target, progress=lambda _, total: told.append(total))
    check_whole(target)
    assert set(told) == {None}


def test_a_server_that_falls_silent(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.behaviour.cut, server.behaviour.stall = 150_000, True
    said = refused(server, target)
    assert "sent nothing for 0.2 s" in said and "of 400000 bytes are kept" in said
    server.behaviour.cut, server.behaviour.stall = None, False
    fetch(server.url, target)
    check_whole(target)


@pytest.mark.parametrize(
    "url", ["", "data/file.hdf5", "file:///etc/hosts", "ftp://127.0.0.1/file", "http://", "https:"]
)
def test_addresses_that_are_none(url: str, target: Path):
    with pytest.raises(InputError, match="is no address to download from; give one that begins with http"):
        fetch(url, target)
    assert not target.parent.exists()


def test_a_page_instead_of_the_file(server: Server, target: Path):
    server.behaviour.content = b"<!DOCTYPE html><html>Log in to this network</html>"
    with pytest.raises(InputError, match=r"begins with b'<!DOCTYPE html><html', as a page may.*put it at"):
        fetch(server.url, target, begins=b"\x89HDF")
    server.behaviour.content = CONTENT
    fetch(server.url, target, begins=CONTENT[:4])
    check_whole(target)


def test_a_full_disk(server: Server, target: Path):
    """The system itself refuses to let the file grow, as when there is no room."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        said = refused(server, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert f"cannot be written to {target.parent} (File too large); make room" in said
    fetch(server.url, target)
    check_whole(target)


def test_a_folder_that_cannot_be(server: Server, tmp_path: Path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert "cannot be written" in refused(server, tmp_path / "cache" / "file.hdf5")
    with pytest.raises(InputError, match=r"File name too long.*put it at"):
        fetch(server.url, tmp_path / ("n" * 300))


def test_an_interrupt(server: Server, target: Path, caplog: pytest.LogCaptureFixture):
    def interrupt(done: int, total: int | None) -> None:
        if done > 150_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, target, progress=interrupt)
    (said,) = caplog.messages
    assert said.startswith(f"{server.url}: was interrupted; run it again (") and f"put it at {target}" in said
    assert names(target) == [".partial", ".partial.json"]
    fetch(server.url, target)
    check_whole(target)
    assert "Range" in server.behaviour.asked[1]


# Others at the same time.


FETCHER = """
import pathlib, sys
from understudy.datasets.download import fetch
print("ready", flush=True)
sys.stdin.readline()
fetch(sys.argv[1], pathlib.Path(sys.argv[2]))
"""


def test_processes_fetch_one_file_once(server: Server, target: Path):
    """They have loaded everything before the first of them begins."""
    server.behaviour.pause = 0.05
    command = [sys.executable, "-c", FETCHER, server.url, str(target)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    target.parent.mkdir()
    (target.parent / "file.hdf5.lock").touch()  # of a process that died
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0]
    check_whole(target)
    assert len(server.behaviour.asked) == 1


def test_threads_take_over_from_one_that_fails(server: Server, target: Path, caplog: pytest.LogCaptureFixture):
    """Eight at a server that breaks off: each goes on where the one before it stopped."""
    server.behaviour.cut = 100_000
    failed: list[str] = []

    def run() -> None:
        try:
            fetch(server.url, target)
        except InputError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(8)]
    with caplog.at_level(logging.INFO):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(failed) == 3 and all("broke off" in said for said in failed)
    check_whole(target)
    assert len(server.behaviour.asked) == 4
