"""Minari data sets written, by the ``minari`` package itself, and where they are kept (:mod:`~.minari` reads them).

What Minari has no place for stands under ``understudy`` in ``metadata.json``, in attributes ``understudy_*`` of the
episodes, and in infos (``times``, ``next_observations``, ``simulator.*``; the row after the last is NaN, or -1).
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Space

from ..robots import InputError, Task, observation_parts
from .d4rl import add_states, arrays_of, attributes_of
from .demonstrations import Demonstrations
from .episodes import Arrays, last_rows
from .lerobot_writing import as_json, put_in_place
from .limits import in_words, read_json
from .minari_arrow import PIECE
from .reading import STATES, normalised_actions
from .recorded import World, task_named

ID = re.compile(r"(?![-\w]/[-\w]+$)((?:[-\w]+/)*[-\w]+)-v(\d+)")  # minari wants two letters of a namespace
OURS = "understudy"
GOAL = ("achieved_goal", "observation", "desired_goal")  # the order of robots.goal_maze
PER_EPISODE = ("returns", "lengths", "terminated")
REFERENCES = {"random_return": "ref_min_score", "expert_return": "ref_max_score"}
_MINARIS_OWN = ("algorithm_name", "author", "author_email", "code_permalink", "description")


def datasets_folder() -> Path:
    """Where Minari keeps data sets: ``MINARI_DATASETS_PATH``, or ``~/.minari/datasets``."""
    given = os.environ.get("MINARI_DATASETS_PATH")
    return Path.home() / ".minari" / "datasets" if given is None else Path(given)


def data_folder(path: Path) -> Path | None:
    """The folder with a data set's ``metadata.json``, from it, the folder above it, or the HDF5 file in it."""
    for folder in (path / "data", path, path.parent if path.name == "main_data.hdf5" else path):
        with contextlib.suppress(OSError, ValueError):  # no such file, nobody's to read, or something else's
            metadata = read_json(folder / "metadata.json")
            if isinstance(metadata, dict) and {"data_format", "total_episodes"} <= metadata.keys():
                return folder
    return None


