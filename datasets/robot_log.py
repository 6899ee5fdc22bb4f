"""Logs of `understudy deploy` as demonstrations: what a controller saw and did (:mod:`understudy.robots.robot_log`).

A row is a step when an action was sent and the next row of its episode is known; rows without finite numbers are left
out, as is a last row that was not written whole. Rewards are the differences of the return that the robot told, and
times are the row's number in its episode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError
from ..robots.robot_log import ABOUT, COLUMNS, FORMAT, ROWS, VERSION
from .limits import in_words, read_json
from .table import MemoryTable

_LARGEST = 2**32  # bytes


def claims(path: Path) -> bool:
    """Whether it is a folder that says it is such a log."""
    try:
        said: Any = read_json(path / ABOUT)
        return isinstance(said, dict) and said.get("format") == FORMAT
    except (OSError, ValueError):
        return False


def open_robot_log(path: Path) -> MemoryTable:
    """The table of such a folder.

    Errors: :class:`InputError` when it is damaged, or nothing in it can be learned from.
    """
    columns, said = _about(path)
    try:
        size = (path / ROWS).stat().st_size
        if size > _LARGEST:
            raise InputError(f"{path}: {ROWS} is larger than any log: it is not read")
        rows = np.fromfile(path / ROWS, "<f8", count=size // (8 * len(columns)) * len(columns))
    except OSError as error:
        raise InputError(f"{path}: {ROWS} cannot be read: {error.strerror}") from error
    rows = rows.reshape(-1, len(columns))
    number = {name: index for index, name in enumerate(columns)}
    seen = rows[:, [index for name, index in number.items() if name.startswith("observation/")]]
    done = rows[:, [index for name, index in number.items() if name.startswith("action/")]]
    episode, returned = rows[:, number["episode"]], rows[:, number["return"]]
    sound = np.isfinite(seen).all(1) & np.isfinite(episode)
    followed = np.append(episode[:-1] == episode[1:], False) & sound & np.append(sound[1:], False)
    steps = np.flatnonzero(followed & np.isfinite(done).all(1))
    if not len(steps):
        raise InputError(f"{path}: no action in it is followed by an observation, so there is nothing to learn from")
    first = np.append(True, episode[steps][1:] != episode[steps][:-1])
    last = np.append(first[1:], True)
    begins = np.append(True, episode[1:] != episode[:-1])
    times = np.arange(len(rows)) - np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    rewards = np.nan_to_num(returned[steps + 1] - returned[steps])
    terminated = (rows[steps + 1, number["terminated"]] == 1) & last
    arrays = {
        "observations": seen[steps].astype(np.float32),
        "next_observations": seen[steps + 1].astype(np.float32),
        "actions": done[steps],
        "rewards": rewards.astype(np.float32),
        "terminals": terminated,
        "timeouts": last & ~terminated,
        "infos/times": times[steps],
        "metadata/episode_starts": np.flatnonzero(first),
    }
    return MemoryTable(path, arrays, {name: said[name] for name in ("env_id", "env_kwargs", "task")}, "robot log")


def _about(path: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        said: Any = read_json(path / ABOUT)
        columns = said["columns"]
        good = isinstance(columns, list) and set(COLUMNS) <= set(columns) and said["version"] == VERSION
        good = good and all(isinstance(said[name], str) for name in ("env_id", "env_kwargs", "task"))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: {ABOUT} is damaged ({in_words(error)}): restore it from a copy") from error
    if not good:
        raise InputError(f"{path}: {ABOUT} does not describe a log of this version: update understudy")
    return columns, said
