"""Trajectories of the `imitation` library, as its current folders have them and as its old .npz archives do.

A folder is a Hugging Face data set of one row an episode (read in imitation 1.0.1: imitation/data/huggingface_utils.py,
serialize.py): ``obs`` (n + 1 rows of O numbers), ``acts`` (n rows of A numbers), ``rews`` (n, optional), ``terminal``
(whether the episode was recorded to its end) and ``infos`` (n texts of JSON, by jsonpickle). ``state.json`` lists its
Arrow files, which pyarrow reads alone. Of the infos nothing is decoded but the JSON of each episode's last one.

``terminal`` is true for whatever Stable-Baselines3 calls done, a time limit included (imitation/data/rollout.py). The
last info tells the two apart, where it was kept: ``TimeLimit.truncated``. Where it was not, an end is taken for a
termination when the task can terminate and its time was not up, and for the time limit otherwise.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from ..robots import InputError, Task
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, rising
from .limits import check_promise, in_words, listed, parse_json, read_json
from .reading import read_table
from .table import MemoryTable

# What imitation calls the arrays of a table.
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "observations": "obs",
        "actions": "acts",
        "rewards": "rews",
        "terminals": "terminal",
        "infos/final_observations": "obs",
        "metadata/episode_starts": "indices",
    }
)
_STATE, _TRUNCATED = "state.json", "TimeLimit.truncated"
_COLUMNS = ("obs", "acts", "terminal")
# What is raised over damaged descriptions and files, besides pyarrow's own.
_DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError)


def claims(path: Path) -> bool:
    """Whether it is a folder with a list of Arrow files whose description has imitation's columns."""
    try:
        described: Any = read_json(path / "dataset_info.json")
        return (path / _STATE).is_file() and set(_COLUMNS) <= set(described["features"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_imitation_folder(path: str | Path, task: Task | None = None) -> Demonstrations:
    """Read a folder that ``imitation.data.serialize.save`` wrote; ``task`` must be given, as it names none.

    Errors: :class:`InputError` as :func:`open_imitation_folder` and :func:`~.reading.read_table`.
    """
    return read_table(open_imitation_folder(Path(path), task), task)


def open_imitation_folder(path: Path, task: Task | None = None) -> MemoryTable:
    """The table of such a folder.

    Errors: :class:`InputError` when no task is given, pyarrow is not installed, a file is missing or damaged, or the
    columns are not imitation's or disagree in length.
    """
    task = needed(path, task)
    columns = _read_columns(path)
    obs, acts = _rows(path, columns, "obs"), _rows(path, columns, "acts")
    lengths = np.array([len(rows) for rows in acts], np.int64)
    wrong = [index for index, rows in enumerate(obs) if len(rows) != lengths[index] + 1]
    if wrong:
        first = wrong[0]
        raise InputError(
            f"{path}: episode {first} has {len(obs[first])} rows of 'obs' for {lengths[first]} of 'acts', where there "
            "must be one more; save the trajectories again"
        )
    arrays: Arrays = {
        "obs": np.concatenate(obs),
        "acts": np.concatenate(acts),
        "terminal": np.array(columns["terminal"]),
        "indices": np.cumsum(lengths)[:-1],
    }
    if "rews" in columns:
        arrays["rews"] = np.concatenate([rewards.to_numpy(zero_copy_only=False) for rewards in columns["rews"]])
    return trajectories_table(path, arrays, task, columns.get("infos", ()))


def trajectories_table(
    path: Path, arrays: Mapping[str, np.ndarray], task: Task, time_limits: Sequence[bool | None] = ()
) -> MemoryTable:
    """A table from imitation's flat arrays ``obs`` (N + E, O), ``acts`` (N, A), ``terminal``, ``indices``, ``rews``.

    ``time_limits`` (E) says of episodes that were recorded to their end whether that was the time limit, where known.
    Errors: :class:`InputError` when the lengths contradict each other.
    """
    obs, acts = arrays["obs"], arrays["acts"]
    for name in ("obs", "acts"):
        if arrays[name].ndim != 2:
            raise InputError(
                f"{path}: '{name}' has shape {arrays[name].shape}, but only rows of numbers can be learned from; "
                "leave out images and dictionaries"
            )
    raw = MemoryTable(path, arrays, {}, "imitation")
    splits, count, episodes = raw.integers("indices").astype(np.int64), len(acts), arrays["terminal"].size
    if len(splits) == episodes and episodes and splits[-1] == count:
        splits = splits[:-1]  # its documentation promises as many as episodes, its code leaves out the last
    starts = np.append(0, splits)
    if len(starts) != episodes or not rising(starts, count):
        raise InputError(
            f"{path}: 'indices' must rise from above 0 to below the {count} rows of 'acts', one less than the "
            f"{episodes} of 'terminal'; save the trajectories again"
        )
    if len(obs) != count + episodes:
        raise InputError(
            f"{path}: 'obs' has {len(obs)} rows where there must be {count + episodes}, one more for each of the "
            f"{episodes} episodes than 'acts' has; save the trajectories again"
        )
    ended = raw.flags("terminal", episodes)
    terminated = ended & ended_by_task(np.diff(np.append(starts, count)), task)
    for episode, at_limit in enumerate(time_limits):
        if at_limit is not None:
            terminated[episode] = ended[episode] and not at_limit
    final = np.zeros(len(obs), bool)
    final[last_rows(starts, count) + np.arange(episodes) + 1] = True
    ends = last_rows(starts, count)
    terminals, timeouts = np.zeros((2, count), bool)
    terminals[ends], timeouts[ends] = terminated, ~terminated
    found: Arrays = {
        "observations": obs[~final],
        "actions": acts,
        "infos/final_observations": obs[final],
        "terminals": terminals,
        "timeouts": timeouts,
        "metadata/episode_starts": starts,
    }
    if "rews" in arrays:
        found["rewards"] = arrays["rews"]
    return MemoryTable(path, found, {}, "imitation", NAMES)


def ended_by_task(lengths: np.ndarray, task: Task) -> np.ndarray:
    """Whether episodes of these lengths (E,) that the environment ended, ended in a termination: the time not up."""
    return (lengths < task.horizon) & task.terminates


def needed(path: Path, task: Task | None) -> Task:
    """The task, which arrays alone do not name.

    Errors: :class:`InputError` without one.
    """
    if task is None:
        raise InputError(f"{path}: does not say on which environment it was recorded; give the task")
    return task


def _read_columns(path: Path) -> dict[str, list[Any]]:
    """The columns of all Arrow files that ``state.json`` lists, one entry an episode; rows of numbers as arrays."""
    try:
        arrow: Any = importlib.import_module("pyarrow")
        ipc: Any = importlib.import_module("pyarrow.ipc")
    except ImportError as error:
        raise InputError(
            f"{path}: reading Arrow files needs pyarrow ({error}): pip install 'understudy[lerobot]'"
        ) from error
    try:
        names = [str(item["filename"]) for item in read_json(path / _STATE)["_data_files"]]
        tables: list[Any] = []
        for name in names:
            if Path(name).name != name or names.count(name) > 1:
                problem = "more than once" if names.count(name) > 1 else "which is not in the folder"
                raise InputError(f"{path}: '{_STATE}' lists {in_words(repr(name))}, {problem}; save it again")
            if not (path / name).is_file():  # a pipe would be waited for
                raise FileNotFoundError(f"there is no file {name}")
            # Mapped, so that no more is taken than is there, whatever lengths it promises.
            with arrow.memory_map(str(path / name)) as file, ipc.open_stream(file) as stream:
                tables.append(stream.read_all())
        table: Any = arrow.concat_tables(tables) if tables else arrow.table({})
        check_promise(path, "its rows", table.num_rows, sum((path / name).stat().st_size for name in names))
        table.validate(full=True)  # offsets out of place would end the process further down
        _check_columns(path, table)
        return {
            name: _column(table.column(name), name)
            for name in (*_COLUMNS, "rews", "infos")
            if name in table.column_names
        }
    except (*_DAMAGES, arrow.ArrowException) as error:
        raise InputError(
            f"{path}: cannot be read, so it is incomplete or damaged ({in_words(error)}); copy it again, or save it "
            "again with imitation.data.serialize.save"
        ) from error


def _check_columns(path: Path, table: Any) -> None:
    """Refuse a data set without imitation's columns, or with something else in them."""
    there = cast("list[str]", table.column_names)
    missing = [name for name in _COLUMNS if name not in there]
    if missing:
        has = listed(there) or "no columns"
        raise InputError(f"{path}: '{missing[0]}' is missing; the data set has {has}, so it is not imitation's")
    twice = [name for name in (*_COLUMNS, "rews", "infos") if there.count(name) > 1]
    if twice:
        raise InputError(f"{path}: '{twice[0]}' is there more than once; save it again")
    if table.num_rows == 0:
        raise InputError(f"{path}: has no episodes, so there is nothing to learn from")
    if "rews" in there:
        column = table.column("rews")
        if _depth(column.type) != 1 or column.null_count or any(part.flatten().null_count for part in column.chunks):
            raise InputError(f"{path}: 'rews' holds {in_words(column.type)}, but must hold numbers; save it again")


def _depth(kind: Any) -> int | None:
    """In how many lists there are numbers; none when there is something else."""
    types, depth = importlib.import_module("pyarrow.types"), 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) else None


def _column(column: Any, name: str) -> list[Any]:
    """A column's entries; lists of numbers become arrays without going through Python's numbers."""
    if name == "terminal":
        return column.to_pylist()
    if name == "infos":
        return [_time_limit(cell[-1].as_py()) if cell.is_valid and len(cell) else None for cell in column]
    return [cell.values if cell.is_valid else None for cell in column]


def _rows(path: Path, columns: Mapping[str, list[Any]], name: str) -> list[np.ndarray]:
    """Each episode's rows of numbers (n, width).

    Errors: :class:`InputError` when they are not rows of numbers, or of different widths.
    """
    found: list[np.ndarray] = []
    lengths_of = importlib.import_module("pyarrow.compute").list_value_length
    for episode, cell in enumerate(columns[name]):
        kind: Any = getattr(cell, "type", None)
        depth = None if kind is None else _depth(kind)
        if depth != 1 or not len(cell) or cell.null_count or cell.flatten().null_count:
            raise InputError(
                f"{path}: '{name}' of episode {episode} does not hold rows of numbers; only observations and actions "
                "that are vectors can be read, so leave out images and dictionaries"
            )
        lengths = lengths_of(cell).to_numpy(zero_copy_only=False)
        widths = np.union1d([rows.shape[1] for rows in found[:1]], lengths)
        if len(widths) > 1:
            raise InputError(f"{path}: '{name}' of episode {episode} has rows of different widths; save it again")
        found.append(cell.flatten().to_numpy(zero_copy_only=False).reshape(len(cell), *widths.astype(int)))
    return found


def _time_limit(info: object) -> bool | None:
    """Whether an episode's last info (JSON) says that the time limit ended it; none where it does not say."""
    found: Any = parse_json(info) if isinstance(info, str) and info else None
    told = cast("dict[str, object]", found).get(_TRUNCATED) if isinstance(found, dict) else None
    return told if isinstance(told, bool) else None
