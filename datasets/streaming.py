"""Data that are larger than memory: some whole episodes at a time."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np

from ..robots import InputError, Task
from .d4rl_adapting import adapted, goal_changes
from .d4rl_table import D4rlDataset
from .demonstrations import Demonstrations
from .download import Progress
from .episodes import rising, starts_of
from .hdf5 import Hdf5File
from .minari import stream_minari
from .names import Parts, d4rl_of, format_of, resolve
from .reading import read_table
from .robomimic import stream_robomimic
from .table import MemoryTable

ROWS = 100_000  # at a time
_PER_EPISODE = ("metadata/", "infos/final_observations")
_LARGE = 0.25  # of the memory of the machine: a file as large as this is gone through by parts where that is enough


def stream(
    name: str | Path, task: Task | None = None, *, rows: int = ROWS, parts: Parts | None = None
) -> Iterator[Demonstrations]:
    """The episodes of data by their name or path, in order, some ``rows`` of whole episodes at a time.

    For HDF5 in D4RL's and robomimic's layout, and for Minari's data sets. Only these rows and the marks of ends are in
    memory. What is yielded is as :func:`~.catalogue.load` gives it for a file of these episodes alone.

    Errors: :class:`InputError` for a format that is read whole, and as :func:`~.catalogue.load`'s, when a part comes
    to it.
    """
    for table in stream_tables(name, task, rows=rows, parts=parts):
        yield read_table(table, task)


def stream_tables(
    name: str | Path,
    task: Task | None = None,
    *,
    rows: int = ROWS,
    parts: Parts | None = None,
    progress: Progress | None = None,
) -> Generator[MemoryTable]:
    """The tables that :func:`stream` reads; ``progress`` is told how far a download is."""
    parts = parts or Parts()
    kind, place = format_of(name, parts)
    if kind == "robomimic":
        yield from stream_robomimic(
            Path(place), task, rows=rows, keys=parts.keys, mask=parts.mask, done_mode=parts.done_mode
        )
    elif kind == "minari":
        yield from stream_minari(place, rows=rows, download=True)
    elif kind == "d4rl":
        with Hdf5File(resolve(name, progress=progress)) as file:
            yield from _parts_of(file, d4rl_of(file, str(name)), rows)
    else:
        raise InputError(
            f"{name}: {_CALLED[kind]} are read whole, not by episode: write them as HDF5 where there is memory enough "
            "(understudy convert), or record them in several files"
        )


_CALLED = {"lerobot": "LeRobot's data sets", "npz": ".npz archives", "imitation": "data sets of `imitation`"}


def is_large(name: str | Path, parts: Parts) -> bool:
    """Whether data are on the disk, too large to be read whole lightly, and of a format that can be read by parts."""
    kind, place = format_of(name, parts)
    if kind in _CALLED:
        return False
    path = resolve(name) if kind == "d4rl" else Path(place)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) > _LARGE * _memory()


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _parts_of(file: Hdf5File, found: D4rlDataset | None, rows: int) -> Iterator[MemoryTable]:
    starts = _starts(file, found)
    count = file.size("observations")
    bounds = np.append(starts, count)
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + rows, "right")) - 1)
        part = _part(file, bounds, first, last, count)
        yield part if found is None else adapted(part, found)
        first = last


def _starts(file: Hdf5File, found: D4rlDataset | None) -> np.ndarray:
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
    # In D4RL's ant mazes terminals mark a place, and no end.
    ends = file.flags("terminals", count) & (found is None or found.family != "antmaze")
    if "timeouts" in file:
        ends |= file.flags("timeouts", count)
    elif found is not None and found.family == "maze2d" and "infos/goal" in file:
        ends |= goal_changes(file.raw("infos/goal"))
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
