"""Arrays by name as :class:`Demonstrations`: people's own arrays, and .npz archives of several libraries.

=================== ===========================================================================================
plain               D4RL's names (:mod:`~.d4rl`), also by those of ``ALIASES``; ``attributes`` is a text of JSON
stable-baselines 2  ``obs``, ``actions``, ``rewards``, ``episode_returns`` (E,) and ``episode_starts`` (N,) bool, as
                    generate_expert_traj writes them (read in 2.10.2: stable_baselines/gail/dataset/record_expert.py)
imitation           ``obs`` (N + E, O), ``acts``, ``rews``, ``terminal`` (E,), ``indices`` (E − 1,) and ``infos``, as
                    :mod:`~.imitation_folder` explains (written until 0.3: imitation/data/types.py)
=================== ===========================================================================================

Neither library tells a termination from a time limit but in imitation's ``infos``, which are pickled objects and are
never loaded. An end that the environment set is therefore taken for a termination when the task can terminate and its
time was not up, and for the time limit otherwise. So is ``dones`` without ``terminals`` or ``timeouts``. Episodes of
which only the starts or lengths are known just stop: as at a time limit, without termination.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..robots import InputError, Task, find_task, nearest
from .d4rl import add_states, arrays_of, attributes_of
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows, rising, starts_of
from .hdf5 import check_target, write_atomically
from .imitation_folder import ended_by_task, needed, trajectories_table
from .limits import in_words
from .npz_archive import claims, read_archive
from .reading import FLATTENED, STATES, normalised_actions, read_table
from .recorded import World, task_named
from .table import MemoryTable

__all__ = ["ALIASES", "claims", "from_arrays", "open_arrays", "open_npz", "read_npz", "write_npz"]

# Short names for arrays, and what D4RL calls them.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "obs": "observations",
        "acts": "actions",
        "rews": "rewards",
        "next_obs": "next_observations",
        "terminated": "terminals",
        "truncated": "timeouts",
        "final_observations": "infos/final_observations",
        "qpos": "infos/qpos",
        "qvel": "infos/qvel",
        "times": "infos/times",
        "episode_starts": "metadata/episode_starts",
        "episode_lengths": "metadata/episode_lengths",
        "episode_returns": "metadata/episode_returns",
        "episode_seeds": "metadata/episode_seeds",
    }
)
_KEYS = {*ALIASES.values(), "dones", FLATTENED, "metadata/episode_terminated"}
_PER_EPISODE = {"infos/final_observations", *(key for key in _KEYS if key.startswith("metadata/"))}
_MARKS = ("terminals", "timeouts", "dones")
_STABLE_BASELINES = {"obs", "actions", "rewards", "episode_returns", "episode_starts"}
_IMITATION = {"obs", "acts", "terminal", "indices"}
_ATTRIBUTES = "attributes"


def read_npz(path: str | Path, task: Task | None = None) -> Demonstrations:
    """Read an .npz archive of any layout above; only those of :func:`write_npz` name their task, so give it.

    Errors: :class:`InputError` as :func:`open_npz` and :func:`~.reading.read_table`.
    """
    return read_table(open_npz(Path(path), task), task)


def open_npz(path: Path, task: Task | None = None) -> MemoryTable:
    """The table of an archive; what has another name than the layout's arrays is left alone, which is logged.

    Errors: :class:`InputError` when the archive is missing, damaged or empty, an array of it holds objects, or the
    marks of its episodes need a task to be understood and none is given; and as :func:`open_arrays`.
    """
    arrays, attributes = read_archive(path, _is_known, _IMITATION)
    if arrays.keys() >= _IMITATION:
        return trajectories_table(path, arrays, needed(path, task))
    finished = arrays.keys() >= _STABLE_BASELINES and not set(_MARKS) & arrays.keys()
    return _open(path, arrays, task, attributes, finished)


def open_arrays(arrays: Mapping[str, np.ndarray], task: Task | None = None, *, source: str = "arrays") -> MemoryTable:
    """The table of flat arrays by D4RL's names or those of ``ALIASES``; ``source`` stands for them in messages.

    Where episodes are is said by ``episode_starts`` (the first rows (E,), or whether a row is one (N,)),
    ``episode_lengths`` (E,), ``terminals`` and ``timeouts`` (N,), or ``dones`` (N,).

    Errors: :class:`InputError` for an unknown name, images, or episodes that are not marked or contradict each other.
    """
    known = sorted(_KEYS | ALIASES.keys())
    for name in arrays:
        if not _is_known(name):
            raise InputError(f"{source}: unknown array {name!r}: {nearest(name, known)}")
    return _open(Path(source), arrays, task, {}, False)


def from_arrays(
    observations: ArrayLike | Sequence[ArrayLike],
    actions: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    task: Task | str,
    source: str = "arrays",
    **columns: ArrayLike | Sequence[ArrayLike] | None,
) -> Demonstrations:
    """Demonstrations from somebody's own arrays, or lists of them.

    Flat: ``observations`` (N, O) and ``actions`` (N, A) in the environment's own units, with any of the arrays that
    :func:`open_arrays` takes, one of which says where episodes are. Or by episode: lists of E arrays (n, ·), in which
    the observations may have n + 1 rows, the last being what followed. Then ``terminals``, ``timeouts`` and ``dones``
    may also be one flag an episode, and an episode that is not marked just stops. Without actions it is a recording of
    states alone; without rewards, returns are not known. Without what followed the last row of each episode
    (``next_observations`` or ``final_observations``), these rows are left out, which is logged.

    Errors: :class:`InputError` as :func:`open_arrays` and :func:`~.reading.read_table`, and when lists disagree.
    """
    every: dict[str, Any] = {"observations": observations, "actions": actions, **columns}
    given = {name: value for name, value in every.items() if value is not None}
    task = find_task(task) if isinstance(task, str) else task
    first: Any = observations[0] if isinstance(observations, (list, tuple)) and observations else None
    if _array(source, "observations", observations if first is None else first).ndim == (3 if first is None else 2):
        arrays = _joined(source, given)
    else:
        arrays = {name: _array(source, name, value) for name, value in given.items()}
    return read_table(open_arrays(arrays, task, source=source), task)


def write_npz(
    path: str | Path,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write the plain layout, compressed, with everything that :func:`~.d4rl.write_d4rl` writes; read back bit-equal.

    The attributes are one text of JSON, ``attributes``; no array holds objects. The file appears whole or not at all.

    Errors: :class:`InputError` as :func:`~.d4rl.write_d4rl`.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    world = World.of(task or task_named(demonstrations))
    arrays = arrays_of(demonstrations, world, compact=False)
    attributes = attributes_of(demonstrations, command)
    if demonstrations.states is not None:
        actions = demonstrations.actions
        if demonstrations.acted:
            actions = normalised_actions(path, arrays["actions"], world)
        attributes[STATES] = add_states(arrays, demonstrations, demonstrations.states, actions, world)
    try:
        text = json.dumps(attributes, default=_plain, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: metadata cannot be stored ({error}); give numbers, texts or lists") from error
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays, **{_ATTRIBUTES: np.array(text)})
    write_atomically(path, content.getvalue())


def _plain(value: object) -> object:
    """What JSON cannot hold as something that it can: numbers and arrays of NumPy."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{value!r} is no number or text")


