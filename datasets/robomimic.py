"""robomimic's HDF5: files of demonstrations read into :class:`Demonstrations`, and our own written for it.

The layout was read in robomimic 0.3.0: scripts/dataset_states_to_obs.py, scripts/conversion/*, utils/dataset.py.

=============================== ================================================================================
``data``                        attributes ``env_args`` (JSON: env_name, type, env_kwargs) and ``total``
``data/demo_<k>``               one episode, in the order of k; attribute ``num_samples`` n
``…/obs/<key>``                 (n, width) a part of the observation; ``…/next_obs/<key>`` what followed it, optional
``…/actions``, ``…/rewards``    (n, A) and (n,)
``…/dones``                     (n,) see :func:`_terminations`
``…/states``                    (n, 1 + nq + nv) the simulator's time, qpos and qvel before the action
``mask/<name>``                 names of demos, as bytes: a selection such as ``train``
=============================== ================================================================================

Of a demo's keys those are put side by side that are vectors, in the order of their names, which is how robomimic itself
orders them (utils/file_utils.py, get_shape_metadata_from_dataset), unless the attribute ``observation_parts`` (JSON:
widths by key, in order), which is ours, knows better. Ours too, and ignored by robomimic: further attributes of
``data``, ``understudy_*`` of a demo, and its group ``understudy`` of arrays by D4RL's names.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (h5py brings no types.)

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from ..robots import InputError, Task, find_task, nearest, observation_parts, task_of_environment
from .d4rl import add_states, arrays_of, attributes_of
from .d4rl_adapting import adapted
from .d4rl_table import DATASETS
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows
from .hdf5 import Hdf5File, check_target, plain, write_atomically
from .reading import FLATTENED, STATES, normalised_actions, read_table
from .recorded import World, recorded_environment, task_named
from .table import MemoryTable

_log = logging.getLogger(__name__)

_PARTS, _OWN, _FLAT = "observation_parts", "understudy", "flat"
_GYM = 2  # the type of environment; 1 is robosuite, 3 iGibson's MOMART (robomimic/envs/env_base.py)
_NAME = re.compile(r"demo_(\d+)")
# Attributes of a demo.
_PER_EPISODE = {
    f"metadata/episode_{name}": f"{_OWN}_{name.removesuffix('s')}"
    for name in ("returns", "lengths", "terminated", "seeds")
}
_COLUMNS, _OBSERVATIONS = ("actions", "rewards"), {"observations": "obs", "next_observations": "next_obs"}
_COMPRESSION: Mapping[str, Any] = {"shuffle": True, "compression": "gzip"}


def claims(path: Path) -> bool:
    """Whether it is an HDF5 file with ``data/demo_<k>``."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            return isinstance(data, h5py.Group) and any(_NAME.fullmatch(str(name)) for name in data)
    except (OSError, RuntimeError, ValueError, KeyError):
        return False


def read_robomimic(
    path: str | Path,
    task: Task | None = None,
    *,
    keys: Sequence[str] = (),
    mask: str | None = None,
    done_mode: int | None = None,
) -> Demonstrations:
    """Read robomimic's file; arguments and errors are :func:`open_robomimic`'s and :func:`~.reading.read_table`'s."""
    return read_table(open_robomimic(Path(path), task, keys=keys, mask=mask, done_mode=done_mode), task)


