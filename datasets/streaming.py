"""Files that are larger than memory: a few episodes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..robots import InputError, Task
from .demonstrations import Demonstrations
from .episodes import rising, starts_of
from .hdf5 import Hdf5File
from .names import resolve
from .reading import read_table
from .table import MemoryTable

_PER_EPISODE = ("metadata/", "infos/final_observations")


def stream(name: str | Path, task: Task | None = None, *, rows: int = 100_000) -> Iterator[Demonstrations]:
    """The episodes of an HDF5 file in D4RL's layout, in order, some ``rows`` of whole episodes at a time.

    Only these and the marks of ends are in memory. What is yielded is as :func:`~.catalogue.load` gives it for a file
    of these episodes alone.

    Errors: :class:`InputError` as :func:`~.catalogue.load`'s, when a part comes to it.
    """
    with Hdf5File(resolve(name)) as file:
        starts = _starts(file)
        count = file.size("observations")
        bounds = np.append(starts, count)
        first = 0
        while first < len(starts):
            last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + rows, "right")) - 1)
            yield read_table(_part(file, bounds, first, last, count), task)
            first = last


def _starts(file: Hdf5File) -> np.ndarray:
    """Where episodes begin (E,), by the file's own word or its marks of their ends."""
    count = file.size("observations")
    if "metadata/episode_starts" in file:
        starts = file.integers("metadata/episode_starts").astype(np.int64)
        if not rising(starts, count):
            raise InputError(f"{file.path}: 'metadata/episode_starts' must rise from 0 and stay below the {count} rows")
        return starts
    if "metadata/episode_lengths" in file:
        starts = starts_of(file.integers("metadata/episode_lengths").astype(np.int64), count)
        if starts is not None:
            return starts
    ends = file.flags("terminals", count)
    if "timeouts" in file:
        ends |= file.flags("timeouts", count)
    return np.append(0, np.flatnonzero(ends[:-1]) + 1)


def _part(file: Hdf5File, bounds: np.ndarray, first: int, last: int, count: int) -> MemoryTable:
    """A table of the episodes ``first`` to ``last`` (not included)."""
    arrays: dict[str, np.ndarray] = {}
    begin, end, episodes = int(bounds[first]), int(bounds[last]), len(bounds) - 1
    for key in file.keys():  # noqa: SIM118
        size = file.size(key)
        if key.startswith(_PER_EPISODE):
            if size == episodes:
                arrays[key] = file.rows(key, first, last)
        elif size == count:
            arrays[key] = file.rows(key, begin, end)
        else:
            arrays[key] = file.raw(key)  # of the wrong length, which is told when it is read
    if "metadata/episode_starts" in arrays:
        arrays["metadata/episode_starts"] = arrays["metadata/episode_starts"] - begin
    return MemoryTable(file.path, arrays, file.attributes(), file.format)
