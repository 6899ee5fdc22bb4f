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
# pyright: reportAttributeAccessIssue=false
# (h5py brings no types.)

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from ..robots import InputError, Task, find_task, nearest, task_of_environment
from .d4rl_adapting import adapted
from .d4rl_table import DATASETS
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows
from .hdf5 import DAMAGES, Hdf5File, plain
from .limits import in_words, listed, parse_json
from .reading import FLATTENED, STATES, read_table
from .recorded import recorded_environment
from .robomimic_writing import COLUMNS, GYM, OWN, PARTS, PER_EPISODE, write_robomimic
from .table import MemoryTable

__all__ = ["claims", "open_robomimic", "read_robomimic", "write_robomimic"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"demo_([0-9]{1,9})")


def claims(path: Path) -> bool:
    """Whether it is an HDF5 file with ``data/demo_<k>``."""
    try:
        with h5py.File(path, "r") as file:
            links: Any = file.id.links
            if not links.exists(b"data") or links.get_info(b"data").type != h5py.h5l.TYPE_HARD:
                return False  # a link into another file may wait for ever
            data: Any = h5py.h5o.open(file.id, b"data")
            return isinstance(data, h5py.h5g.GroupID) and any(_NAME.fullmatch(name.decode()) for name in data)
    except DAMAGES:
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
    with _File(path) as file:
        reader = _Reader(file, task, keys, mask, done_mode)
        return reader.table(reader.demos)


def stream_robomimic(
    path: Path,
    task: Task | None = None,
    *,
    rows: int,
    keys: Sequence[str] = (),
    mask: str | None = None,
    done_mode: int | None = None,
) -> Iterator[MemoryTable]:
    """Tables of some ``rows`` of whole demos at a time; arguments and errors are :func:`open_robomimic`'s.

    What is concluded from all demos together (whether their dones are to be believed) is, here as well.
    """
    with _File(path) as file:
        reader = _Reader(file, task, keys, mask, done_mode)
        chosen: list[str] = []
        for demo in reader.demos:
            if chosen and sum(file.lengths[name] for name in chosen) + file.lengths[demo] > rows:
                yield reader.table(chosen)
                chosen = []
            chosen.append(demo)
        yield reader.table(chosen)


