"""Absolute deadlines, and how well they were kept."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

_AWAKE = 250e-6  # seconds before a deadline, a tenth of a period at most
_NAMES = ("period", "jitter", "policy", "age", "overhead", "processor")


class Timing:
    """Deadlines every ``period`` seconds from :meth:`begin` on, by the monotonic clock.

    Deadline k is begin + k · period whatever happened before, so nothing drifts. A period is missed when what it was
    for is not done before the next one's deadline; periods that this swallowed whole are missed, too, and not made up
    for.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self._awake = min(_AWAKE, period / 10)
        self.missed, self.done = 0, 0
        self._begun, self._next = 0.0, 0
        self._woken = float("nan")
        self._rows: list[tuple[float, float, float, float, float, float]] = []

    def begin(self, now: float) -> None:
        """An episode begins."""
        self._begun, self._next, self._woken = now, 0, float("nan")

    def wait(self, look: Callable[[], object]) -> None:
        """Sleep until the next deadline that is still ahead, and count those that are not.

        Shortly before it ``look`` is called over and over: a processor that has slept is slow at first, and wakes late.
        """
        deadline = self._begun + self._next * self.period
        left = deadline - time.monotonic()
        if left > 0:
            if left > self._awake:
                time.sleep(left - self._awake)
            while time.monotonic() < deadline:
                look()
        elif -left > self.period:
            lost = int(-left / self.period)
            self.missed += lost
            self._next += lost

    def add(self, woken: float, done: float, policy: float, age: float, processor: float) -> None:
        """A period that began when ``woken`` is ``done``; the policy took its share, and saw what was ``age`` old.

        ``processor`` are the seconds that this thread really ran in it, the policy included.
        """
        deadline = self._begun + self._next * self.period
        self._next += 1
        self.done += 1
        if done > deadline + self.period:
            self.missed += 1
        self._rows.append(
            (woken - self._woken, woken - deadline, policy, age, done - woken - policy, processor - policy)
        )
        self._woken = woken

    @property
    def newest(self) -> dict[str, float]:
        """The last period in milliseconds, by the names of :meth:`report`."""
        return dict(zip(_NAMES, (1000 * value for value in self._rows[-1]), strict=True)) if self._rows else {}

    def report(self, *, lockstep: bool) -> dict[str, dict[str, float]]:
        """p50, p99 and max in milliseconds, those of lockstep without what a clock is for.

        ``period`` is the time between periods, ``jitter`` how late they began, ``overhead`` everything but the policy,
        and ``processor`` the part of that in which this thread ran: what is between the two went to other processes.
        """
        rows = np.array(self._rows)
        if not len(rows):
            return {}
        kept = ("policy", "overhead", "processor") if lockstep else _NAMES
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
