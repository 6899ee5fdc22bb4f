"""The mazes of gymnasium-robotics (PointMaze, AntMaze) as flat MuJoCo tasks whose state can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

_PARTS = ("achieved_goal", "observation", "desired_goal")


class GoalMaze(MujocoEnv):
    """A maze that holds a robot's environment inside, seen as that environment.

    Observations are the robot's position in the plane, the rest of what the maze calls its observation, and the goal's
    position. The goal is one of the things that a restored state brings back: :meth:`recall` takes it from a
    recorded observation.
    """

    def __init__(self, maze: Any) -> None:
        # MujocoEnv's own constructor would load a model of its own: here it is the one inside the maze.
        self._maze = maze
        self._robot = robot = robot_of(maze)
        self.model, self.data = robot.model, robot.data
        self.mujoco_renderer, self.fullpath, self.frame_skip = robot.mujoco_renderer, robot.fullpath, robot.frame_skip
        self.action_space, self.render_mode = robot.action_space, robot.render_mode
        self.goal = np.zeros(2)
        maze.goal = self.goal
        parts = maze._get_obs(_seen(robot))
        self.observation_structure = {name: len(parts[name]) for name in _PARTS}
        self.observation_space = Box(-np.inf, np.inf, (sum(self.observation_structure.values()),), np.float64)

    @property
    def robot(self) -> MujocoEnv:
        """The environment of the robot alone."""
        return self._robot

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the maze's map, walls included."""
        maze = self._maze.maze
        return int(maze.map_length), int(maze.map_width)

    @property
    def np_random(self) -> np.random.Generator:
        """The maze's stream: it alone draws starts and goals."""
        return self._maze.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._maze.np_random = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new start and a new goal, of the maze's own."""
        observation, info = self._maze.reset(seed=seed)
        self.goal = self._maze.goal.copy()
        return _flat(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """As the maze does it, for the present goal."""
        self._maze.goal = self.goal.copy()
        observation, reward, terminated, _, info = self._maze.step(action)
        self.goal = self._maze.goal.copy()
        return _flat(observation), np.float64(reward), bool(terminated), False, info

    def recall(self, observation: np.ndarray) -> None:
        """Take the goal of a recorded observation (O,)."""
        self.goal = np.asarray(observation[-2:], np.float64)
        self._maze.goal = self.goal.copy()
        self._maze.update_target_site_pos()

    def render(self) -> Any:
        """A picture."""
        return self._robot.render()

    def close(self) -> None:
        """Free the maze, and the file that it made."""
        self._maze.close()
        Path(self.fullpath).unlink(missing_ok=True)

    def _get_obs(self) -> np.ndarray:
        self._maze.goal = self.goal.copy()
        return _flat(self._maze._get_obs(_seen(self._robot)))


def robot_of(maze: Any) -> MujocoEnv:
    """The robot's environment inside a maze."""
    return maze.point_env if hasattr(maze, "point_env") else maze.ant_env


def _seen(robot: MujocoEnv) -> np.ndarray:
    seen: Any = robot._get_obs()  # pyright: ignore
    return seen[0] if isinstance(seen, tuple) else seen  # the point's comes with an info


def _flat(observation: Any) -> np.ndarray:
    return np.concatenate([observation[part] for part in _PARTS])
