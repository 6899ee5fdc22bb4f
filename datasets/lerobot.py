"""LeRobot data sets: versions 2.0, 2.1 and 3.0 read into :class:`Demonstrations` (:mod:`~.lerobot_writing` writes 3.0).

Read with pyarrow alone; layouts and names were read in the source of lerobot 0.4.4 (``datasets/``, and its conversion
from 2.1 to 3.0). A data set is a folder: ``meta/info.json`` with ``features`` and ``fps``, what is known of each
episode in ``meta/episodes.jsonl`` (2.x) or ``meta/episodes/*/*.parquet`` (3.0), and the frames in ``data/*/*.parquet``,
an episode to a file (2.x) or several (3.0). A frame is a row: ``observation.*``, ``action``, ``next.reward``,
``next.done``, and ``episode_index``, ``frame_index``, ``timestamp``, ``index``, ``task_index``.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError, Task, nearest
from .arrow_files import damages, read_parquet
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, rows_within_episodes
from .lerobot_metadata import check_metadata, information, tasks
from .lerobot_writing import NAMES, OURS, STATE, pyarrow_part, write_lerobot
from .limits import in_words, listed, read_json
from .reading import read_table
from .table import MemoryTable

__all__ = ["claims", "open_lerobot", "read_lerobot", "write_lerobot"]

_log = logging.getLogger(__name__)

_FIRST = (STATE, "observation.environment_state")
_NEEDED = ("frame_index", "episode_index")
_USED = (*NAMES.values(), "next.success", "timestamp", "index")
_SINGLE = (*_NEEDED, "next.reward", "next.done", "next.truncated", "next.success", "timestamp", "index")
_TOLERANCE = 1e-4  # seconds; LeRobot's own


def claims(path: Path) -> bool:
    """Whether a path is the folder of a LeRobot data set, or the ``info.json`` in it."""
    try:
        said = read_json(_folder(path) / "meta" / "info.json")
    except (OSError, ValueError):  # no such file, nobody's to read, or something else's
        return False
    return isinstance(said, dict) and {"codebase_version", "features"} <= said.keys()


def read_lerobot(
    path: str | Path, task: Task | None = None, *, observations: Sequence[str] | None = None
) -> Demonstrations:
    """Read a LeRobot data set, as :func:`~.reading.read_table` reads any table.

    Errors: :class:`InputError` as :func:`open_lerobot` and :func:`~.reading.read_table`, and without a ``task``, unless
    :func:`write_lerobot` wrote the data set: LeRobot's own name no Gymnasium environment.
    """
    table = open_lerobot(path, observations=observations)
    rate = table.attributes()["control_rate"]
    if task is None and "env_id" not in table.attributes():
        raise InputError(f"{path}: a LeRobot data set names no Gymnasium environment; give the task it was recorded on")
    if task is not None:
        spaces, seen = task.spaces, table.raw("observations").shape[1]
        if seen != spaces.observation_size and " + " in table.called("observations"):
            raise InputError(
                f"{path}: {table.called('observations')} are {seen} numbers, but task {task.name} has "
                f"{spaces.observation_size}; say which of them make up an observation (observations=[...])"
            )
        acts = spaces.control_rate
        if abs(acts - rate) > 1e-3 * rate:
            _log.warning("%s: has %g frames a second, but task %s acts %g times a second", path, rate, task.name, acts)
    return read_table(table, task)


def open_lerobot(path: str | Path, *, observations: Sequence[str] | None = None) -> MemoryTable:
    """A LeRobot data set as a table.

    ``observations`` are the features that make up an observation, in their order: by default ``observation.state``,
    ``observation.environment_state``, and all other rows of floats called ``observation.*``. Their widths stand in
    ``observation_parts``, their names in ``observation_names`` and ``action_names`` (JSON), ``fps`` in
    ``control_rate``. Where ``next.truncated`` is missing, ``next.done`` is taken for the task's own end.

    An episode is what has its ``episode_index``, whatever ``meta`` says of its file, and order is that of the indices;
    both are logged where they differ.

    Errors: :class:`InputError` when pyarrow is not installed, a file is missing or damaged, there are no observations
    but images, frames are missing or not ``1/fps`` apart, or ``meta`` and ``data`` contradict each other.
    """
    folder = _folder(Path(path))
    told = information(folder)
    features, rate = told["features"], float(told["fps"])
    chosen = _chosen(folder, features, observations)
    wanted = [name for name in features if name in _USED or name.startswith(f"{OURS}.")]
    widths = {name: _width(folder, features, name) for name in (*_NEEDED, *chosen, *wanted)}
    columns, source = _frames(folder, widths)
    columns, source, starts = _in_order(folder, columns, source)
    _check_frames(folder, columns, starts, rate)
    check_metadata(folder, told, columns["episode_index"][starts, 0], starts, source)
    arrays = {**_table(folder, columns, chosen, starts), **_remembered(folder, told, len(starts))}
    attributes: dict[str, Any] = {
        "lerobot_version": told["codebase_version"],
        "robot_type": told.get("robot_type"),
        "observation_parts": json.dumps({name: widths[name] for name in chosen}),
        "observation_names": json.dumps({name: features[name].get("names") for name in chosen}),
        "tasks": tasks(folder),
    }
    if features.get("action", {}).get("names") is not None:
        attributes["action_names"] = json.dumps(features["action"]["names"])
    if "next.success" in columns:
        attributes["episodes_succeeded"] = int(np.logical_or.reduceat(columns["next.success"][:, 0], starts).sum())
    attributes.update({**told.get(OURS, {}).get("attributes", {}), "control_rate": rate})
    attributes = {name: value for name, value in attributes.items() if value is not None}
    return MemoryTable(folder, arrays, attributes, "lerobot", {**NAMES, "observations": " + ".join(chosen)})


def _remembered(folder: Path, information: Mapping[str, Any], episodes: int) -> Arrays:
    """What our writer noted of each episode (E,)."""
    noted = information.get(OURS, {}).get("episodes", {})
    for values in noted.values():
        if len(values) != episodes:
            raise InputError(
                f"{folder}: '{OURS}' in meta/info.json tells of {len(values)} episodes, but there are {episodes}; "
                "remove it if you have edited the data set, and give the task"
            )
        if not all(isinstance(value, (int, float)) for value in values):
            raise InputError(f"{folder}: '{OURS}' in meta/info.json tells of episodes by no numbers; remove it")
    return {f"metadata/episode_{name}": np.array(values) for name, values in noted.items()}


def _folder(path: Path) -> Path:
    return path.parent.parent if path.name == "info.json" else path


def _chosen(folder: Path, features: Mapping[str, Any], asked: Sequence[str] | None) -> list[str]:
    """The features that make up an observation; the others are named in the log."""
    all_of_them = [name for name in features if name.startswith("observation.")]
    floats = [name for name in all_of_them if str(features[name]["dtype"]).startswith("float")]
    usable = [name for name in floats if len(features[name]["shape"]) == 1]
    usable.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    if asked is not None:
        for name in asked:
            if name not in usable:
                raise InputError(f"{folder}: has no observation {name!r} of floats: {nearest(name, usable)}")
        usable = list(asked)
    if not usable:
        raise InputError(
            f"{folder}: its only observations are images or videos ({listed(all_of_them) or 'none at all'}), but "
            f"numbers are needed; record it with '{STATE}', or take another data set"
        )
    pictures = [name for name in features if features[name]["dtype"] in ("image", "video")]
    if left := [name for name in features if name in {*pictures, *all_of_them} - {*usable}]:
        _log.info("%s: left alone are %s", folder, listed(left))
    return usable


def _width(folder: Path, features: Mapping[str, Any], name: str) -> int:
    if name not in features:
        raise InputError(f"{folder}: 'features' in meta/info.json lack '{name}'; record the data set again")
    shape, kind = features[name]["shape"], str(features[name]["dtype"])
    if len(shape) > 1 or (name == "action" and not kind.startswith("float")):
        what = in_words(f"{kind} {shape}")
        raise InputError(f"{folder}: '{in_words(name)}' is {what}, but must be a row of floats (one dimension)")
    width = int(shape[0]) if shape else 1
    if width < 1 or (width > 1 and name in _SINGLE):
        raise InputError(f"{folder}: '{in_words(name)}' has shape {in_words(shape)}, but must be {_should(name)}")
    return width


def _should(name: str) -> str:
    return "a single number" if name in _SINGLE else "numbers"


def _frames(folder: Path, widths: Mapping[str, int]) -> tuple[Arrays, np.ndarray]:
    """The columns (N, width) of all files one after the other, and which file each row is from (N,)."""
    parquet = pyarrow_part("pyarrow.parquet")
    files = [path for path in sorted((folder / "data").glob("*/*.parquet")) if path.is_file()]
    if not files:
        raise InputError(f"{folder}: 'data' has no .parquet files; download the data set again, its data included")
    found: list[Arrays] = []
    for file in files:
        try:
            if lacking := widths.keys() - set(parquet.read_schema(file).names):
                name = in_words(min(lacking))
                raise InputError(f"{file}: '{name}' is missing, which is one of 'features' in info.json")
            table = read_parquet(file, list(widths))
            found.append({name: _matrix(file, name, table.column(name), width) for name, width in widths.items()})
        except InputError:
            raise
        except damages() as error:
            raise InputError(
                f"{file}: cannot be read ({in_words(error)}); copy it again, or, where a recording was "
                "not finalized, record it again"
            ) from error
    names = np.array([file.relative_to(folder).as_posix() for file in files], object)
    source = np.repeat(names, [len(columns["frame_index"]) for columns in found])
    if not len(source):
        raise InputError(f"{folder}: its files have no frames, so there is nothing to learn from")
    return {name: np.concatenate([columns[name] for columns in found]) for name in widths}, source


def _matrix(file: Path, name: str, column: Any, width: int) -> np.ndarray:
    """A column of numbers or of lists of numbers as rows (N, width)."""
    types, array = pyarrow_part("pyarrow.types"), column.combine_chunks()
    nested = types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)
    if array.null_count:
        raise InputError(
            f"{file}: '{in_words(name)}' is empty in {array.null_count} of {len(array)} rows; record it again"
        )
    sizes = pyarrow_part("pyarrow.compute").list_value_length(array).to_numpy() if nested else np.ones(len(array))
    flat = (array.flatten() if nested else array).to_numpy(zero_copy_only=False)
    kinds = "iu" if name in _NEEDED else "fiub"
    if (sizes != width).any() or flat.dtype.kind not in kinds:
        what = "whole numbers" if kinds == "iu" else "numbers"
        raise InputError(
            f"{file}: '{in_words(name)}' holds {in_words(array.type)}, but by 'features' in meta/info.json rows of "
            f"{width} {what}; correct the one or the other"
        )
    return flat.reshape(len(array), width)


def _in_order(folder: Path, columns: Arrays, source: np.ndarray) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Columns and sources in the order of ``episode_index``, with the first row of each episode (E,)."""
    episode = columns["episode_index"][:, 0]
    begins = np.flatnonzero(np.append(True, episode[1:] != episode[:-1]))
    indices = episode[begins]
    order = np.argsort(indices, kind="stable")
    twice = np.flatnonzero(np.diff(indices[order]) == 0)
    if len(twice):
        first, second = begins[order[twice[0] : twice[0] + 2]]
        raise InputError(
            f"{folder}: episode {episode[first]} is in pieces ({source[first]} and {source[second]}), with others "
            "between them: data sets were merged without numbering their episodes anew, or its frames are scrambled"
        )
    lengths = np.diff(np.append(begins, len(episode)))[order]
    starts = np.cumsum(lengths) - lengths
    if (order != np.arange(len(order))).any():
        _log.warning("%s: its episodes do not lie in the order of their indices; they are read in that order", folder)
        rows = np.repeat(begins[order] - starts, lengths) + np.arange(len(episode))
        columns, source = {name: column[rows] for name, column in columns.items()}, source[rows]
    return columns, source, starts


