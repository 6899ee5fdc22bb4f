"""Data spoiled on purpose, by a seed: noise, to see how a learner degrades, and faults, to see whether they are found.

The noises are those of Robust IQL's study (Yang et al. 2023, arXiv 2310.12955): a share of the rows has its
observation, action or next observation moved by uniform numbers times the column's deviation, or its reward replaced by
a uniform one. The faults are those that users of D4RL and its kin reported (reference/field.md 3.2, by number).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ..robots import InputError, Task, nearest
from .demonstrations import Demonstrations
from .reading import read_table
from .table import MemoryTable, Table

BOUNDARIES = "boundaries"
_REWARDS = 30.0  # half the range of replaced rewards, in the study


@dataclasses.dataclass
class _Spoiler:
    """What a corruption works on: arrays of its own, a share of the rows, and how hard it hits."""

    arrays: dict[str, np.ndarray]
    random: np.random.Generator
    rate: float
    scale: float

    def __len__(self) -> int:
        return len(self.arrays["observations"])

    @property
    def ends(self) -> np.ndarray:
        """The rows before the last that are marked as ends."""
        marks = self.arrays["terminals"].astype(bool) | self.arrays["timeouts"].astype(bool)
        return np.flatnonzero(marks[:-1])

    def some(self, numbers: np.ndarray) -> np.ndarray:
        """A share of these, at least one."""
        count = max(1, round(self.rate * len(numbers)))
        return np.sort(self.random.choice(numbers, min(count, len(numbers)), replace=False))

    def move(self, key: str) -> None:
        """Move a share of a column's rows by uniform numbers times its deviation."""
        column = self.arrays[key]
        rows = self.some(np.arange(len(column)))
        noise = self.random.uniform(-self.scale, self.scale, column[rows].shape) * column.std(0)
        column[rows] = (column[rows] + noise).astype(column.dtype)


Corruption = Callable[[_Spoiler], None]


def _observations(it: _Spoiler) -> None:
    it.move("observations")


def _actions(it: _Spoiler) -> None:
    low, high = it.arrays["actions"].min(0), it.arrays["actions"].max(0)
    it.move("actions")
    np.clip(it.arrays["actions"], low, high, out=it.arrays["actions"])  # what nobody could do is another fault


def _rewards(it: _Spoiler) -> None:
    rewards = it.arrays["rewards"]
    rows = it.some(np.arange(len(rewards)))
    rewards[rows] = it.random.uniform(-_REWARDS * it.scale, _REWARDS * it.scale, len(rows))


def _dynamics(it: _Spoiler) -> None:
    if "next_observations" not in it.arrays:
        observations, last = it.arrays["observations"], it.ends
        successors = np.roll(observations, -1, axis=0)
        successors[np.append(last, len(it) - 1)] = observations[np.append(last, len(it) - 1)]
        it.arrays["next_observations"] = successors
    it.move("next_observations")


def _boundaries(it: _Spoiler) -> None:
    rows = it.some(it.ends)
    it.arrays["terminals"][rows] = it.arrays["timeouts"][rows] = False


def _no_timeouts(it: _Spoiler) -> None:
    del it.arrays["timeouts"]
    it.arrays.pop("next_observations", None)


def _no_terminals(it: _Spoiler) -> None:
    ended = it.arrays["terminals"].astype(bool)
    it.arrays["timeouts"] = it.arrays["timeouts"].astype(bool) | ended
    it.arrays["terminals"] = np.zeros_like(ended)


def _off_by_one(it: _Spoiler) -> None:
    for key in ("terminals", "timeouts"):
        it.arrays[key] = np.append(it.arrays[key][1:], it.arrays[key][-1:])  # a row too early


