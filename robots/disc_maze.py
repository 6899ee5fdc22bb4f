"""What our own mazes share: a disc in the plane, pushed about, that is to get somewhere."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

ASSETS = Path(__file__).parent.parent / "assets"


class DiscMaze(MujocoEnv, abc.ABC):
    """Observations are position and velocity (4,) in m and m/s, actions forces, the reward of a step is 1 at the goal
    and 0 elsewhere, and nothing ends an episode early. ``info["success"]`` says whether the disc is at the goal. Its
    size, weight and so on are changed as any robot's are (``disturbances.bodies={disc: {length: 2.5}}``).

    Subclasses say which file of the assets it is, how many of the model's steps an action lasts, and where disc and
    goal are.
    """

    model_file: ClassVar[str]
    action_steps: ClassVar[int]
    observation_structure: ClassVar[dict[str, int]] = {"qpos": 2, "qvel": 2}

    def __init__(self, render_mode: str | None = None) -> None:
        space, path = Box(-np.inf, np.inf, (4,), np.float64), str(ASSETS / self.model_file)
        super().__init__(path, self.action_steps, space, render_mode=render_mode, camera_name="above")

    @abc.abstractmethod
    def there(self, place: np.ndarray) -> bool:
        """Whether a place (2,) is at the goal."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Push for the time of an action."""
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        there = self.there(observation[:2])
        if self.render_mode == "human":
            self.render()
        return observation, np.float64(there), False, False, {"success": there}

    def _get_obs(self) -> np.ndarray:
        return np.concatenate((self.data.qpos, self.data.qvel))


def rendering(rate: int) -> dict[str, Any]:
    """Gymnasium's metadata for pictures at a control rate in Hz."""
    return {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": rate}
