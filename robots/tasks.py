"""The task table: how a task is made, how long it lasts and what its reference returns are.

Tasks are Gymnasium MuJoCo environments. A name of the table (``hopper``) or the id of any other registered
Gymnasium MuJoCo environment (``HumanoidStandup-v5``) is a task.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import logging
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

from .arm_scripts import Pushes, Reaches
from .disturbances import Disturbances
from .errors import InputError, nearest
from .fetch import Fetch, FetchPushes, FetchReaches
from .gap_maze import GOAL
from .goal_maze import GoalMaze, robot_of
from .health import Bound, Health, height_of_tip
from .inner import Inner
from .navigation import Controller, GoesToGoal, Map, Wanders, radius_of
from .quadruped_script import Trots
from .slalom import Dodges

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Goal:
    """Where a task has its robot go: the first ``size`` numbers of an observation are to become its last ones, or,
    where the goal is always the same and not observed, those of ``place``."""

    size: int
    place: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """A task by name.

    ``horizon`` is the number of steps after which an episode is truncated. ``random_return`` is the mean
    undiscounted return of uniform random actions and ``expert_return`` that of a good controller; a score is
    normalised with them when the demonstrations do not bring their own. ``terminates`` says whether an episode
    can end before the horizon (``health`` is the rule, if known). ``disturbances`` are what its robot suffers from.
    ``succeeds`` says that a step's success is known, and in what it lies, in words. ``goal`` is where the robot is to
    go, if that is what the task is about. ``scripts`` are controllers of the task's own by name, made for its robot as
    it is.
    """

    name: str
    environment_id: str
    horizon: int
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    terminates: bool = True
    health: Health | None = None
    random_return: float | None = None
    expert_return: float | None = None
    disturbances: Disturbances = dataclasses.field(default_factory=Disturbances)
    succeeds: str = ""
    goal: Goal | None = None
    scripts: Mapping[str, Callable[[Task], Controller]] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), compare=False
    )

    def make(self, *, render: bool = False) -> MujocoEnv:
        """The bare environment, without Gymnasium's wrappers: the batch keeps time and order itself.

        Errors: :class:`InputError` when the id is not a MuJoCo environment that Gymnasium can make here.
        """
        keywords = dict(self.keywords)
        if render:
            keywords["render_mode"] = "rgb_array"
        try:
            _register(self.environment_id)
            environment: Any = gymnasium.make(
                self.environment_id, disable_env_checker=True, max_episode_steps=-1, **keywords
            ).unwrapped
        except (gymnasium.error.Error, ImportError, TypeError, *_MODEL_ERRORS) as error:
            raise InputError(
                f"task {self.name}: Gymnasium cannot make {self.environment_id}: {error}{_newer(self.environment_id)}"
            ) from error
        in_maze = hasattr(environment, "maze")
        robot: Any = robot_of(environment) if in_maze else environment
        if self.environment_id.startswith(_FETCH):
            robot = Fetch(environment)
        elif self.environment_id.startswith(_FRANKA):
            robot = importlib.import_module(_KITCHEN_FILE, __package__).GoalKitchen(environment)
        if not isinstance(robot, MujocoEnv) or not isinstance(robot.action_space, Box):
            raise InputError(f"task {self.name}: {self.environment_id} is not a Gymnasium MuJoCo environment")
        if self.disturbances != Disturbances():
            if in_maze:
                self.disturbances.check_maze(robot)
            if isinstance(robot, Fetch):
                self.disturbances.check_pulled()
            elif isinstance(robot, Inner):
                self.disturbances.check_whole()
            self.disturbances.change(robot)
        return GoalMaze(environment) if in_maze else robot

    @property
    def ends_well(self) -> bool:
        """Whether what ends an episode early is, for all that is known, that the task is done."""
        return self.terminates and self.health is None and bool(self.succeeds)

    @property
    def acts_by_period(self) -> bool:
        """Whether an action means something for a whole control period alone, as a way for a hand to go in it."""
        return self.environment_id.startswith((_FETCH, _FRANKA, _KITCHEN))

    @property
    def needs_robotics(self) -> bool:
        """Whether it is one of gymnasium-robotics, which is an extra."""
        return self.environment_id.startswith(_ROBOTICS)

    @property
    def spaces(self) -> Spaces:
        """Sizes and action bounds, read from a freshly made environment."""
        environment = self.make()
        try:
            return Spaces.of(environment)
        finally:
            environment.close()


@dataclasses.dataclass(frozen=True)
class Spaces:
    """``observation_size`` O, ``action_size`` A, the environment's own action bounds (A,), its rate in Hz."""

    observation_size: int
    action_size: int
    action_low: np.ndarray
    action_high: np.ndarray
    control_rate: float

    @classmethod
    def of(cls, environment: MujocoEnv) -> Spaces:
        """Read from an environment."""
        box = cast(Box, environment.action_space)
        return cls(
            observation_size=int(np.prod(cast(tuple[int, ...], environment.observation_space.shape))),
            action_size=int(np.prod(box.shape)),
            action_low=np.asarray(box.low, np.float64),
            action_high=np.asarray(box.high, np.float64),
            control_rate=1.0 / environment.dt,
        )

    @property
    def action_scale(self) -> np.ndarray:
        """Half the width of the action range (A,)."""
        return (self.action_high - self.action_low) / 2

    @property
    def action_offset(self) -> np.ndarray:
        """The middle of the action range (A,)."""
        return (self.action_high + self.action_low) / 2


