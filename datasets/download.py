"""Files fetched over HTTP: what stands under a file's name is the whole file, whatever broke off on the way.

While a file is fetched, ``<name>.partial`` beside it holds what there is, ``<name>.partial.json`` of which version
(address, length, ETag, Last-Modified), and ``<name>.lock`` keeps other processes waiting. Afterwards ``<name>.sha256``
remains: its hash, and the size and time of modification for which that was last found right. Every file has a record
of its own, and no folder has one for all: so fetching two files touches nothing in common, a file can be moved
together with its record, and ``sha256sum -c`` reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import json
import logging
import os
import re
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from ..robots import InputError

_log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # told the bytes that are there, and of how many if that is known

TIMEOUT = 30.0  # seconds without a byte
_PIECE = 1 << 16  # bytes
_RECORD = re.compile(r"^(?:# size (\d+), modified (\d+)(.*)\n)?([0-9a-f]{64})\b", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class _Version:
    """Which version of a file a server sends: enough to see whether the rest of it is the rest of ours."""

    address: str
    length: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, address: str, response: http.client.HTTPResponse) -> _Version:
        """From the headers of an answer with all of the file or a part."""
        if response.status == 206:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
        else:
            total = response.headers.get("Content-Length", "")
        length = int(total) if total.isdecimal() else None
        return cls(address, length, response.headers.get("ETag"), response.headers.get("Last-Modified"))

    @property
    def validator(self) -> str | None:
        """What to ask for the rest of this version with; a weak ETag promises too little (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def same(self, sent: _Version) -> bool:
        """Whether a part that was sent is of this version; it may come without what was asked with (15.3.7)."""
        etags, times = (self.etag, sent.etag), (self.modified, sent.modified)
        return self.length == sent.length and all(None in pair or pair[0] == pair[1] for pair in (etags, times))


def fetch(url: str, target: Path, *, progress: Progress | None = None, begins: bytes = b"") -> None:
    """Fetch a file by HTTP(S) and record its SHA-256; one that is there already is left as it is.

    A download that broke off goes on where it was, if the server can do that and still has the same version (by ETag or
    Last-Modified), and otherwise begins again. ``progress`` is told bytes done and in all, ``begins`` are the first
    bytes of any such file. When several processes fetch the same file, one does and the others wait for it.

    Errors: :class:`InputError` in one sentence with the address, and where to put the file by hand: the server cannot
    be reached, refuses, stops sending, or sends something else, or the disk does not take it. What was
    fetched so far is kept apart for the next attempt, also after an interrupt, which is logged and raised on.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise InputError(f"{url}: is no address to download from; give one that begins with http:// or https://")
    download = _Download(url, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(_beside(target, ".lock")):
            if not target.is_file():
                download.run(progress, begins)
    except KeyboardInterrupt:
        _log.warning("%s", download.failed("was interrupted", "run it again"))
        raise
    except OSError as error:  # of the disk: what the network raises is an InputError by now
        what = f"cannot be written to {target.parent} ({error.strerror or error})"
        raise download.failed(what, "make room there or choose another folder") from error


@dataclasses.dataclass(frozen=True)
class _Download:
    """One file on its way."""

    url: str
    target: Path

    @property
    def partial(self) -> Path:
        return _beside(self.target, ".partial")

    @property
    def note(self) -> Path:
        return _beside(self.target, ".partial.json")

    def run(self, progress: Progress | None, begins: bytes) -> None:
        """Fetch the file, or the rest of it, and put it in its place."""
        known = self.known()
        start = self.partial.stat().st_size if known else 0
        if known is None or start != known.length:
            response, start = self.open(start, known)
            with response:
                self.receive(response, known if start else None, start, progress, begins)
        digest = _digest(self.partial)
        _beside(self.target, ".sha256").unlink(missing_ok=True)  # of a file that was deleted
        self.partial.replace(self.target)
        _write_record(self.target, digest, self.target.stat(), f", from {self.url}")
        self.note.unlink(missing_ok=True)

    def known(self) -> _Version | None:
        """The version of which there is a part to go on from, if any."""
        try:
            size = self.partial.stat().st_size
            known = _Version(**json.loads(self.note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):  # then it is not there, or what it is a part of is not known
            return None
        resumable = known.address == self.url and known.validator is not None and known.length is not None
        return known if resumable and 0 < size <= (known.length or 0) else None

    def open(self, start: int, known: _Version | None) -> tuple[http.client.HTTPResponse, int]:
        """The answer of the server, and from which byte it is: the one asked for, or the first."""
        if known is not None:
            response = self.request({"Range": f"bytes={start}-", "If-Range": known.validator or ""})
            if response is not None:
                place = response.headers.get("Content-Range", "").partition("-")[0]
                rest = response.status == 206 and place == f"bytes {start}"
                if rest and known.same(_Version.of(self.url, response)):
                    return response, start
                if response.status == 200:
                    return response, 0
                response.close()
        response = self.request({})
        if response is None or response.status != 200:
            raise self.failed("is answered by a part of the file that nobody asked for")
        return response, 0

    def request(self, headers: dict[str, str]) -> http.client.HTTPResponse | None:
        """The answer, or none where the server says that there is no such part (416)."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "understudy", **headers})
        with self.network():
            try:
                return cast(http.client.HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT))
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:
                    return None
                raise self.failed(f"is refused by its server ({error.code} {error.reason})") from error

    def receive(
        self,
        response: http.client.HTTPResponse,
        version: _Version | None,
        done: int,
        progress: Progress | None,
        begins: bytes,
    ) -> None:
        """Write what comes to the part, after what is there already of a version, if given."""
        mode, version = ("ab", version) if version else ("wb", _Version.of(self.url, response))
        if version.length is None and "Transfer-Encoding" not in response.headers:
            raise self.failed("comes without its length, so a part could not be told from the whole")
        with self.partial.open(mode) as file:
            # The old part is gone, and none of the new one there yet, when the note changes.
            self.note.write_text(json.dumps(dataclasses.asdict(version)), "utf-8")
            while True:
                if progress is not None:
                    progress(done, version.length)
                with self.network():
                    piece = response.read(_PIECE)
                if not piece:
                    break
                if done == 0 and not piece.startswith(begins):
                    raise self.failed(f"is not what it should be but begins with {piece[:20]!r}, as a page may")
                file.write(piece)
                done += len(piece)
            file.flush()
            os.fsync(file.fileno())
        if version.length not in (None, done):
            raise self.failed("broke off")

    @contextlib.contextmanager
    def network(self) -> Generator[None]:
        """Turn what the network raises into one sentence."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            cause: object = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, TimeoutError):
                what = f"sent nothing for {TIMEOUT:g} s"
            elif isinstance(error, urllib.error.URLError):
                what = f"cannot be reached ({_plainly(cause)})"
            else:
                what = f"broke off ({_plainly(cause)})"
            raise self.failed(what) from error

    def failed(self, what: str, way: str = "try again later") -> InputError:
        """One sentence on what went wrong, what there is, and the ways out."""
        known, kept = self.known(), ""
        if known is not None:
            kept = f" ({self.partial.stat().st_size} of {known.length} bytes are kept, and it goes on from there)"
        return InputError(f"{self.url}: {what}; {way}{kept}, or get the file elsewhere and put it at {self.target}")


def _plainly(error: object) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return " ".join(str(said).split()) or type(error).__name__


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None]:
    """Wait for a lock file until no other process has it, and keep the others waiting."""
    file = _locked(path)
    try:
        yield
    finally:
        if sys.platform != "win32":  # there, an open file cannot go
            path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path) -> IO[bytes]:
    """The lock file, locked; the system unlocks it when the process ends, however it does."""
    while True:
        file = path.open("ab")
        try:
            _lock(file, path)
            if _is_still(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was removed by the one who had it, and others may have made a new one


def _is_still(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes], path: Path) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError as error:
                if error.errno != errno.EDEADLOCK:  # after ten seconds without it
                    raise
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.info("%s: another process is fetching this file; waiting for it", path)
        fcntl.flock(file, fcntl.LOCK_EX)


def verify(target: Path) -> bool:
    """Whether a file is the one that was downloaded; false where there is no record to tell by.

    Its hash is only worked out when its size or its time of modification is not the one last found right.

    Errors: :class:`InputError` when it is another one, or it or its record cannot be read.
    """
    record = _beside(target, ".sha256")
    try:
        if not record.is_file():
            return False
        found = _RECORD.search(record.read_text("utf-8", errors="replace"))
        if found is None:
            raise InputError(f"{record}: holds no SHA-256; delete it, or {target} as well to fetch it again")
        now = target.stat()
        if (found[1], found[2]) == (str(now.st_size), str(now.st_mtime_ns)):
            return True
        digest = _digest(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be read ({error.strerror or error}); check who may read it") from error
    if digest != found[4]:
        raise InputError(
            f"{target}: is not the file that was downloaded (its SHA-256 begins with {digest[:12]}, that of the "
            f"download with {found[4][:12]}); delete it to fetch it again, or {record.name} if it is meant to be this"
        )
    try:
        _write_record(target, digest, now, found[3] or "")
    except OSError as error:
        _log.info("%s: cannot be renewed (%s), so the file will be read once more next time", record, error)
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_record(target: Path, digest: str, state: os.stat_result, origin: str) -> None:
    text = f"# size {state.st_size}, modified {state.st_mtime_ns}{origin}\n{digest}  {target.name}\n"
    record = _beside(target, ".sha256")
    temporary = record.with_name(f".{record.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(record)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
