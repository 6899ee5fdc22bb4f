"""Minari data sets, anybody's, read into :class:`Demonstrations` (:mod:`~.minari_writing` writes our own).

They are read by the ``minari`` package itself, but for Arrow and Parquet (:mod:`~.minari_arrow`); layout and names were
read in the source of minari 0.5.4 (Farama Foundation): a data set ``namespace/name-v0`` is a folder with
``data/metadata.json`` and its episodes, in one of three storages (``hdf5``, ``arrow``, ``parquet``). An episode of T
steps has T actions, rewards, terminations and truncations and T+1 observations; the infos have T+1 rows too, the first
being the reset's. ``env_spec`` (JSON) says how the environment was made, ``ref_min_score`` and ``ref_max_score`` are
the reference returns.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space

from ..robots import InputError, Task
from .demonstrations import Demonstrations
from .episodes import Arrays
from .limits import in_words, listed, read_json
from .minari_arrow import check_order, read_episodes
from .minari_checking import environment_of, storage_of
from .minari_writing import (
    GOAL,
    ID,
    OURS,
    PER_EPISODE,
    REFERENCES,
    data_folder,
    datasets_folder,
    minari_part,
    not_installed,
    write_minari,
)
from .reading import read_table
from .table import MemoryTable

__all__ = ["claims", "datasets_folder", "open_minari", "read_minari", "write_minari"]

_log = logging.getLogger(__name__)

_NAMES = {"terminals": "terminations", "timeouts": "truncations", "metadata/episode_seeds": "seed"}
_NOT_SAID = ("observation_space", "action_space", "env_spec", "eval_env_spec", "dataset_size", OURS)
Part = tuple[str, int, tuple[str, ...]]  # of an observation: its name, its width, and the way to it


def claims(path: Path) -> bool:
    """Whether a path is a Minari data set, or may be the id of one (``mujoco/hopper/expert-v0``): nothing is imported.

    An id without a namespace (``expert-v0``) counts only when the data set is there.
    """
    name = path.as_posix()
    if data_folder(path) is not None:
        return True
    try:
        free = not path.exists() and ID.fullmatch(name) is not None
    except OSError:  # within somebody else's folder
        return False
    return free and ("/" in name or data_folder(datasets_folder() / name) is not None)


def read_minari(name_or_path: str | Path, task: Task | None = None, *, download: bool = False) -> Demonstrations:
    """Read a Minari data set, as :func:`~.reading.read_table` reads any table.

    Errors: :class:`InputError` as :func:`open_minari` and :func:`~.reading.read_table`.
    """
    return read_table(open_minari(name_or_path, download=download), task)


def open_minari(name_or_path: str | Path, *, download: bool = False) -> MemoryTable:
    """A Minari data set as a table: by its id in Minari's own folder, or by the path of its folder or HDF5 file.

    Observations of a ``Dict`` space are put side by side in the space's order (those of goal environments as our
    mazes have them: achieved goal, observation, desired goal); names and widths stand in ``observation_parts``. With
    ``download``, minari fetches a data set that is not there. Of an episode without its last observation (Minari's
    issue 199) the last row is left out, which is logged.

    Errors: :class:`InputError` when minari is not installed, the data set is not there or damaged, observations are
    no numbers (images, texts), actions are not continuous, or an episode goes on after its end.
    """
    folder = _found(name_or_path, download)
    with _damage(folder):
        return _Reader(folder).table(None)


def stream_minari(name_or_path: str | Path, *, rows: int, download: bool = False) -> Iterator[MemoryTable]:
    """Tables of some ``rows`` of whole episodes at a time; arguments and errors are :func:`open_minari`'s."""
    folder = _found(name_or_path, download)
    with _damage(folder):
        reader = _Reader(folder)
        counts = [int(told.get("total_steps", 1)) for told in reader.told]
    chosen: list[int] = []
    for number, count in enumerate(counts):
        if chosen and sum(counts[i] for i in chosen) + count > rows:
            with _damage(folder):
                table = reader.table(chosen)
            yield table
            chosen = []
        chosen.append(number)
    with _damage(folder):
        table = reader.table(chosen)
    yield table


