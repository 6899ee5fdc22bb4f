"""A walking robot with four legs and twelve motors that hold their joints at targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

MODEL = Path(__file__).parent.parent / "assets" / "quadruped.xml"
LEGS = ("front_left", "front_right", "rear_left", "rear_right")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("roll", "pitch", "knee"))
STANCE = np.tile([0.0, 0.8, -1.6], 4)  # rad
SPEED = 0.6  # m/s, forward, that it is to walk at
CYCLE = 0.5  # s, of the trot
CLEARANCE = 0.06  # m that a foot is lifted at the top of its swing
FOOT_RADIUS = 0.022  # m
LOWEST, STEEPEST = 0.18, 0.7  # m of the trunk's middle above the floor; cosine of its tilt
FIRST_SWING = np.array([1.0, -1.0, -1.0, 1.0])  # the diagonal of the front left leg swings first
_SPREAD = 0.05  # rad and m/s of the initial state, to each side
_ALIVE, _SIDE, _TURN, _TILT, _GAIT, _HASTE = 0.5, 0.5, 0.5, 0.5, 1.0, 0.02  # weights of the reward's parts
_AXES = ("x", "y", "z")


class Quadruped(MujocoEnv):
    """A robot of 12 kg that is to trot forward at 0.6 m/s; a fall ends the episode.

    Actions are targets of the twelve joints in rad, about a stance: what they range in is the motors' ``ctrlrange``.
    Observations (47,) are what such a robot knows of itself: the trunk's velocity, its angular velocity and the
    direction of gravity, all in the trunk's own frame, joint positions less the stance, joint velocities, the last
    targets less the stance, and the trot's clock. They hold for whichever way it faces. The state that MuJoCo keeps
    says them all.

    The reward of a step is 0.5 for being up, plus 1 at the right speed and less in proportion to the difference (0 at
    rest, no less than −1), less 0.5 a m/s sideways, 0.5 a rad/s of turning, 0.5 (1 − cos tilt), how far feet are off
    the trot (their heights from those of a swing 6 cm high in its half of the cycle and of the floor in the other, on
    average, in units of 6 cm) and a fiftieth of the mean square of what targets moved by, in units of a tenth of a rad.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 25,
    }
    whole: ClassVar[bool] = True  # observations have a place for every joint: none can be removed
    observation_structure: ClassVar[dict[str, int]] = {
        "velocity": 3, "angular_velocity": 3, "gravity": 3, "joint_positions": 12, "joint_velocities": 12,
        "targets": 12, "clock": 2,
    }  # fmt: skip
    observation_features: ClassVar[dict[str, str]] = {
        **{f"velocity.{axis}": "m/s" for axis in _AXES},
        **{f"angular_velocity.{axis}": "rad/s" for axis in _AXES},
        **{f"gravity.{axis}": "1" for axis in _AXES},
        **{f"{joint}.position": "rad" for joint in JOINTS},
        **{f"{joint}.velocity": "rad/s" for joint in JOINTS},
        **{f"{joint}.target": "rad" for joint in JOINTS},
        "clock.sine": "1",
        "clock.cosine": "1",
    }
    action_features: ClassVar[dict[str, str]] = {f"{joint}.target": "rad" for joint in JOINTS}

    def __init__(self, render_mode: str | None = None) -> None:
        space = Box(-np.inf, np.inf, (sum(self.observation_structure.values()),), np.float64)
        super().__init__(str(MODEL), 10, space, render_mode=render_mode, camera_name="track", width=640, height=480)
        self.init_qpos = self.model.key("stance").qpos.copy()
        self._feet = np.array([self.model.geom(f"{leg}_foot").id for leg in LEGS])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Hold the targets for a twenty-fifth of a second."""
        moved = action - self.data.ctrl
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        (forward, sideways, _), turning, down = observation[:3], observation[5], observation[8]
        parts = {
            "alive": _ALIVE,
            "speed": max(1 - abs(forward - SPEED) / SPEED, -1.0),
            "sideways": -_SIDE * abs(sideways),
            "turning": -_TURN * abs(turning),
            "tilt": -_TILT * (1 + down),
            "gait": -_GAIT * float(np.abs(self._heights() - self._swing()).mean()) / CLEARANCE,
            "haste": -_HASTE * float(np.square(moved / 0.1).mean()),
        }
        fallen = bool(self.data.qpos[2] < LOWEST or -down < STEEPEST)
        if self.render_mode == "human":
            self.render()
        return observation, np.float64(sum(parts.values())), fallen, False, {"reward_parts": parts}

    def reset_model(self) -> np.ndarray:
        """Nearly at rest in a stance, drawn from a small range."""
        draw = self.np_random.uniform
        positions, velocities = self.init_qpos.copy(), draw(-_SPREAD, _SPREAD, self.model.nv)
        positions[7:] += draw(-_SPREAD, _SPREAD, len(JOINTS))
        self.data.ctrl[:] = STANCE
        self.set_state(positions, velocities)
        return self._get_obs()

    def recall(self, observation: np.ndarray) -> None:
        """Take what positions and velocities do not say, targets and clock, from a recorded observation (O,)."""
        self.data.ctrl[:] = observation[33:45] + STANCE
        self.data.time = float(np.arctan2(*observation[45:47]) / (2 * np.pi) % 1) * CYCLE

    def _phase(self) -> float:
        return 2 * np.pi * self.data.time / CYCLE

    def _swing(self) -> np.ndarray:
        """How high the trot would have the feet (4,) in m."""
        return CLEARANCE * np.maximum(FIRST_SWING * np.sin(self._phase()), 0)

    def _heights(self) -> np.ndarray:
        """How high the feet are above the floor (4,) in m."""
        return self.data.geom_xpos[self._feet, 2] - FOOT_RADIUS

    def _get_obs(self) -> np.ndarray:
        positions, velocities = self.data.qpos, self.data.qvel
        to_trunk = _rotation(positions[3:7]).T
        clock = self._phase()
        return np.concatenate(
            (
                to_trunk @ velocities[:3],
                velocities[3:6],
                -to_trunk[:, 2],
                positions[7:] - STANCE,
                velocities[6:],
                self.data.ctrl - STANCE,
                (np.sin(clock), np.cos(clock)),
            )
        )


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) of a quaternion (w, x, y, z), which simulators keep at unit length up to rounding."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
