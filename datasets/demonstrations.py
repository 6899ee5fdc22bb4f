"""The one in-memory form of demonstrations: every reader returns it, every learner takes it.

Shapes: N rows (one transition each), E episodes, O observation, A action, S numbers of a simulator state.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..robots import InputError, Snapshot
from .table import all_finite

_log = logging.getLogger(__name__)

# The columns with one entry per row: dimensions, type in memory, and the kinds of NumPy types taken for it.
_COLUMNS: Mapping[str, tuple[int, type[np.generic], str]] = {
    "observations": (2, np.float32, "f"),
    "actions": (2, np.float32, "f"),
    "next_observations": (2, np.float32, "f"),
    "rewards": (1, np.float32, "f"),
    "terminated": (1, np.bool_, "b"),
    "truncated": (1, np.bool_, "b"),
    "times": (1, np.int64, "iu"),
    "states": (2, np.float64, "f"),
    "qpos": (2, np.float64, "f"),
    "qvel": (2, np.float64, "f"),
}
_PER_EPISODE: Mapping[str, tuple[int, type[np.generic], str]] = {
    "starts": (1, np.int64, "iu"),
    "episode_returns": (1, np.float64, "f"),
    "episode_lengths": (1, np.int64, "iu"),
    "episode_terminated": (1, np.bool_, "b"),
    "episode_seeds": (1, np.int64, "iu"),
}


def _not_given() -> np.ndarray:
    return np.empty(0, np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class Demonstrations:
    """Transitions of a demonstrator on one task, episode after episode in the order of time.

    Per row (N): ``observations`` (N, O) and ``next_observations`` (N, O) float32, the latter always the true
    one of the same episode; ``actions`` (N, A) float32 in [−1, 1]; ``rewards`` (N,) float32, the task's own,
    for evaluation only: no imitation learner sees them; ``terminated`` (N,) bool, after which nothing is
    bootstrapped; ``truncated`` (N,) bool, the time limit, never together with ``terminated``; ``times`` (N,)
    int64, the step within the episode; and where the source has them the simulator's state before the action:
    ``states`` (N, S) float64 as :func:`understudy.robots.set_physics_state` takes it, ``qpos`` and ``qvel``.

    Per episode (E): ``starts`` (E,) int64, the row with which it begins; ``episode_returns`` float64,
    ``episode_lengths`` int64 and ``episode_terminated`` bool (whether the task ended it) of the episode as it
    was recorded, whatever rows are left of it here (computed from the rows when not given); ``episode_seeds``
    int64, with which the environment was reset.

    ``environment_id`` and ``environment_keywords`` say what it was recorded on; ``random_return`` and
    ``expert_return`` are the references for normalised scores; ``source`` names the file in messages;
    ``metadata`` is whatever else the source says about itself. ``acted`` is false for recordings of states alone, whose
    actions nobody knows: ``actions`` are then zeros, and :meth:`need_actions` refuses what would learn from them.
    ``rewarded`` is false where nobody knows the rewards: ``rewards`` are then zeros, and an episode's return is NaN
    unless the source tells it. ``finite`` names columns whose numbers were looked at already, so that those that
    are of the type in memory are not looked at again.

    Errors: :class:`InputError` naming source and column when shapes, types or lengths disagree, a number is
    not finite, an action leaves [−1, 1], or an episode's end is marked on a row that is not its last.
    """

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    task_name: str
    environment_id: str
    environment_keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    states: np.ndarray | None = None
    qpos: np.ndarray | None = None
    qvel: np.ndarray | None = None
    episode_returns: np.ndarray = dataclasses.field(default_factory=_not_given)
    episode_lengths: np.ndarray = dataclasses.field(default_factory=_not_given)
    episode_terminated: np.ndarray = dataclasses.field(default_factory=_not_given)
    episode_seeds: np.ndarray | None = None
    random_return: float | None = None
    expert_return: float | None = None
    source: str = "demonstrations"
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    acted: bool = True
    rewarded: bool = True
    finite: dataclasses.InitVar[Collection[str]] = ()

    def __post_init__(self, finite: Collection[str]) -> None:
        for name, (dimensions, kind, accepted) in {**_COLUMNS, **_PER_EPISODE}.items():
            value = getattr(self, name)
            if value is not None and not (name in _PER_EPISODE and len(value) == 0):
                seen = name in finite and np.asarray(value).dtype == kind
                object.__setattr__(self, name, self._checked(name, value, dimensions, kind, accepted, seen))
        if len(self.rewards) == 0:
            raise InputError(f"{self.source}: there are no rows, so there is nothing to learn from")
        self._check_sizes()
        self._check_episodes()
        bounds = np.append(self.starts, len(self))
        if len(self.episode_returns) == 0:
            returns = np.add.reduceat(self.rewards.astype(np.float64), self.starts)
            returns = returns if self.rewarded else np.full(len(self.starts), np.nan)
            object.__setattr__(self, "episode_returns", returns)
        if len(self.episode_lengths) == 0:
            object.__setattr__(self, "episode_lengths", np.diff(bounds))
        if len(self.episode_terminated) == 0:
            terminated = np.logical_or.reduceat(self.terminated, self.starts)
            object.__setattr__(self, "episode_terminated", terminated)
        for name in _PER_EPISODE:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.starts):
                raise self._error(name, f"has {len(value)} entries but there are {len(self.starts)} episodes")

    def __len__(self) -> int:
        """The number of rows N."""
        return len(self.rewards)

    def episodes(self, count: int) -> Demonstrations:
        """The first ``count`` episodes.

        Errors: :class:`InputError` when there are fewer.
        """
        available = len(self.starts)
        if not 1 <= count <= available:
            raise self._too_many(count, "episodes", available)
        end = len(self) if count == available else int(self.starts[count])
        return self._take(np.arange(end), self.starts[:count])

    def returning(self, least: float) -> Demonstrations:
        """The episodes that return at least this. Errors: :class:`InputError` when there is none, or none is known."""
        good = self.episode_returns >= least
        if np.isnan(self.episode_returns).all():
            raise InputError(
                f"{self.source}: has no rewards, so nobody knows what its episodes return: ask for no least"
            )
        if not good.any():
            best = np.nanmax(self.episode_returns)
            raise InputError(f"{self.source}: no episode returns {least:g} or more, the best {best:g}: ask for less")
        return self.only(good)

    def only(self, chosen: np.ndarray) -> Demonstrations:
        """The episodes where the mask (E,) is true, of which there must be one."""
        lengths = np.diff(np.append(self.starts, len(self)))
        kept, rows = lengths[chosen], np.repeat(chosen, lengths)
        changes: dict[str, Any] = {"starts": np.cumsum(kept) - kept}
        for name in (_COLUMNS.keys() | _PER_EPISODE.keys()) - {"starts"}:
            value = getattr(self, name)
            changes[name] = None if value is None else value[chosen if name in _PER_EPISODE else rows]
        return dataclasses.replace(self, **changes, finite=_COLUMNS)

    def every(self, step: int) -> Demonstrations:
        """Every ``step``-th row of each episode, beginning with its first: rows 0, step, 2·step, … of it.

        Errors: :class:`InputError` when ``step`` is not positive.
        """
        if step < 1:
            raise InputError(f"{self.source}: asked for every {step}-th row; ask for a positive number")
        lengths = np.diff(np.append(self.starts, len(self)))
        position = np.arange(len(self)) - np.repeat(self.starts, lengths)
        kept = -(-lengths // step)
        return self._take(np.flatnonzero(position % step == 0), np.cumsum(kept) - kept)

    def rows(self, count: int) -> Demonstrations:
        """The first ``count`` rows; the last episode may lose its end.

        Errors: :class:`InputError` when there are fewer.
        """
        if not 1 <= count <= len(self):
            raise self._too_many(count, "rows", len(self))
        return self._take(np.arange(count), self.starts[self.starts < count])

    def select(self, episodes: int | None = None, every: int | None = None, rows: int | None = None) -> Demonstrations:
        """The first ``episodes``, of these every ``every``-th row, of these the first ``rows``; none is all."""
        chosen = self if episodes is None else self.episodes(episodes)
        chosen = chosen if every is None else chosen.every(every)
        return chosen if rows is None else chosen.rows(rows)

    def joined(self, *others: Demonstrations) -> Demonstrations:
        """The episodes of all, this one's first; a column that one of them lacks is left out, references are its own.

        Errors: :class:`InputError` when they are of different tasks, or of one environment with other arguments.
        """
        if not others:
            return self
        for other in others:
            self._check_same(other)
        every = (self, *others)
        offsets = np.cumsum([0, *(len(one) for one in every[:-1])])
        starts = [one.starts + offset for one, offset in zip(every, offsets, strict=True)]
        changes: dict[str, Any] = {"starts": np.concatenate(starts)}
        for name in (_COLUMNS.keys() | _PER_EPISODE.keys()) - {"starts"}:
            columns = [getattr(one, name) for one in every]
            changes[name] = None if any(column is None for column in columns) else np.concatenate(columns)
        changes |= {name: all(getattr(one, name) for one in every) for name in ("acted", "rewarded")}
        sources = " and ".join(dict.fromkeys(one.source for one in every))
        return dataclasses.replace(self, **changes, source=sources)

    def _check_same(self, other: Demonstrations) -> None:
        """Errors: :class:`InputError` for another task. Another version of its environment passes with a warning, as
        for a task."""
        mine = (self.environment_id, dict(self.environment_keywords))
        if mine == (other.environment_id, dict(other.environment_keywords)):
            return
        versions = self.task_name == other.task_name and self.environment_id != other.environment_id
        sizes = [(one.observations.shape[1], one.actions.shape[1]) for one in (self, other)]
        if not versions or sizes[0] != sizes[1]:
            raise InputError(f"{self.source} and {other.source} are of different environments")
        _log.warning(
            "%s is of %s and %s of %s, whose physics may differ",
            self.source, self.environment_id, other.source, other.environment_id,
        )  # fmt: skip

    def need_actions(self, by: str, instead: str) -> None:
        """For what learns from actions: ``by`` names it, ``instead`` says what to choose otherwise.

        Errors: :class:`InputError` when there are none.
        """
        if not self.acted:
            raise InputError(f"{self.source} has no 'actions', from which {by} would learn: record them, or {instead}")

    def snapshot(self, row: int) -> Snapshot | None:
        """The simulator's state before the action of a row, or none when the source has no states."""
        elapsed, seen = int(self.times[row]), self.observations[row]
        if self.states is not None:
            return Snapshot(elapsed, seen, physics=self.states[row])
        if self.qpos is not None and self.qvel is not None:
            return Snapshot(elapsed, seen, qpos=self.qpos[row], qvel=self.qvel[row])
        return None

    def _take(self, index: np.ndarray, starts: np.ndarray) -> Demonstrations:
        """The rows of ``index``; episodes are only dropped from the end, so the first ``len(starts)`` stay."""
        changes: dict[str, Any] = {"starts": starts}
        for name in _COLUMNS:
            value = getattr(self, name)
            changes[name] = None if value is None else value[index]
        for name in _PER_EPISODE.keys() - {"starts"}:
            value = getattr(self, name)
            changes[name] = None if value is None else value[: len(starts)]
        return dataclasses.replace(self, **changes, finite=_COLUMNS)

    def _too_many(self, count: int, what: str, available: int) -> InputError:
        return InputError(
            f"{self.source}: asked for the first {count} {what}, but it has {available}; ask for 1 to {available}"
        )

    def _error(self, name: str, problem: str) -> InputError:
        return InputError(f"{self.source}: '{name}' {problem}")

    def _checked(
        self, name: str, value: Any, dimensions: int, kind: type[np.generic], accepted: str, seen: bool
    ) -> np.ndarray:
        """One column as an array of its own type, after checks that need no other column."""
        array = np.asarray(value)
        if array.dtype.kind not in accepted:
            raise self._error(name, f"holds {array.dtype} but must hold {np.dtype(kind)}")
        if name == "episode_seeds" and array.dtype.itemsize < 4:
            raise self._error(name, f"holds {array.dtype}, in which seeds wrap around; give them as int64")
        if array.ndim != dimensions:
            raise self._error(name, f"has shape {array.shape} but must have {dimensions} dimension(s)")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused below
            array = array.astype(kind, copy=False)
        if accepted == "f" and not seen and not all_finite(array):
            finite = np.isfinite(array)
            if name == "episode_returns" and (finite | np.isnan(array)).all():
                return array  # those that nobody knows
            count, row = int(np.count_nonzero(~finite)), int(np.argwhere(~finite)[0, 0])
            raise self._error(name, f"holds NaN or infinity in {count} of {array.size} places, first in row {row}")
        return array

    def _check_sizes(self) -> None:
        count = len(self)
        for name in _COLUMNS:
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise self._error(name, f"has {len(value)} rows but 'rewards' has {count}")
        if self.next_observations.shape != self.observations.shape:
            sizes = f"{self.next_observations.shape[1]} columns but 'observations' has"
            raise self._error("next_observations", f"has {sizes} {self.observations.shape[1]}")
        if self.actions.size and (self.actions.min() < -1 or self.actions.max() > 1):
            outside = np.flatnonzero((np.abs(self.actions) > 1).any(axis=1))
            raise self._error("actions", f"leaves [-1, 1] in {len(outside)} rows, first in row {outside[0]}")

    def _check_episodes(self) -> None:
        starts = self.starts
        if len(starts) == 0 or starts[0] != 0 or (np.diff(starts) < 1).any() or starts[-1] >= len(self):
            raise self._error("starts", f"must rise from 0 and stay below the {len(self)} rows")
        last = np.zeros(len(self), bool)
        last[np.append(starts[1:], len(self)) - 1] = True
        early = np.flatnonzero((self.terminated | self.truncated) & ~last)
        if len(early):
            name = "terminated" if self.terminated[early[0]] else "truncated"
            raise self._error(name, f"ends an episode in row {early[0]}, but the episode goes on after it")
        both = np.flatnonzero(self.terminated & self.truncated)
        if len(both):
            raise self._error("truncated", f"is set together with 'terminated' in row {both[0]}")
        back = np.flatnonzero((np.diff(self.times) < 1) & ~last[:-1])
        if len(back) or self.times.min() < 0:
            row = int(back[0]) + 1 if len(back) else int(self.times.argmin())
            raise self._error("times", f"must rise from 0 or more within an episode, unlike in row {row}")
