"""A maze of our own, for experts that cannot be imitated: they fit through a gap, and a wider learner does not."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .disc_maze import DiscMaze, rendering

START = np.array([-1.4, -1.0])
GOAL = np.array([1.4, -1.0])
GOAL_RADIUS = 0.3
_SPREAD = 0.2  # of the initial positions, to each side


class GapMaze(DiscMaze):
    """A disc that is to get to the goal behind a wall, and to stay there. Forces (2,), for a twentieth of a second."""

    metadata: ClassVar[dict[str, Any]] = rendering(20)  # pyright: ignore[reportIncompatibleVariableOverride]
    model_file = "gap_maze.xml"
    action_steps = 5

    def there(self, place: np.ndarray) -> bool:
        """Within the goal's radius."""
        return bool(np.linalg.norm(place - GOAL) <= GOAL_RADIUS)

    def reset_model(self) -> np.ndarray:
        """At rest, somewhere about the start."""
        self.set_state(START + self.np_random.uniform(-_SPREAD, _SPREAD, 2), np.zeros(2))
        return self._get_obs()