class _Reader:
    """What is known of the demos of a file together, and tables of some of them."""

    def __init__(
        self, file: _File, task: Task | None, keys: Sequence[str], mask: str | None, done_mode: int | None
    ) -> None:
        if done_mode not in (None, 0, 1, 2):
            raise InputError(f"{file.path}: done_mode is {done_mode!r} but must be 0, 1 or 2, as robomimic defines it")
        self._file, self.demos = file, file.choose_demos(mask)
        self._attributes = _environment(file.path, file.said("") | file.said("data"))
        self._keys = _choose_keys(file, self.demos[0], keys, self._attributes.get(PARTS))
        self._marked = file.has(self.demos, f"{OWN}/terminals")
        self._follows = file.has(self.demos, f"next_obs/{self._keys[0]}")
        copied = self._follows and not self._marked and all(self._is_copied(demo) for demo in self.demos)
        if copied:
            _log.warning(
                "%s: next_obs of every demo's last row is its obs once more, so what followed is not known", file.path
            )
            self._follows = False
        self._ended = dict[str, bool]()
        if not self._marked:
            lengths = np.array([file.lengths[demo] for demo in self.demos], np.int64)
            dones = file.column(self.demos, "dones") if file.has(self.demos, "dones") else np.zeros(lengths.sum())
            dones = MemoryTable(file.path, {"dones": dones}, {}, "robomimic").flags("dones", len(dones))
            known = task or _task_of(file.path, self._attributes)
            ended = _terminations(file.path, dones, np.cumsum(lengths) - lengths, done_mode, copied, known)
            self._ended = dict(zip(self.demos, ended.tolist(), strict=True))

    def table(self, demos: Sequence[str]) -> MemoryTable:
        """The table of some demos."""
        file, attributes = self._file, dict(self._attributes)
        lengths = np.array([file.lengths[demo] for demo in demos], np.int64)
        starts = np.cumsum(lengths) - lengths
        parts = file.vectors(demos, "obs", self._keys)
        arrays: Arrays = {"observations": np.hstack([*parts.values()]), "metadata/episode_starts": starts}
        if self._follows:
            arrays["next_observations"] = np.hstack([*file.vectors(demos, "next_obs", self._keys).values()])
        arrays |= {name: file.column(demos, name) for name in COLUMNS if file.has(demos, name)}
        own = f"data/{demos[0]}/{OWN}/"
        for key in [name.removeprefix(own) for name in file.arrays if name.startswith(own)]:
            arrays[key] = file.column(demos, f"{OWN}/{key}")
        for key, name in PER_EPISODE.items():
            values = [file.said(f"data/{demo}").get(name) for demo in demos]
            if all(isinstance(value, (int, float)) for value in values):
                arrays[key] = np.array(values)
        if file.has(demos, "states"):
            _add_physics(file.path, arrays, file.column(demos, "states"), attributes.get(STATES))
        if not self._marked:
            ends, ended = last_rows(starts, int(lengths.sum())), np.array([self._ended[demo] for demo in demos])
            arrays["terminals"], arrays["timeouts"] = np.zeros((2, int(lengths.sum())), bool)
            arrays["terminals"][ends], arrays["timeouts"][ends] = ended, ~ended
        attributes[PARTS] = json.dumps({key: part.shape[1] for key, part in parts.items()})
        names = {"observations": f"obs ({', '.join(self._keys)})", "next_observations": "next_obs", FLATTENED: "states"}
        if found := DATASETS.get(str(attributes.get("env_id"))):  # which robomimic's conversion of D4RL names
            del attributes["env_id"]
            return adapted(MemoryTable(file.path, arrays, attributes, "robomimic", names), found)
        return MemoryTable(file.path, arrays, attributes, "robomimic", names)

    def _is_copied(self, demo: str) -> bool:
        """Whether a demo's last next observation is its last observation once more."""
        last = [self._file.vectors([demo], group, self._keys, last=True) for group in ("obs", "next_obs")]
        return all(np.array_equal(last[0][key], last[1][key]) for key in self._keys)


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
            problem = f"has 'data/{in_words(strange[0])}'" if strange else "has no 'data/demo_0'"
            raise InputError(f"{self.path}: {problem} where robomimic has demos called demo_<number>; give such a file")
        if mask is not None:
            if f"mask/{mask}" not in self.arrays:
                hint = nearest(mask, masks) if (masks := self.below("mask")) else "there are no masks"
                raise InputError(f"{self.path}: has no 'mask/{mask}': {hint}")
            chosen = {str(plain(item)) for item in self.raw(f"mask/{mask}").reshape(-1)}
            unknown = chosen - set(names)
            if not chosen or unknown:
                problem = f"'{in_words(min(unknown))}', which 'data' does not have" if chosen else "no demos"
                raise InputError(f"{self.path}: 'mask/{mask}' lists {problem}; choose another mask")
            names = list(chosen)
        names.sort(key=lambda name: int(name.removeprefix("demo_")))
        for name in names:
            rows = self.said(f"data/{name}").get("num_samples")
            if rows is None and f"data/{name}/actions" in self.arrays:
                rows = self.size(f"data/{name}/actions")
            if not isinstance(rows, int) or rows < 1:
                said = in_words(repr(rows))
                raise InputError(f"{self.path}: 'data/{name}' has {said} for num_samples, but must have rows")
            self.lengths[name] = rows
        return names

    def is_vector(self, name: str) -> bool:
        """Whether an array holds vectors of numbers, and no images or texts."""
        kind, shape = self.about(name)
        return kind.kind in "fiub" and kind != np.uint8 and 1 <= len(shape) <= 3 and 0 not in shape[1:]

    def has(self, demos: Sequence[str], name: str) -> bool:
        """Whether demos have an array. Errors: :class:`InputError` when some do, others not."""
        without = [demo for demo in demos if f"data/{demo}/{name}" not in self.arrays]
        if without and len(without) < len(demos):
            raise InputError(f"{self.path}: 'data/{without[0]}' has no '{name}' as others have; choose demos by a mask")
        return not without

    def column(self, demos: Sequence[str], name: str, *, last: bool = False) -> np.ndarray:
        """An array of numbers of all demos, one after the other (N, …), or only their ``last`` rows."""
        found: list[np.ndarray] = []
        first = self.about(f"data/{demos[0]}/{name}")[1][1:]
        for demo in demos:
            kind, shape = self.about(f"data/{demo}/{name}")
            called = f"{self.path}: '{in_words(f'data/{demo}/{name}')}'"
            if (wanted := (self.lengths[demo], *first)) != shape:
                raise InputError(f"{called} has shape {shape} but must have {wanted}")
            if kind.kind not in "fiub":
                raise InputError(f"{called} holds {in_words(kind)} but must hold numbers")
            key = f"data/{demo}/{name}"
            found.append(self.rows(key, shape[0] - 1, shape[0]) if last else self.raw(key))
        return np.concatenate(found)

    def vectors(
        self, demos: Sequence[str], group: str, keys: Sequence[str], *, last: bool = False
    ) -> dict[str, np.ndarray]:
        """The arrays of some keys as floats (N, width)."""
        columns = {key: self.column(demos, f"{group}/{key}", last=last) for key in keys}
        columns = {key: item.reshape(len(item), math.prod(item.shape[1:])) for key, item in columns.items()}
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
            known = listed(vectors) or "none"
            raise InputError(f"{file.path}: '{place}/{key}' {problem}; the keys that hold vectors are: {known}")
    others = listed([key for key in there if key not in vectors])
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
        described = parse_json(said["env_args"]) if "env_args" in said else {"env_name": said.get("env")}
        name, keywords = described["env_name"], described.get("env_kwargs") or {}
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"{path}: attribute 'env_args' of 'data' is no JSON with env_name, type and env_kwargs; write it again"
        ) from error
    if name is None:
        return attributes
    attributes |= {"env_id": name, "env_kwargs": "{}"}
    if described.get("type") == GYM:
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
        positions = int(parse_json(description)["sizes"]["qpos"])
        if states.ndim != 2 or not 0 <= positions < states.shape[1]:
            raise ValueError("sizes that are not the states'")
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise InputError(f"{path}: attribute '{STATES}' is damaged; write the file again") from error
    parts = np.split(states, [1, 1 + positions], axis=1)
    arrays["infos/simulator/time"], arrays["infos/qpos"], arrays["infos/qvel"] = parts


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