# Arrays.


def _is_known(name: str) -> bool:
    return name in _KEYS or name in ALIASES or name.startswith("infos/simulator/")


def _open(
    path: Path, arrays: Mapping[str, np.ndarray], task: Task | None, attributes: Mapping[str, Any], finished: bool
) -> MemoryTable:
    """A table by D4RL's names; ``finished`` says that the environment ended every episode."""
    found: Arrays = {}
    names: dict[str, str] = {}
    for name, array in arrays.items():
        key = ALIASES.get(name, name)
        if key in found:
            raise InputError(f"{path}: has both '{names.get(key, key)}' and '{name}', which are the same; give one")
        found[key] = array
        if key != name:
            names[key] = name
    for key in ("observations", "next_observations", "infos/final_observations"):
        if key in found and (found[key].ndim != 2 or found[key].dtype.kind in "USu"):
            kind, shape = in_words(found[key].dtype), found[key].shape
            raise InputError(
                f"{path}: '{names.get(key, key)}' has {kind} of shape {shape}, but only rows of floats (N, O) can be"
                "  learned from, and no images, texts or counts; give state observations"
            )
    table = MemoryTable(path, found, attributes, "npz", names)
    if "observations" in found:
        _mark_episodes(table, found, task, finished)
    return MemoryTable(path, found, attributes, "npz", names)


