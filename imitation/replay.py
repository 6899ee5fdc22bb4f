"""Replay: packed rows, the buffer of R runs, and the mixture of expert and learner rows in a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import InputError
from .randomness import Generators


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """How one transition lies in one packed row, so that a batch is gathered in one read.

    Columns: observation (O), action (A), next observation (O), task reward, terminated, whether it is the expert's.
    """

    observation_size: int
    action_size: int

    @property
    def width(self) -> int:
        """Numbers per row."""
        return 2 * self.observation_size + self.action_size + 3

    def pack(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        next_observations: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        *,
        expert: bool = False,
    ) -> Tensor:
        """Rows (N, width) from arrays of N transitions."""
        flags = np.full((len(rewards), 1), expert)
        columns = (observations, actions, next_observations, rewards[:, None], terminated[:, None], flags)
        return torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32))

    def batch(self, rows: Tensor) -> Batch:
        """Name the columns of packed rows (..., width); no copy."""
        o, a = self.observation_size, self.action_size
        return Batch(
            observations=rows[..., :o],
            actions=rows[..., o : o + a],
            next_observations=rows[..., o + a : 2 * o + a],
            rewards=rows[..., -3],
            terminated=rows[..., -2],
            expert=rows[..., -1],
        )

    def demonstrations(self, demonstrations: Demonstrations) -> Tensor:
        """The demonstrations as packed rows (N, width). Their task rewards are left out: no learner sees them."""
        return self.pack(
            demonstrations.observations,
            demonstrations.actions,
            demonstrations.next_observations,
            np.zeros(len(demonstrations), np.float32),
            demonstrations.terminated,
            expert=True,
        )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Transitions of R runs: observations (R, B, O), actions (R, B, A) in [−1, 1], and flags and rewards (R, B).

    ``terminated`` is 1 where the task ended the episode (bootstraps nothing) and 0 where only time ran out;
    ``expert`` is 1 on the expert's rows and 0 on the learner's.
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    rewards: Tensor
    terminated: Tensor
    expert: Tensor

    def joined(self, other: Batch) -> Batch:
        """The rows of both, this one's first."""
        names = [field.name for field in dataclasses.fields(self)]
        return Batch(**{name: torch.cat((getattr(self, name), getattr(other, name)), 1) for name in names})

    def of_run(self, run: int) -> Batch:
        """The rows of one run: the same without the axis of runs."""
        return Batch(**{field.name: getattr(self, field.name)[run] for field in dataclasses.fields(self)})

    def first(self, count: int) -> Batch:
        """The first rows of every run."""
        return Batch(**{field.name: getattr(self, field.name)[:, :count] for field in dataclasses.fields(self)})

    def where(self, rows: Tensor) -> Batch:
        """The rows of these numbers (N,) of every run."""
        return Batch(**{field.name: getattr(self, field.name)[:, rows] for field in dataclasses.fields(self)})

    def with_rewards(self, rewards: Tensor) -> Batch:
        """The same transitions under other rewards (R, B). Errors: :class:`InputError` for another shape, which would
        otherwise be stretched to this one where nobody sees it."""
        if rewards.shape != self.rewards.shape:
            shapes = tuple(rewards.shape), tuple(self.rewards.shape)
            raise InputError(f"the reward gave values of shape {shapes[0]} for rows of shape {shapes[1]}")
        return dataclasses.replace(self, rewards=rewards)


class ReplayBuffer:
    """The transitions of R runs in one tensor (R, capacity, width). The runs act in step, so they fill alike."""

    def __init__(self, runs: int, capacity: int, layout: RowLayout, device: torch.device | str = "cpu") -> None:
        self.layout = layout
        self.capacity = capacity
        self.rows = torch.zeros(runs, capacity, layout.width, device=device)
        self.added = 0
        self._offsets = (torch.arange(runs, device=device) * capacity)[:, None]

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, rows: Tensor) -> None:
        """Add one packed row for each run (R, width); the oldest goes when the buffer is full."""
        slot = self.added % self.capacity
        self.rows[:, slot] = rows.to(self.rows.device)
        self.added += 1

    def extend(self, rows: Tensor) -> None:
        """Add packed rows (R, N, width), at most the capacity; the oldest go when the buffer is full."""
        count = rows.shape[1]
        slots = (self.added + torch.arange(count, device=self.rows.device)) % self.capacity
        self.rows[:, slots] = rows.to(self.rows.device)
        self.added += count

    def gather(self, indices: Tensor) -> Tensor:
        """Packed rows (R, ..., width) at indices (R, ...) into each run's own rows."""
        flat = (indices.flatten(1) + self._offsets).flatten()
        picked = self.rows.view(-1, self.layout.width).index_select(0, flat)
        return picked.view(*indices.shape, self.layout.width)

    def newest(self, count: int | None, uniform: Tensor) -> Tensor:
        """Packed rows (R, B, width) among the newest ``count`` (or all) by uniform numbers (R, B) in [0, 1)."""
        among = len(self) if count is None else min(count, len(self))
        ages = (uniform * among).long().clamp(max=among - 1)
        return self.gather((self.added - 1 - ages) % self.capacity)

    def state(self) -> dict[str, Tensor]:
        """What has been written so far."""
        return {"rows": self.rows[:, : len(self)].contiguous(), "added": torch.tensor(self.added)}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        filled = state["rows"][:, : self.capacity]
        self.rows.zero_()
        self.rows[:, : filled.shape[1]] = filled
        self.added = int(state["added"])


