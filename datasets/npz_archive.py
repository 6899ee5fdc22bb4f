"""Archives of arrays (.npz) read without trust: nothing is unpickled, and no more is read than can be there."""

from __future__ import annotations

import contextlib
import logging
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..robots import InputError
from .episodes import Arrays
from .limits import check_promise, in_memory, in_words, listed, parse_json

_log = logging.getLogger(__name__)

# What zipfile, its decompressors and NumPy raise over damaged archives, found by spoiling bytes of them.
_DAMAGES = (
    OSError, EOFError, ValueError, RuntimeError, MemoryError, SyntaxError, TypeError, LookupError, ArithmeticError,
    AttributeError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; another may want gigabytes for its dictionary
_ATTRIBUTES, _MEMBER = "attributes", ".npy"


def claims(path: Path) -> bool:
    """Whether it is called .npz, or is a zip archive with arrays in it."""
    if path.suffix.lower() == ".npz":
        return path.is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(_MEMBER) for name in archive.namelist())
    except _DAMAGES:
        return False


def read_archive(path: Path, known: Callable[[str], bool], together: Iterable[str]) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of an archive that are known, and those called ``together`` if all of them are there; and attributes.

    Errors: :class:`InputError` when the archive is missing, damaged or empty, or an array of it holds objects.
    """
    found: Arrays = {}
    _check_zip(path)
    with _damage(path, "its table of contents"), zipfile.ZipFile(path) as archive:
        items = [item for item in archive.infolist() if item.filename.endswith(_MEMBER)]
        members = {item.filename.removesuffix(_MEMBER): item for item in items}
        if not members:
            raise InputError(f"{path}: holds no arrays, so there is nothing to learn from")
        also = {*together, _ATTRIBUTES} if members.keys() >= set(together) else {_ATTRIBUTES}
        promised, there = 0, path.stat().st_size
        for name in [name for name in members if known(name) or name in also]:
            if members[name].compress_type not in _COMPRESSIONS:
                raise InputError(f"{path}: '{in_words(name)}' is compressed as numpy does not; save it by numpy.savez")
            with _damage(path, f"'{in_words(name)}'"), archive.open(members[name]) as stream:
                shape, columns_first, kind = _header(path, name, members[name].file_size, stream)
                promised += in_memory(shape, kind.itemsize)
                check_promise(path, f"'{in_words(name)}' and what else is read", promised, there)
                numbers = np.frombuffer(stream.read(), kind) if math.prod(shape) * kind.itemsize else np.empty(0, kind)
                found[name] = numbers.reshape(shape, order="F" if columns_first else "C").copy()
    if others := sorted(members.keys() - found.keys()):
        remark = "; infos are pickled objects, whose loading could run code" if "infos" in others else ""
        _log.info("%s: leaves %s alone%s", path, listed(others), remark)
    return found, _attributes(path, found.pop(_ATTRIBUTES, None))


def _check_zip(path: Path) -> None:
    try:
        with path.open("rb") as file:
            zipped = zipfile.is_zipfile(file)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    if not zipped:
        raise InputError(f"{path}: is no .npz archive, or not all of one; copy it again, or save it with numpy.savez")


def _header(path: Path, name: str, size: int, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What the header of a member of so many bytes promises: shape, order and type."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"header of version {version}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, kind = header(stream)
    if kind.hasobject:
        raise InputError(
            f"{path}: '{in_words(name)}' holds Python objects, which would have to be unpickled and could run code; "
            "where it came from, make it an array of numbers and save it again"
        )
    promised, held = math.prod(shape) * kind.itemsize, size - stream.tell()
    if promised != held or min(shape, default=0) < 0:
        raise InputError(
            f"{path}: '{in_words(name)}' promises {promised} bytes for its shape {in_words(shape)} but holds {held}, "
            "so the archive is damaged; copy or record it again"
        )
    return shape, columns_first, kind


@contextlib.contextmanager
def _damage(path: Path, what: str) -> Generator[None]:
    """Turn what is raised over a damaged archive into one sentence."""
    try:
        yield
    except _DAMAGES as error:
        raise InputError(
            f"{path}: {what} cannot be read, so the archive is incomplete or damaged ({in_words(error)}); copy or "
            "record it again"
        ) from error


def _attributes(path: Path, text: np.ndarray | None) -> dict[str, Any]:
    try:
        attributes: Any = {} if text is None else parse_json(text)
    except ValueError:
        attributes = None
    if not isinstance(attributes, dict):
        raise InputError(f"{path}: '{_ATTRIBUTES}' is no JSON object; write the archive again, or leave it out")
    return cast("dict[str, Any]", attributes)
