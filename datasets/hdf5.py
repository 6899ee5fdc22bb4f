"""HDF5 files read and written so that whatever goes wrong is one sentence, and nothing is half-written."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (h5py brings no types.)

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..robots import InputError
from .table import Table

# With one column to a chunk and its bytes shuffled, neighbouring numbers share their leading bytes; files get
# a few per cent smaller than with h5py's own chunks. Longer chunks cost memory and gain nothing.
_CHUNK_ROWS = 65536
_GZIP_LEVEL = 4  # level 9 takes six times as long and saves half a per cent


class Hdf5File(Table):
    """An HDF5 file open for reading; a context manager.

    Errors: :class:`InputError` with file, key and way out, from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.format, self.names = path, "d4rl", {}
        try:
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

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        with self._damage(f"'{key}'"):
            return key in self._file

    def keys(self) -> list[str]:
        """The names of all arrays in the file."""
        names: list[str] = []

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                names.append(name)

        with self._damage("its table of contents"):
            self._file.visititems(visit)
        return sorted(names)

    def attributes(self) -> dict[str, Any]:
        """The attributes of ``metadata`` and the root as Python values; where both have one, the root's."""
        found: dict[str, Any] = {}
        with self._damage("its attributes"):
            for place in ("metadata", "/"):
                holder = self._file.get(place)
                if isinstance(holder, h5py.Group):
                    found.update({str(name): plain(value) for name, value in holder.attrs.items()})
        return found

    def raw(self, key: str) -> np.ndarray:
        """An array as the file has it; it must be there."""
        with self._damage(f"'{key}'"):
            return np.asarray(self._dataset(key)[()])

    def size(self, key: str) -> int:
        """How many rows an array has, without reading them."""
        shape = self._dataset(key).shape
        return int(shape[0]) if shape else 0

    def rows(self, key: str, begin: int, end: int) -> np.ndarray:
        """Some rows of an array, the others left on the disk."""
        with self._damage(f"'{key}'"):
            return np.asarray(self._dataset(key)[begin:end])

    def _dataset(self, key: str) -> Any:
        with self._damage(f"'{key}'"):
            item = self._file[key]
        if not isinstance(item, h5py.Dataset):
            raise InputError(f"{self.path}: '{key}' is a group but must be an array")
        return item

    @contextlib.contextmanager
    def _damage(self, what: str) -> Generator[None]:
        """Turn what h5py raises over a damaged file (these types, by trial) into one sentence."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
            said = " ".join(str(error).strip("'\"").split())
            raise InputError(
                f"{self.path}: {what} cannot be read, so the file is incomplete or damaged ({said}); "
                "copy or record it again"
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
