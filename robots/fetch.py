"""gymnasium-robotics' Fetch, an arm whose hand is pulled about, as flat MuJoCo tasks whose state can be set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arm_scripts import Pushing, push_velocity
from .goal_maze import GoalEnvironment

_MOVE = 0.05  # m that an action of 1 would move the hand by in a step
_PUSHING = Pushing(half=0.025, table=0.4, low=0.02, high=0.09, behind=0.07, clear=0.08, gain=20.0, fast=1.8, push=0.8)


class Fetch(GoalEnvironment):
    """A Fetch whose hand, or the block that it moves, is to get to a goal (3,) in m.

    Actions (4,) move the hand and the gripper. ``info["success"]`` says whether the goal is reached, within 5 cm.
    """

    def __init__(self, fetch: Any) -> None:
        super().__init__(fetch, fetch, fetch.n_substeps)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """As Fetch does it, for the present goal."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "success": bool(info["is_success"])}

    def _parts(self) -> Any:
        return self._inner._get_obs()


class FetchReaches:
    """Moves the hand straight to the goal."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Nothing is random."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 4)."""
        way = (observations[:, -3:] - observations[:, :3]) / _MOVE
        return np.clip(np.pad(way, ((0, 0), (0, 1))), -1, 1)


class FetchPushes:
    """Lowers the hand behind the block, as seen from the goal, and pushes."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Nothing is random."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 4)."""
        return np.stack([self._one(row.astype(np.float64)) for row in observations])

    def _one(self, row: np.ndarray) -> np.ndarray:
        velocity = push_velocity(row[3:6], row[:2], row[-3:-1], _PUSHING)
        return np.clip(np.append(velocity / 1.25, 0.0), -1, 1)  # 25 steps of 5 cm in a second