def _check_frames(folder: Path, columns: Arrays, starts: np.ndarray, rate: float) -> None:
    """Refuse episodes with frames missing, doubled, at other times than said, or after their end."""
    count = len(columns["frame_index"])
    episode, frame = columns["episode_index"][:, 0], columns["frame_index"][:, 0]
    expected = rows_within_episodes(starts, count)
    wrong = np.flatnonzero(frame != expected)
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"{folder}: 'frame_index' of episode {episode[row]} is {frame[row]} where it must be {expected[row]}: "
            "frames are missing or doubled, or two episodes have the same 'episode_index'; record the episode again"
        )
    if "timestamp" in columns:
        times = columns["timestamp"][:, 0].astype(np.float64)
        # Float32, as most are, cannot hold later times to within LeRobot's tolerance.
        wrong = np.flatnonzero(~(np.abs(times - frame / rate) <= _TOLERANCE + np.finfo(np.float32).eps * np.abs(times)))
        if len(wrong):
            row = wrong[0]
            raise InputError(
                f"{folder}: 'timestamp' of frame {frame[row]} of episode {episode[row]} is {times[row]:.6g} s, but at "
                f"{rate:g} frames a second it must be {frame[row] / rate:.6g} s ({len(wrong)} of {count} are off): "
                "frames were dropped or 'fps' is wrong; correct 'fps', or resample the data to even steps"
            )
    if "next.done" in columns:
        early = columns["next.done"][:, 0].astype(bool)
        early[last_rows(starts, count)] = False
        if early.any():
            row = int(early.argmax())
            raise InputError(
                f"{folder}: 'next.done' ends episode {episode[row]} in frame {frame[row]}, but it goes on; divide it "
                "there, or correct 'next.done'"
            )
    if "index" in columns and (columns["index"][:, 0] != np.arange(count)).any():
        _log.warning("%s: 'index' does not count the frames from 0; it is not used here, but LeRobot uses it", folder)


def _table(folder: Path, columns: Arrays, chosen: list[str], starts: np.ndarray) -> Arrays:
    """The columns by D4RL's names."""
    count, truncated = len(columns["frame_index"]), columns.get("next.truncated")
    done = columns.get("next.done", np.zeros((count, 1), bool))[:, 0].astype(bool)
    if truncated is None and done.any():
        _log.info("%s: 'next.done' is taken for the task's own end, as 'next.truncated' is missing", folder)
    arrays: Arrays = {
        "observations": np.concatenate([columns[name] for name in chosen], axis=1),
        "terminals": done if truncated is None else done & ~truncated[:, 0].astype(bool),
        "metadata/episode_starts": starts,
    }
    for key, name in NAMES.items():
        if name in columns and key not in arrays and (key != "next_observations" or chosen == [STATE]):
            arrays[key] = columns[name]
    for name in columns:
        if name.startswith(f"{OURS}."):
            arrays[f"infos/{name.removeprefix(f'{OURS}.').replace('.', '/')}"] = columns[name]
    return arrays