def open_robomimic(
    path: Path,
    task: Task | None = None,
    *,
    keys: Sequence[str] = (),
    mask: str | None = None,
    done_mode: int | None = None,
) -> MemoryTable:
    """The table of robomimic's file, its demos in the order of their numbers.

    ``keys`` chooses parts of the observation and their order; without, images are left out, which is logged. ``mask``
    chooses the demos that the file lists under that name. ``done_mode`` is the one with which the file's dones were
    made, where that is known (see :func:`_terminations`). ``next_obs`` that repeats ``obs`` in the last row of every
    demo, as robomimic's conversion of D4RL leaves it, is not what followed and is not taken for it.

    Errors: :class:`InputError` when the file is damaged or not robomimic's, has no such mask or key, or an array is an
    image, missing in some demos, or not as long as its demo.
    """
    if done_mode not in (None, 0, 1, 2):
        raise InputError(f"{path}: done_mode is {done_mode!r} but must be 0, 1 or 2, as robomimic defines it")
    file = _File(path)
    with file:
        demos = file.choose_demos(mask)
        attributes = _environment(path, file.said("/") | file.said("data"))
        chosen = _choose_keys(file, demos[0], keys, attributes.get(_PARTS))
        lengths = np.array([file.lengths[demo] for demo in demos], np.int64)
        starts = np.cumsum(lengths) - lengths
        parts = file.vectors(demos, "obs", chosen)
        arrays: Arrays = {"observations": np.hstack([*parts.values()]), "metadata/episode_starts": starts}
        if file.has(demos, f"next_obs/{chosen[0]}"):
            arrays["next_observations"] = np.hstack([*file.vectors(demos, "next_obs", chosen).values()])
        arrays |= {name: file.column(demos, name) for name in _COLUMNS if file.has(demos, name)}
        dones = file.column(demos, "dones") if file.has(demos, "dones") else np.zeros(lengths.sum())
        own = f"data/{demos[0]}/{_OWN}/"
        for key in [name.removeprefix(own) for name in file.arrays if name.startswith(own)]:
            arrays[key] = file.column(demos, f"{_OWN}/{key}")
        for key, name in _PER_EPISODE.items():
            values = [file.said(f"data/{demo}").get(name) for demo in demos]
            if all(value is not None for value in values):
                arrays[key] = np.array(values)
        if file.has(demos, "states"):
            _add_physics(path, arrays, file.column(demos, "states"), attributes.get(STATES))
    ends = last_rows(starts, len(dones))
    copied = _without_copies(path, arrays, ends)
    if "terminals" not in arrays:
        dones = MemoryTable(path, {"dones": dones}, {}, "robomimic").flags("dones", len(dones))
        ended = _terminations(path, dones, starts, done_mode, copied, task or _task_of(path, attributes))
        arrays["terminals"], arrays["timeouts"] = np.zeros((2, len(dones)), bool)
        arrays["terminals"][ends], arrays["timeouts"][ends] = ended, ~ended
    attributes[_PARTS] = json.dumps({key: part.shape[1] for key, part in parts.items()})
    names = {"observations": f"obs ({', '.join(chosen)})", "next_observations": "next_obs", FLATTENED: "states"}
    if found := DATASETS.get(str(attributes.get("env_id"))):  # which robomimic's conversion of D4RL names
        del attributes["env_id"]
        return adapted(MemoryTable(path, arrays, attributes, "robomimic", names), found)
    return MemoryTable(path, arrays, attributes, "robomimic", names)


