"""LeRobot data sets of version 3.0 written, field by field as lerobot 0.4.4 writes them (:mod:`~.lerobot` reads them).

What LeRobot has a name for has it. Rows that it has none for are features of their own, which it passes by:
``next.truncated``, ``next.observation.state`` (what followed a row, so that what LeRobot's tools leave of a data set is
still whole) and ``understudy.*`` (times, where rows were left out, and simulator states). What is no row stands in
``meta/info.json`` under the one key ``understudy``.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import importlib
import json
import logging
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError, Task
from .d4rl import add_states, arrays_of, attributes_of
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, rows_within_episodes
from .reading import STATES, normalised_actions
from .recorded import World, task_named

_log = logging.getLogger(__name__)

OURS = "understudy"  # the key in info.json, and what features of ours begin with
STATE, NEXT_STATE = "observation.state", "next.observation.state"
NAMES = {
    "actions": "action",
    "rewards": "next.reward",
    "terminals": "next.done",
    "timeouts": "next.truncated",
    "next_observations": NEXT_STATE,
}
VERSION = "v3.0"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
# LeRobot's defaults: files to a chunk, and megabytes to a file.
_CHUNK_FILES, _DATA_MEGABYTES, _VIDEO_MEGABYTES = 1000, 100, 200
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_PER_EPISODE = ("returns", "lengths", "terminated", "seeds")


def pyarrow_part(name: str) -> Any:
    """A module of pyarrow's, which is an extra.

    Errors: :class:`InputError` when it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"LeRobot data sets need what is not installed ({error}): pip install 'understudy[lerobot]'"
        ) from error


def as_json(source: Path, values: Mapping[str, Any]) -> str:
    """JSON text of what is said about demonstrations.

    Errors: :class:`InputError` when it is no JSON.
    """
    try:
        return json.dumps(values, indent=4, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{source}: the metadata cannot be stored as JSON ({error}); give numbers, texts, or lists of either"
        ) from error


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a finished folder its name; another one of that name goes only once the new one stands.

    Errors: ``OSError`` when the system refuses; then the other one is where it was.
    """
    if not target.exists():
        temporary.rename(target)
        return
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def write_lerobot(
    folder: str | Path,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write a folder of LeRobot's version 3.0 that :func:`~.lerobot.read_lerobot` reads back bit-equal.

    Actions are in the environment's units. ``fps`` is the task's control rate (as in lerobot an integer, unless the
    rate is none), ``timestamp`` is ``frame_index / fps`` even where rows were left out, which is logged. Statistics
    are exact where LeRobot estimates quantiles from histograms. ``task``, ``overwrite`` and ``command`` are as for
    :func:`~.d4rl.write_d4rl`; another folder than a LeRobot data set is never overwritten. The folder appears whole
    or not at all.

    Errors: :class:`InputError` when pyarrow is not installed, or the folder is taken or cannot be written.
    """
    path = Path(folder)
    _check_folder(path, overwrite=overwrite)
    errors = pyarrow_part("pyarrow.lib").ArrowException
    world = World.of(task or task_named(demonstrations))
    arrays, ours = arrays_of(demonstrations, world, compact=False), attributes_of(demonstrations, command)
    if demonstrations.states is not None:
        executed = demonstrations.actions
        if demonstrations.acted:
            executed = normalised_actions(path, arrays["actions"], world)
        ours[STATES] = add_states(arrays, demonstrations, demonstrations.states, executed, world)
    if "infos/times" in arrays:
        _log.warning("%s: rows were left out, but its timestamps count those that are there", path)
    rate = world.spaces.control_rate
    rate = round(rate) if abs(rate - round(rate)) < 1e-9 * rate else rate
    columns = _columns(arrays, demonstrations.starts, rate)
    tasks = ours.get("tasks")
    words = tasks[0] if isinstance(tasks, list) and len(tasks) == 1 else world.task.name
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        (temporary / "meta").mkdir(parents=True)
        statistics = {name: _statistics(column) for name, column in columns.items()}
        for name, content in (("info", _information(columns, demonstrations, ours, rate)), ("stats", statistics)):
            (temporary / "meta" / f"{name}.json").write_text(as_json(path, content), encoding="utf-8")
        _write_tasks(temporary / "meta" / "tasks.parquet", words)
        _write_episodes(temporary, _write_data(temporary, columns, demonstrations.starts), words)
        put_in_place(temporary, path)
    except (OSError, errors) as error:
        raise InputError(
            f"{path}: cannot be written ({error}); choose a folder that has room and that you may write to"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_folder(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; a LeRobot data set is a folder, so choose another name")
    if path.exists() and any(path.iterdir()):
        if not (path / "meta" / "info.json").exists():
            raise InputError(f"{path}: is a folder with other things in it; choose another name")
        if not overwrite:
            raise InputError(f"{path}: exists already; choose another name or allow overwriting")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")


def _columns(arrays: Arrays, starts: np.ndarray, rate: float) -> Arrays:
    """The features (N, width) in LeRobot's order: its own last."""
    count = len(arrays["observations"])
    frames = rows_within_episodes(starts, count)
    columns: Arrays = {STATE: arrays["observations"]}
    columns.update({name: arrays[key] for key, name in NAMES.items() if key in arrays})
    columns["next.done"] = arrays["terminals"] | arrays["timeouts"]
    for key, array in arrays.items():
        if key.startswith("infos/"):
            columns[f"{OURS}.{key.removeprefix('infos/').replace('/', '.')}"] = array
    columns["timestamp"] = (frames / rate).astype(np.float32)
    columns["frame_index"] = frames
    columns["episode_index"] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, count)))
    columns["index"] = np.arange(count)
    columns["task_index"] = np.zeros(count, np.int64)
    return {name: column.reshape(count, -1) for name, column in columns.items()}


