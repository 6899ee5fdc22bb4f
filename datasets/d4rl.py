"""D4RL-style HDF5: anybody's read into :class:`Demonstrations`, and our own written.

What the files have in common comes from D4RL (Fu et al. 2020, arXiv 2004.07219): ``observations``,
``actions``, ``rewards``, ``terminals``, ``timeouts``, mostly ``next_observations``, often ``infos/qpos`` and
``infos/qvel``. The rest is ours or that of kindred recorders, and all of it is optional when reading:

===========================  ================================================================================
``infos/final_observations`` (E, O) what followed the last row of each episode; stands for
                             ``next_observations`` in a compact file
``infos/times``              (N,) step within the episode, where that is not the row within the episode
``infos/simulator/*``        (N, size) components of MuJoCo's integration state beside qpos and qvel
``metadata/episode_starts``  (E,) row with which each episode begins
``metadata/episode_*``       (E,) ``returns``, ``lengths``, ``terminated``, ``seeds`` of the episodes as recorded
attribute ``env_id``         the environment; ``env_kwargs`` its arguments (JSON); ``task`` the task's name
attribute ``random_return``  and ``expert_return``: references for normalised scores
``understudy_states``        attribute (JSON): sizes of the state's components, and how to fill in those left out
===========================  ================================================================================
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError, Task
from .demonstrations import Demonstrations
from .episodes import (
    Arrays,
    last_rows,
    leave_out,
    read_episode_starts,
    read_per_episode,
    read_times,
    rows_within_episodes,
)
from .hdf5 import Hdf5File, check_target, write_hdf5
from .recorded import World, finite_number, recorded_environment, task_for, task_named

_log = logging.getLogger(__name__)

_FORMAT = 1
_STATES = "understudy_states"
# The float32 actions of somebody's policy leave the bounds by roundings, those in another unit by far more.
_ACTION_TOLERANCE = 1e-4
_PACKAGES = ("gymnasium", "mujoco", "numpy")
_AS_RESET, _PRECEDING_ACTION = "as after a reset", "preceding action"


def read_d4rl(path: str | Path, task: Task | None = None) -> Demonstrations:
    """Read a D4RL-style file.

    Actions come back in [−1, 1] by the task's bounds. Where next observations are not recorded, they are the
    following row's of the same episode, and the last row of each episode, whose successor nobody knows, is
    left out (which is logged). Without ``timeouts``, an episode ends where ``terminals`` says so, or with the
    file, unless that makes one that is longer than the horizon.

    A file without ``actions`` is a recording of states alone (and none with others that may be meant). ``task``
    defaults to what the file's attributes say. Another version of the recorded environment (Hopper-v3 for a task on
    Hopper-v5) passes with a warning when the sizes agree.

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
        acted = "actions" in file
        remark = "" if recorded is None else f"; it was recorded on {recorded}"
        if world.task.disturbances.removed:
            remark += ", and a joint that is frozen or limp keeps its numbers"
        columns = _read_columns(file, world, remark)
        horizon = world.task.horizon if recorded is None else recorded.limit or world.task.horizon
        starts = read_episode_starts(file, columns, horizon, world.task)
        columns["times"] = read_times(file, starts, len(columns["rewards"]))
        followed = _read_successors(file, columns, starts, world)
        if _STATES in attributes:
            columns["states"] = _read_states(file, columns, starts, world, attributes[_STATES])
        per_episode = read_per_episode(file, columns, starts)
    expert_return = finite_number(path, attributes, "expert_return")
    if expert_return is None and "understudy_format" not in attributes:
        # Kindred recorders store it as the mean return of the policy that demonstrated.
        expert_return = finite_number(path, attributes, "return_mean")
    return Demonstrations(
        **leave_out(path, columns, starts, per_episode, followed),
        task_name=world.task.name,
        environment_id=world.task.environment_id if recorded is None else recorded.environment_id,
        environment_keywords=dict(world.task.keywords if recorded is None else recorded.keywords),
        random_return=finite_number(path, attributes, "random_return"),
        expert_return=expert_return,
        source=str(path),
        metadata=attributes,
        acted=acted,
    )


