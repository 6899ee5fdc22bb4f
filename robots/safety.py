"""What a controller does when something is wrong: hold, then damp, then stop."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import numpy as np

from .errors import InputError, nearest
from .features import Feature
from .robot import Observation

_ROUNDING = 1e-9  # of times that are counted in periods


class State(enum.IntEnum):
    """What the controller has the robot do: the policy's actions, the last of them again, nothing, or an end."""

    RUN = 0
    HOLD = 1
    DAMP = 2
    STOP = 3


@dataclasses.dataclass(frozen=True)
class SafetyConfig:
    """When to worry, in seconds of the robot's time.

    An observation is stale when it is older than ``stale_after``. While nothing fresh and finite comes, and while the
    policy says nothing finite, the last action is held; after ``damp_after`` the robot is damped and after
    ``stop_after`` it is stopped. ``action_rate`` is the share of its range by which an action may change in a second
    (none: no limit). ``limits`` are the lowest and highest number of features by their names: beyond them the robot is
    stopped at once, as it is when it falls (``falls``: when the task ends the episode).
    """

    stale_after: float = 0.1
    damp_after: float = 0.2
    stop_after: float = 1.0
    action_rate: float | None = None
    limits: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict[str, tuple[float, float]])
    falls: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.damp_after < self.stop_after:
            raise InputError("damp_after must be above 0 and below stop_after: a robot is damped before it is stopped")
        if self.stale_after <= 0 or (self.action_rate is not None and self.action_rate <= 0):
            raise InputError("stale_after and action_rate must be above 0")


class Safety:
    """Judges moment by moment; ``why`` is what it found last, and ``counts`` the moments in each state."""

    def __init__(
        self, config: SafetyConfig, features: Sequence[Feature], low: np.ndarray, high: np.ndarray, period: float
    ) -> None:
        self.config = config
        self.state, self.why = State.RUN, ""
        self.counts = dict.fromkeys(State, 0)
        self.reasons: dict[str, int] = {}
        self._low, self._high = low, high
        rate = config.action_rate
        self._step = np.full_like(low, np.inf) if rate is None else rate * (high - low) * period
        self._since: float | None = None
        self._last: np.ndarray | None = None
        names = [feature.name for feature in features]
        for name in config.limits:
            if name not in names:
                raise InputError(f"limits: the robot has no feature {name!r}: {nearest(name, names)}")
        self._limited = [(names.index(name), name, *bounds) for name, bounds in config.limits.items()]

    def look(self, observation: Observation | None, age: float) -> str | None:
        """What is wrong with the newest observation, ``age`` seconds old: a reason to hold, or nothing.

        :attr:`state` is STOP afterwards when that is due at once.
        """
        if observation is None:
            return "no observation has come"
        if age > self.config.stale_after:
            return f"observation older than {self.config.stale_after:g} s"
        if not np.isfinite(observation.values).all():
            return "observation with NaN or infinite numbers"
        if observation.terminated and self.config.falls:
            self.stop("the robot fell, or whatever the task ends an episode for")
        for column, name, low, high in self._limited:
            if not low <= observation.values[column] <= high:
                self.stop(f"{name} is {observation.values[column]:.3g}, and its limits are {low:g} and {high:g}")
        return None

    def judge(self, now: float, reason: str | None) -> State:
        """The state, given what is wrong ``now`` (seconds of the robot's time), if anything is."""
        if self.state == State.STOP:
            return self.state
        if reason is None:
            self._since, self.state = None, State.RUN
            return self.state
        self.why = reason
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self._since = now if self._since is None else self._since
        waited = now - self._since + _ROUNDING
        if waited >= self.config.stop_after:
            self.stop(f"{reason}, for {self.config.stop_after:g} s")
        else:
            self.state = State.DAMP if waited >= self.config.damp_after else State.HOLD
        return self.state

    def stop(self, why: str) -> None:
        """Stop for good; the first reason counts."""
        if self.state != State.STOP:
            self.state, self.why = State.STOP, why

    def limited(self, action: np.ndarray) -> np.ndarray:
        """A finite action (A,) within the robot's bounds, and no further from the last than allowed."""
        # np.clip says the same, five times slower.
        action = np.minimum(np.maximum(action, self._low), self._high)
        if self._last is not None and self.config.action_rate is not None:
            action = np.minimum(np.maximum(action, self._last - self._step), self._last + self._step)
        self._last = action
        return action

    @property
    def last(self) -> np.ndarray | None:
        """The last action (A,) that was let through."""
        return self._last