def _information(
    columns: Arrays, demonstrations: Demonstrations, ours: Mapping[str, Any], rate: float
) -> dict[str, Any]:
    """``meta/info.json``, its keys in LeRobot's order."""
    episodes, metadata = len(demonstrations.starts), demonstrations.metadata
    told = {name: getattr(demonstrations, f"episode_{name}") for name in _PER_EPISODE}
    if not np.isfinite(told["returns"]).all():  # those that nobody knows
        del told["returns"]
    # Those that a LeRobot data set had. Where its observations are put together, there are none of the whole.
    seen = _read_json(metadata.get("observation_names"))
    names = {"action": _read_json(metadata.get("action_names"))}
    names[STATE] = seen.get(STATE) if isinstance(seen, dict) and len(seen) == 1 else None
    return {
        "codebase_version": VERSION,
        "robot_type": metadata.get("robot_type"),
        "total_episodes": episodes,
        "total_frames": len(demonstrations),
        "total_tasks": 1,
        "chunks_size": _CHUNK_FILES,
        "data_files_size_in_mb": _DATA_MEGABYTES,
        "video_files_size_in_mb": _VIDEO_MEGABYTES,
        "fps": rate,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": None,
        "features": {
            name: {"dtype": str(column.dtype), "shape": [column.shape[1]], "names": names.get(name)}
            for name, column in columns.items()
        },
        OURS: {
            "attributes": dict(ours),
            "episodes": {name: values.tolist() for name, values in told.items() if values is not None},
        },
    }


