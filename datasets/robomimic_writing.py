"""robomimic's HDF5 written, as robomimic's own tools have it (:mod:`~.robomimic` reads it and lists the layout)."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (h5py brings no types.)

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..robots import InputError, Task, observation_parts
from .d4rl import add_states, arrays_of, attributes_of
from .demonstrations import Demonstrations
from .episodes import Arrays
from .hdf5 import check_target, write_atomically
from .reading import STATES, normalised_actions
from .recorded import World, task_named

_log = logging.getLogger(__name__)

PARTS, OWN = "observation_parts", "understudy"
GYM = 2  # the type of environment; 1 is robosuite, 3 iGibson's MOMART (robomimic/envs/env_base.py)
# Attributes of a demo.
PER_EPISODE = {
    f"metadata/episode_{name}": f"{OWN}_{name.removesuffix('s')}"
    for name in ("returns", "lengths", "terminated", "seeds")
}
COLUMNS, _OBSERVATIONS = ("actions", "rewards"), {"observations": "obs", "next_observations": "next_obs"}
_FLAT = "flat"
_COMPRESSION: Mapping[str, Any] = {"shuffle": True, "compression": "gzip"}


def write_robomimic(
    path: str | Path,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    parts: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write a file for robomimic that :func:`~.robomimic.read_robomimic` reads back bit-equal, all demos in
    ``mask/train``.

    The observation is the single key ``flat``, as robomimic's own Gym environments have it (envs/env_gym.py), or with
    ``parts`` one key for each of the task's named parts where they are known. ``dones`` are terminations, so with
    robomimic's done_mode 0. Actions are in the environment's units. ``states`` are there when qpos and qvel are known;
    without full simulator states, their time is the number of steps times the time step.

    Errors: :class:`InputError` as :func:`~.d4rl.write_d4rl`.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    world = World.of(task or task_named(demonstrations))
    arrays = arrays_of(demonstrations, world, compact=False)
    attributes = attributes_of(demonstrations, command)
    time = (demonstrations.times / world.spaces.control_rate)[:, None]
    if demonstrations.states is not None:
        actions = demonstrations.actions
        if demonstrations.acted:
            actions = normalised_actions(path, arrays["actions"], world)
        attributes[STATES] = add_states(arrays, demonstrations, demonstrations.states, actions, world)
        time = world.layout.split(demonstrations.states)["time"]
        arrays.pop("infos/simulator/time", None)
    if {"infos/qpos", "infos/qvel"} <= arrays.keys():
        arrays["states"] = np.concatenate((time, arrays.pop("infos/qpos"), arrays.pop("infos/qvel")), axis=1)
    columns = (observation_parts(world.task) if parts else {}) or {_FLAT: slice(0, world.spaces.observation_size)}
    attributes[PARTS] = json.dumps({name: place.stop - place.start for name, place in columns.items()})
    described = {
        "env_name": demonstrations.environment_id,
        "type": GYM,
        "env_kwargs": json.loads(attributes["env_kwargs"]),
    }
    attributes |= {"env_args": json.dumps(described), "total": len(demonstrations)}
    if not demonstrations.acted:
        _log.warning("%s: has no actions, without which robomimic itself cannot use it", path)
    elif max(-world.spaces.action_low.min(), world.spaces.action_high.max()) > 1:
        _log.warning("%s: has actions beyond [-1, 1], for which robomimic's policies are not made", path)
    _write(path, demonstrations.starts, _placed(arrays, columns), attributes)


def _placed(arrays: Arrays, parts: Mapping[str, slice]) -> Arrays:
    """The arrays by the names that they have within a demo, or as its attributes."""
    placed: Arrays = {"dones": arrays["terminals"].astype(np.int64)}
    for key, array in arrays.items():
        if key in _OBSERVATIONS:
            placed |= {f"{_OBSERVATIONS[key]}/{name}": array[:, place] for name, place in parts.items()}
        elif key in (*COLUMNS, "states") or key in PER_EPISODE:
            placed[key] = array
        elif key != "metadata/episode_starts":
            placed[f"{OWN}/{key}"] = array
    return placed


def _write(path: Path, starts: np.ndarray, placed: Arrays, attributes: Mapping[str, Any]) -> None:
    bounds = np.append(starts, len(placed["dones"]))
    # In memory first, for the reason that write_hdf5 gives.
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        data = file.create_group("data")
        for name, value in attributes.items():
            try:
                data.attrs[name] = value
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                raise InputError(f"{path}: attribute '{name}' cannot be stored ({error}); give a short text") from error
        for episode, (begin, end) in enumerate(itertools.pairwise(bounds)):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = int(end - begin)
            for key, array in placed.items():
                if key in PER_EPISODE:
                    demo.attrs[PER_EPISODE[key]] = array[episode]
                else:
                    demo.create_dataset(key, data=array[begin:end], **_COMPRESSION)
        file["mask/train"] = np.array([f"demo_{episode}" for episode in range(len(starts))], "S")
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, image)
