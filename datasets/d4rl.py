"""D4RL-style HDF5: anybody's read into :class:`Demonstrations`, and our own written.

What the files have in common comes from D4RL (Fu et al. 2020, arXiv 2004.07219): ``observations``, ``actions``,
``rewards``, ``terminals``, ``timeouts``, mostly ``next_observations``, often ``infos/qpos`` and ``infos/qvel``.
The rest is ours or that of kindred recorders, and every array of it is optional when reading:

===========================  ================================================================================
``infos/final_observations`` (E, O) what followed the last row of each episode; stands for
                             ``next_observations`` in a compact file
``infos/times``              (N,) step within the episode, where that is not the row within the episode
``infos/simulator/*``        (N, size) components of MuJoCo's integration state beside qpos and qvel
``metadata/episode_starts``  (E,) row with which each episode begins
``metadata/episode_*``       (E,) ``returns``, ``lengths`` and ``seeds`` of the episodes as recorded
attribute ``env_id``         the environment; ``env_kwargs`` its arguments (JSON); ``task`` the task's name
attribute ``random_return``  and ``expert_return``: references for normalised scores
``understudy_states``        attribute, JSON: sizes of the state's components, and how those left out come back
===========================  ================================================================================
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import TASKS, InputError, Task, find_task
from .demonstrations import Demonstrations
from .hdf5 import Hdf5File, check_target, write_hdf5
from .recorded import World, finite_number, recorded_environment, task_for

_log = logging.getLogger(__name__)

_FORMAT = 1
_STATES = "understudy_states"
# The float32 actions of somebody's policy leave the bounds by roundings, those in another unit by far more.
_ACTION_TOLERANCE = 1e-4
_AS_RESET, _PRECEDING_ACTION = "as after a reset", "preceding action"
_Arrays = dict[str, np.ndarray]


def read_d4rl(path: str | Path, task: Task | None = None) -> Demonstrations:
    """Read a D4RL-style file.

    Actions come back in [−1, 1] by the task's bounds. Where next observations are not recorded, they are the
    following row's of the same episode, and the last row of each episode, whose successor nobody knows, is left
    out (which is logged). Without ``timeouts``, episodes end where ``terminals`` say so and at the horizon.

    ``task`` defaults to what the file's attributes say. Another version of the recorded environment (Hopper-v3
    for a task on Hopper-v5) passes with a warning when the sizes agree.

    Errors: :class:`InputError` in one sentence with file, key and way out: the file is missing, damaged,
    recorded on another environment or not of the task's sizes, holds numbers that are not finite or actions
    out of bounds, or does not tell where its episodes end.
    """
    path = Path(path)
    with Hdf5File(path) as file:
        attributes = file.attributes()
        if (finite_number(path, attributes, "understudy_format") or 0) > _FORMAT:
            raise InputError(f"{path}: was written by a newer understudy; update understudy to read it")
        recorded = recorded_environment(path, attributes)
        world = World.of(task_for(path, task, attributes, recorded))
        columns = _read_columns(file, world, "" if recorded is None else f", and was recorded on {recorded}")
        horizon = world.task.horizon if recorded is None else recorded.limit or world.task.horizon
        starts = _read_episodes(file, columns, horizon)
        columns["times"] = _read_times(file, starts, len(columns["rewards"]))
        followed = _read_successors(file, columns, starts, world)
        if _STATES in attributes:
            columns["states"] = _read_states(file, columns, starts, world, attributes[_STATES])
        per_episode = _read_per_episode(file, len(starts))
    expert_return = finite_number(path, attributes, "expert_return")
    return Demonstrations(
        **_leave_out(path, columns, starts, per_episode, followed),
        task_name=world.task.name,
        environment_id=world.task.environment_id if recorded is None else recorded.environment_id,
        environment_keywords=dict(world.task.keywords if recorded is None else recorded.keywords),
        random_return=finite_number(path, attributes, "random_return"),
        # Kindred recorders only store the mean return of the policy that demonstrated, which is the same thing.
        expert_return=finite_number(path, attributes, "return_mean") if expert_return is None else expert_return,
        source=str(path),
        metadata=attributes,
    )


def _read_columns(file: Hdf5File, world: World, remark: str) -> _Arrays:
    """The columns that stand in the file as they are, but for the scale of the actions."""
    whose = world.description
    sizes = world.layout.sizes
    observations = file.floats("observations", world.spaces.observation_size, whose + remark)
    count = len(observations)
    if count == 0:
        raise InputError(f"{file.path}: 'observations' has no rows, so there is nothing to learn from")
    actions = file.floats("actions", world.spaces.action_size, whose + remark, count)
    terminated = file.flags("terminals", count)
    columns = {
        "observations": observations,
        "actions": _normalised_actions(file.path, actions, world),
        "rewards": file.numbers("rewards", count),
        "terminated": terminated,
    }
    if "timeouts" in file:
        columns["truncated"] = file.flags("timeouts", count) & ~terminated
    for name in ("qpos", "qvel"):
        if f"infos/{name}" in file:
            columns[name] = file.floats(f"infos/{name}", sizes[name], whose, count)
    return columns


def _normalised_actions(path: Path, actions: np.ndarray, world: World) -> np.ndarray:
    """Actions in the environment's units in [−1, 1] (float32)."""
    normalised = world.normalised(actions)
    # Written so that what is not a number passes here: the demonstrations name and count those of every column.
    outside = np.flatnonzero((np.abs(normalised) > 1 + _ACTION_TOLERANCE).any(axis=1))
    if len(outside):
        low, high = float(world.spaces.action_low.min()), float(world.spaces.action_high.max())
        raise InputError(
            f"{path}: 'actions' leaves the bounds [{low:g}, {high:g}] of {world.description} in {len(outside)} "
            f"of {len(actions)} rows, first in row {outside[0]}; store actions in the environment's own units, "
            "clipped as they were executed"
        )
    return np.clip(normalised, -1, 1).astype(np.float32)


