"""HDF5 files read and written so that whatever goes wrong is one sentence, and nothing is half-written."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# (h5py brings no types.)

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from ..robots import InputError
from .hdf5_index import check_heaps, index, readable, whole_bytes
from .limits import check_promise, in_memory, in_words
from .table import Table

_log = logging.getLogger(__name__)

# With one column to a chunk and its bytes shuffled, neighbouring numbers share their leading bytes; files get
# a few per cent smaller than with h5py's own chunks. Longer chunks cost memory and gain nothing.
_CHUNK_ROWS = 65536
_QUOTES = "'\""  # around what a KeyError says
DAMAGES = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
_GZIP_LEVEL = 4  # level 9 takes six times as long and saves half a per cent


class Hdf5File(Table):
    """An HDF5 file open for reading; a context manager.

    Errors: :class:`InputError` with file, key and way out, from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.format, self.names = path, "d4rl", {}
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
                raise InputError(f"{path}: is neither a file nor a directory; give the path of a file")
            with path.open("rb") as file:
                empty = not file.read(1)
        except IsADirectoryError as error:
            raise InputError(f"{path}: is a directory; give the HDF5 file in it") from error
        except FileNotFoundError as error:
            raise InputError(f"{path}: there is no such file; check the path") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
        if empty:
            raise InputError(f"{path}: is empty; copy or record it again")
        if not h5py.is_hdf5(path):
            raise InputError(f"{path}: is not an HDF5 file, nor of another format that is read (docs/data.md)")
        with self._damage("it"):
            self._file = h5py.File(path, "r")
        self._bytes, self._read, self._sound = path.stat().st_size, dict[str, int](), False
        try:
            with self._damage("its table of contents"):
                self.index = index(self._file)
        except InputError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return self.index.place(key) is not None or self.index.outside(key)

    def keys(self) -> list[str]:
        """The names of all arrays in the file."""
        return sorted(self.index.arrays)

    def attributes(self) -> dict[str, Any]:
        """The attributes of ``metadata`` and the root as Python values; where both have one, the root's."""
        return (self.said("metadata") if self.index.place("metadata") else {}) | self.said("")

    def said(self, group: str) -> dict[str, Any]:
        """The attributes of a group as Python values; those that are no numbers or texts are left out."""
        found: dict[str, Any] = {}
        with self._damage(f"attributes of '{group or '/'}'"):
            attributes: Any = h5py.AttributeManager(h5py.Group(self._open(group)))
            for name in attributes:
                kept = attributes.get_id(name)
                promised = in_memory(kept.shape or (), int(kept.get_type().get_size()))
                check_promise(self.path, f"attribute '{in_words(name)}'", promised, self._bytes)
                if readable(kept):
                    kind = kept.get_type()
                    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
                        self._check_texts()
                    found[str(name)] = plain(attributes[name])
                else:
                    _log.warning(
                        "%s: attribute '%s' is left out, as it is no number or text", self.path, in_words(name)
                    )
        return found

    def about(self, key: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """The type and shape of an array, without reading it."""
        with self._damage(f"'{key}'"):
            item = self._array_at(key)
            return item.dtype, item.shape or ()

    def raw(self, key: str) -> np.ndarray:
        """An array as the file has it; it must be there."""
        with self._damage(f"'{key}'"):
            item = self._array_at(key)
            self._check(key, item)
            if item.dtype.kind not in "biuf" or not item.size or item.id.get_offset() is None:
                return np.asarray(item[()])
            # All of it is in one piece: into memory of NumPy's own, which comes in larger pages than h5py's.
            array = np.empty(item.shape, item.dtype)
            item.read_direct(array)
            return array

    def size(self, key: str) -> int:
        """How many rows an array has, without reading them."""
        shape = self.about(key)[1]
        return int(shape[0]) if shape else 0

    def rows(self, key: str, begin: int, end: int) -> np.ndarray:
        """Some rows of an array, the others left on the disk."""
        with self._damage(f"'{key}'"):
            item = self._array_at(key)
            share = (end - begin) / max(1, item.shape[0])
            check_promise(self.path, f"'{in_words(key)}'", int(share * whole_bytes(item.id)), self._bytes)
            return np.asarray(item[begin:end])

    def check_all(self) -> None:
        """What is checked of each array that is read here, of all of them, for those who read by other means."""
        with self._damage("its texts"):
            self._check_texts()
        for key in self.keys():
            with self._damage(f"'{key}'"):
                self._check(key, self._array_at(key))
        if self.index.elsewhere:
            self._open(min(self.index.elsewhere))

    def _check_texts(self) -> None:
        """Look at texts of any length before the first of them is read; nothing else read lies where they do."""
        if not self._sound:
            check_heaps(self.path)
            self._sound = True

    def _check(self, key: str, item: Any) -> None:
        self._read[key] = whole_bytes(item.id)
        check_promise(self.path, f"'{in_words(key)}' and what else is read", sum(self._read.values()), self._bytes)

    def _open(self, name: str) -> Any:
        if self.index.outside(name):
            raise InputError(
                f"{self.path}: '{in_words(name)}' is a link to another file, which is not followed; copy what is there "
                "into this one"
            )
        return h5py.h5o.open(self._file.id, self.index.place(name))

    def _array_at(self, key: str) -> Any:
        item = self._open(key)
        if not isinstance(item, h5py.h5d.DatasetID):
            raise InputError(f"{self.path}: '{in_words(key)}' is a group but must be an array")
        return h5py.Dataset(item)

    @contextlib.contextmanager
    def _damage(self, what: str) -> Generator[None]:
        """Turn what h5py raises over a damaged file (these types, by trial) into one sentence."""
        try:
            yield
        except DAMAGES as error:
            raise InputError(
                f"{self.path}: {in_words(what)} cannot be read, so the file is incomplete or damaged "
                f"({in_words(error).strip(_QUOTES)}); copy or record it again"
            ) from error


def plain(value: object) -> object:
    """An attribute's value as a Python number, string, boolean, list, or none when it is empty."""
    if isinstance(value, bytes):  # also np.bytes_
        return value.decode("utf-8", errors="replace")
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.reshape(-1)]
    return value.item() if isinstance(value, np.generic) else value


