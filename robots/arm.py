"""An arm of six joints that takes velocities, reaching for places and pushing a block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import mujoco as _untyped_mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

mujoco: Any = _untyped_mujoco

ASSETS = Path(__file__).parent.parent / "assets"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_pitch", "wrist_yaw", "wrist_roll")
REACHED, PUSHED = 0.02, 0.03  # m from the target that are success
BLOCK = 0.035  # m, half a side of the block
_NEAR = 0.2  # m by which a reward falls off
_SPREAD = 0.1  # rad of the initial joints, to each side
_EFFORT = 0.02  # what the mean square of the actions costs, in (rad/s)^-2
_AXES = ("x", "y", "z")
_JOINT_FEATURES = {
    **{f"{joint}.position": "rad" for joint in JOINTS},
    **{f"{joint}.velocity": "rad/s" for joint in JOINTS},
}


def _metres(name: str) -> dict[str, str]:
    return {f"{name}.{axis}": "m" for axis in _AXES}


class Arm(MujocoEnv):
    """What both tasks share: six joints that are told velocities in rad/s, a tool, and a target (3,) in m.

    The target is a body without mass that MuJoCo keeps the place of, so its state says where it is. An observation ends
    with it, and begins with what is to get there. ``info["success"]`` says whether it is there, which ends nothing.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 25,
    }
    whole: ClassVar[bool] = True  # observations have a place for every joint: none can be removed
    observation_structure: ClassVar[dict[str, int]]
    observation_features: ClassVar[dict[str, str]]
    action_features: ClassVar[dict[str, str]] = {f"{joint}.velocity": "rad/s" for joint in JOINTS}

    def __init__(self, model: str, render_mode: str | None) -> None:
        space = Box(-np.inf, np.inf, (sum(self.observation_structure.values()),), np.float64)
        super().__init__(
            str(ASSETS / model), 10, space, render_mode=render_mode, camera_name="side", width=640, height=480
        )
        self.init_qpos = self.model.key("home").qpos.copy()
        self._tool = int(self.model.site("tool").id)

    @property
    def target(self) -> np.ndarray:
        """Where what is moved is to go (3,), in m from the foot of the arm."""
        return self.data.mocap_pos[0]

    def recall(self, observation: np.ndarray) -> None:
        """Take what positions and velocities do not say, the target, from a recorded observation (O,)."""
        self.data.mocap_pos[0] = observation[-3:]

    def _tool_position(self) -> np.ndarray:
        # A step of MuJoCo's leaves places as they were before it moved: what is seen belongs to the present joints.
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.site_xpos[self._tool].copy()

    def _joints(self) -> np.ndarray:
        return np.concatenate((self.data.qpos[:6], self.data.qvel[:6]))

    def _moved(self, action: np.ndarray, success: bool, closeness: float) -> tuple[np.float64, dict[str, Any]]:
        """The reward of a step and what is known besides."""
        if self.render_mode == "human":
            self.render()
        return np.float64(closeness + success - _EFFORT * np.square(action).mean()), {"success": success}

    def _draw_joints(self) -> np.ndarray:
        positions = self.init_qpos.copy()
        positions[:6] += self.np_random.uniform(-_SPREAD, _SPREAD, 6)
        return positions


class ArmReach(Arm):
    """The tool is to get to a target in the air, and to stay there.

    Observations (21,) are the tool's position, the joints' positions and velocities, the way from the tool to the
    target, and the target. The reward of a step is 1 − tanh(d / 0.2 m) for the distance d of tool and target, plus 1
    within 2 cm, less a fiftieth of the mean square of the action.
    """

    observation_structure: ClassVar[dict[str, int]] = {
        "tool": 3, "joint_positions": 6, "joint_velocities": 6, "tool_to_target": 3, "target": 3,
    }  # fmt: skip
    observation_features: ClassVar[dict[str, str]] = {
        **_metres("tool"),
        **_JOINT_FEATURES,
        **_metres("tool_to_target"),
        **_metres("target"),
    }

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__("arm_reach.xml", render_mode)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Turn the joints for a twenty-fifth of a second."""
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        distance = float(np.linalg.norm(observation[:3] - self.target))
        reward, about = self._moved(action, distance < REACHED, closeness(distance))
        return observation, reward, False, False, about

    def reset_model(self) -> np.ndarray:
        """At rest near home, with a target anywhere in front."""
        self.set_state(self._draw_joints(), np.zeros(self.model.nv))
        self.data.mocap_pos[0] = self.np_random.uniform((0.3, -0.35, 0.05), (0.6, 0.35, 0.45))
        return self._get_obs()

    def _get_obs(self) -> np.ndarray:
        tool = self._tool_position()
        return np.concatenate((tool, self._joints(), self.target - tool, self.target))


class ArmPush(Arm):
    """A block on the table is to get to a target, pushed by the tool.

    Observations (32,) are the block's position, its heading as cosine and sine, its velocity in m/s, the tool's
    position, the joints' positions and velocities, the ways from the tool to the block and from the block to the
    target, and the target. The reward of a step is 1 − tanh(d / 0.2 m) for the distance d of block and target, plus a
    fifth of the same for the distance of tool and block, plus 1 with the block within 3 cm, less a fiftieth of the mean
    square of the action.
    """

    observation_structure: ClassVar[dict[str, int]] = {
        "block": 3, "block_heading": 2, "block_velocity": 3, "tool": 3, "joint_positions": 6, "joint_velocities": 6,
        "tool_to_block": 3, "block_to_target": 3, "target": 3,
    }  # fmt: skip
    observation_features: ClassVar[dict[str, str]] = {
        **_metres("block"),
        "block_heading.cosine": "1",
        "block_heading.sine": "1",
        **{f"block_velocity.{axis}": "m/s" for axis in _AXES},
        **_metres("tool"),
        **_JOINT_FEATURES,
        **_metres("tool_to_block"),
        **_metres("block_to_target"),
        **_metres("target"),
    }

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__("arm_push.xml", render_mode)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Turn the joints for a twenty-fifth of a second."""
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        block, tool = observation[:3], observation[8:11]
        distance = float(np.linalg.norm(block - self.target))
        near = closeness(distance) + closeness(float(np.linalg.norm(tool - block))) / 5
        reward, about = self._moved(action, distance < PUSHED, near)
        return observation, reward, False, False, about

    def reset_model(self) -> np.ndarray:
        """At rest near home, with the block in front and a target 10 to 20 cm from it in any direction."""
        draw, positions = self.np_random.uniform, self._draw_joints()
        turned, away, direction = draw(-np.pi / 4, np.pi / 4), draw(0.1, 0.2), draw(-np.pi, np.pi)
        block = np.array([*draw((0.43, -0.12), (0.53, 0.12)), BLOCK])
        positions[6:] = [*block, np.cos(turned / 2), 0, 0, np.sin(turned / 2)]
        self.set_state(positions, np.zeros(self.model.nv))
        self.data.mocap_pos[0] = block + away * np.array([np.cos(direction), np.sin(direction), 0])
        return self._get_obs()

    def _get_obs(self) -> np.ndarray:
        positions, velocities = self.data.qpos, self.data.qvel
        w, x, y, z = positions[9:13]
        turned = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        block, tool = positions[6:9], self._tool_position()
        return np.concatenate(
            (
                block,
                (np.cos(turned), np.sin(turned)),
                velocities[6:9],
                tool,
                self._joints(),
                block - tool,
                self.target - block,
                self.target,
            )
        )


def closeness(distance: float) -> float:
    """1 at a distance of 0, and less the further, by a scale of 0.2 m."""
    return float(1 - np.tanh(distance / _NEAR))