def _read_columns(file: Hdf5File, world: World, remark: str) -> Arrays:
    """The columns that stand in the file as they are, but for the scale of the actions."""
    whose = world.description
    sizes = world.layout.sizes
    observations = file.floats("observations", world.spaces.observation_size, whose + remark)
    count = len(observations)
    if count == 0:
        raise InputError(f"{file.path}: 'observations' has no rows, so there is nothing to learn from")
    actions = np.zeros((count, world.spaces.action_size), np.float32)
    if "actions" in file or file.like("actions"):
        given = file.floats("actions", world.spaces.action_size, whose + remark, count)
        actions = _normalised_actions(file.path, given, world)
    terminated = file.flags("terminals", count)
    columns = {
        "observations": observations,
        "actions": actions,
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
    outside = np.flatnonzero((np.abs(normalised) > 1 + _ACTION_TOLERANCE).any(axis=1))
    if len(outside):
        low, high = float(world.spaces.action_low.min()), float(world.spaces.action_high.max())
        raise InputError(
            f"{path}: 'actions' leaves the bounds [{low:g}, {high:g}] of {world.description} in "
            f"{len(outside)} of {len(actions)} rows, first in row {outside[0]}; store actions in the "
            "environment's own units, clipped as they were executed"
        )
    return np.clip(normalised, -1, 1).astype(np.float32)


def _read_successors(file: Hdf5File, columns: Arrays, starts: np.ndarray, world: World) -> np.ndarray:
    """Add ``next_observations``; returns where they are known (N,): never across an episode's end."""
    observations = columns["observations"]
    followed = np.ones(len(observations), bool)
    size, whose = observations.shape[1], world.description
    if "next_observations" in file:
        columns["next_observations"] = file.floats("next_observations", size, whose, len(observations))
        return followed
    ends = last_rows(starts, len(observations))
    successors = np.roll(observations, -1, axis=0)
    if "infos/final_observations" in file:
        successors[ends] = file.floats("infos/final_observations", size, whose, len(starts))
    else:
        followed[ends] = False
    columns["next_observations"] = successors
    return followed


def _read_states(file: Hdf5File, columns: Arrays, starts: np.ndarray, world: World, description: object) -> np.ndarray:
    """Reassemble simulator states (N, S) in this MuJoCo's order from the components that the file has."""
    layout, count = world.layout, len(columns["rewards"])
    try:
        told = json.loads(str(description))
        sizes, left_out = dict(told["sizes"]), dict(told["left_out"])
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{file.path}: attribute '{_STATES}' is damaged; record the file again") from error
    components: Arrays = {}
    for name, size in sizes.items():
        if left_out.get(name) == _AS_RESET:
            continue
        if layout.sizes.get(name) != size:
            raise InputError(
                f"{file.path}: its simulator states have {size} numbers of '{name}' where {world.description} "
                f"has {layout.sizes.get(name, 0)}; use the MuJoCo version and model it was recorded with"
            )
        if left_out.get(name) == _PRECEDING_ACTION:
            components[name] = world.preceding_controls(columns["actions"], starts)
        else:
            key = f"infos/{name}" if name in ("qpos", "qvel") else f"infos/simulator/{name}"
            components[name] = file.floats(key, size, world.description, count)
    return layout.join(components, count)


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
    world = World.of(task or task_named(demonstrations))
    arrays = _arrays(demonstrations, world, compact=compact)
    attributes = _attributes(demonstrations, command)
    if demonstrations.states is not None:
        actions = demonstrations.actions
        if demonstrations.acted:
            actions = _normalised_actions(path, arrays["actions"], world)
        attributes[_STATES] = _add_states(arrays, demonstrations, demonstrations.states, actions, world)
    write_hdf5(path, arrays, attributes, overwrite=overwrite)


def _arrays(demonstrations: Demonstrations, world: World, *, compact: bool) -> Arrays:
    """Everything of a file but its attributes and simulator states."""
    starts, count = demonstrations.starts, len(demonstrations)
    sizes = (demonstrations.observations.shape[1], demonstrations.actions.shape[1])
    if sizes != (world.spaces.observation_size, world.spaces.action_size):
        raise InputError(
            f"{demonstrations.source}: has {sizes[0]} observations and {sizes[1]} actions to a row, but "
            f"{world.description} has {world.spaces.observation_size} and {world.spaces.action_size}"
        )
    arrays: Arrays = {
        "observations": demonstrations.observations,
        "actions": _stored_actions(demonstrations.actions, world),
        "rewards": demonstrations.rewards,
        "terminals": demonstrations.terminated,
        "timeouts": demonstrations.truncated,
        "metadata/episode_starts": starts,
        "metadata/episode_returns": demonstrations.episode_returns,
        "metadata/episode_lengths": demonstrations.episode_lengths,
        "metadata/episode_terminated": demonstrations.episode_terminated,
    }
    if not demonstrations.acted:
        del arrays["actions"]
    if compact:
        arrays["infos/final_observations"] = _final_observations(demonstrations)
    else:
        arrays["next_observations"] = demonstrations.next_observations
    if not np.array_equal(demonstrations.times, rows_within_episodes(starts, count)):
        arrays["infos/times"] = demonstrations.times
    if demonstrations.episode_seeds is not None:
        arrays["metadata/episode_seeds"] = demonstrations.episode_seeds
    if demonstrations.qpos is not None:
        arrays["infos/qpos"] = demonstrations.qpos
    if demonstrations.qvel is not None:
        arrays["infos/qvel"] = demonstrations.qvel
    return arrays


def _stored_actions(actions: np.ndarray, world: World) -> np.ndarray:
    """Actions in the environment's units, in float32 where reading them gives the same numbers back."""
    scaled = world.scaled(actions)
    short = scaled.astype(np.float32)
    exact = np.array_equal(np.clip(world.normalised(short), -1, 1).astype(np.float32), actions)
    return short if exact else scaled


def _final_observations(demonstrations: Demonstrations) -> np.ndarray:
    ends = last_rows(demonstrations.starts, len(demonstrations))
    chained = (demonstrations.next_observations[:-1] == demonstrations.observations[1:]).all(axis=1)
    chained[ends[:-1]] = True
    if not chained.all():
        raise InputError(
            f"{demonstrations.source}: row {chained.argmin()} is not followed by its next observation, so rows "
            "were left out and a compact file cannot hold the others; write them without compact"
        )
    return demonstrations.next_observations[ends]


def _attributes(demonstrations: Demonstrations, command: str) -> dict[str, Any]:
    attributes = {name: value for name, value in demonstrations.metadata.items() if value is not None}
    for name in (_STATES, "random_return", "expert_return"):
        attributes.pop(name, None)
    versions = {f"{package}_version": importlib.metadata.version(package) for package in _PACKAGES}
    if not versions.keys() & attributes.keys():
        attributes.update(versions)
    try:
        keywords = json.dumps(dict(demonstrations.environment_keywords), sort_keys=True)
    except TypeError as error:
        raise InputError(f"{demonstrations.source}: environment arguments are no JSON ({error})") from error
    attributes.update(
        understudy_format=_FORMAT,
        env_id=demonstrations.environment_id,
        env_kwargs=keywords,
        task=demonstrations.task_name,
        return_mean=float(demonstrations.episode_returns.mean()),
        return_std=float(demonstrations.episode_returns.std()),
    )
    for name, value in (
        ("random_return", demonstrations.random_return),
        ("expert_return", demonstrations.expert_return),
        ("command", command or None),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def _add_states(
    arrays: Arrays, demonstrations: Demonstrations, states: np.ndarray, actions: np.ndarray, world: World
) -> str:
    """Add the components of the simulator states to the arrays; returns the attribute that describes them.

    What reading can work out bit by bit is left out: components that no row changes (forces applied from
    outside, say), and controls that are still the preceding action's.
    """
    layout = world.layout
    if states.shape[1] != len(layout.fresh):
        raise InputError(
            f"{demonstrations.source}: 'states' has {states.shape[1]} numbers to a row, but "
            f"{world.description} has {len(layout.fresh)}"
        )
    left_out: dict[str, str] = {}
    for name, component in layout.split(states).items():
        if name in ("qpos", "qvel"):
            if f"infos/{name}" in arrays and not _same_bits(arrays[f"infos/{name}"], component):
                raise InputError(f"{demonstrations.source}: '{name}' is not the {name} within 'states'")
            arrays[f"infos/{name}"] = component
        elif _same_bits(np.broadcast_to(layout.fresh[layout.columns[name]], component.shape), component):
            left_out[name] = _AS_RESET
        elif name == "ctrl" and _same_bits(world.preceding_controls(actions, demonstrations.starts), component):
            left_out[name] = _PRECEDING_ACTION
        else:
            arrays[f"infos/simulator/{name}"] = component
    return json.dumps({"sizes": layout.sizes, "left_out": left_out})


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    # Not as numbers: 0.0 equals -0.0 there.
    return first.shape == second.shape and first.tobytes() == second.tobytes()
