"""Absolute deadlines, and how well they were kept."""

from __future__ import annotations

import time

import numpy as np

_NAMES = ("period", "jitter", "policy", "age", "overhead")


class Timing:
    """Deadlines every ``period`` seconds from :meth:`begin` on, by the monotonic clock.

    Deadline k is begin + k · period whatever happened before, so nothing drifts. A period is missed when what it was for
    is not done before the next one's deadline; periods that this swallowed whole are missed, too, and not made up for.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self.missed, self.done = 0, 0
        self._begun, self._next = 0.0, 0
        self._woken = float("nan")
        self._rows: list[tuple[float, float, float, float, float]] = []

    def begin(self, now: float) -> None:
        """An episode begins."""
        self._begun, self._next, self._woken = now, 0, float("nan")

    def wait(self) -> None:
        """Sleep until the next deadline that is still ahead, and count those that are not."""
        deadline = self._begun + self._next * self.period
        left = deadline - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif -left > self.period:
            lost = int(-left / self.period)
            self.missed += lost
            self._next += lost

    def add(self, woken: float, done: float, policy: float, age: float) -> None:
        """A period that began when ``woken`` is ``done``; the policy took its share, and saw what was ``age`` old."""
        deadline = self._begun + self._next * self.period
        self._next += 1
        self.done += 1
        if done > deadline + self.period:
            self.missed += 1
        self._rows.append((woken - self._woken, woken - deadline, policy, age, done - woken - policy))
        self._woken = woken

    def report(self, *, lockstep: bool) -> dict[str, dict[str, float]]:
        """p50, p99 and max in milliseconds: of the time between periods, of how late they began (jitter), of the policy, of
        the observation's age and of everything else that the loop does; without a clock, of the last two."""
        rows = np.array(self._rows)
        if not len(rows):
            return {}
        kept = ("policy", "overhead") if lockstep else _NAMES
        return {name: _quantiles(rows[:, _NAMES.index(name)]) for name in kept}

    @property
    def rate(self) -> float:
        """Periods in a second, measured."""
        between = np.array([row[0] for row in self._rows])
        between = between[np.isfinite(between)]
        return float(1 / between.mean()) if len(between) else float("nan")


def _quantiles(values: np.ndarray) -> dict[str, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    p50, p99, most = np.quantile(values * 1000, (0.5, 0.99, 1.0))
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "max": round(float(most), 4)}