class Visits:
    """The rows of some of each run's steps (R, capacity, width). Unlike in a replay buffer the runs fill apart."""

    def __init__(self, runs: int, capacity: int, layout: RowLayout, device: torch.device | str = "cpu") -> None:
        self.rows = torch.zeros(runs, capacity, layout.width, device=device)
        self.added = torch.zeros(runs, dtype=torch.int64, device=device)

    def add(self, rows: Tensor, where: np.ndarray) -> None:
        """Add a row (R, width) to the runs where the mask (R,) is true; a full run forgets its oldest."""
        chosen = torch.from_numpy(np.flatnonzero(where)).to(self.rows.device)
        self.rows[chosen, self.added[chosen] % self.rows.shape[1]] = rows.to(self.rows.device)[chosen]
        self.added[chosen] += 1

    def newest(self, count: int | None, uniform: Tensor) -> Tensor:
        """Rows (R, B, width) among the newest ``count`` (or all) of each run by uniform numbers (R, B) in [0, 1).

        Each run must have a row.
        """
        capacity = self.rows.shape[1]
        among = self.added.clamp(max=capacity if count is None else min(count, capacity))[:, None]
        ages = (uniform * among).long().clamp(max=among - 1)
        indices = (self.added[:, None] - 1 - ages) % capacity
        return self.rows[torch.arange(len(self.rows), device=self.rows.device)[:, None], indices]

    def state(self) -> dict[str, Tensor]:
        """What has been written so far."""
        filled = min(int(self.added.max()), self.rows.shape[1])
        return {"rows": self.rows[:, :filled].contiguous(), "added": self.added}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        self.rows.zero_()
        self.rows[:, : state["rows"].shape[1]] = state["rows"]
        self.added.copy_(state["added"])


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A piecewise linear function of the number of batches drawn.

    ``points`` are (batch number, value), ascending; before the first and after the last the value is constant.
    """

    points: tuple[tuple[int, float], ...]

    def __call__(self, batches: int) -> float:
        """The value for batch number ``batches``, counted from 0."""
        positions, values = zip(*self.points, strict=True)
        return float(np.interp(batches, positions, values))


class Mixture:
    """Draws batches in which a scheduled share of rows is the expert's; the batch size is always exact.

    HyPE's hybrid policy step (arXiv 2402.08848) is a share above 0; a share of 0 is learner rows only. Expert
    rows come first in a batch. The released code truncates both shares and draws 255 rows of 256
    (reference/field.md 6.4 item 3); here the learner gets what the expert's rounded share leaves.
    """

    def __init__(self, expert_rows: Tensor, expert_share: Schedule, batch_size: int) -> None:
        self.expert_rows = expert_rows
        self.expert_share = expert_share
        self.batch_size = batch_size

    def expert_count(self, batches: int) -> int:
        """The number of expert rows in batch number ``batches``."""
        if not len(self.expert_rows):
            return 0
        return round(self.expert_share(batches) * self.batch_size)

    def sample(self, buffer: ReplayBuffer, generators: Generators, count: int, drawn: int) -> Sequence[Tensor]:
        """``count`` batches of packed rows, each (R, B, width), after ``drawn`` earlier ones.

        Indices for all of them are drawn at once; expert indices only when some batch of these has expert rows.
        """
        size = self.batch_size
        learner = buffer.gather(generators.integers(len(buffer), (count, size)))
        if not len(self.expert_rows) or not any(self.expert_count(drawn + i) for i in range(count)):
            return learner.unbind(1)
        indices = generators.integers(len(self.expert_rows), (count, size))
        for i in range(count):
            share = self.expert_count(drawn + i)
            learner[:, i, :share] = self.expert_rows[indices[:, i, :share]]
        return learner.unbind(1)
