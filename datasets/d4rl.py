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
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError, Task
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, rows_within_episodes
from .hdf5 import Hdf5File, check_target, write_hdf5
from .reading import AS_RESET, FORMAT, PRECEDING_ACTION, STATES, normalised_actions, read_table
from .recorded import World, task_named

_PACKAGES = ("gymnasium", "mujoco", "numpy")


def read_d4rl(path: str | Path, task: Task | None = None) -> Demonstrations:
    """Read a D4RL-style file, as :func:`~.reading.read_table` reads any table.

    Errors: :class:`InputError` in one sentence with file, key and way out: the file is missing or damaged, or what
    :func:`~.reading.read_table` refuses.
    """
    with Hdf5File(Path(path)) as file:
        return read_table(file, task)


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
    arrays = arrays_of(demonstrations, world, compact=compact)
    attributes = attributes_of(demonstrations, command)
    if demonstrations.states is not None:
        actions = demonstrations.actions
        if demonstrations.acted:
            actions = normalised_actions(path, arrays["actions"], world)
        attributes[STATES] = add_states(arrays, demonstrations, demonstrations.states, actions, world)
    write_hdf5(path, arrays, attributes, overwrite=overwrite)


def arrays_of(demonstrations: Demonstrations, world: World, *, compact: bool) -> Arrays:
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
    if not demonstrations.rewarded:
        del arrays["rewards"]
    if not np.isfinite(demonstrations.episode_returns).all():  # those that nobody knows
        del arrays["metadata/episode_returns"]
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


def attributes_of(demonstrations: Demonstrations, command: str) -> dict[str, Any]:
    attributes = {name: value for name, value in demonstrations.metadata.items() if value is not None}
    for name in (STATES, "random_return", "expert_return"):
        attributes.pop(name, None)
    versions = {f"{package}_version": importlib.metadata.version(package) for package in _PACKAGES}
    if not versions.keys() & attributes.keys():
        attributes.update(versions)
    try:
        keywords = json.dumps(dict(demonstrations.environment_keywords), sort_keys=True)
    except TypeError as error:
        raise InputError(f"{demonstrations.source}: environment arguments are no JSON ({error})") from error
    attributes.update(
        understudy_format=FORMAT,
        env_id=demonstrations.environment_id,
        env_kwargs=keywords,
        task=demonstrations.task_name,
    )
    mean, deviation = float(demonstrations.episode_returns.mean()), float(demonstrations.episode_returns.std())
    known = math.isfinite(mean)
    for name, value in (
        ("return_mean", mean if known else None),
        ("return_std", deviation if known else None),
        ("random_return", demonstrations.random_return),
        ("expert_return", demonstrations.expert_return),
        ("command", command or None),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def add_states(
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
            left_out[name] = AS_RESET
        elif name == "ctrl" and _same_bits(world.preceding_controls(actions, demonstrations.starts), component):
            left_out[name] = PRECEDING_ACTION
        else:
            arrays[f"infos/simulator/{name}"] = component
    return json.dumps({"sizes": layout.sizes, "left_out": left_out})


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    # Not as numbers: 0.0 equals -0.0 there.
    return first.shape == second.shape and first.tobytes() == second.tobytes()