class _Reader:
    """What a data set says of itself, and tables of its episodes. Errors: whatever is raised over damage."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._metadata = folder, read_json(folder / "metadata.json")
        self._storage = storage_of(folder, self._metadata)
        self._parts = _parts(folder, self._storage.observation_space)
        space = self._storage.action_space
        if not isinstance(space, Box) or space.dtype == np.uint8:  # these are pictures
            raise InputError(f"{folder}: its actions are {in_words(space)}, but only continuous ones can be used")
        self.told = list(self._storage.get_episode_metadata(range(int(self._metadata["total_episodes"]))))

    def table(self, numbers: Sequence[int] | None) -> MemoryTable:
        """The table of some episodes, or of all."""
        folder, metadata = self._folder, self._metadata
        numbers = range(len(self.told)) if numbers is None else numbers
        told, storage = [self.told[number] for number in numbers], self._storage
        if metadata["data_format"] == "hdf5":
            episodes = storage.get_episodes(numbers)
        else:
            episodes = read_episodes(folder, numbers, told, (storage.observation_space, storage.action_space))
        both = zip(episodes, told, strict=True)
        arrays = _joined(folder, [_rows(folder, self._parts, *episode) for episode in both])
        ours = metadata.get(OURS, {})
        if not isinstance(ours, dict):
            raise InputError(f"{folder}: '{OURS}' in metadata.json is damaged; record the data set again")
        attributes = {**environment_of(folder, metadata), **ours}
        for name, value in metadata.items():
            if name not in _NOT_SAID and value is not None:
                attributes[name] = json.dumps(value) if isinstance(value, dict) else value
        for name, theirs in REFERENCES.items():
            if metadata.get(theirs) is not None:
                attributes.setdefault(name, metadata[theirs])
        if len(self._parts) > 1:
            attributes.setdefault("observation_parts", json.dumps({name: size for name, size, _ in self._parts}))
        return MemoryTable(folder, arrays, attributes, "minari", _NAMES)


@contextlib.contextmanager
def _damage(folder: Path) -> Generator[None]:
    """Turn what is raised over a damaged data set into one sentence."""
    try:
        yield
    except ImportError as error:  # the storage's own package
        raise not_installed(error) from error
    except InputError:
        raise
    except Exception as error:  # minari, and the packages that it reads with, raise what they like over damage
        raise InputError(
            f"{folder}: cannot be read, so the data set is incomplete or damaged ({in_words(error)}); download or "
            "record it again"
        ) from error


def _found(name_or_path: str | Path, download: bool) -> Path:
    path = Path(name_or_path)
    if (folder := data_folder(path)) is not None:
        return folder
    name = path.as_posix()
    if path.exists() or not ID.fullmatch(name):
        raise InputError(
            f"{path}: there is no Minari data set (a folder data with metadata.json); give its id "
            "(namespace/name-v0), its folder, or its main_data.hdf5"
        )
    local = datasets_folder() / name
    if (folder := data_folder(local)) is None and local.exists():
        raise InputError(f"{local}: is no whole Minari data set; remove the folder, then 'minari download {name}'")
    if folder is None and download:
        minari = minari_part("minari")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                minari.download_dataset(name)
        except Exception as error:  # the clients of its hubs have a class for each thing that can go wrong
            raise InputError(
                f"{name}: could not be downloaded ({in_words(error)}); download it where there is a network, and put "
                f"its files at {local}"
            ) from error
        folder = data_folder(local)
    if folder is None:
        raise InputError(
            f"{name}: there is no such file, and no such Minari data set in {datasets_folder()}; get it with "
            f"'minari download {name}' or download=True"
        )
    return folder


def _parts(folder: Path, space: Space[Any], way: tuple[str, ...] = ()) -> list[Part]:
    """The parts of an observation space in the order in which they stand side by side: name, width and way to it."""
    if isinstance(space, Dict):
        order = GOAL if set(space.spaces) == set(GOAL) else space.spaces
        return [part for key in order for part in _parts(folder, space.spaces[key], (*way, key))]
    called = in_words(f"observation '{'/'.join(way)}'") if way else "observation"
    if not isinstance(space, Box):
        raise InputError(
            f"{folder}: its {called} is {in_words(space)}, but observations must be numbers (Box, or Dict of Box)"
        )
    if space.dtype == np.uint8 or len(space.shape) > 2:
        raise InputError(
            f"{folder}: its {called} is an image ({space.dtype}, {space.shape}), but observations must be numbers; "
            "take another data set, or record one with the state of the robot"
        )
    return [("/".join(way) or "observation", int(np.prod(space.shape)), way)]


def _rows(
    folder: Path, parts: Sequence[Part], episode: Mapping[str, Any], told: Mapping[str, Any]
) -> tuple[Arrays, bool]:
    """The table of one episode, and whether what followed its last step is known; otherwise that row is not in it."""
    number, steps = int(episode["id"]), int(told.get("total_steps", len(episode["rewards"])))
    seen = _seen(folder, parts, episode, steps)
    check_order(folder, number, seen, episode.get("meetings", ()))
    ends = {name: np.asarray(episode[name], bool) for name in ("terminations", "truncations")}
    for name, column in {"actions": episode["actions"], "rewards": episode["rewards"], **ends}.items():
        if len(column) != steps:
            raise InputError(f"{folder}: '{name}' of episode {number} has {len(column)} rows but must have {steps}")
    early = np.flatnonzero((ends["terminations"] | ends["truncations"])[:-1])
    if len(early):
        raise InputError(
            f"{folder}: 'terminations' or 'truncations' end episode {number} in step {early[0]}, but it goes on to "
            f"step {steps - 1}; divide it there"
        )
    kept = len(seen) - 1  # T, or T-1 where the last observation was not recorded
    rewards = np.asarray(episode["rewards"])
    rows: Arrays = {
        "observations": seen[:-1],
        "infos/final_observations": seen[-1:],
        "actions": np.asarray(episode["actions"]).reshape(steps, -1)[:kept] if kept else np.empty((0, 0)),
        "rewards": rewards[:kept],
        "terminals": ends["terminations"][:kept],
        "timeouts": ends["truncations"][:kept],
        "metadata/episode_returns": np.array([rewards.astype(np.float64).sum()]),
        "metadata/episode_lengths": np.array([steps]),
        "metadata/episode_terminated": np.array([ends["terminations"].any()]),
    }
    if told.get("seed") is not None:
        rows["metadata/episode_seeds"] = np.array([told["seed"]], np.uint64)
    ours = {name: told[f"{OURS}_{name}"] for name in PER_EPISODE if f"{OURS}_{name}" in told}
    rows.update({f"metadata/episode_{name}": np.array([value]) for name, value in ours.items()})
    for name, info in (episode["infos"] or {}).items():
        # Infos of other people by names of ours mean something else.
        own = bool(ours) and (name in ("times", "next_observations") or name.startswith("simulator."))
        if (own or name in ("qpos", "qvel")) and len(info) in (steps, steps + 1):
            rows[f"infos/{name.replace('.', '/')}"] = np.asarray(info)[:kept]
    return rows, kept == steps


def _seen(folder: Path, parts: Sequence[Part], episode: Mapping[str, Any], steps: int) -> np.ndarray:
    """The observations of an episode side by side: T+1 rows, or T where the last was not recorded."""
    found: list[np.ndarray] = []
    for name, size, way in parts:
        part: Any = episode["observations"]
        for key in way:
            part = part[key]
        part = np.asarray(part)
        if len(part) not in (steps, steps + 1) or part.size != size * len(part):
            raise InputError(
                f"{folder}: '{in_words(name)}' of episode {episode['id']} has shape {part.shape} but must have "
                f"{steps + 1} rows of {size} numbers"
            )
        found.append(part.reshape(len(part), size))
    seen = np.concatenate([part[: min(map(len, found))] for part in found], axis=1)
    return seen if seen.dtype.kind == "f" else seen.astype(np.float64)


def _joined(folder: Path, episodes: Sequence[tuple[Arrays, bool]]) -> Arrays:
    """One table from the tables of its episodes."""
    whole = [rows for rows, _ in episodes if len(rows["rewards"])]
    if not whole:
        raise InputError(f"{folder}: has no episode of which a next observation is known; record it again")
    if short := sum(not complete for _, complete in episodes):
        _log.warning(
            "%s: %d of its %d episodes lack their last observation, so their last row is left out",
            folder, short, len(episodes),
        )  # fmt: skip
    common = set.intersection(*(set(rows) for rows in whole))
    lost, counts = set.union(*(set(rows) for rows in whole)) - common, [len(rows["rewards"]) for rows in whole]
    # Each goes when it is joined, so that nothing but the largest is there twice.
    arrays = {name: np.concatenate([rows.pop(name) for rows in whole]) for name in common}
    if "metadata/episode_seeds" in arrays and arrays["metadata/episode_seeds"].max() >= 2**63:
        lost.add("metadata/episode_seeds")  # minari draws them with 64 bits where nobody gives any
    elif "metadata/episode_seeds" in arrays:
        arrays["metadata/episode_seeds"] = arrays["metadata/episode_seeds"].astype(np.int64)
    if lost:
        called = listed(sorted(name.rpartition("/")[2] for name in lost))
        _log.warning("%s: left out is what not every episode has, or not as a number of 63 bits: %s", folder, called)
    arrays = {name: array for name, array in arrays.items() if name not in lost}
    if "infos/next_observations" in arrays:
        arrays["next_observations"] = arrays.pop("infos/next_observations")
    arrays["metadata/episode_starts"] = np.cumsum([0, *counts[:-1]])
    return arrays
