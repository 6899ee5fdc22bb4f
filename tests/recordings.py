"""Recordings on the real simulator and ways to damage their files, for the tests of demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from understudy.datasets import Demonstrations, write_d4rl
from understudy.robots import TaskBatch, find_task, physics_state

Damage = Callable[[h5py.File], None]


@cache
def record(task_name: str, episodes: int, limit: int = 1000, seed: int = 300) -> Demonstrations:
    """Smooth random actions on the real simulator, with full simulator states; at most ``limit`` rows an episode."""
    task = find_task(task_name)
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            "observations", "actions", "next_observations", "rewards", "terminated", "truncated", "states", "times",
        )
    }  # fmt: skip
    starts: list[int] = []
    for episode in range(episodes):
        tasks = TaskBatch(task, [seed + episode])
        generator = np.random.default_rng(seed + episode)
        observation, ended = tasks.reset()[0], False
        drive = np.zeros(tasks.spaces.action_size)
        starts.append(len(rows["rewards"]))
        while not ended and tasks.elapsed[0] < limit:
            drive = 0.9 * drive + 0.4 * generator.standard_normal(len(drive))
            action = np.tanh(drive).astype(np.float32)
            rows["observations"].append(observation)
            rows["actions"].append(action)
            rows["states"].append(physics_state(tasks.environments[0]))
            rows["times"].append(tasks.elapsed[0])
            step = tasks.step(action[None], "policy")
            observation, ended = step.next_observations[0], bool(step.ended[0])
            rows["next_observations"].append(observation)
            for name in ("rewards", "terminated", "truncated"):
                rows[name].append(getattr(step, name)[0])
        tasks.close()
    return Demonstrations(
        **{name: np.array(values) for name, values in rows.items()},
        starts=np.array(starts),
        task_name=task.name,
        environment_id=task.environment_id,
        environment_keywords=task.keywords,
        episode_seeds=seed + np.arange(episodes),
        random_return=-1.5,
        expert_return=12.25,
        metadata={"algorithm": "smooth noise", "licence": "MIT", "deterministic": False},
    )


def write_edited(path: Path, demonstrations: Demonstrations, damage: Damage) -> Path:
    """Write a file in which nothing but terminals and timeouts tells of its episodes, and edit it."""
    write_d4rl(path, demonstrations, overwrite=True)
    with h5py.File(path, "a") as file:
        del file["metadata"]
        damage(file)
    return path


def change(file: h5py.File, key: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an array by what ``edit`` makes of it, in another type or shape if need be."""
    array = edit(file[key][()])
    del file[key]
    file[key] = array.tolist() if array.dtype.kind == "O" else array


def remove(*keys: str) -> Damage:
    def damage(file: h5py.File) -> None:
        for key in keys:
            del file[key]

    return damage


def spoil(key: str, row: int, value: float) -> Damage:
    def damage(file: h5py.File) -> None:
        file[key][row] = value

    return damage


def attribute(name: str, value: Any) -> Damage:
    def damage(file: h5py.File) -> None:
        file.attrs[name] = value

    return damage


def cast(key: str, kind: Any) -> Damage:
    return lambda file: change(file, key, lambda array: array.astype(kind))


def assert_same(first: Demonstrations, second: Demonstrations, without: tuple[str, ...] = ()) -> None:
    """Equal to the bit in every array, and in what is said of them."""
    for field in fields(Demonstrations):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name in ("source", "metadata", "qpos", "qvel", *without):
            continue
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b or (field.name == "environment_keywords" and dict(a) == dict(b)), field.name