def _goal_changes(it: _Spoiler) -> None:
    inside = np.setdiff1d(np.arange(10, len(it) - 10), np.append(it.ends, it.ends + 1))
    it.arrays["timeouts"][it.random.choice(inside, max(2, len(it) // 200), replace=False)] = True


def _from_next_episode(it: _Spoiler) -> None:
    it.arrays["next_observations"] = np.roll(it.arrays["observations"], -1, axis=0)


def _last_repeated(it: _Spoiler) -> None:
    rows = np.append(it.ends, len(it) - 1)
    it.arrays["next_observations"][rows] = it.arrays["observations"][rows]


def _lengths_differ(it: _Spoiler) -> None:
    it.arrays["actions"] = it.arrays["actions"][:-1]


def _other_states(it: _Spoiler) -> None:
    for key in ("infos/qpos", "infos/qvel"):
        it.arrays[key] = np.roll(it.arrays[key], 1, axis=0)


def _jump(it: _Spoiler) -> None:
    """Two episodes become one, and what follows the end of the first is the start of the second."""
    row = int(it.random.choice(it.ends))
    it.arrays["terminals"][row] = it.arrays["timeouts"][row] = False
    if "next_observations" in it.arrays:
        it.arrays["next_observations"][row] = it.arrays["observations"][row + 1]


def _duplicated(it: _Spoiler) -> None:
    end, count = int(it.ends[0]) + 1, len(it)
    for key, column in it.arrays.items():
        again = end if len(column) == count else 1  # of what there is one of for each episode
        it.arrays[key] = np.concatenate((column[:again], column))


def _another_unit(it: _Spoiler) -> None:
    it.arrays["actions"] = it.arrays["actions"] * 57.2958


def _not_finite(it: _Spoiler) -> None:
    it.arrays["observations"][it.some(np.arange(len(it)))] = np.nan


def _cut(it: _Spoiler) -> None:
    """A copy that stopped in the middle of the last episode."""
    begin = int(it.ends[-1]) + 1
    end = begin + max(1, (len(it) - begin) // 2)
    for key, column in it.arrays.items():
        it.arrays[key] = column[:end]  # what there is one of for each episode is shorter, and stays


NOISES: Mapping[str, tuple[str, Corruption]] = MappingProxyType(
    {
        "observations": ("observations moved by noise", _observations),
        "actions": ("actions moved by noise, within their range", _actions),
        "rewards": ("rewards replaced by random ones", _rewards),
        "dynamics": ("next observations moved by noise", _dynamics),
    }
)
FAULTS: Mapping[str, tuple[str, Corruption]] = MappingProxyType(
    {
        **NOISES,
        BOUNDARIES: ("marks of episodes' ends lost (D4RL #162)", _boundaries),
        "no-timeouts": ("no marks but of falls, and no next observations (D4RL #40, #137)", _no_timeouts),
        "no-terminals": ("all terminals zero (D4RL #22)", _no_terminals),
        "off-by-one": ("marks of ends a row too early (D4RL #77)", _off_by_one),
        "goal-changes": ("ends marked where the episode goes on (D4RL #85)", _goal_changes),
        "from-next-episode": ("the last next observation is of the next episode (D4RL #145)", _from_next_episode),
        "last-repeated": ("the last next observation repeats the last observation (d3rlpy #164)", _last_repeated),
        "lengths-differ": ("fewer actions than observations (D4RL #64)", _lengths_differ),
        "other-states": ("states that are not those of the observations (D4RL #100)", _other_states),
        "jump": ("two episodes told as one (D4RL #77)", _jump),
        "duplicated": ("an episode that is there twice", _duplicated),
        "another-unit": ("actions in degrees", _another_unit),
        "not-finite": ("observations that are no numbers", _not_finite),
        "cut": ("a recording that was cut", _cut),
    }
)


def corrupt(table: Table, kind: str, *, rate: float = 0.3, scale: float = 1.0, seed: int = 0) -> MemoryTable:
    """A table spoiled in a way of :data:`FAULTS`; the one given stays as it is.

    ``rate`` is the share of rows (or ends) that are hit, and ``scale`` how hard, in deviations. What would give a fault
    away, episodes' starts and lengths in ``metadata``, is left out for those about ends, as D4RL's files have none.

    Errors: :class:`InputError` for an unknown way, or arrays that it needs and that are not there.
    """
    if kind not in FAULTS:
        raise InputError(f"unknown corruption {kind!r}: {nearest(kind, FAULTS)}")
    kept = (key for key in sorted(table.keys()) if kind in NOISES or not key.startswith("metadata/"))
    arrays = {key: table.raw(key).copy() for key in kept}
    if "timeouts" not in arrays and "terminals" in arrays:
        arrays["timeouts"] = np.zeros(len(arrays["terminals"]), bool)
    spoiler = _Spoiler(arrays, np.random.default_rng([seed, 5]), rate, scale)
    try:
        FAULTS[kind][1](spoiler)
    except KeyError as error:
        raise InputError(f"{table.path}: has no {error}, which corruption {kind!r} would spoil") from error
    attributes = {**table.attributes(), "corruption": f"{kind}, rate {rate:g}, scale {scale:g}, seed {seed}"}
    return MemoryTable(table.path, spoiler.arrays, attributes, table.format, table.names)


def corrupted(table: Table, task: Task | None, sound: Demonstrations, text: str, seed: int) -> Demonstrations:
    """A table's demonstrations with a noise as people write it: `actions`, `actions:0.3` (the share of rows),
    `actions:0.3:1` (and how hard), `boundaries:0.3` (the share of the ends between episodes).

    ``sound`` are those of the table as it is. Noise leaves them the episodes; what moves observations would otherwise
    pass for ends that are not marked.

    Errors: :class:`InputError` for anything else.
    """
    kind, rate, scale = _parsed(text)
    if kind == BOUNDARIES:
        return without_boundaries(sound, rate, seed)
    noisy = corrupt(table, kind, rate=rate, scale=scale, seed=seed)
    if "next_observations" in table and "metadata/episode_starts" not in noisy:
        arrays = {key: noisy.raw(key) for key in sorted(noisy.keys())} | {"metadata/episode_starts": sound.starts}
        noisy = MemoryTable(table.path, arrays, noisy.attributes(), table.format, table.names)
    return read_table(noisy, task)


def _parsed(text: str) -> tuple[str, float, float]:
    """The kind, the share and how hard, by defaults where a text does not say."""
    kind, *numbers = text.split(":")
    known = (*NOISES, BOUNDARIES)
    if kind not in known:
        raise InputError(f"corruption {text!r}: there is no noise {kind!r}: {nearest(kind, known)}")
    try:
        rate, scale = (*[float(number) for number in numbers], *(0.3, 1.0)[len(numbers) :])
    except ValueError:
        raise InputError(f"corruption {text!r}: write it like {kind}:0.3:1, the share of rows and how hard") from None
    if not 0 < rate <= 1 or not 0 < scale < float("inf"):
        raise InputError(f"corruption {text!r}: the share of rows is above 0 and at most 1, how hard above 0")
    if kind == BOUNDARIES and len(numbers) > 1:
        raise InputError(f"corruption {text!r}: an end is lost or not: write {kind}:{rate:g}, the share of the ends")
    return kind, rate, scale


def without_boundaries(sound: Demonstrations, rate: float, seed: int) -> Demonstrations:
    """Demonstrations of which a share of the ends between episodes, at least one, is lost, as a reader leaves them that
    does not look (D4RL #40, #145, #162): two episodes become one, a fall is none, and what follows the first one's last
    row is the second one's first observation.

    Times go on counting, an episode's return and length are those of its parts together, and seeds, from which nobody
    could play it again, are left out.

    Errors: :class:`InputError` when there is but one episode.
    """
    inner = np.arange(1, len(sound.starts))
    if not len(inner):
        raise InputError(f"{sound.source}: has one episode, so there is no end between two to be lost")
    random = np.random.default_rng([seed, 7])
    lost = np.sort(random.choice(inner, min(len(inner), max(1, round(rate * len(inner)))), replace=False))
    kept = np.setdiff1d(np.arange(len(sound.starts)), lost)
    rows = sound.starts[lost] - 1
    following, terminated, truncated, times = (
        getattr(sound, name).copy() for name in ("next_observations", "terminated", "truncated", "times")
    )
    following[rows] = sound.observations[rows + 1]
    terminated[rows] = truncated[rows] = False
    for episode in lost:  # in order, so what comes before counts on already
        begin = sound.starts[episode]
        end = sound.starts[episode + 1] if episode + 1 < len(sound.starts) else len(sound)
        times[begin:end] += times[begin - 1] + 1 - times[begin]
    last = np.append(kept[1:], len(sound.starts)) - 1
    return dataclasses.replace(
        sound, starts=sound.starts[kept], next_observations=following, terminated=terminated, truncated=truncated,
        times=times, episode_seeds=None, episode_returns=np.add.reduceat(sound.episode_returns, kept),
        episode_lengths=np.add.reduceat(sound.episode_lengths, kept), episode_terminated=sound.episode_terminated[last],
        metadata={**sound.metadata, "corruption": f"{BOUNDARIES}, rate {rate:g}, seed {seed}"},
    )  # fmt: skip