def _mark_episodes(table: MemoryTable, arrays: Arrays, task: Task | None, finished: bool) -> None:
    """Make ``terminals`` and ``timeouts`` of whatever says where episodes are."""
    count = len(arrays["observations"])
    starts = _starts(table, arrays, count)
    done = arrays.pop("dones", None)
    if done is not None:
        done = table.flags("dones", count)
    if starts is None and done is None and not {"terminals", "timeouts"} & arrays.keys():
        raise InputError(
            f"{table.path}: nothing says where episodes begin; give 'episode_starts', 'episode_lengths', 'dones', or "
            "'terminals' and 'timeouts'"
        )
    ends = np.flatnonzero(done) if starts is None and done is not None else None
    if starts is not None:
        ends = last_rows(starts, count)
    if "terminals" in arrays:
        if done is not None and "timeouts" not in arrays:
            arrays["timeouts"] = done & ~table.flags("terminals", count)
    elif "timeouts" in arrays:
        timeouts = table.flags("timeouts", count)
        arrays["terminals"] = np.zeros(count, bool) if done is None else done & ~timeouts
    elif ends is not None:
        by_environment = np.full(count, finished) if done is None else done
        lengths = np.diff(np.append(-1, ends))
        terminals, timeouts = np.zeros((2, count), bool)
        if by_environment[ends].any():
            terminals[ends] = by_environment[ends] & ended_by_task(lengths, needed(table.path, task))
        timeouts[ends] = ~terminals[ends]
        arrays["terminals"], arrays["timeouts"] = terminals, timeouts


def _starts(table: MemoryTable, arrays: Arrays, count: int) -> np.ndarray | None:
    """The rows where episodes start (E,), if the arrays say so; flags of them are replaced by them."""
    key, lengths_key = "metadata/episode_starts", "metadata/episode_lengths"
    if key in arrays:
        given = arrays[key].reshape(-1)
        numeric = given.dtype.kind in "iuf" and len(given) == count and len(given) > 0
        if given.dtype.kind == "b" or (numeric and given[0] == 1):
            flags = table.flags(key, count)
            if not flags[0]:
                raise InputError(f"{table.path}: '{table.called(key)}' must be true in row 0, where an episode starts")
            arrays[key] = np.flatnonzero(flags)
            return arrays[key]
        starts = table.integers(key).astype(np.int64)
        if not rising(starts, count):
            raise InputError(f"{table.path}: '{table.called(key)}' must rise from 0 and stay below the {count} rows")
        return starts
    if lengths_key in arrays:
        lengths = table.integers(lengths_key).astype(np.int64)
        if (starts := starts_of(lengths, count)) is not None:
            return starts
        if not set(_MARKS) & arrays.keys():  # otherwise they are of the episodes before rows were taken out
            raise InputError(
                f"{table.path}: '{table.called(lengths_key)}' must be positive and sum to the {count} rows, but sum to "
                f"{lengths.sum()}"
            )
    return None


def _array(source: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: '{name}' is no array ({error}); give equally long rows of numbers") from error


def _joined(source: str, lists: Mapping[str, Any]) -> Arrays:
    """Flat arrays from lists of one array (or flag, or number) an episode."""
    parts = {name: [_array(source, name, item) for item in values] for name, values in lists.items()}
    observations, episodes = parts["observations"], len(parts["observations"])
    for name, items in parts.items():
        if len(items) != episodes:
            raise InputError(f"{source}: '{name}' has {len(items)} episodes where 'observations' has {episodes}")
    by_row = [name for name, items in parts.items() if items[0].ndim and ALIASES.get(name, name) not in _PER_EPISODE]
    counted = next((name for name in by_row if name != "observations"), "observations")
    lengths = np.array([len(rows) for rows in parts[counted]])
    arrays: Arrays = {}
    if {len(rows) - length for rows, length in zip(observations, lengths, strict=True)} == {1}:
        parts["final_observations"] = [rows[-1] for rows in observations]
        parts["observations"] = [rows[:-1] for rows in observations]
    for name, items in parts.items():
        if name not in by_row and name in (*_MARKS, "terminated", "truncated"):
            arrays[name] = np.zeros(lengths.sum(), bool)
            arrays[name][np.cumsum(lengths) - 1] = items
        elif name not in by_row:
            arrays[name] = np.stack(items)
        else:
            wrong = [index for index, rows in enumerate(items) if len(rows) != lengths[index] or not len(rows)]
            if wrong:
                first = wrong[0]
                raise InputError(
                    f"{source}: episode {first} has {len(items[first])} rows of '{name}' for {lengths[first]} of "
                    f"'{counted}'; give as many of each, or everywhere one more of the observations"
                )
            arrays[name] = np.concatenate(items)
    return {**arrays, "episode_starts": np.cumsum(lengths) - lengths}
