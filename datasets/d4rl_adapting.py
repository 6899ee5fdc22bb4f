"""D4RL's files as the tasks here see them: what their names say and the files do not, and mazes that stand otherwise.

The facts stand in :mod:`~.d4rl_table`, with their sources.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np

from ..robots import InputError, find_task
from .d4rl_table import DATASETS, D4rlDataset
from .reading import HORIZON
from .table import MemoryTable, Table

_log = logging.getLogger(__name__)
_ANT, _FORCES = 27, 84  # numbers of the task's observation, and of the contact forces behind it in D4RL's
_SAME_GOAL = 1e-5
_SEEN, _JOINTS = 29, 15  # numbers of an ant in a maze, and of these of its joints
_LEAP, _REACHED = 2.0, 0.5  # m that no ant walks in a step, and from the goal that count as there
_CORNER = 0.7  # m from the corner of D4RL's ball maze to the middle of its first cell's far end (d4rl_table)


def of_file(name: str) -> D4rlDataset | None:
    """The data set whose file has this name, if there is one."""
    return next((found for found in DATASETS.values() if found.file == name), None)


def adapted(table: Table, found: D4rlDataset) -> MemoryTable:
    """A file's table with the environment, horizon and reference returns of its data set, in the task's own form.

    Errors: :class:`InputError` for ants with contact forces that are not zero, and for arrays of mazes and kitchens
    that are not what D4RL's files have.
    """
    arrays: dict[str, np.ndarray] = {}
    for key in sorted(table.keys()):
        # Texts, which some files have, are not read; of what should be numbers it is told later that it is none.
        arrays[key] = np.empty(0, object) if table.about(key)[0].kind == "O" else table.raw(key)
    attributes = table.attributes() | {"random_return": found.minimum, "expert_return": found.maximum}
    # People took longer than a horizon: of the names of one file, that of the longest episodes says how long.
    longest = max(other.horizon for other in DATASETS.values() if other.file == found.file)
    attributes |= {HORIZON: longest, "d4rl": found.name}
    if found.fit.task is not None:
        attributes["task"] = found.fit.task
    if found.family.startswith("locomotion"):
        attributes |= {"env_id": found.fit.environment, "env_kwargs": "{}"}
    if found.fit.task == "ant":
        _without_forces(table, arrays)
    elif found.family == "maze2d" and found.fit.task is not None:
        arrays = _turned(table, arrays, found.fit.task)
    elif found.family == "kitchen" and found.fit.task is not None:
        arrays = _cooked(table, arrays, found.fit.task)
    elif found.family == "antmaze" and found.fit.task is not None:
        arrays = _walked(table, arrays, found.fit.task)
    return MemoryTable(table.path, arrays, attributes, table.format)


def goal_changes(goals: np.ndarray) -> np.ndarray:
    """Where the goal of the row after is another (N,)."""
    return np.append((np.diff(goals, axis=0) != 0).any(axis=1), False)


def _without_forces(table: Table, arrays: dict[str, np.ndarray]) -> None:
    """Leave out an ant's contact forces, which are all zero in D4RL's files (D4RL #143)."""
    for key in ("observations", "next_observations"):
        rows = arrays.get(key)
        if rows is None or rows.ndim != 2 or rows.dtype.kind != "f" or rows.shape[1] != _ANT + _FORCES:
            continue
        if rows[:, _ANT:].any():
            raise InputError(
                f"{table.path}: '{key}' has contact forces that are not zero, unlike D4RL's own; give task=Ant-v4"
            )
        arrays[key] = rows[:, :_ANT]
    _log.info("%s: contact forces, which are all zero, are left out", table.path)


def _turned(table: Table, arrays: dict[str, np.ndarray], task: str) -> dict[str, np.ndarray]:
    """Rows of D4RL's ball maze as gymnasium-robotics' stands: a quarter turn, and with the goal in the observation.

    Errors: :class:`InputError` when the goals are missing, or an array is not what D4RL's files have.
    """
    if "infos/goal" not in arrays:
        raise InputError(f"{table.path}: 'infos/goal' is missing, without which a maze says nothing; fetch it again")
    whose = "D4RL's ball maze"
    seen = table.floats("observations", 4, whose).astype(np.float64)
    goal, actions = (table.floats(key, 2, whose, len(seen)) for key in ("infos/goal", "actions"))
    environment: Any = cast(Any, find_task(task).make())
    try:
        height, width = environment.cells
    finally:
        environment.close()

    def place(rows: np.ndarray) -> np.ndarray:
        return np.stack((rows[:, 1] + _CORNER - width / 2, height / 2 - _CORNER - rows[:, 0]), 1)

    def way(rows: np.ndarray) -> np.ndarray:
        return np.stack((rows[:, 1], -rows[:, 0]), 1)

    goal = goal.astype(np.float64)
    where = place(seen[:, :2])
    whole = (where, where, way(seen[:, 2:4]), place(goal))
    turned = dict(arrays) | {
        "observations": np.concatenate(whole, 1).astype(np.float32),
        "actions": way(actions),
    }
    for key, turn in (("infos/qpos", place), ("infos/qvel", way)):
        if key in arrays:
            turned[key] = turn(table.floats(key, 2, whose, len(seen)).astype(np.float64))
    turned.setdefault("timeouts", goal_changes(goal))  # copies from before 2021 mark nothing (D4RL #31)
    turned["rewards"] = table.numbers("rewards", len(seen)).astype(np.float32)
    return turned


def _walked(table: Table, arrays: dict[str, np.ndarray], task: str) -> dict[str, np.ndarray]:
    """Rows of D4RL's ant maze with the goal in the observation, the origin in the middle, and the task's own rewards.

    The goal is where the ant was sent; an episode that ends there is the task's end, and the step that gets there first
    has the reward. The file's terminals are left out: they mark where the evaluation's goal is, which the ant passed.
    States are those of the observations, which have them whole; ``infos/qpos`` are those after the step.

    Errors: :class:`InputError` when the goals or timeouts are missing, episodes do not end where these say (D4RL #77),
    or an array is not what D4RL's files have.
    """
    whose = "D4RL's ant maze"
    seen = table.floats("observations", _SEEN, whose)
    count = len(seen)
    goal, ends = table.floats("infos/goal", 2, whose, count), table.flags("timeouts", count)
    leaps = np.linalg.norm(np.diff(seen[:, :2], axis=0), axis=1) > _LEAP
    if (lost := np.flatnonzero(leaps & ~ends[:-1])).size:
        raise InputError(
            f"{table.path}: its ant leaps after {len(lost)} rows (first {lost[0]}) that 'timeouts' do not mark, so "
            "nobody knows where its episodes end (D4RL #77); take the same data set of version 2"
        )
    environment: Any = cast(Any, find_task(task).make())
    try:
        origin = environment.origin.astype(seen.dtype)
    finally:
        environment.close()
    whole = np.concatenate((seen, goal), 1)
    whole[:, :2] += origin
    whole[:, -2:] += origin
    there = np.linalg.norm(seen[:, :2] - goal, axis=1) <= _REACHED
    rewards = np.zeros(count, np.float32)
    begins = np.append(0, np.flatnonzero(ends[:-1]) + 1)
    for begin, stop in zip(begins, np.append(begins[1:], count), strict=True):
        if there[begin + 1 : stop].any():
            rewards[begin + int(there[begin + 1 : stop].argmax())] = 1
    states = {"infos/qpos": whole[:, :_JOINTS], "infos/qvel": whole[:, _JOINTS:_SEEN]}
    last = np.append(ends[:-1], True)
    ours = {"observations": whole, "rewards": rewards, "terminals": last & there, "timeouts": ends & ~there}
    return arrays | states | ours


def _cooked(table: Table, arrays: dict[str, np.ndarray], task: str) -> dict[str, np.ndarray]:
    """Rows of D4RL's kitchen with the task's own rewards and ends.

    A thing counts where it is first seen done, for the step before, so that returns are how many were; the end of a
    demonstration is the task's where all were, and otherwise that of the recording. Its length is told, because people
    took longer than the horizon.

    Errors: :class:`InputError` when it is of other things than the data set's name says, or an array is not what D4RL's
    files have.
    """
    environment: Any = cast(Any, find_task(task).make())
    try:
        joints, width = len(environment.data.qpos), len(environment.seen)
        seen = table.floats("observations", width, "D4RL's kitchen")
        if len(seen) == 0:
            return arrays  # refused by whoever reads them
        if not np.allclose(seen[:, joints:], environment.goal, atol=_SAME_GOAL):
            raise InputError(
                f"{table.path}: the goal in its observations is not that of {task}, so it is another data set than its "
                "name says; fetch it again, or give task="
            )
        done = environment.done(seen[:, :joints])
    finally:
        environment.close()
    ends = table.flags("terminals", len(seen))
    ends[-1] = True
    stops = np.flatnonzero(ends) + 1
    rewards, whole = np.zeros(len(seen), np.float32), np.zeros(len(seen), bool)
    for begin, stop in zip(np.append(0, stops[:-1]), stops, strict=True):
        finished = done[begin:stop].any(0)
        first = begin + np.maximum(done[begin:stop].argmax(0) - 1, 0)
        np.add.at(rewards, first[finished], 1)
        whole[stop - 1] = finished.all()
    ours = {"rewards": rewards, "terminals": whole, "timeouts": ends & ~whole}
    return arrays | ours | {"metadata/episode_lengths": np.diff(np.append(0, stops))}