def _read_episodes(file: Hdf5File, columns: _Arrays, horizon: int) -> np.ndarray:
    """The rows where episodes start (E,); adds ``truncated`` to the columns where the file has no timeouts."""
    count = len(columns["rewards"])
    marked = "truncated" in columns
    if "metadata/episode_starts" in file:
        starts = file.integers("metadata/episode_starts")
        if len(starts) == 0 or starts[0] != 0 or (np.diff(starts) < 1).any() or starts[-1] >= count:
            raise InputError(f"{file.path}: 'metadata/episode_starts' must rise from 0 within the {count} rows")
    elif (starts := _starts_by_length(file, count)) is None:
        ends = columns["terminated"] | columns["truncated"] if marked else columns["terminated"]
        starts = np.append(0, np.flatnonzero(ends[:-1]) + 1)
        _check_ends(file, columns, starts, horizon, marked)
    last = np.zeros(count, bool)
    last[np.append(starts[1:], count) - 1] = True
    if not marked:
        columns["truncated"] = last & ~columns["terminated"]
    early = np.flatnonzero((columns["terminated"] | columns["truncated"]) & ~last)
    if len(early):
        raise InputError(
            f"{file.path}: row {early[0]} is marked as an episode's end in 'terminals' or 'timeouts', but is none "
            "by the starts or lengths in 'metadata'; correct the one or remove the other"
        )
    return starts.astype(np.int64)


def _starts_by_length(file: Hdf5File, count: int) -> np.ndarray | None:
    if "metadata/episode_lengths" not in file:
        return None
    lengths = file.integers("metadata/episode_lengths").astype(np.int64)
    if (lengths < 1).any() or lengths.sum() != count:
        return None  # of the episodes before rows were taken out: says nothing about where they start here
    return np.cumsum(lengths) - lengths


def _check_ends(file: Hdf5File, columns: _Arrays, starts: np.ndarray, horizon: int, marked: bool) -> None:
    """Refuse or report episodes whose ends, by all that can be seen, were not marked."""
    observations = columns["observations"]
    lengths = np.diff(np.append(starts, len(observations)))
    long = np.flatnonzero(lengths > horizon)
    if len(long):
        row = starts[long[0]]
        problem = f"row {row} begins an episode of {lengths[long[0]]} rows, but the horizon is {horizon}"
    elif not marked and (row := _first_break(file, observations, starts)) is not None:
        problem = f"the next observation of row {row} is not the observation of the row after it"
    else:
        return
    # With recorded next observations no transition is wrong, and some of D4RL's own files miss a few marks.
    if marked and len(starts) > 1 and "next_observations" in file:
        _log.warning("%s: %s, so an end is not marked in 'timeouts'", file.path, problem)
        return
    where = "'terminals' and 'timeouts' do" if marked else "there are no 'timeouts', and 'terminals' do"
    raise InputError(
        f"{file.path}: {where} not mark where all episodes end ({problem}); "
        "add 'timeouts', or 'metadata/episode_lengths' with the rows of each episode"
    )


def _first_break(file: Hdf5File, observations: np.ndarray, starts: np.ndarray) -> int | None:
    """The first row within an episode whose recorded next observation is not the following row's, if any."""
    if "next_observations" not in file:
        return None
    successors = file.floats("next_observations", observations.shape[1], "'observations'", len(observations))
    broken = (successors[:-1] != observations[1:]).any(axis=1)
    broken[starts[1:] - 1] = False
    return int(broken.argmax()) if broken.any() else None


def _read_times(file: Hdf5File, starts: np.ndarray, count: int) -> np.ndarray:
    if "infos/times" in file:
        return file.integers("infos/times", count)
    lengths = np.diff(np.append(starts, count))
    return np.arange(count) - np.repeat(starts, lengths)