def write_robomimic(
    path: str | Path,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    parts: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write a file for robomimic that :func:`read_robomimic` reads back bit-equal, with all demos in ``mask/train``.

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
    attributes[_PARTS] = json.dumps({name: place.stop - place.start for name, place in columns.items()})
    described = {
        "env_name": demonstrations.environment_id,
        "type": _GYM,
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
        elif key in (*_COLUMNS, "states") or key in _PER_EPISODE:
            placed[key] = array
        elif key != "metadata/episode_starts":
            placed[f"{_OWN}/{key}"] = array
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
                if key in _PER_EPISODE:
                    demo.attrs[_PER_EPISODE[key]] = array[episode]
                else:
                    demo.create_dataset(key, data=array[begin:end], **_COMPRESSION)
        file["mask/train"] = np.array([f"demo_{episode}" for episode in range(len(starts))], "S")
        file.flush()
        image = file.id.get_file_image()
    write_atomically(path, image)


class _File(Hdf5File):
    """robomimic's file open for reading, with the names of all its arrays; ``lengths`` are those of chosen demos."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.arrays, self.lengths = frozenset(self.keys()), dict[str, int]()

    def below(self, place: str) -> list[str]:
        """What a group has arrays in or is one: the next part of their names."""
        start = f"{place}/"
        return sorted({name[len(start) :].partition("/")[0] for name in self.arrays if name.startswith(start)})

    def choose_demos(self, mask: str | None) -> list[str]:
        """The demos' names in the order of their numbers; all, or those that a mask lists."""
        names = self.below("data")
        strange = [name for name in names if not _NAME.fullmatch(name)]
        if strange or not names:
            problem = f"has 'data/{strange[0]}'" if strange else "has no 'data/demo_0'"
            raise InputError(f"{self.path}: {problem} where robomimic has demos called demo_<number>; give such a file")
        if mask is not None:
            if f"mask/{mask}" not in self.arrays:
                hint = nearest(mask, masks) if (masks := self.below("mask")) else "there are no masks"
                raise InputError(f"{self.path}: has no 'mask/{mask}': {hint}")
            listed = {str(plain(item)) for item in self.raw(f"mask/{mask}").reshape(-1)}
            if not listed or listed - set(names):
                problem = f"'{min(listed - set(names))}', which 'data' does not have" if listed else "no demos"
                raise InputError(f"{self.path}: 'mask/{mask}' lists {problem}; choose another mask")
            names = list(listed)
        names.sort(key=lambda name: int(name.removeprefix("demo_")))
        for name in names:
            rows = self.said(f"data/{name}").get("num_samples")
            if rows is None and f"data/{name}/actions" in self.arrays:
                rows = next(iter(self.raw(f"data/{name}/actions").shape), None)
            if not isinstance(rows, int) or rows < 1:
                raise InputError(f"{self.path}: 'data/{name}' has {rows!r} for num_samples, but must have rows")
            self.lengths[name] = rows
        return names

    def said(self, place: str) -> dict[str, Any]:
        """The attributes of a group as Python values."""
        with self._damage(f"'{place}'"):
            return {str(name): plain(value) for name, value in self._file[place].attrs.items()}

    def is_vector(self, name: str) -> bool:
        """Whether an array holds vectors of numbers, and no images or texts."""
        with self._damage(f"'{name}'"):
            item: Any = self._file[name]
            return item.dtype.kind in "fiub" and item.dtype != np.uint8 and len(item.shape) <= 3

    def has(self, demos: Sequence[str], name: str) -> bool:
        """Whether demos have an array. Errors: :class:`InputError` when some do, others not."""
        without = [demo for demo in demos if f"data/{demo}/{name}" not in self.arrays]
        if without and len(without) < len(demos):
            raise InputError(f"{self.path}: 'data/{without[0]}' has no '{name}' as others have; choose demos by a mask")
        return not without

    def column(self, demos: Sequence[str], name: str) -> np.ndarray:
        """An array of all demos, one after the other (N, …)."""
        found: list[np.ndarray] = []
        for demo in demos:
            array = self.raw(f"data/{demo}/{name}")
            if (wanted := (self.lengths[demo], *(found[0] if found else array).shape[1:])) != array.shape:
                raise InputError(f"{self.path}: 'data/{demo}/{name}' has shape {array.shape} but must have {wanted}")
            found.append(array)
        return np.concatenate(found)

    def vectors(self, demos: Sequence[str], group: str, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The arrays of some keys as floats (N, width)."""
        columns = {key: self.column(demos, f"{group}/{key}").reshape(sum(self.lengths.values()), -1) for key in keys}
        return {key: item if item.dtype.kind == "f" else item.astype(np.float64) for key, item in columns.items()}


def _choose_keys(file: _File, demo: str, wanted: Sequence[str], order: object) -> list[str]:
    """The keys of the observation, in order."""
    place = f"data/{demo}/obs"
    there = file.below(place)
    if not there:
        raise InputError(f"{file.path}: '{place}' is missing; make it by robomimic's dataset_states_to_obs.py")
    vectors = [key for key in there if f"{place}/{key}" in file.arrays and file.is_vector(f"{place}/{key}")]
    for key in wanted:
        if key not in vectors:
            problem = "holds images or texts" if key in there else "is missing"
            known = ", ".join(vectors) or "none"
            raise InputError(f"{file.path}: '{place}/{key}' {problem}; the keys that hold vectors are: {known}")
    others = ", ".join(key for key in there if key not in vectors)
    if not vectors:
        raise InputError(f"{file.path}: '{place}' has only images or texts ({others}); give a file with states")
    if wanted:
        return list(wanted)
    if others:
        _log.warning("%s: leaves out %s, which are images or texts", file.path, others)
    known = re.findall(r'"([^"]*)"', str(order))  # not parsed, as anybody may have called an attribute so
    return known if set(known) == set(vectors) else vectors


def _environment(path: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """The file's attributes with ``env_id`` and ``env_kwargs`` by what it says of its environment."""
    attributes = {name: value for name, value in said.items() if name not in ("env_args", "total")}
    try:
        described = json.loads(said["env_args"]) if "env_args" in said else {"env_name": said.get("env")}
        name, keywords = described["env_name"], described.get("env_kwargs") or {}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: attribute 'env_args' of 'data' is no JSON with env_name, type and env_kwargs; write it again"
        ) from error
    if name is None:
        return attributes
    attributes |= {"env_id": name, "env_kwargs": "{}"}
    if described.get("type") == _GYM:
        attributes["env_kwargs"] = json.dumps(keywords)
    return attributes


def _task_of(path: Path, attributes: Mapping[str, Any]) -> Task | None:
    """The task of the file's environment, if there is one; reading it says what is wrong if not."""
    if found := DATASETS.get(str(attributes.get("env_id"))):
        return dataclasses.replace(find_task(found.fit.task), horizon=found.horizon) if found.fit.task else None
    if (recorded := recorded_environment(path, attributes)) is None:
        return None
    name, same = recorded.environment_id, task_of_environment(recorded.environment_id, recorded.keywords)
    return same or (find_task(name) if name in gymnasium.registry else None)


def _add_physics(path: Path, arrays: Arrays, states: np.ndarray, description: object) -> None:
    """Add the simulator's states as they are, or, where the file has more of them, component by component."""
    if description is None:
        arrays[FLATTENED] = states
        return
    try:
        positions = int(json.loads(str(description))["sizes"]["qpos"])
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: attribute '{STATES}' is damaged; write the file again") from error
    parts = np.split(states, [1, 1 + positions], axis=1)
    arrays["infos/simulator/time"], arrays["infos/qpos"], arrays["infos/qvel"] = parts


def _without_copies(path: Path, arrays: Arrays, ends: np.ndarray) -> bool:
    """Remove next observations that are, in every demo's last row, its observation once more: whether they were."""
    following = arrays.get("next_observations")
    if following is None or "terminals" in arrays or not np.array_equal(following[ends], arrays["observations"][ends]):
        return False
    _log.warning("%s: next_obs of every demo's last row is its obs once more, so what followed is not known", path)
    del arrays["next_observations"]
    return True


def _terminations(
    path: Path, dones: np.ndarray, starts: np.ndarray, done_mode: int | None, copied: bool, task: Task | None
) -> np.ndarray:
    """Which demos (E,) ended in a termination, by the dones (N,) of a file that does not say how they were made.

    robomimic's dataset_states_to_obs.py sets a done, with done_mode 0, where the task is achieved, whether or not the
    demo goes on; with 1, in the last row of every demo; with 2, for both reasons. Its rollouts (run_trained_agent.py)
    have the environment's dones, and its conversion of D4RL (convert_d4rl.py) a done in every last row, be it
    terminal or timeout, and a last next_obs that is a copy. So dones in last rows can be believed with ``done_mode`` 0;
    or without it, if no demo goes on after one, and some demo's last row has none (then they do not only mark ends) or
    the file was converted from D4RL. A believed done is a termination if the task can terminate and its time was not
    up. All else just stops, as at a time limit.
    """
    ends = last_rows(starts, len(dones))
    last, goes_on = dones[ends], np.count_nonzero(dones) > np.count_nonzero(dones[ends])
    believed = done_mode == 0 or (done_mode is None and not goes_on and (copied or not last.all()))
    possible = last.copy()
    if task is not None:
        possible &= (np.diff(np.append(starts, len(dones))) < task.horizon) & task.terminates
    if believed or not possible.any():
        return possible
    if done_mode is None:
        _log.warning(
            "%s: its dones may only mark where demos end or succeed, so none counts as a termination; give done_mode=0 "
            "if they are the environment's own",
            path,
        )
    return np.zeros_like(last)
