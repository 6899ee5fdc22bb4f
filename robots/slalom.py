"""A maze of our own whose demonstrations have several modes: past every cup on the left or on the right, by chance.

What its demonstrator does next does not follow from what is seen, and the mean of what it may do, straight ahead, ends
in a cup. The disc slides on by itself and is told where to go five times a second, so there is no time to lean to one
side little by little, as a policy that averages does where it may hesitate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .disc_maze import DiscMaze, rendering

CUPS = np.array([1.4, 3.9, 6.4])  # m down the slope
BOTTOM = 7.2
_SPEED = 1.5  # m/s, that of the slope
_SPREAD = np.array([0.15, 0.1])  # m, of the initial positions, to each side
_TURNS, _PAST = 1.2, 0.05  # m before and after a cup where the way leaves the middle and turns back to it
_SIDE = 0.62  # m from the middle, past a cup
_GAIN, _SHAKES = 3.0, 0.1  # of the force towards the way, and the deviation of the hand's noise


class Slalom(DiscMaze):
    """A disc that slides down a slope past three cups to the bottom, and stays there.

    The one force (1,) is to the side, for a fifth of a second.
    """

    metadata: ClassVar[dict[str, Any]] = rendering(5)  # pyright: ignore[reportIncompatibleVariableOverride]
    model_file = "slalom.xml"
    action_steps = 20

    def there(self, place: np.ndarray) -> bool:
        """Past the last cup."""
        return bool(place[0] >= BOTTOM)

    def reset_model(self) -> np.ndarray:
        """About the middle of the slope's upper end, as fast as it goes."""
        self.set_state(self.np_random.uniform(-1, 1, 2) * _SPREAD, np.array([_SPEED, 0.0]))
        return self._get_obs()


class Dodges:
    """Goes past every cup on a side drawn at random, and back to the middle after it, with an unsteady hand."""

    def __init__(self) -> None:
        self._random: list[np.random.Generator] = []
        self._sides = np.zeros((0, len(CUPS)))

    def begin(self, seeds: Sequence[int]) -> None:
        """Draw the sides."""
        self._random = [np.random.default_rng([seed, 5]) for seed in seeds]
        self._sides = np.stack([random.choice((-1.0, 1.0), len(CUPS)) for random in self._random])

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 1)."""
        x, y = observations[:, :2].T
        beside = (x[:, None] > CUPS - _TURNS) & (x[:, None] < CUPS + _PAST)
        target = _SIDE * (self._sides * beside).sum(-1)
        shakes = np.array([random.normal(0, _SHAKES) for random in self._random])
        return np.clip(_GAIN * (target - y) + shakes, -1, 1)[:, None]