def _read_successors(file: Hdf5File, columns: _Arrays, starts: np.ndarray, world: World) -> np.ndarray:
    """Add ``next_observations``; returns where they are known (N,), which is never across an episode's end."""
    observations = columns["observations"]
    followed = np.ones(len(observations), bool)
    size, whose = observations.shape[1], world.description
    if "next_observations" in file:
        columns["next_observations"] = file.floats("next_observations", size, whose, len(observations))
        return followed
    ends = np.append(starts[1:], len(observations)) - 1
    successors = np.roll(observations, -1, axis=0)
    if "infos/final_observations" in file:
        successors[ends] = file.floats("infos/final_observations", size, whose, len(starts))
    else:
        followed[ends] = False
    columns["next_observations"] = successors
    return followed


def _read_states(
    file: Hdf5File, columns: _Arrays, starts: np.ndarray, world: World, description: object
) -> np.ndarray:
    """Reassemble simulator states (N, S) in this MuJoCo's order from the components that the file has."""
    layout, count = world.layout, len(columns["rewards"])
    try:
        told = json.loads(str(description))
        sizes, left_out = dict(told["sizes"]), dict(told["left_out"])
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{file.path}: attribute '{_STATES}' is damaged; record the file again") from error
    components: _Arrays = {}
    for name, size in sizes.items():
        if left_out.get(name) == _AS_RESET:
            continue
        if layout.sizes.get(name) != size:
            raise InputError(
                f"{file.path}: its simulator states have {size} numbers of '{name}' where {world.description} has "
                f"{layout.sizes.get(name, 0)}; use the MuJoCo version and model it was recorded with"
            )
        if left_out.get(name) == _PRECEDING_ACTION:
            components[name] = world.preceding_controls(columns["actions"], starts)
        else:
            key = f"infos/{name}" if name in ("qpos", "qvel") else f"infos/simulator/{name}"
            components[name] = file.floats(key, size, world.description, count)
    return layout.join(components, count)


def _read_per_episode(file: Hdf5File, episodes: int) -> _Arrays:
    found: _Arrays = {}
    if "metadata/episode_returns" in file:
        found["episode_returns"] = file.numbers("metadata/episode_returns", episodes)
    if "metadata/episode_lengths" in file:
        found["episode_lengths"] = file.integers("metadata/episode_lengths", episodes)
    if "metadata/episode_seeds" in file:
        found["episode_seeds"] = file.integers("metadata/episode_seeds", episodes)
    return found


def _leave_out(
    path: Path, columns: _Arrays, starts: np.ndarray, per_episode: _Arrays, followed: np.ndarray
) -> _Arrays:
    """The columns, rows that nothing is known to follow left out, with the starts as they are then."""
    if followed.all():
        return {**columns, **per_episode, "starts": starts}
    lengths = np.add.reduceat(followed, starts)
    kept = lengths > 0
    if not kept.any():
        raise InputError(f"{path}: 'next_observations' is missing and no episode has two rows to make them from")
    ended = np.count_nonzero(columns["terminated"] & ~followed)
    _log.warning(
        "%s: has no next_observations, so the last row of each of its %d episodes is left out (%d of them terminal)",
        path, len(starts), ended,
    )  # fmt: skip
    if "episode_lengths" not in per_episode:
        per_episode = {**per_episode, "episode_lengths": np.diff(np.append(starts, len(followed)))}
    if "episode_returns" not in per_episode:
        per_episode["episode_returns"] = np.add.reduceat(columns["rewards"].astype(np.float64), starts)
    return {
        **{name: column[followed] for name, column in columns.items()},
        **{name: column[kept] for name, column in per_episode.items()},
        "starts": (np.cumsum(lengths) - lengths)[kept],
    }


def write_d4rl(
    path: str | Path,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    compact: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write a file that :func:`read_d4rl` reads back bit-equal, simulator states and sub-sampling included.

    Actions are stored in the environment's units: as float32, or as float64 where float32 would not give the
    same numbers in [−1, 1] back. ``compact`` leaves out ``next_observations`` and stores the last of each
    episode instead. ``demonstrations.metadata`` becomes root attributes, beside which stand the versions of
    gymnasium, mujoco and numpy (unless the metadata has them: data keep those they were recorded with) and
    ``command``, which made the data. ``task`` defaults to the one that ``task_name`` names.

    The file appears whole or not at all, and replaces another one only with ``overwrite``.

    Errors: :class:`InputError` when it cannot be written, or cannot be compact because rows were left out.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    if task is None:
        task = TASKS.get(demonstrations.task_name) or find_task(demonstrations.task_name)
    world = World.of(task)
    arrays = _arrays(path, demonstrations, world, compact=compact)
    attributes = _attributes(path, demonstrations, command)
    if demonstrations.states is not None:
        actions = world.normalised(arrays["actions"]).astype(np.float32)
        left_out = _add_states(arrays, demonstrations, actions, world)
        attributes[_STATES] = json.dumps({"sizes": world.layout.sizes, "left_out": left_out})
    write_hdf5(path, arrays, attributes, overwrite=overwrite)
