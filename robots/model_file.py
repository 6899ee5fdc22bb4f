"""Any robot whose MJCF file somebody has: to be driven, recorded and cloned, without a task of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

_RATE = 50.0  # Hz at which it is told what to do, as near as its time step allows
_SPREAD = 0.005  # of the initial positions and velocities


class ModelFile(MujocoEnv):
    """A robot from a file of MJCF.

    Observations are all positions and velocities, actions the controls in their ranges, of which every actuator must
    have one. There is no reward, and nothing ends an episode early. An episode starts in the model's own position, or
    its first keyframe, but for a little noise.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]
    }

    def __init__(self, xml_file: str, render_mode: str | None = None) -> None:
        super().__init__(xml_file, 1, None, render_mode=render_mode)
        model: Any = self.model
        if not model.nu or not np.asarray(model.actuator_ctrllimited).all():
            raise ValueError("it needs actuators, each with a ctrlrange")
        self.frame_skip = max(1, round(1 / (_RATE * model.opt.timestep)))
        self.observation_structure = {"qpos": int(model.nq), "qvel": int(model.nv)}
        self.observation_space = Box(-np.inf, np.inf, (model.nq + model.nv,), np.float64)
        if model.nkey:
            self.init_qpos, self.init_qvel = model.key_qpos[0].copy(), model.key_qvel[0].copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """A fiftieth of a second, or so."""
        self.do_simulation(action, self.frame_skip)
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), np.float64(0), False, False, {}

    def reset_model(self) -> np.ndarray:
        """Almost where the model puts it."""
        model: Any = self.model
        positions = self.init_qpos + self.np_random.uniform(-_SPREAD, _SPREAD, model.nq)
        self.set_state(positions, self.init_qvel + self.np_random.uniform(-_SPREAD, _SPREAD, model.nv))
        return self._get_obs()

    def _get_obs(self) -> np.ndarray:
        return np.concatenate((self.data.qpos, self.data.qvel))
