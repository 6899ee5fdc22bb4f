"""A robot as a controller sees it, whichever it is: the verbs are those of LeRobot's Robot class."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from .features import Feature


class RobotError(Exception):
    """The robot cannot be reached or does not do what it is told; the message says why in a clause."""


@dataclasses.dataclass(slots=True)
class Observation:
    """What a robot's sensors said: ``values`` (O,) float32 at ``time``, in seconds of this machine's monotonic clock.

    ``number`` rises from observation to observation. ``elapsed`` is the episode's time in seconds. A simulated robot
    also knows the task's return so far, whether the task ended the episode or its time was up, and whether its aim has
    been reached; another leaves these at their defaults. ``damped`` says that no motor follows commands.
    """

    values: np.ndarray
    time: float
    number: int
    elapsed: float = 0.0
    returned: float = float("nan")
    terminated: bool = False
    truncated: bool = False
    succeeded: bool = False
    damped: bool = False


class Robot(Protocol):
    """What a controller needs of a robot. Actions and observations are in the units that the features name.

    A class with these members drives a real robot by the same loop.
    """

    @property
    def observation_features(self) -> tuple[Feature, ...]:
        """Names and units of an observation's numbers (O,), in order."""
        ...

    @property
    def action_features(self) -> tuple[Feature, ...]:
        """Names and units of an action's numbers (A,), in order."""
        ...

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest action (A,)."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether :meth:`connect` has been called, and :meth:`disconnect` has not."""
        ...

    def connect(self) -> None:
        """Take hold of the robot; it stays damped. Errors: :class:`RobotError`."""
        ...

    def reset(self, seed: int) -> None:
        """Put the robot where an episode starts; it holds still until the first action. Errors: :class:`RobotError`."""
        ...

    def get_observation(self, timeout: float = 0.0) -> Observation | None:
        """The newest observation, or none yet; waits for one that is new up to ``timeout`` seconds.

        Errors: :class:`RobotError` when the robot is gone.
        """
        ...

    def send_action(self, action: np.ndarray) -> None:
        """Act (A,). Errors: :class:`RobotError` when the robot is gone."""
        ...

    def damp(self) -> None:
        """Let no motor push any more; joints give way slowly. The next action ends it. Errors: :class:`RobotError`."""
        ...

    def disconnect(self) -> None:
        """Damp the robot and let go of it; never raises, and may be called twice."""
        ...
