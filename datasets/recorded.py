"""Which environment a file was recorded on, and what its task means for the numbers in it."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mujoco as _untyped_mujoco
import numpy as np

from ..robots import TASKS, Disturbances, InputError, Spaces, Task, find_task, task_of_environment
from .demonstrations import Demonstrations
from .limits import in_words, parse_json
from .states import StateLayout

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

DISTURBANCES = "disturbances"  # attribute: what the robot suffered from (JSON)
_LARGEST_FACTOR = 1e3  # of a body's mass, say: MuJoCo is not made for more
_ENDS = ("terminate_when_unhealthy", "terminate_on_tasks_completed")  # arguments without which nothing ends early
_CELLS = 2500  # of a maze, that an environment can be made of in a second
# Lengths and angles among the positions of joints, where it is not one.
_LENGTHS = {int(mujoco.mjtJoint.mjJNT_FREE): 3, int(mujoco.mjtJoint.mjJNT_BALL): 0}
_SLOWEST = 1.0  # Hz: a step of something slower takes MuJoCo for ever
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class World:
    """What reading and writing need of a task, taken from one environment made for it.

    ``places`` and ``speeds`` are which of the simulator's positions are lengths or angles, and their velocities (an
    attitude's four numbers have no velocities of their own).
    """

    task: Task
    spaces: Spaces
    layout: StateLayout
    places: np.ndarray
    speeds: np.ndarray

    @classmethod
    def of(cls, task: Task) -> World:
        """Make the task's environment once and look."""
        environment = task.make()
        try:
            model = cast(Any, environment).model
            return cls(task, Spaces.of(environment), StateLayout.of(model), *_places_and_speeds(model))
        finally:
            environment.close()

    @property
    def description(self) -> str:
        """The task and its environment, for messages."""
        gone = self.task.disturbances.removed
        without = f" without {', '.join(gone)}" if gone else ""
        return f"task {self.task.name} ({describe(self.task.environment_id, self.task.keywords)}){without}"

    @property
    def in_own_units(self) -> bool:
        """Whether the environment's units are −1 to 1 themselves."""
        return bool((self.spaces.action_offset == 0).all() and (self.spaces.action_scale == 1).all())

    def scaled(self, actions: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [−1, 1] in the environment's units (float64), bit-equal to ``TaskBatch``'s."""
        scaled = actions.astype(np.float64) * self.spaces.action_scale + self.spaces.action_offset
        return np.clip(scaled, self.spaces.action_low, self.spaces.action_high)

    def normalised(self, actions: np.ndarray) -> np.ndarray:
        """Actions (N, A) in the environment's units in [−1, 1] (float64, or as they are where that is the same), not
        clipped."""
        if self.in_own_units:
            return actions
        return (actions.astype(np.float64) - self.spaces.action_offset) / self.spaces.action_scale

    def preceding_controls(self, actions: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The controls (N, A) still set before each action: the preceding one's, or those after a reset."""
        controls = np.roll(self.scaled(actions), 1, axis=0)
        fresh = self.layout.fresh[self.layout.columns["ctrl"]]
        if controls.shape[1] == len(fresh):  # otherwise actions are no controls, and the caller finds no match
            controls[starts] = fresh
        return controls


def _places_and_speeds(model: Any) -> tuple[np.ndarray, np.ndarray]:
    pairs: list[tuple[int, int]] = []
    for kind, place, speed in zip(model.jnt_type, model.jnt_qposadr, model.jnt_dofadr, strict=True):
        pairs += [(int(place) + i, int(speed) + i) for i in range(_LENGTHS.get(int(kind), 1))]
    places, speeds = np.array(pairs, np.int64).reshape(-1, 2).T
    return places, speeds


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The environment that a file names: its id, its arguments, and a time limit where they had one."""

    environment_id: str
    keywords: Mapping[str, Any]
    limit: int | None = None

    def __str__(self) -> str:
        return describe(self.environment_id, self.keywords)


def describe(environment_id: str, keywords: Mapping[str, Any]) -> str:
    """An environment as one would call it: ``Ant-v5(include_cfrc_ext_in_observation=False)``."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(keywords.items()))
    return f"{environment_id}({arguments})" if arguments else environment_id


def recorded_environment(path: Path, attributes: Mapping[str, Any]) -> Recorded | None:
    """The environment by the attributes ``env_id`` and ``env_kwargs`` (JSON); none when there is no such.

    Errors: :class:`InputError` when they are not what they should be.
    """
    environment_id = attributes.get("env_id")
    if environment_id is None:
        return None
    text = attributes.get("env_kwargs", "{}")
    try:
        keywords = parse_json(text)
    except ValueError:
        keywords = None
    named = isinstance(environment_id, str) and environment_id.isprintable()
    if not named or not isinstance(keywords, dict):
        raise InputError(
            f"{path}: attributes 'env_id' and 'env_kwargs' are {in_words(repr(environment_id))} and "
            f"{in_words(repr(text))} but must be an environment id and its arguments as a JSON object"
        )
    keywords = cast(dict[str, Any], keywords)
    # These two say how it was run, not which environment it was.
    limit = keywords.pop("max_episode_steps", None)
    keywords.pop("render_mode", None)
    return Recorded(environment_id, keywords, limit if isinstance(limit, int) and limit > 0 else None)


def recorded_disturbances(path: Path, attributes: Mapping[str, Any]) -> Disturbances:
    """What the robot of a recording suffered from, by the attribute ``disturbances`` (JSON) that `record` writes.

    Errors: :class:`InputError` when it is not what it should be.
    """
    text = attributes.get(DISTURBANCES, "{}")
    try:
        found = Disturbances.of_values(parse_json(text))
    except (ValueError, InputError) as error:
        raise InputError(
            f"{path}: attribute '{DISTURBANCES}' is {in_words(repr(text))} but must be those that a robot can have "
            f"({in_words(error)}); remove it, or give the task"
        ) from error
    factors = [*found.actuators.values(), *(factor for body in found.bodies.values() for factor in body.values())]
    if any(factor > _LARGEST_FACTOR for factor in factors):
        raise InputError(f"{path}: attribute '{DISTURBANCES}' has factors above {_LARGEST_FACTOR:g}; give the task")
    return found


def world_for(path: Path, task: Task | None, attributes: Mapping[str, Any], recorded: Recorded | None) -> World:
    """The world of the task to read a file for: the given one, or the one that the file says, with the disturbances
    that it was recorded under.

    Errors: :class:`InputError` as :func:`task_for`, and when the environment that the file names cannot be made or
    stepped with the arguments and disturbances that it names.
    """
    found = task_for(path, task, attributes, recorded)
    if task is None:
        found = dataclasses.replace(found, disturbances=recorded_disturbances(path, attributes))
    if task is not None or found in TASKS.values():
        return World.of(found)
    suffered = found.disturbances.to_values()
    name = in_words(describe(found.environment_id, found.keywords) + (f" under {suffered}" if suffered else ""))
    try:
        if not _sound_maze(found.keywords):
            raise ValueError("its maze has no two places, or too many")
        world = World.of(found)
        if not world.spaces.control_rate >= _SLOWEST:
            raise ValueError(f"it would act {world.spaces.control_rate:.2g} times a second, as nothing does")
        environment = found.make()
        try:
            environment.reset(seed=0)
            environment.step(np.zeros(world.spaces.action_size, np.float32))
        finally:
            environment.close()
    except Exception as error:  # over arguments that are not meant for it, an environment can raise anything
        why = in_words(error)
        raise InputError(f"{path}: names {name}, which cannot be made ({why}); give the task to use it for") from error
    return world


def _sound_maze(keywords: Mapping[str, Any]) -> bool:
    """Whether a maze among an environment's arguments is one that gymnasium-robotics can make, and starts in.

    It draws a place until that is not the goal's, for ever if there is no other (envs/maze/maze_v4.py and
    maze_env.py), and MuJoCo's time grows with the square of the walls.
    """
    if "maze_map" not in keywords:
        return True
    cells = [cell for row in keywords["maze_map"] for cell in row]
    starts, goals, either, free = (cells.count(cell) for cell in ("r", "g", "c", 0))
    apart = starts > 0 or either > 1 or (either == 0 and (free > 1 or goals > 0))
    return apart and len(cells) <= _CELLS


def task_for(path: Path, task: Task | None, attributes: Mapping[str, Any], recorded: Recorded | None) -> Task:
    """The task to read a file for: the given one if it fits what the file says, or the one that it says.

    Errors: :class:`InputError` when the file was recorded on another environment, or says nothing to go by.
    """
    named = attributes.get("task")
    if task is None and recorded is None and not isinstance(named, str):
        raise InputError(f"{path}: does not say on which environment it was recorded; give the task")
    if task is None and isinstance(named, str):
        task = TASKS.get(named) if recorded is not None else _named_task(path, named)
    if task is not None and recorded is not None:
        check_environment(path, task, recorded)
    if task is not None or recorded is None:
        return cast(Task, task)
    return task_of_environment(recorded.environment_id, recorded.keywords) or _registered_task(path, recorded)


def _named_task(path: Path, name: str) -> Task:
    try:
        return find_task(name)
    except InputError as error:
        raise InputError(f"{path}: was recorded in task {in_words(name)}, which is none here; give the task") from error


def _which(recorded: Recorded) -> str:
    """The name of the task table's task that a file was recorded on, as a clause; empty if there is none."""
    same = [t.name for t in TASKS.values() if describe(t.environment_id, t.keywords) == str(recorded)]
    return f" (task={same[0]})" if same else ""


def check_environment(source: Path | str, task: Task, recorded: Recorded) -> None:
    """See whether a recording was made on the task's environment; another version of it passes with a warning.

    Errors: :class:`InputError` when it is of another environment, or the same with other arguments.
    """
    wanted = describe(task.environment_id, task.keywords)
    if str(recorded) == wanted:
        return
    family, version, _ = recorded.environment_id.rpartition("-v")
    same_family = bool(version) and task.environment_id.startswith(f"{family}-v")
    if not same_family or recorded.environment_id == task.environment_id:
        raise InputError(
            f"{source}: was recorded on {in_words(recorded)}, but task {task.name} is {wanted}; "
            f"give the task it was recorded on{_which(recorded)}, or demonstrations of this one"
        )
    # Arguments mean different things in different versions; sizes are compared when the arrays are read.
    was = in_words(recorded)
    _log.warning("%s: was recorded on %s and is used for %s, whose physics may differ", source, was, wanted)


def _registered_task(path: Path, recorded: Recorded) -> Task:
    try:
        found = find_task(recorded.environment_id)
    except InputError as error:
        raise InputError(
            f"{path}: was recorded on {in_words(recorded)}, which is no task here; give the task to use it for"
        ) from error
    ends = found.terminates and all(recorded.keywords.get(name, True) for name in _ENDS)
    return dataclasses.replace(found, keywords=dict(recorded.keywords), terminates=ends)


def task_named(demonstrations: Demonstrations) -> Task:
    """The task that demonstrations name, with the arguments of their environment where the table has it not, and the
    disturbances that they were recorded under.

    Errors: :class:`InputError` when there is none of that name.
    """
    known = demonstrations.task_name in TASKS
    task = TASKS[demonstrations.task_name] if known else find_task(demonstrations.task_name)
    if not known and task.environment_id == demonstrations.environment_id:
        task = dataclasses.replace(task, keywords=dict(demonstrations.environment_keywords))
    suffered = recorded_disturbances(Path(demonstrations.source), demonstrations.metadata)
    return dataclasses.replace(task, disturbances=suffered)


def finite_number(path: Path, attributes: Mapping[str, Any], name: str) -> float | None:
    """A numeric attribute, or none when the file does not have it.

    Errors: :class:`InputError` when it is not a finite number.
    """
    value = attributes.get(name)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{path}: attribute '{name}' is {in_words(repr(value))} but must be a finite number")
    return number