_NO_CONTACT_FORCES = MappingProxyType({"include_cfrc_ext_in_observation": False})
_MIXED = MappingProxyType({"tasks_to_complete": ["microwave", "kettle", "bottom burner", "light switch"]})

# Returns of uniform random actions are means of 100 episodes recorded with `understudy record policy=random`;
# expert returns are those of good published SAC or TRPO policies, rounded, and in mazes the script's. They only matter
# when demonstrations bring no reference returns of their own, as training an expert has none.
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("hopper", "Hopper-v5", 1000,
                 health=Health("torso", (Bound(0, 0.7, inf, "m"), Bound(1, -0.2, 0.2, "rad of upright"))),
                 random_return=16.9, expert_return=3700.0),
            Task("walker2d", "Walker2d-v5", 1000,
                 health=Health("torso", (Bound(0, 0.8, 2.0, "m"), Bound(1, -1.0, 1.0, "rad of upright"))),
                 random_return=1.6, expert_return=5400.0),
            Task("halfcheetah", "HalfCheetah-v5", 1000, terminates=False,
                 random_return=-284.6, expert_return=9400.0),
            Task("ant", "Ant-v5", 1000, _NO_CONTACT_FORCES, health=Health("torso", (Bound(0, 0.2, 1.0, "m"),)),
                 random_return=-67.2, expert_return=5000.0),
            Task("humanoid", "Humanoid-v5", 1000, health=Health("torso", (Bound(0, 1.0, 2.0, "m"),)),
                 random_return=114.6, expert_return=9800.0),
            Task("swimmer", "Swimmer-v5", 1000, terminates=False, random_return=0.8, expert_return=360.0),
            Task("inverted-double-pendulum", "InvertedDoublePendulum-v5", 1000,
                 health=Health("tip", (Bound(height_of_tip, 1.0, inf, "m"),)),
                 random_return=49.9, expert_return=9359.0),
            Task("reacher", "Reacher-v5", 50, terminates=False, random_return=-43.0, expert_return=-4.0),
            Task("gap-maze", "understudy/GapMaze-v0", 200, terminates=False, succeeds="the disc is at the goal",
                 random_return=0.0, expert_return=157.0, goal=Goal(2, tuple(GOAL.tolist())),
                 scripts={"expert": lambda task: GoesToGoal(_map(task), slice(2, 4), GOAL),
                          "play": lambda task: Wanders(_map(task), slice(2, 4))}),
            Task("slalom", "understudy/Slalom-v0", 40, terminates=False, succeeds="the disc is at the bottom",
                 random_return=0.0, expert_return=53.0, scripts={"expert": lambda task: Dodges()}),
            Task("pointmaze", "PointMaze_UMaze-v3", 300, terminates=False, succeeds="the ball is at the goal",
                 random_return=14.1, expert_return=234.0, goal=Goal(2),
                 scripts={"expert": lambda task: GoesToGoal(_map(task), slice(4, 6), slice(6, 8)),
                          "play": lambda task: Wanders(_map(task), slice(4, 6))}),
            Task("antmaze", "AntMaze_UMaze-v5", 700, _NO_CONTACT_FORCES, terminates=False,
                 succeeds="the ant is at the goal", goal=Goal(2)),
            *(
                Task(f"d4rl-antmaze-{maze}", "understudy/D4rlAntMaze-v0", horizon, MappingProxyType({"maze": maze}),
                     succeeds="the ant is at the goal", random_return=0.0, expert_return=1.0, goal=Goal(2))
                for maze, horizon in (("umaze", 700), ("medium", 1000), ("large", 1000))
            ),
            Task("fetch-reach", "FetchReach-v4", 50, terminates=False, succeeds="the hand is at the goal",
                 random_return=-49.3, expert_return=-1.6, goal=Goal(3),
                 scripts={"expert": lambda task: FetchReaches()}),
            Task("fetch-push", "FetchPush-v4", 50, terminates=False, succeeds="the block is at the goal",
                 random_return=-46.5, expert_return=-17.6, goal=Goal(3),
                 scripts={"expert": lambda task: FetchPushes()}),
            Task("adroit-door", "AdroitHandDoor-v1", 200, terminates=False, succeeds="the door is open",
                 random_return=-45.9, expert_return=3024.0),
            Task("kitchen", "understudy/Kitchen-v0", 280, succeeds="all four things are done",
                 random_return=0.0, expert_return=4.0),
            Task("kitchen-mixed", "understudy/Kitchen-v0", 280, _MIXED, succeeds="all four things are done",
                 random_return=0.0, expert_return=4.0),
            Task("quadruped", "understudy/Quadruped-v0", 250,
                 random_return=-96.7, expert_return=349.8,
                 scripts={"trot": lambda task: Trots()}),
            Task("arm-reach", "understudy/ArmReach-v0", 100, terminates=False, succeeds="the tool is at the target",
                 random_return=12.6, expert_return=188.2, goal=Goal(3),
                 scripts={"expert": lambda task: _arm(task, Reaches)}),
            Task("arm-push", "understudy/ArmPush-v0", 200, terminates=False, succeeds="the block is at the target",
                 random_return=75.8, expert_return=315.0, goal=Goal(3),
                 scripts={"expert": lambda task: _arm(task, Pushes)}),
            Task("pusher", "Pusher-v5", 100, terminates=False, random_return=-148.8, expert_return=-25.0),
        )
    }
)  # fmt: skip


