"""Policies by path: a policy directory, a run directory of a training, or a stable-baselines3 zip."""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

import numpy as np

from ..robots import InputError, Task
from .policy import Policy
from .sb3 import read_sb3_policy

SCRIPTS = ("expert", "play", "random")  # what `record` takes for a policy that is none


def bundled_policies() -> dict[str, Path]:
    """The policies that come with the suite: name (``hopper-hype``) to directory."""
    folder = importlib.resources.files("understudy.assets") / "policies"
    return {item.name: Path(str(item)) for item in sorted(folder.iterdir(), key=str) if item.is_dir()}


def load_policy(path: str | os.PathLike[str], task: Task | None = None) -> Policy:
    """One policy: that of a policy directory, the chosen one of a run directory, that of a zip, or one that is bundled.

    ``task`` is what it must be for; a zip does not name its own task and may need it.
    Errors: :class:`InputError` when there is none at ``path``, it is damaged or it is for another task.
    """
    place = Path(path)
    if not place.exists():
        place = bundled_policies().get(str(path), place)
    if not place.is_dir():
        return _load_file(place, task)
    policy = Policy.from_pretrained(_chosen(place) if _is_run(place) else _checked_directory(place))
    try:
        own = policy.task
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    check_task(policy, task or own, place)
    return policy


def load_policies(path: str | os.PathLike[str], task: Task | None = None) -> dict[str, Policy]:
    """Every policy at ``path`` by name: each run's (`run-0`, …) of a run directory, or the only one.

    Errors: as :func:`load_policy`.
    """
    place = Path(path)
    if not _is_run(place):
        return {place.name: load_policy(place, task)}
    found = [entry for entry in (place / "policies").glob("run-*") if entry.name.removeprefix("run-").isdigit()]
    if not found:
        raise InputError(f"{place} has no policies yet: its training has to finish, or to be resumed and stopped")
    found.sort(key=lambda entry: int(entry.name.removeprefix("run-")))
    return {entry.name: load_policy(entry, task) for entry in found}


def check_task(policy: Policy, task: Task, path: Path) -> None:
    """Errors: :class:`InputError` unless the policy read from ``path`` is for ``task`` as it is here."""
    own, spaces = policy.config, task.spaces
    if (policy.task.environment_id, dict(policy.task.keywords)) != (task.environment_id, dict(task.keywords)):
        raise InputError(f"{path} is a policy for {own.task}, not for {task.name}: use it with task={own.task}")
    sizes, expected = (own.observation_size, own.action_size), (spaces.observation_size, spaces.action_size)
    if sizes != expected:
        raise InputError(
            f"{path} takes {sizes[0]} observations and gives {sizes[1]} actions, but {task.name} has "
            f"{expected[0]} and {expected[1]} here: its config.json or this Gymnasium is another than it had"
        )
    if not np.allclose([own.action_low, own.action_high], [spaces.action_low, spaces.action_high]):
        raise InputError(f"{path} has another range of actions in its config.json than {task.name} has here")


def _load_file(path: Path, task: Task | None) -> Policy:
    if str(path) in SCRIPTS and not path.exists():
        on = "" if task is None else f" and {task.name} has no script of that name"
        raise InputError(f"{path} is no file{on}: scripts are for `understudy record`, on the tasks that have them")
    if path.suffix in (".hdf5", ".h5"):
        raise InputError(f"{path} is a recording, not a policy: a policy or run directory or a zip is expected")
    if not path.exists():
        raise InputError(f"{path} does not exist: a policy or run directory or a stable-baselines3 zip is expected")
    return read_sb3_policy(path, task)


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("policies", "policy", "config.yaml"))


def _chosen(path: Path) -> Path:
    if not (path / "policy").is_dir():
        raise InputError(f"{path} has no chosen policy yet: its training has to finish, or name one of its runs")
    return path / "policy"


def _checked_directory(path: Path) -> Path:
    if not (path / "config.json").exists():
        raise InputError(f"{path} is neither a policy directory nor a run directory: it has no config.json")
    return path
