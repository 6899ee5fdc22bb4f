"""Reset distributions: where an episode starts.

Resets to states that somebody else reached turn exploration into local search: from the expert's states (FILTER,
Swamy et al. 2023, arXiv 2303.14623), or from a broader distribution where the expert's own are of no use to a
learner that cannot follow it (GUITAR; reference/algorithms.md 3.5 and 3.9). An episode that starts t steps into
a recorded one has the rest of the horizon left. Steps that a start takes are counted under ``reset``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

from ...robots import InputError, TaskBatch
from ..parts import Setting
from ..training import State


class Resets(Protocol):
    """Starts episodes of a task batch."""

    def prepare(self) -> None:
        """Called once before the first episode of a training that starts anew; not when one is resumed."""
        ...

    def reset(self, tasks: TaskBatch, where: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes everywhere, or where the mask (R,) is true; returns observations (R, O)."""
        ...

    def visit(self, tasks: TaskBatch) -> None:
        """Called once, after :meth:`prepare`, where the starts are those of roll-outs in a learned world: go where only
        the simulator leads."""
        ...

    def imagined(self, run: int, count: int) -> np.ndarray:
        """Observations (n, O) in which a run begins n ≤ ``count`` roll-outs in a learned world; the others begin
        where the learner has been.

        Errors: :class:`~understudy.robots.InputError` for a way to start that needs the simulator.
        """
        ...

    @property
    def about(self) -> str:
        """The ways to start and their shares, in words, for the log."""
        ...

    @property
    def initial_share(self) -> float:
        """The share of episodes that begin in the task's own initial states."""
        ...

    @property
    def from_initial(self) -> np.ndarray | None:
        """Which runs' present episodes (R,) began in the task's own initial states; none when all always do.

        A learned reward compares these alone with the expert's: episodes that began elsewhere visit other states.
        """
        ...

    def state(self) -> State:
        """What decides the coming starts."""
        ...

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`."""
        ...


class InitialResets:
    """The task's own initial states."""

    Config: ClassVar[type[Any] | None] = None
    about = "the task's initial states"
    initial_share = 1.0

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For a setting: nothing of it is needed."""
        return cls()

    def prepare(self) -> None:
        """Nothing to prepare."""

    def reset(self, tasks: TaskBatch, where: np.ndarray | None = None) -> np.ndarray:
        """As the task does it."""
        return tasks.reset(where)

    def visit(self, tasks: TaskBatch) -> None:
        """The learner's own episodes go there."""

    def imagined(self, run: int, count: int) -> np.ndarray:
        """None: what begins at the task's initial states here begins anywhere on the learner's way there."""
        return np.zeros((0, 0), np.float32)

    @property
    def from_initial(self) -> np.ndarray | None:
        """All do."""
        return None

    def state(self) -> State:
        """Empty: the environments keep their own streams."""
        return State({}, {})

    def set_state(self, state: State) -> None:
        """Nothing to restore."""


class Start:
    """One way to start an episode of one environment. The base keeps nothing between episodes.

    ``about`` is for the log: whatever its name does not say. ``steps`` are those that it took when it was made.
    """

    about = ""
    steps = 0

    def prepare(self) -> None:
        """Called once before a training that starts anew."""

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        """Start an episode of environment ``index``; returns the observation (O,)."""
        raise TypeError(f"{type(self).__name__} does not say how to start")

    def visit(self, tasks: TaskBatch, random: Sequence[np.random.Generator]) -> None:
        """Go where only the simulator leads: called once, with the runs' streams, before a learned world is used."""

    def imagined(self, run: int, count: int, random: np.random.Generator) -> np.ndarray:
        """Observations (n, O), n ≤ ``count``, to begin a run's roll-outs in a learned world in; the others begin where
        the learner has been.

        Errors: :class:`InputError` where only the simulator can say.
        """
        raise InputError(
            f"resets: {type(self).__name__} does not say where roll-outs in world=model begin: choose resets=initial, "
            "expert, offline, roll_in or a mixture of these"
        )

    def tensors(self) -> dict[str, Tensor]:
        """What it keeps between episodes."""
        return {}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Continue from :meth:`tensors`."""


class InitialStart(Start):
    """In the task's own initial states."""

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        """As the task does it."""
        return tasks.reset(only(index, len(tasks)))[index]

    def imagined(self, run: int, count: int, random: np.random.Generator) -> np.ndarray:
        """None: a roll-out is short, so it begins anywhere on the way that began in the initial states."""
        return np.zeros((0, 0), np.float32)


class MixedResets:
    """A weighted mixture of starts, drawn anew for every episode of every run from a stream of the run's own.

    The first episode of a run begins in the task's own initial states whatever the weights, so that a learned
    reward has such rows from the first.
    """

    def __init__(self, starts: Mapping[str, Start], weights: Sequence[float], seeds: Sequence[int]) -> None:
        self.starts = dict(starts)
        self._shares = np.asarray(weights, np.float64) / np.sum(weights)
        # Streams of their own, apart from those of the environments and of the training with the same seeds.
        self._random = [np.random.default_rng([seed, 0x5265736574]) for seed in seeds]
        self._begun = False
        self._from_initial = np.ones(len(seeds), bool)

    @property
    def about(self) -> str:
        """Each way with its share, and what it says of itself."""
        words = zip(self.starts.items(), self._shares, strict=True)
        return ", ".join(f"{share:.2g} {name}{way.about and f' ({way.about})'}" for (name, way), share in words)

    @property
    def initial_share(self) -> float:
        """The share of the task's own initial states."""
        pairs = zip(self.starts.values(), self._shares, strict=True)
        return float(sum(share for way, share in pairs if isinstance(way, InitialStart)))

    @property
    def from_initial(self) -> np.ndarray | None:
        """Which runs' present episodes began in the task's own initial states (R,)."""
        return self._from_initial

    def prepare(self) -> None:
        """Prepare every way to start."""
        for way in self.starts.values():
            way.prepare()

    def reset(self, tasks: TaskBatch, where: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes everywhere, or where the mask (R,) is true; returns observations (R, O)."""
        if not self._begun:
            self._begun = True
            tasks.counts["reset"] += sum(way.steps for way in self.starts.values())
            return tasks.reset(where)
        observations = np.zeros((len(tasks), tasks.spaces.observation_size), np.float32)
        ways = list(self.starts.values())
        for index in range(len(tasks)) if where is None else np.flatnonzero(where):
            random = self._random[index]
            way = ways[int(random.choice(len(ways), p=self._shares))]
            self._from_initial[index] = isinstance(way, InitialStart)
            observations[index] = way.start(tasks, int(index), random)
        return observations

    def visit(self, tasks: TaskBatch) -> None:
        """By every way that has to."""
        for way in self.starts.values():
            way.visit(tasks, self._random)

    def imagined(self, run: int, count: int) -> np.ndarray:
        """By each way as many as its weight makes of ``count``, drawn from the run's stream."""
        random = self._random[run]
        counts = random.multinomial(count, self._shares)
        found = [way.imagined(run, int(n), random) for way, n in zip(self.starts.values(), counts, strict=True)]
        found = [observations for observations in found if len(observations)]
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    def state(self) -> State:
        """The streams, and what the starts keep."""
        tensors = {f"{name}.{k}": v for name, way in self.starts.items() for k, v in way.tensors().items()}
        random = [json.dumps(generator.bit_generator.state) for generator in self._random]
        return State(tensors, {"random": random, "begun": self._begun, "from_initial": self._from_initial.tolist()})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`."""
        for generator, stored in zip(self._random, state.values["random"], strict=True):
            generator.bit_generator.state = json.loads(stored)
        self._begun = state.values["begun"]
        self._from_initial[:] = state.values["from_initial"]
        for name, way in self.starts.items():
            way.set_tensors(state.part(name))


def only(index: int, count: int) -> np.ndarray:
    """A mask (count,) that is true at one index."""
    mask = np.zeros(count, bool)
    mask[index] = True
    return mask
