"""What is checked of a Minari data set before the ``minari`` package reads it, which trusts what it says.

Its ``env_spec`` may name any function of any module, which Gymnasium would call; a space may promise any size; and its
files go to h5py and pyarrow as they are.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import gymnasium
from gymnasium.spaces import Space

from ..robots import InputError, find_task
from .hdf5 import Hdf5File
from .limits import check_promise, in_memory, in_words, listed, parse_json
from .minari_writing import minari_part

_log = logging.getLogger(__name__)

_NUMBERS = re.compile(r"(float|int|uint|bool)\d{0,3}_?")
_WIDEST = 8  # bytes of a number
# Wrappers that change neither observations nor actions.
_HARMLESS = ("TimeLimit", "OrderEnforcing", "PassiveEnvChecker", "RecordEpisodeStatistics", "Monitor", "DataCollector")


def storage_of(folder: Path, metadata: Mapping[str, Any]) -> Any:
    """minari's storage of a data set, with what it will read checked; the files of Arrow and Parquet are checked where
    they are read (:mod:`~.minari_arrow`).

    Errors: :class:`InputError` when its files or spaces promise what cannot be there, and what minari and h5py raise
    over damage.
    """
    kind = minari_part("minari.dataset._storages").get_minari_storage(metadata["data_format"])
    observations, actions = _spaces(folder, metadata)
    storage = kind(folder, observations, actions, jpeg_encoding=bool(metadata.get("jpeg_encoding", True)))
    if metadata["data_format"] == "hdf5":
        with Hdf5File(folder / "main_data.hdf5") as file:
            file.check_all()
    return storage


def _spaces(folder: Path, metadata: Mapping[str, Any]) -> list[Space[Any]]:
    """The observation and action space."""
    texts = [metadata.get(f"{part}_space") for part in ("observation", "action")]
    if all(isinstance(text, str) for text in texts):
        for text in texts:
            _check_space(folder, parse_json(text), len(str(text)))
        read = minari_part("minari.serialization").deserialize_space
        return [read(text) for text in texts]
    # Of data sets older than these keys the environment is made, but only by the name under which it is registered:
    # a whole specification says which function is called, and with what.
    name = environment_of(folder, metadata).get("env_id")
    if name not in gymnasium.registry:
        raise ValueError(f"it names neither its spaces nor an environment that is known, but {in_words(repr(name))}")
    environment = gymnasium.make(name)
    try:
        return [environment.observation_space, environment.action_space]
    finally:
        environment.close()


def _check_space(folder: Path, said: Any, there: int) -> None:
    """See whether a space is as large as its text of so many signs can say, and of numbers."""
    if said["type"] == "Box":
        kind = str(said["dtype"])
        if not _NUMBERS.fullmatch(kind):
            raise ValueError(f"a space of {in_words(kind)}")
        check_promise(folder, "its spaces", in_memory(map(int, said["shape"]), _WIDEST), there)
    below = said.get("subspaces", ())
    for part in cast("dict[str, Any]", below).values() if isinstance(below, dict) else below:
        _check_space(folder, part, there)


def environment_of(folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``env_id`` and ``env_kwargs`` from the data set's ``env_spec``; nothing where it has none."""
    if metadata.get("env_spec") is None:
        return {}
    try:
        spec = dict(parse_json(metadata["env_spec"]))
        environment_id, keywords = str(spec["id"]), dict(spec.get("kwargs") or {})
        wrappers = [str(wrapper["name"]) for wrapper in spec.get("additional_wrappers") or ()]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"{folder}: 'env_spec' in metadata.json is damaged ({in_words(error)}); download it again"
        ) from error
    if changing := [name for name in wrappers if name not in _HARMLESS]:
        _log.warning("%s: was recorded through %s, which may change what it holds", folder, listed(changing))
    # It repeats the arguments of the registration. An environment that is none here is refused when the table is read.
    with contextlib.suppress(InputError):
        find_task(environment_id)
    registered = gymnasium.registry.get(environment_id)
    usual = {} if registered is None else json.loads(json.dumps(registered.kwargs, default=str))
    keywords = {name: value for name, value in keywords.items() if name not in usual or usual[name] != value}
    keywords["max_episode_steps"] = spec.get("max_episode_steps")
    return {"env_id": environment_id, "env_kwargs": json.dumps(keywords, sort_keys=True)}