def find_task(name: str) -> Task:
    """The task of that name: one of the table, any registered Gymnasium MuJoCo id (``Hopper-v4``), or a file of MJCF
    (``my_robot.xml``), of which :class:`~.model_file.ModelFile` makes a robot without a reward.

    Errors: :class:`InputError` with the nearest names when there is none.
    """
    if name in TASKS:
        return TASKS[name]
    if name.endswith(".xml"):
        path = str(Path(name).resolve())
        return Task(path, "understudy/ModelFile-v0", 1000, MappingProxyType({"xml_file": path}), terminates=False)
    _register(name)
    specification = gymnasium.registry.get(name)
    if specification is None:
        ids = [key for key, spec in gymnasium.registry.items() if _is_ours(str(spec.entry_point))]
        raise InputError(f"unknown task {name!r}: {nearest(name, [*TASKS, *ids])}")
    horizon = specification.max_episode_steps
    if horizon is None:
        raise InputError(
            f"task {name}: its registration has no max_episode_steps, so an episode would never end{_newer(name)}"
        )
    for known in TASKS.values():
        if known.environment_id == name and not known.keywords:
            return known
        if _family(known.environment_id) == _family(name):  # other versions and mazes end alike, but return otherwise
            # A maze of the same version has the same robot: contact forces would be 78 of its ant's 109 numbers.
            alike = name.startswith(_MAZES) and name.rpartition("-")[2] == known.environment_id.rpartition("-")[2]
            keywords = known.keywords if alike else {}
            own: dict[str, Any] = {"name": name, "environment_id": name, "horizon": horizon, "keywords": keywords}
            return dataclasses.replace(known, **own, random_return=None, expert_return=None)
    return Task(
        name, name, horizon, succeeds="what the environment says" if name.startswith((_ADROIT, _FETCH, _FRANKA)) else ""
    )


