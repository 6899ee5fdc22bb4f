"""When a task ends an episode early, as a rule of observations: for what has no simulator to ask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bound:
    """What an episode lasts within: ``low`` < x < ``high``, where x is a column of the observation or made from it.

    ``unit`` is what the words of :class:`Health` say after the numbers.
    """

    of: int | Callable[[Any], Any]
    low: float
    high: float
    unit: str

    def holds(self, observations: Any) -> Any:
        """Whether it does (...) for observations (..., O), NumPy arrays or tensors alike."""
        value = observations[..., self.of] if isinstance(self.of, int) else self.of(observations)
        return (value > self.low) & (value < self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g} {self.unit}"
        if self.low == -self.high:
            return f"within {self.high:g} {self.unit}"
        return f"between {self.low:g} and {self.high:g} {self.unit}"


@dataclasses.dataclass(frozen=True)
class Health:
    """An episode goes on while every bound holds; ``part`` is whose they are, for the words that it is printed by.

    Gymnasium decides by the simulator's float64 state, this by the observation made of it: at a bound they may differ
    by float32's rounding, and Hopper's bound of 100 on velocities cannot be seen in an observation that is cut at 10.
    """

    part: str
    bounds: tuple[Bound, ...]

    def healthy(self, observations: Any) -> Any:
        """Where an episode goes on (...), for observations (..., O) after a step, NumPy arrays or tensors alike.

        A number that is none is not healthy.
        """
        return math.prod(bound.holds(observations) for bound in self.bounds) > 0

    def __str__(self) -> str:
        return f"{self.part} {' and '.join(map(str, self.bounds))}"


def height_of_tip(observations: Any) -> Any:
    """The height (...), m, of the double pendulum's tip on two poles of 0.6 m, from (..., [x, sines, cosines])."""
    _, sine_1, sine_2, cosine_1, cosine_2 = (observations[..., column] for column in range(5))
    return 0.6 * (cosine_1 + cosine_1 * cosine_2 - sine_1 * sine_2)
