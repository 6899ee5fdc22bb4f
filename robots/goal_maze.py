"""gymnasium-robotics' environments that are told a goal, as flat MuJoCo tasks whose state can be set: mazes."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

from .inner import Inner

_PARTS = ("achieved_goal", "observation", "desired_goal")


class GoalEnvironment(Inner):
    """An environment that is told a goal, seen as a plain one.

    Observations are what is to get to the goal, the rest of what the environment calls its observation, and the goal.
    The goal is one of the things that a restored state brings back: :meth:`recall` takes it from a recorded
    observation, as MuJoCo's own state does not hold it.
    """

    def __init__(self, inner: Any, robot: Any, frame_skip: int) -> None:
        super().__init__(inner, robot, frame_skip)
        self.goal = np.zeros(len(inner.observation_space["desired_goal"].low))
        inner.goal = self.goal
        parts = self._parts()
        self.observation_structure = {name: len(parts[name]) for name in _PARTS}
        self.observation_space = Box(-np.inf, np.inf, (sum(self.observation_structure.values()),), np.float64)

    @abstractmethod
    def _parts(self) -> Any:
        """The parts of the present observation, by name."""

    @property
    def np_random(self) -> np.random.Generator:
        """The environment's stream: it alone draws starts and goals."""
        return self._inner.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._inner.np_random = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new start and a new goal, of the environment's own."""
        observation, info = self._inner.reset(seed=seed)
        self.goal = self._inner.goal.copy()
        return _flat(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """As the environment does it, for the present goal."""
        self._inner.goal = self.goal.copy()
        observation, reward, terminated, _, info = self._inner.step(action)
        self.goal = self._inner.goal.copy()
        return _flat(observation), np.float64(reward), bool(terminated), False, info

    def recall(self, observation: np.ndarray) -> None:
        """Take the goal of a recorded observation (O,)."""
        self.goal = np.asarray(observation[-len(self.goal) :], np.float64)
        self._inner.goal = self.goal.copy()

    def _get_obs(self) -> np.ndarray:
        self._inner.goal = self.goal.copy()
        return _flat(self._parts())


class GoalMaze(GoalEnvironment):
    """A maze that holds a robot's environment inside: its goal is where the robot is to be in the plane."""

    def __init__(self, maze: Any) -> None:
        robot = robot_of(maze)
        super().__init__(maze, robot, robot.frame_skip)

    @property
    def robot(self) -> MujocoEnv:
        """The environment of the robot alone."""
        return self._robot

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the maze's map, walls included."""
        maze = self._inner.maze
        return int(maze.map_length), int(maze.map_width)

    @property
    def origin(self) -> np.ndarray:
        """Where (2,) the robot starts, of a maze in which it starts in one place, which is D4RL's origin."""
        return np.asarray(self._inner.maze.unique_reset_locations[0])

    def recall(self, observation: np.ndarray) -> None:
        """Take the goal of a recorded observation (O,)."""
        super().recall(observation)
        self._inner.update_target_site_pos()

    def close(self) -> None:
        """Free the maze, and the file that it made."""
        super().close()
        Path(self.fullpath).unlink(missing_ok=True)

    def _parts(self) -> Any:
        return self._inner._get_obs(_seen(self._robot))


def robot_of(maze: Any) -> MujocoEnv:
    """The robot's environment inside a maze."""
    return maze.point_env if hasattr(maze, "point_env") else maze.ant_env


def _seen(robot: MujocoEnv) -> np.ndarray:
    seen: Any = robot._get_obs()  # pyright: ignore
    return seen[0] if isinstance(seen, tuple) else seen  # the point's comes with an info


def _flat(observation: Any) -> np.ndarray:
    return np.concatenate([observation[part] for part in _PARTS])