def check_target(path: Path, *, overwrite: bool) -> None:
    """Say early, before any work, that a file could not be written.

    Errors: :class:`InputError` when it exists and is not to be overwritten, or has no folder to be in.
    """
    try:
        exists, directory, homeless = path.exists(), path.is_dir(), not path.parent.is_dir()
    except OSError as error:
        raise _cannot_write(path, error) from error
    if directory:
        raise InputError(f"{path}: is a directory; give a file name in it")
    if exists and not overwrite:
        raise InputError(f"{path}: exists already; choose another name or allow overwriting")
    if homeless:
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")


def write_hdf5(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write arrays (compressed without loss) and root attributes as one file, all of it or nothing.

    Errors: :class:`InputError` as :func:`check_target`, or when the system refuses, for instance a full disk.
    """
    check_target(path, overwrite=overwrite)
    # The file is made in memory, because a disk that fills up below HDF5 leaves it unable to close the file.
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        for key, array in arrays.items():
            chunks = (max(1, min(len(array), _CHUNK_ROWS)), 1)[: array.ndim]
            file.create_dataset(
                key, data=array, chunks=chunks, shuffle=True, compression="gzip", compression_opts=_GZIP_LEVEL
            )
        for name, value in attributes.items():
            try:
                file.attrs[name] = value
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    f"{path}: attribute '{name}' cannot be stored ({error}); "
                    "give a number, a short text or a short list of either"
                ) from error
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, image)


def write_atomically(path: Path, content: bytes) -> None:
    # In the same folder, as no rename across file systems is atomic; "x" so as to hit nobody else's file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "choose a folder that has room and that you may write to"
    )
