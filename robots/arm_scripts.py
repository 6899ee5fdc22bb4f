"""Scripted experts of the arm: inverse kinematics that moves the tool to a target, or a block to a target with it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import mujoco as _untyped_mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from .arm import BLOCK

mujoco: Any = _untyped_mujoco

_GAIN = 4.0  # 1/s, of the tool's way to where it is to be
_FAST = 0.5  # m/s, at most, of the tool in the air
_STEER = 12.0  # 1/s, of the tool's way back to the line of the push
_UPRIGHT = 4.0  # 1/s, of the peg's way to pointing down
_DAMPING = 0.05  # of the least squares: how far from singular they are kept
_POSTURE = 1.0  # 1/s, of the way to home with what the task leaves free
_BESIDE = 0.03  # m that a push may go past the block's middle
_THERE = 0.01  # m from the target where the block is left alone


@dataclasses.dataclass(frozen=True)
class Pushing:
    """How a tool pushes a block, in m and m/s: ``half`` a side of the block, the ``table``'s height, how far above it
    the tool is to push (``low``) and to pass over the block (``high``), how far ``behind`` the block's middle it comes
    down and how far from it it is ``clear``; the ``gain`` of its ways in 1/s, and its speed in the air (``fast``) and
    at the block (``push``)."""

    half: float = BLOCK
    table: float = 0.0
    low: float = 0.03
    high: float = 0.12
    behind: float = 0.075
    clear: float = 0.085
    gain: float = _GAIN
    fast: float = _FAST
    push: float = 0.15


class InverseKinematics:
    """Joint velocities for a velocity of the tool, by damped least squares (Wampler 1986; Nakamura and Hanafusa 1986).

    What the task leaves free brings the joints back to home.
    """

    def __init__(self, environment: MujocoEnv) -> None:
        self._model: Any = environment.model
        self._data = mujoco.MjData(self._model)
        self._home = self._model.key("home").qpos[:6]
        self._limits = self._model.actuator_ctrlrange[:, 1].copy()
        self._site = self._model.site("tool").id

    def action(self, joints: np.ndarray, velocity: np.ndarray, *, down: bool) -> np.ndarray:
        """The action (6,) in [−1, 1] at joints (6,) in rad for a velocity (3,) of the tool in m/s; ``down`` has the peg
        turn until it points down."""
        self._data.qpos[:6] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        linear, angular = np.zeros((2, 3, self._model.nv))
        mujoco.mj_jacSite(self._model, self._data, linear, angular, self._site)
        jacobian, wanted = linear[:, :6], velocity
        if down:
            peg = self._data.site_xmat[self._site].reshape(3, 3)[:, 0]
            turn = _UPRIGHT * np.cross(peg, [0, 0, -1.0])
            jacobian, wanted = np.vstack((jacobian, angular[:2, :6])), np.concatenate((velocity, turn[:2]))
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(len(wanted)))
        free = np.eye(6) - inverse @ jacobian
        action = (inverse @ wanted + free @ (_POSTURE * (self._home - joints))) / self._limits
        return action / max(1.0, float(np.abs(action).max()))  # as a whole, so that the tool keeps its direction


class _ArmScript(abc.ABC):
    """What moves the arm by what one observation says."""

    def __init__(self, environment: MujocoEnv) -> None:
        self._kinematics = InverseKinematics(environment)

    def begin(self, seeds: Sequence[int]) -> None:  # noqa: B027 (nothing to begin with is what a script does)
        """Nothing is random."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 6)."""
        return np.stack([self._one(row.astype(np.float64)) for row in observations])

    @abc.abstractmethod
    def _one(self, row: np.ndarray) -> np.ndarray:
        """The action (6,) for an observation (O,)."""


class Reaches(_ArmScript):
    """Moves the tool straight to the target."""

    def _one(self, row: np.ndarray) -> np.ndarray:
        return self._kinematics.action(row[3:9], at_most(_GAIN * (row[-3:] - row[:3]), _FAST), down=False)


class Pushes(_ArmScript):
    """Lowers the tool behind the block, as seen from the target, and pushes; begins again when it slips off.

    It remembers nothing: what it does follows from the observation, as it will for those who imitate it.
    """

    def _one(self, row: np.ndarray) -> np.ndarray:
        velocity = push_velocity(row[8:11], row[:2], row[-3:-1], Pushing())
        return self._kinematics.action(row[11:17], velocity, down=True)


def push_velocity(tool: np.ndarray, block: np.ndarray, target: np.ndarray, how: Pushing) -> np.ndarray:
    """The velocity (3,) in m/s of a tool (3,) that pushes a block (2,) to a target (2,), all in m."""
    way, height = target - block, tool[2] - how.table
    left = float(np.linalg.norm(way))
    if left < _THERE:
        return at_most(how.gain * np.array([0, 0, how.high - height]), how.push)
    along = way / left
    offset = tool[:2] - block
    behind = -float(offset @ along)
    across = offset + behind * along
    beside = float(np.linalg.norm(across))
    if beside < _BESIDE and how.half < behind < how.behind + 0.02 and height < 2 * how.half:
        # Not before it is low; then forward, and back to the line through the block's middle meanwhile.
        forward = min(how.gain * left + 0.03, how.push) if height < how.low + 0.015 else 0.0
        return np.array([*(forward * along - _STEER * across), how.gain * (how.low - height)])
    to_start = -how.behind * along - offset
    wanted = how.low if np.linalg.norm(to_start) < how.behind / 5 else how.high
    rising = height < 2 * how.half + 0.02 and np.linalg.norm(offset) < how.clear
    aside = np.zeros(2) if wanted > how.low and rising else to_start
    return at_most(how.gain * np.array([*aside, wanted - height]), how.fast)


def at_most(velocity: np.ndarray, speed: float) -> np.ndarray:
    """A velocity (3,) no faster than ``speed``."""
    return velocity * min(1.0, speed / max(float(np.linalg.norm(velocity)), 1e-9))