def _read_json(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:  # another format's, by the same name
        return None


def _statistics(rows: np.ndarray) -> dict[str, list[Any]]:
    """What LeRobot normalises with, of each number in rows (N, width)."""
    exact = rows.astype(np.float64)
    return {
        "min": rows.min(0).tolist(),
        "max": rows.max(0).tolist(),
        "mean": exact.mean(0).tolist(),
        "std": exact.std(0).tolist(),
        "count": [len(rows)],
        **dict(zip(_QUANTILES, np.quantile(exact, [*_QUANTILES.values()], axis=0).tolist(), strict=True)),
    }


def _write_tasks(path: Path, words: str) -> None:
    """The one task, in words, as pandas writes a frame with an index: LeRobot looks it up there."""
    arrow = pyarrow_part("pyarrow")
    table = arrow.table({"task_index": arrow.array([0], arrow.int64()), "__index_level_0__": [words]})
    column = {"field_name": None, "metadata": None, "name": None, "numpy_type": "object", "pandas_type": "unicode"}
    columns = [
        column | {"name": "task_index", "field_name": "task_index", "numpy_type": "int64", "pandas_type": "int64"},
        column | {"field_name": "__index_level_0__"},
    ]
    pandas = {"index_columns": ["__index_level_0__"], "column_indexes": [], "columns": columns, "attributes": {}}
    pandas |= {"creator": {"library": "pyarrow", "version": arrow.__version__}, "pandas_version": "2.2.0"}
    pyarrow_part("pyarrow.parquet").write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_data(folder: Path, columns: Arrays, starts: np.ndarray) -> list[dict[str, Any]]:
    """Write the frames, an episode to a row group and files no larger than LeRobot's; returns what is known of each."""
    arrow, parquet = pyarrow_part("pyarrow"), pyarrow_part("pyarrow.parquet")
    stops = last_rows(starts, len(columns["index"])) + 1
    row_bytes = sum(column.itemsize * column.shape[1] for column in columns.values())
    told: list[dict[str, Any]] = []
    for number, episodes in enumerate(_files((stops - starts) * row_bytes)):
        chunk, file = divmod(number, _CHUNK_FILES)
        path = folder / DATA.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = arrow.table({name: _arrow(arrow, column[:0]) for name, column in columns.items()}).schema
        with parquet.ParquetWriter(path, schema, compression="snappy", use_dictionary=True) as writer:
            for episode in episodes:
                start, stop = int(starts[episode]), int(stops[episode])
                rows = {name: column[start:stop] for name, column in columns.items()}
                writer.write_table(arrow.table({name: _arrow(arrow, column) for name, column in rows.items()}))
                place: dict[str, Any] = {"episode_index": episode, "length": stop - start}
                place |= {"data/chunk_index": chunk, "data/file_index": file}
                place |= {"dataset_from_index": start, "dataset_to_index": stop}
                for name, column in rows.items():
                    place |= {f"stats/{name}/{key}": values for key, values in _statistics(column).items()}
                told.append(place)
    return told


def _files(sizes: np.ndarray) -> list[list[int]]:
    """The episodes of each file, from their sizes in bytes (E,); an episode is never divided."""
    files: list[list[int]] = []
    size = 0
    for episode, added in enumerate(sizes.tolist()):
        size += added
        if not files or size >= _DATA_MEGABYTES * 2**20:
            files.append([])
            size = added
        files[-1].append(episode)
    return files


def _arrow(arrow: Any, rows: np.ndarray) -> Any:
    """Rows (T, width) as the column that Hugging Face's datasets makes of them: a number, or a list of fixed length."""
    flat = arrow.array(np.ascontiguousarray(rows).reshape(-1))
    return flat if rows.shape[1] == 1 else arrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _write_episodes(folder: Path, told: list[dict[str, Any]], words: str) -> None:
    arrow = pyarrow_part("pyarrow")
    columns: dict[str, list[Any]] = {name: [row[name] for row in told] for name in told[0]}
    ordered = {"episode_index": columns.pop("episode_index"), "tasks": [[words]] * len(told), **columns}
    ordered |= {"meta/episodes/chunk_index": [0] * len(told), "meta/episodes/file_index": [0] * len(told)}
    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    pyarrow_part("pyarrow.parquet").write_table(arrow.table(ordered), path)
