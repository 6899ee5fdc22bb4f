"""What every training is to the commands: something that advances, and whose state can be saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..robots import PURPOSES, Task
from .policy import Policy


@dataclasses.dataclass(frozen=True)
class State:
    """Tensors by name, and values that JSON can hold."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix.``, by the rest of their name."""
        start = len(prefix) + 1
        return {k[start:]: v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


class Training(Protocol):
    """A training of R runs, interactive or offline.

    ``steps`` is how far it is, out of ``total``: environment steps per run for an interactive learner, updates
    for an offline one.
    """

    task: Task
    seeds: list[int]
    steps: int

    @property
    def total(self) -> int:
        """Steps when finished."""
        ...

    def advance(self) -> Mapping[str, Tensor]:
        """Do the next piece of work; returns metrics, each (R,)."""
        ...

    def act(self, observations: Tensor) -> Tensor:
        """Deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O), for evaluation."""
        ...

    def controller(self, seeds: Sequence[int] | None = None) -> Callable[[Tensor], Tensor]:
        """What acts in episodes that start together, by their seeds: :meth:`act`, unless it remembers what it did."""
        ...

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run; ``training`` is what its `config.json` says of its origin."""
        ...

    def ranking(self) -> np.ndarray | None:
        """By what the learner itself may see, how bad each run's policy is (R,); none when it has no such measure."""
        ...

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,)."""
        ...

    def made(self) -> Mapping[str, np.ndarray]:
        """What was done besides environment steps, by name and each (R,): updates, and steps in a learned world."""
        ...

    def state(self) -> State:
        """Everything that decides how the training goes on."""
        ...

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`."""
        ...

    def close(self) -> None:
        """Free what the training holds."""
        ...


class Memoryless:
    """What most trainings share: policies without a memory, and nothing that is counted besides environment steps."""

    def act(self, observations: Tensor) -> Tensor:
        """Deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O)."""
        raise TypeError(f"{type(self).__name__} does not say how it acts")

    def controller(self, seeds: Sequence[int] | None = None) -> Callable[[Tensor], Tensor]:
        """What acts in episodes that start together: :meth:`act`."""
        return self.act

    def made(self) -> Mapping[str, np.ndarray]:
        """Nothing that is counted."""
        return {}


class WithoutSteps(Memoryless):
    """What trainings share that never act: no measure, no environment steps, nothing to free."""

    seeds: list[int]

    def ranking(self) -> np.ndarray | None:
        """None: nothing is measured."""
        return None

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,): none."""
        return {name: np.zeros(len(self.seeds), np.int64) for name in PURPOSES}

    def close(self) -> None:
        """Nothing is held."""
