"""Episodes of Minari data sets in Arrow and Parquet, read by pyarrow.

minari's own reader takes every record batch for an episode (minari 0.5.4, ``dataset/_storages/arrow_storage.py``,
``get_episodes``), though its writer, pyarrow's ``write_dataset``, puts no more than 32 768 rows into one: longer
episodes would come out in pieces, as episodes that never were. The layout was read there: a folder for each episode
with rows of ``observations``, ``actions``, ``rewards``, ``terminations``, ``truncations`` and perhaps ``infos``; all
but observations and infos have a row too many at the end, of zeros. Arrays are lists of fixed size, dictionaries are
structs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Dict, Space

from .arrow_files import read_arrow, read_parquet


def read_episodes(
    folder: Path, numbers: Sequence[int], told: Sequence[Mapping[str, Any]], spaces: Sequence[Space[Any]]
) -> Iterator[dict[str, Any]]:
    """Episodes of these numbers as minari's storages have them; ``told`` is what each one's metadata say.

    Errors: :class:`InputError` when a file promises what cannot be there, and what is raised over damage.
    """
    observations, actions = spaces
    for number, said in zip(numbers, told, strict=True):
        rows = _rows(folder / str(number))
        steps = int(said.get("total_steps", rows.num_rows - 1))
        column = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        yield {
            "id": number,
            "observations": _of_space(observations, column["observations"]),
            "actions": _of_space(actions, column["actions"])[:steps],
            "infos": _infos(column["infos"]) if "infos" in column else {},
            **{name: _numbers(column[name])[:steps] for name in ("rewards", "terminations", "truncations")},
        }


def _rows(folder: Path) -> Any:
    """All rows of an episode, a table of pyarrow's."""
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    if not all(path.is_file() for path in paths):  # a pipe would be waited for
        raise OSError(f"{folder}: holds what is no file")
    tables = [read_arrow(path) if path.suffix == ".arrow" else read_parquet(path) for path in paths]
    return importlib.import_module("pyarrow").concat_tables(tables)


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
