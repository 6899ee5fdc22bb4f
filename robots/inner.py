"""An environment that another package made, seen as a plain MuJoCo task."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv


class Inner(MujocoEnv):
    """An environment that holds another one inside, whose state is more than MuJoCo's.

    What is more comes back from a recorded observation by :meth:`recall`.
    """

    def __init__(self, inner: Any, robot: Any, frame_skip: int) -> None:
        # MujocoEnv's own constructor would load a model of its own: here it is the one of the robot inside.
        self._inner, self._robot = inner, robot
        self.model, self.data = robot.model, robot.data
        self.mujoco_renderer, self.fullpath, self.frame_skip = robot.mujoco_renderer, robot.fullpath, frame_skip
        self.action_space, self.render_mode = robot.action_space, robot.render_mode

    @abstractmethod
    def recall(self, observation: np.ndarray) -> None:
        """Take what MuJoCo's state does not hold from a recorded observation (O,)."""

    def render(self) -> Any:
        """A picture."""
        return self._robot.render()

    def close(self) -> None:
        """Free the environment."""
        self._inner.close()
