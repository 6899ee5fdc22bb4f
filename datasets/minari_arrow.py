"""Episodes of Minari data sets in Arrow and Parquet, read by pyarrow.

minari's own reader takes every record batch for an episode (minari 0.5.4, ``dataset/_storages/arrow_storage.py``,
``get_episodes``), though its writer, pyarrow's ``write_dataset``, puts no more than 32 768 rows into one: longer
episodes would come out in pieces, as episodes that never were. Nor does that writer keep the pieces in order (of
150 000 rows one time in seven, pyarrow 26): the shorter one is put last here, where it belongs, and whether rows follow
each other where pieces meet is looked at. The layout was read there: a folder for each episode with rows of
``observations``, ``actions``, ``rewards``, ``terminations``, ``truncations`` and perhaps ``infos``; all but
observations and infos have a row too many at the end, of zeros. Arrays are lists of fixed size, dictionaries are
structs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Dict, Space

from ..robots import InputError
from .arrow_files import read_arrow, read_parquet
from .blocks import sampled

PIECE = 32_768  # rows that pyarrow writes at a time
# A leap is so many times that percentile of the changes, and seen in so many columns, or in a tenth of them.
_USUAL, _LEAP, _COLUMNS = 99.5, 5.0, 3


def read_episodes(
    folder: Path, numbers: Sequence[int], told: Sequence[Mapping[str, Any]], spaces: Sequence[Space[Any]]
) -> Iterator[dict[str, Any]]:
    """Episodes of these numbers as minari's storages have them; ``told`` is what each one's metadata say.

    Errors: :class:`InputError` when a file promises what cannot be there, and what is raised over damage.
    """
    observations, actions = spaces
    for number, said in zip(numbers, told, strict=True):
        rows, meetings = _rows(folder / str(number))
        steps = int(said.get("total_steps", rows.num_rows - 1))
        column = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        yield {
            "id": number,
            "meetings": meetings,
            "observations": _of_space(observations, column["observations"]),
            "actions": _of_space(actions, column["actions"])[:steps],
            "infos": _infos(column["infos"]) if "infos" in column else {},
            **{name: _numbers(column[name])[:steps] for name in ("rewards", "terminations", "truncations")},
        }


def check_order(folder: Path, number: int, seen: np.ndarray, meetings: Sequence[int]) -> None:
    """See whether the observations (T + 1, O) of an episode follow each other where its pieces meet: none of these
    steps is one that changes many columns several times as much as is usual.

    Errors: :class:`InputError` when one is.
    """
    if not meetings:
        return
    rows = sampled(len(seen) - 1)
    usual = np.percentile(np.abs(seen[rows + 1] - seen[rows]), _USUAL, axis=0)
    moving = usual > 0
    first = np.array(meetings)
    ratios = np.abs(seen[first] - seen[first - 1])[:, moving] / usual[moving]
    many = min(max(_COLUMNS, 0.1 * moving.sum()), moving.sum())
    leaps = first[(ratios > _LEAP).any(1) & ((ratios > 2).sum(1) >= many)]
    if len(leaps):
        raise InputError(
            f"{folder}: episode {number} is stored in pieces of {PIECE} rows, whose order is lost (pyarrow does not "
            f"keep it when minari writes): row {leaps[0]} does not follow the row before it; record it again as hdf5"
        )


def _rows(folder: Path) -> tuple[Any, list[int]]:
    """All rows of an episode, a table of pyarrow's, and the first rows of its pieces but the first."""
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    if not all(path.is_file() for path in paths):  # a pipe would be waited for
        raise OSError(f"{folder}: holds what is no file")
    arrow = importlib.import_module("pyarrow")
    tables = [read_arrow(path) if path.suffix == ".arrow" else read_parquet(path) for path in paths]
    whole = arrow.concat_tables(tables)
    pieces = [batch for batch in whole.to_batches() if batch.num_rows]
    short = [batch.num_rows < PIECE for batch in pieces]
    if sum(short) == 1 and all(batch.num_rows <= PIECE for batch in pieces):  # as minari's writer left them
        pieces.sort(key=lambda batch: batch.num_rows < PIECE)  # the others stay as they are
        whole = arrow.Table.from_batches(pieces, whole.schema)
    return whole, np.cumsum([batch.num_rows for batch in pieces])[:-1].tolist()


def _of_space(space: Space[Any], values: Any) -> Any:
    """An array, or a dictionary of arrays, of a space without pictures."""
    if isinstance(space, Dict):
        return {name: _of_space(part, values.field(name)) for name, part in space.spaces.items()}
    return _numbers(values).reshape(len(values), *(space.shape or ()))


def _infos(values: Any) -> dict[str, np.ndarray]:
    """The infos that are arrays of numbers; others are nothing for this library."""
    types = importlib.import_module("pyarrow").types
    found: dict[str, np.ndarray] = {}
    for index, field in enumerate(values.type):
        inner = field.type.value_type if types.is_fixed_size_list(field.type) else field.type
        if not (types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner)):
            continue
        numbers = _numbers(values.field(index))
        shape = (field.metadata or {}).get(b"shape", b"")
        found[field.name] = numbers.reshape(len(numbers), *(int(size) for size in shape.split(b",") if size))
    return found


def _numbers(values: Any) -> np.ndarray:
    """Numbers (N,), or (N, X) of lists of fixed size."""
    types = importlib.import_module("pyarrow").types
    if not types.is_fixed_size_list(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(len(values), values.type.list_size)
