"""A scripted trot for the quadruped: feet on fixed tracks by the clock, placed by how fast the trunk goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .quadruped import CLEARANCE, CYCLE, FIRST_SWING, SPEED, STANCE

_LINK = 0.21  # m, of thigh and of shank
_HEIGHT = 2 * _LINK * np.cos(0.8)  # m of the hips above the feet in the stance
_LEAD = 0.07  # s by which targets run ahead of joints that follow them late
_STRIDE = 2.2  # of what the speed would need, as joints do not follow all the way
_PLACE = 0.1  # s: how much further ahead a foot is put for each m/s that the trunk is too fast
_TARGETS = np.array([0.2, 0.4, 0.5])  # rad about the stance that an action of 1 stands for: roll, pitch and knee


class Trots:
    """Walks, slower than it is to: what a learner may start from."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Nothing is random."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 12) in [−1, 1]."""
        return np.stack([self._one(row.astype(np.float64)) for row in observations])

    def _one(self, row: np.ndarray) -> np.ndarray:
        phase = np.arctan2(row[45], row[46]) + 2 * np.pi * _LEAD / CYCLE
        x, z = track(phase, _STRIDE * SPEED * CYCLE / 2)
        pitch, knee = leg_angles(x + _PLACE * (row[0] - SPEED), z)
        targets = np.stack((np.zeros(4), pitch, knee), 1)
        return np.clip((targets - STANCE[:3]) / _TARGETS, -1, 1).ravel()


def track(phase: float, stride: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the feet are (4,) m ahead of and (4,) m above the hips at a phase in rad, for a stride in m."""
    own = (phase + np.where(FIRST_SWING > 0, 0, np.pi)) % (2 * np.pi)
    swings, share = own < np.pi, own % np.pi / np.pi
    x = stride / 2 * np.where(swings, -np.cos(np.pi * share), 1 - 2 * share)
    return x, -_HEIGHT + np.where(swings, CLEARANCE * np.sin(np.pi * share), 0)


def leg_angles(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and knee in rad for feet ``x`` m ahead of and ``z`` m above the hips."""
    knee = -2 * np.arccos(np.clip(np.hypot(x, z) / (2 * _LINK), -1, 1))
    return -knee / 2 - np.arctan2(x, -z), knee