def minari_part(name: str) -> Any:
    """A module of minari's, which is an extra.

    Errors: :class:`InputError` when it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise not_installed(error) from error


def not_installed(error: ImportError) -> InputError:
    """What to say when minari, or what one of its storages needs, is not installed."""
    return InputError(f"Minari data sets need what is not installed ({error}): pip install 'understudy[minari]'")


def write_minari(
    name: str,
    demonstrations: Demonstrations,
    task: Task | None = None,
    *,
    data_format: str = "hdf5",
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write a data set ``name`` (``namespace/name-v0``) into Minari's folder that :func:`read_minari` reads bit-equal.

    Actions are in the environment's units, observations of goal mazes a ``Dict`` as the mazes have them; rows that
    were left out, simulator states, seeds, references and ``metadata`` are kept. ``task``, ``overwrite`` and
    ``command`` are as for :func:`~.d4rl.write_d4rl`. The data set appears whole or not at all.

    Errors: :class:`InputError` when minari is not installed, the name is no id or taken, there are no actions, or it
    cannot be written.
    """
    minari, match, target = minari_part("minari"), ID.fullmatch(name), datasets_folder() / name
    if match is None:
        raise InputError(f"{name}: is no id of a Minari data set; call it namespace/name-v0")
    if target.exists() and not (overwrite and data_folder(target)):
        raise InputError(f"{target}: exists already; choose another name, or allow overwriting a data set")
    demonstrations.need_actions("whoever reads a Minari data set", "write them as an .hdf5 file")
    if not demonstrations.rewarded:
        raise InputError(f"{demonstrations.source} has no rewards, which a Minari data set has to: write an .hdf5 file")
    if data_format != "hdf5" and np.diff(np.append(demonstrations.starts, len(demonstrations))).max() >= PIECE:
        raise InputError(
            f"{demonstrations.source} has episodes of {PIECE} rows and more, whose order minari does not keep in "
            f"{data_format}: choose hdf5"
        )
    world = World.of(task or task_named(demonstrations))
    arrays, ours = arrays_of(demonstrations, world, compact=False), attributes_of(demonstrations, command)
    if demonstrations.states is not None:
        executed = normalised_actions(target, arrays["actions"], world)
        ours[STATES] = add_states(arrays, demonstrations, demonstrations.states, executed, world)
    as_json(target, ours)
    parts = observation_parts(world.task)
    parts = parts if set(parts) == set(GOAL) else {}
    temporary = f"{match[1]}-partial-{secrets.token_hex(4)}-v{match[2]}"
    try:
        with warnings.catch_warnings(action="ignore"):  # minari's, about what is said only afterwards
            storage = minari.create_dataset_from_buffers(
                temporary, _buffers(demonstrations, arrays, parts), env=_environment_of(demonstrations, world),
                data_format=data_format, **_spaces(arrays["actions"], parts, world),
            ).storage  # fmt: skip
        storage.update_episode_metadata(
            {f"{OURS}_{name}": getattr(demonstrations, f"episode_{name}")[index].item() for name in PER_EPISODE}
            for index in range(len(demonstrations.starts))
        )
        said = {name: ours[name] for name in _MINARIS_OWN if name in ours}
        said.update({name: [said[name]] for name in ("author", "author_email") if isinstance(said.get(name), str)})
        said.update({theirs: ours[name] for name, theirs in REFERENCES.items() if name in ours})
        metadata = {**storage.read_raw_metadata(storage.data_path), **said, OURS: ours, "dataset_id": name}
        (storage.data_path / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
        put_in_place(storage.data_path.parent, target)
    except ImportError as error:  # the storage's own package
        raise not_installed(error) from error
    except (OSError, ValueError, AssertionError) as error:
        raise InputError(
            f"{target}: cannot be written ({in_words(error)}); choose a folder that has room and that you may write to"
        ) from error
    finally:
        shutil.rmtree(datasets_folder() / temporary, ignore_errors=True)


def _buffers(demonstrations: Demonstrations, arrays: Arrays, parts: Mapping[str, slice]) -> list[Any]:
    """The episodes as minari takes them."""
    make = minari_part("minari").data_collector.EpisodeBuffer
    seen, following = arrays["observations"], arrays["next_observations"]
    starts, ends = demonstrations.starts, last_rows(demonstrations.starts, len(demonstrations)) + 1
    infos = {name.removeprefix("infos/"): array for name, array in arrays.items() if name.startswith("infos/")}
    # Of bits, not of numbers: 0.0 equals -0.0 there.
    if np.delete(following, ends - 1, axis=0).tobytes() != np.delete(seen, starts, axis=0).tobytes():
        infos["next_observations"] = following  # rows were left out
    buffers: list[Any] = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        observed = np.append(seen[start:end], following[end - 1 : end], axis=0)
        buffers.append(
            make(
                id=index,
                seed=None if demonstrations.episode_seeds is None else int(demonstrations.episode_seeds[index]),
                observations={name: observed[:, place] for name, place in parts.items()} or observed,
                actions=arrays["actions"][start:end],
                rewards=arrays["rewards"][start:end],
                terminations=arrays["terminals"][start:end],
                truncations=arrays["timeouts"][start:end],
                infos={name.replace("/", "."): _one_more(array[start:end]) for name, array in infos.items()},
            )
        )
    return buffers


def _one_more(array: np.ndarray) -> np.ndarray:
    """Rows (T+1, size): as Minari's infos, which have a row after the last step, but nobody knows it."""
    rows = array.reshape(len(array), -1)
    return np.append(rows, np.full_like(rows[:1], np.nan if rows.dtype.kind == "f" else -1), axis=0)


def _spaces(actions: np.ndarray, parts: Mapping[str, slice], world: World) -> dict[str, Space[Any]]:
    sizes = {name: place.stop - place.start for name, place in parts.items()}
    boxes: dict[str, Space[Any]] = {name: Box(-np.inf, np.inf, (size,), np.float32) for name, size in sizes.items()}
    low, high = (bound.astype(actions.dtype) for bound in (world.spaces.action_low, world.spaces.action_high))
    return {
        "observation_space": Dict(boxes) if boxes else Box(-np.inf, np.inf, (world.spaces.observation_size,)),
        "action_space": Box(low, high, dtype=actions.dtype.type),
    }


def _environment_of(demonstrations: Demonstrations, world: World) -> gymnasium.Env[Any, Any]:
    """A specification on an empty environment, which is all that minari looks at: old versions cannot be made here."""
    registered = gymnasium.registry.get(demonstrations.environment_id)
    spec = EnvSpec(demonstrations.environment_id) if registered is None else copy.deepcopy(registered)
    spec.kwargs.update(demonstrations.environment_keywords)
    spec.max_episode_steps = world.task.horizon
    environment: gymnasium.Env[Any, Any] = gymnasium.Env()
    environment.spec = spec
    return environment