def task_of_environment(environment_id: str, keywords: Mapping[str, Any]) -> Task | None:
    """The table's task for an environment id and its arguments as a demonstration file names them, or none."""
    for task in TASKS.values():
        if task.environment_id == environment_id and dict(task.keywords) == dict(keywords):
            return task
    return None


def _family(environment_id: str) -> str:
    """`Hopper` of `Hopper-v4`, `PointMaze` of `PointMaze_Large-v3`."""
    return environment_id.partition("_" if environment_id.startswith(_MAZES) else "-v")[0]


def _is_ours(entry_point: str) -> bool:
    return any(
        part in entry_point
        for part in ("mujoco", "_maze", "slalom", "adroit_hand", "envs.fetch", "kitchen", "d4rl_ant")
    )


def _register(environment_id: str) -> None:
    """Let Gymnasium know gymnasium-robotics' tasks, which are an extra, when one of them is asked for.

    Errors: :class:`InputError` when it is not installed.
    """
    known = environment_id in gymnasium.registry and not environment_id.startswith(_OURS)
    if not environment_id.startswith(_ROBOTICS) or known:
        return
    try:
        with contextlib.redirect_stderr(io.StringIO()) as news:  # of all its tasks, whichever is asked for
            importlib.import_module("gymnasium_robotics")
    except ImportError as error:
        raise InputError(
            f"task {environment_id}: gymnasium-robotics is not installed ({error}): pip install 'understudy[robots]'"
        ) from error
    told = news.getvalue().strip()
    if told:
        _log.log(logging.WARNING if environment_id in told else logging.INFO, "gymnasium-robotics: %s", told)


def _newer(environment_id: str) -> str:
    """What to say to those who ask for another version of an environment in the table: which one to use."""
    family = environment_id.rpartition("-v")[0]
    newer = [task.environment_id for task in TASKS.values() if task.environment_id.startswith(f"{family}-v")]
    return f"; use {newer[0]}" if newer and newer[0] != environment_id else ""


def _map(task: Task) -> Map:
    """The free places of a task's maze for its robot's body, which must be a ball."""
    environment = task.make()
    try:
        return Map(environment.model, *radius_of(environment.model))
    finally:
        environment.close()


def _arm(task: Task, script: Callable[[MujocoEnv], Controller]) -> Controller:
    """A script that knows the kinematics of a task's arm."""
    environment = task.make()
    try:
        return script(environment)
    finally:
        environment.close()


_MAZES = ("PointMaze_", "AntMaze_")
_ADROIT = "AdroitHand"
_FETCH = "Fetch"
_FRANKA = "FrankaKitchen"
_KITCHEN = "understudy/Kitchen"
_OURS = (_KITCHEN, "understudy/D4rlAntMaze")  # made of gymnasium-robotics' parts
_ROBOTICS = (*_MAZES, _ADROIT, _FETCH, _FRANKA, *_OURS)
_KITCHEN_FILE = ".kitchen"  # which needs the extra
_MODEL_ERRORS = (OSError, ValueError)  # of a model file that is not there, or is none
gymnasium.register("understudy/ModelFile-v0", "understudy.robots.model_file:ModelFile")
gymnasium.register("understudy/GapMaze-v0", "understudy.robots.gap_maze:GapMaze")
gymnasium.register("understudy/Slalom-v0", "understudy.robots.slalom:Slalom")
gymnasium.register("understudy/D4rlAntMaze-v0", "understudy.robots.d4rl_ant:D4rlAntMaze")
gymnasium.register("understudy/Kitchen-v0", "understudy.robots.kitchen:Kitchen")
gymnasium.register("understudy/Quadruped-v0", "understudy.robots.quadruped:Quadruped")
gymnasium.register("understudy/ArmReach-v0", "understudy.robots.arm:ArmReach")
gymnasium.register("understudy/ArmPush-v0", "understudy.robots.arm:ArmPush")
