"""A maze of our own, for experts that cannot be imitated: they fit through a gap, and a wider learner does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

MODEL = Path(__file__).parent.parent / "assets" / "gap_maze.xml"
START = np.array([-1.4, -1.0])
GOAL = np.array([1.4, -1.0])
GOAL_RADIUS = 0.3
_SPREAD = 0.2  # of the initial positions, to each side


class GapMaze(MujocoEnv):
    """A disc in the plane that is to get to the goal behind a wall, and to stay there.

    Observations are position and velocity (4,) in m and m/s, actions forces (2,), the reward of a step is 1 at the
    goal and 0 elsewhere, and nothing ends an episode early. ``info["success"]`` says whether the disc is at the
    goal. Its size, weight and so on are changed as any robot's are (``disturbances.bodies={disc: {length: 2.5}}``).
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 20,
    }
    observation_structure: ClassVar[dict[str, int]] = {"qpos": 2, "qvel": 2}

    def __init__(self, render_mode: str | None = None) -> None:
        space = Box(-np.inf, np.inf, (4,), np.float64)
        super().__init__(str(MODEL), 5, space, render_mode=render_mode, camera_name="above")

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Push for a twentieth of a second."""
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        there = bool(np.linalg.norm(observation[:2] - GOAL) <= GOAL_RADIUS)
        if self.render_mode == "human":
            self.render()
        return observation, np.float64(there), False, False, {"success": there}

    def reset_model(self) -> np.ndarray:
        """At rest, somewhere about the start."""
        self.set_state(START + self.np_random.uniform(-_SPREAD, _SPREAD, 2), np.zeros(2))
        return self._get_obs()

    def _get_obs(self) -> np.ndarray:
        return np.concatenate((self.data.qpos, self.data.qvel))
