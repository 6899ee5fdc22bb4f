"""Arrays by name with checks: what every format of demonstrations is turned into, and then read from.

The names are those of D4RL's files (:mod:`~.d4rl` lists them), whatever a format calls them itself.
"""

from __future__ import annotations

import abc
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError
from .limits import in_words, listed

_LOOKED_AT = 1000  # names that are compared with one that is missing


class Table(abc.ABC):
    """Arrays by name, and attributes.

    ``path`` stands in messages for where they come from, ``format`` is the format's name, and ``names`` says what the
    format itself calls an array, where that is not its name here. ``refused`` is why it cannot be learned from, if
    that is known from what it is.

    Errors: :class:`InputError` with path, name and way out, from every method.
    """

    path: Path
    format: str
    names: Mapping[str, str]
    refused: str = ""

    @abc.abstractmethod
    def __contains__(self, key: str) -> bool: ...

    @abc.abstractmethod
    def keys(self) -> list[str]:
        """The names of all arrays."""

    @abc.abstractmethod
    def attributes(self) -> dict[str, Any]:
        """What is said about the whole, as Python values."""

    @abc.abstractmethod
    def raw(self, key: str) -> np.ndarray:
        """An array as it is; it must be there."""

    def finite(self, key: str, array: np.ndarray) -> bool:
        """Whether all numbers of an array of floats, which was read from here, are finite."""
        return all_finite(array)

    def about(self, key: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """The type and shape of an array, which must be there; of a file's, without reading it."""
        array = self.raw(key)
        return array.dtype, array.shape

    def called(self, key: str) -> str:
        """What messages call an array: what the format calls it."""
        return in_words(self.names.get(key, key))

    def like(self, key: str) -> list[str]:
        """The name of an array that may be meant where one of this name is missing; empty without one."""
        there = self.keys()[:_LOOKED_AT]
        # Stricter than for names that people type: the other arrays' names are like this one, but no mistake.
        return difflib.get_close_matches(key, there, n=1, cutoff=0.75)

    def floats(self, key: str, columns: int, whose: str, rows: int | None = None) -> np.ndarray:
        """An array of floats (rows, columns) as the file has it; ``whose`` says in messages what for."""
        shape = self._shape(key, "f", "floats (float32 or float64)")
        if len(shape) != 2 or shape[1] != columns:
            must = f"must have rows of {columns} numbers for {whose}"
            raise InputError(f"{self.path}: '{self.called(key)}' has shape {shape} but {must}")
        self._check_rows(key, shape, rows)
        array = self.raw(key)
        self._check_finite(key, array)
        return array

    def numbers(self, key: str, rows: int) -> np.ndarray:
        """An array of floats (rows,); a single column (rows, 1), as some recorders write it, is one too."""
        array = self._vector(key, "f", "floats (float32 or float64)", rows)
        self._check_finite(key, array)
        return array

    def flags(self, key: str, rows: int) -> np.ndarray:
        """An array of booleans (rows,), also when written as zeros and ones of another type."""
        array = self._vector(key, "biuf", "booleans", rows)
        if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
            raise InputError(
                f"{self.path}: '{self.called(key)}' holds other values than 0 and 1; it must hold booleans"
            )
        return array.astype(bool)

    def integers(self, key: str, rows: int | None = None) -> np.ndarray:
        """An array of integers (rows,) as the file has it."""
        return self._vector(key, "iu", "integers", rows)

    def _vector(self, key: str, kinds: str, wanted: str, rows: int | None) -> np.ndarray:
        shape = self._shape(key, kinds, wanted)
        if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
            raise InputError(f"{self.path}: '{self.called(key)}' has shape {shape} but must have one dimension")
        self._check_rows(key, shape, rows)
        return self.raw(key).reshape(-1)

    def _check_rows(self, key: str, shape: tuple[int, ...], rows: int | None) -> None:
        if rows is not None and shape[0] != rows:
            raise InputError(f"{self.path}: '{self.called(key)}' has {shape[0]} rows where there must be {rows}")

    def _check_finite(self, key: str, array: np.ndarray) -> None:
        if not self.finite(key, array):
            finite = np.isfinite(array)
            count, row = int(np.count_nonzero(~finite)), int(np.argwhere(~finite)[0, 0])
            raise InputError(
                f"{self.path}: '{self.called(key)}' holds NaN or infinity in {count} of {array.size} places, first in "
                f"row {row}; record it again, or leave those episodes out"
            )

    def _shape(self, key: str, kinds: str, wanted: str) -> tuple[int, ...]:
        """The shape of an array of numbers of some kinds (NumPy's letters), before it is read."""
        if key not in self:
            there, close = self.keys(), self.like(key)
            hint = f"did you mean {in_words(close[0])}?" if close else "record it again with it, or rename what it is"
            has = listed(there) or "no arrays at all"
            raise InputError(f"{self.path}: '{self.called(key)}' is missing; the file has {has}; {hint}")
        kind, shape = self.about(key)
        if kind.kind not in kinds:
            raise InputError(f"{self.path}: '{self.called(key)}' holds {_type_name(kind)} but must hold {wanted}")
        return shape


def all_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite; by the extremes, which needs no second array of their size."""
    return array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


class MemoryTable(Table):
    """A table in memory, as a format's reader makes it."""

    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, Any],
        format: str,
        names: Mapping[str, str] | None = None,
        refused: str = "",
    ) -> None:
        self.path, self.format, self.names, self.refused = path, format, names or {}, refused
        self._arrays, self._attributes = dict(arrays), dict(attributes)

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def keys(self) -> list[str]:
        """The names of all arrays."""
        return sorted(self._arrays)

    def attributes(self) -> dict[str, Any]:
        """What is said about the whole."""
        return dict(self._attributes)

    def raw(self, key: str) -> np.ndarray:
        """An array as it is; it must be there."""
        return self._arrays[key]


class ReadOnce(Table):
    """Another table whose arrays are read once, for those who look at them and then take them, and leave them alone.

    After :meth:`release` each is gone with whoever takes it.
    """

    def __init__(self, table: Table) -> None:
        self.path, self.format, self.names, self.refused = table.path, table.format, table.names, table.refused
        self._table, self._read, self._finite = table, dict[str, np.ndarray](), dict[str, bool]()
        self._released = False

    def release(self) -> None:
        """Keep no array any longer than until somebody takes it."""
        self._released = True

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def keys(self) -> list[str]:
        """The names of all arrays."""
        return self._table.keys()

    def attributes(self) -> dict[str, Any]:
        """What is said about the whole."""
        return self._table.attributes()

    def about(self, key: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """The type and shape of an array."""
        return self._table.about(key)

    def raw(self, key: str) -> np.ndarray:
        """An array as it is; it must be there."""
        if self._released:
            return self._read.pop(key) if key in self._read else self._table.raw(key)
        if key not in self._read:
            self._read[key] = self._table.raw(key)
        return self._read[key]

    def finite(self, key: str, array: np.ndarray) -> bool:
        """Whether all numbers of an array are finite, which is looked at once."""
        if key not in self._finite:
            self._finite[key] = all_finite(array)
        return self._finite[key]


def _type_name(kind: np.dtype[Any]) -> str:
    """A type in words; a record's own would be as long as its author likes."""
    return {"O": "objects or strings", "S": "strings", "V": "records"}.get(kind.kind, str(kind))
