"""Chunks of actions: what a network says at once of the next steps, given the last observations.

Zhao et al. 2023 (arXiv 2304.13705) for chunks, Chi et al. 2023 (arXiv 2303.04137) for drawing them by diffusion and for
acting on the first of them alone (receding horizon).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets import Demonstrations
from ..robots import InputError
from .diffusion import (
    NoisePredictor,
    ahead,
    cleaned,
    denoised,
    sampling_times,
    sampling_times_of_second_order,
)
from .networks import Activation, StackedMLP
from .randomness import Generators

Solver = Literal["ddim", "dpm"]
Predicted = Literal["noise", "chunk"]


@dataclasses.dataclass(frozen=True)
class ChunkShape:
    """``history`` H observations of O numbers in, ``chunk`` K actions of A numbers out, of which ``acts`` are taken.

    The first action of a chunk belongs to the last observation. Where there are goals to be told, they have ``goal`` G
    numbers.
    """

    observation_size: int
    action_size: int
    history: int
    chunk: int
    acts: int
    goal: int = 0

    @property
    def told(self) -> int:
        """Numbers that say the goal: its own, and one that says whether it is said; none without goals."""
        return self.goal + 1 if self.goal else 0

    @property
    def seen(self) -> int:
        """Numbers S that a chunk is made from: H · O of observations, and what says the goal."""
        return self.history * self.observation_size + self.told

    @property
    def said(self) -> int:
        """Numbers of a chunk, K · A."""
        return self.chunk * self.action_size


class Windows:
    """What there is to learn from: a window around every row of demonstrations, within its episode.

    Before an episode's first row its first observation stands in, as it does when acting. After its last row nobody
    knows what came, and nothing is learned: ``mask`` is 0 there.
    """

    def __init__(self, demonstrations: Demonstrations, shape: ChunkShape) -> None:
        gaps = np.diff(demonstrations.times) != 1
        inside = np.ones(len(demonstrations) - 1, bool)
        inside[demonstrations.starts[1:] - 1] = False
        if (gaps & inside).any():
            raise InputError(
                f"{demonstrations.source}: chunks are of actions one after the other, and rows are left out between "
                "these: leave out data.every="
            )
        rows = np.arange(len(demonstrations))
        lengths = np.diff(np.append(demonstrations.starts, len(rows)))  # of what was chosen of the episodes
        first = np.repeat(demonstrations.starts, lengths)[:, None]
        last = first + np.repeat(lengths, lengths)[:, None] - 1
        before = np.maximum(rows[:, None] + np.arange(1 - shape.history, 1), first)
        after = rows[:, None] + np.arange(shape.chunk)
        self._goal, self._last = shape.goal, torch.from_numpy(last[:, 0])
        self._before, self._after = torch.from_numpy(before), torch.from_numpy(np.minimum(after, last))
        self._known = torch.from_numpy(after <= last).float()
        self._observations = torch.from_numpy(demonstrations.observations)
        self._actions = torch.from_numpy(demonstrations.actions)

    def __len__(self) -> int:
        return len(self._before)

    def to(self, device: torch.device) -> Self:
        """Move to a device; returns itself, as a module does."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Observations (R, B, H, O), actions (R, B, K, A) and the mask (R, B, K, 1), of row numbers (R, B)."""
        seen, said = self._observations[self._before[rows]], self._actions[self._after[rows]]
        return seen, said, self._known[rows].unsqueeze(-1)

    def reached(self, rows: Tensor, uniform: Tensor, furthest: int) -> Tensor:
        """Goals (R, B, G) that were reached some 1 to ``furthest`` steps after rows (R, B), by uniform numbers (R, B).

        Hindsight (Andrychowicz et al. 2017, arXiv 1707.01495): whatever came later in the episode was a goal of it.
        """
        left = (self._last[rows] - rows).clamp(max=furthest)
        ahead = torch.minimum((uniform * left).long() + 1, left)
        return self._observations[rows + ahead][..., : self._goal]


class ChunkModel(nn.Module, abc.ABC):
    """R networks from what is seen, windows of standardised observations and goals, to chunks of actions in [−1, 1]."""

    shape: ChunkShape

    @abc.abstractmethod
    def stacks(self) -> list[StackedMLP]:
        """The networks to train."""

    @abc.abstractmethod
    def errors(self, seen: Tensor, said: Tensor, generators: Generators) -> Tensor:
        """What is to be small (R, B, K · A), from what is seen (R, B, S) and the expert's chunks (R, B, K · A)."""

    @abc.abstractmethod
    def chunk(self, seen: Tensor, noise: Tensor) -> Tensor:
        """Chunks (R, B, K · A) in [−1, 1] for what is seen (R, B, S), by standard normal noise (R, B, K · A)."""


class ChunkRegression(ChunkModel):
    """One chunk for a window: the mean of what the expert did."""

    def __init__(self, runs: int, shape: ChunkShape, hidden: Sequence[int], activation: Activation = "relu") -> None:
        super().__init__()
        self.shape = shape
        self.net = StackedMLP((runs,), (shape.seen, *hidden, shape.said), activation=activation)

    def stacks(self) -> list[StackedMLP]:
        """The one."""
        return [self.net]

    def errors(self, seen: Tensor, said: Tensor, generators: Generators) -> Tensor:
        """Squared errors."""
        return (self.net(seen).tanh() - said).square()

    def chunk(self, seen: Tensor, noise: Tensor) -> Tensor:
        """Without the noise."""
        return self.net(seen, exact=True).tanh()


class ChunkDiffusion(ChunkModel):
    """Chunks drawn by denoising (Chi et al. 2023, arXiv 2303.04137): a distribution that may have several modes.

    The network predicts the noise in a chunk that was noised to one of ``signal``'s levels, given the window, by
    regression, or with ``predicts="chunk"`` the chunk without it. A chunk is drawn from noise in ``samples``
    deterministic steps of ``solver``: ``ddim``, of first order (arXiv 2010.02502), or ``dpm``, of second
    (DPM-Solver++(2M), arXiv 2211.01095). ``guidance`` λ leads from what it would predict without the goal (λ = 0) to
    what it predicts with it (1) and beyond (Ho and Salimans 2022, arXiv 2207.12598, where w = λ − 1).
    """

    def __init__(
        self,
        runs: int,
        shape: ChunkShape,
        hidden: Sequence[int],
        signal: Tensor,
        samples: int,
        activation: Activation = "silu",
        guidance: float = 1.0,
        solver: Solver = "ddim",
        predicts: Predicted = "noise",
    ) -> None:
        super().__init__()
        self.shape, self.samples, self.guidance = shape, samples, guidance
        self.solver: Solver = solver
        self.predicts: Predicted = predicts
        self._times: dict[tuple[int, Solver], list[int]] = {}
        self.predictor = NoisePredictor((runs,), shape.said, hidden, signal, activation, given=shape.seen, keeps=True)

    def stacks(self) -> list[StackedMLP]:
        """Those of the noise predictor."""
        return self.predictor.stacks()

    def errors(self, seen: Tensor, said: Tensor, generators: Generators) -> Tensor:
        """Squared errors in what is named, each chunk at a time and by noise of its own."""
        noise = generators.normal(tuple(said.shape[1:]))
        times = generators.integers(len(self.predictor.signal), (said.shape[1],))
        named = self.predictor(self.predictor.noised(said, noise, times), times, given=seen)
        return (named - (said if self.predicts == "chunk" else noise)).square()

    def chunk(self, seen: Tensor, noise: Tensor) -> Tensor:
        """Denoised step by step."""
        signal, rows, second = self.predictor.signal, noise, self.solver == "dpm"
        times = self.times()
        signals = [*signal[times], signal[0] if second else torch.ones_like(signal[0])]
        before: Tensor | None = None
        for index, time in enumerate(times):
            at = torch.full(rows.shape[:-1], time, device=rows.device)
            clean = towards = self.clean(rows, at, seen)
            if second and before is not None:
                towards = ahead(clean, before, (signals[index - 1], signals[index], signals[index + 1]))
            rows, before = denoised(rows, towards, signals[index], signals[index + 1]), clean
        return rows.clamp(-1, 1)

    def times(self) -> list[int]:
        """What a draw goes through. Found out once, as what is exported must not ask a tensor for it."""
        key = (self.samples, self.solver)
        if key not in self._times:
            signal, count = self.predictor.signal, self.samples
            second = self.solver == "dpm"
            self._times[key] = (
                sampling_times_of_second_order(signal, count) if second else sampling_times(len(signal), count)
            )
        return self._times[key]

    def clean(self, rows: Tensor, at: Tensor, seen: Tensor) -> Tensor:
        """What rows (R, B, K · A) at times (R, B) would be without noise, in [−1, 1], by what is named."""
        named = self._named(rows, at, seen)
        if self.predicts == "chunk":
            return named.clamp(-1, 1)
        return cleaned(rows, named, self.predictor.signal[at].unsqueeze(-1))

    def _named(self, rows: Tensor, at: Tensor, seen: Tensor) -> Tensor:
        """The noise in rows (R, B, K · A) at times (R, B), or the chunks, guided to the goal."""
        named = self.predictor(rows, at, given=seen, exact=True)
        if self.guidance == 1 or not self.shape.goal:
            return named
        aimless = torch.cat((seen[..., : -self.shape.told], torch.zeros_like(seen[..., -self.shape.told :])), -1)
        without = self.predictor(rows, at, given=aimless, exact=True)
        return without + self.guidance * (named - without)


Plan = Callable[[Tensor, Tensor], Tensor]
# Windows of observations (..., E, H, O), and how many plans each episode had before (E,) -> chunks (..., E, K, A).


def drawn(seeds: Sequence[int] | None, planned: Tensor, size: int) -> Tensor:
    """Standard normal numbers (E, size) for a plan after ``planned`` others (E,): each episode's own, by its seed."""
    of = range(len(planned)) if seeds is None else seeds
    streams = (torch.Generator().manual_seed(1_000_003 * s + p) for s, p in zip(of, planned.tolist(), strict=True))
    return torch.stack([torch.randn(size, generator=stream) for stream in streams])


@dataclasses.dataclass(frozen=True)
class Memory:
    """What E episodes remember: the last observations ``window`` (..., E, H, O), the ``chunk`` (..., E, K, A) that was
    planned, how many of its actions were ``taken`` (E,), and how many plans there were, ``planned`` (E,)."""

    window: Tensor
    chunk: Tensor
    taken: Tensor
    planned: Tensor

    @classmethod
    def fresh(cls, observations: Tensor, shape: ChunkShape) -> Self:
        """Of episodes that begin with these observations (..., E, O)."""
        *leading, rows, _ = observations.shape
        none = torch.zeros(rows, dtype=torch.int64, device=observations.device)
        chunk = observations.new_zeros(*leading, rows, shape.chunk, shape.action_size)
        return cls(filled(observations, shape), chunk, none + shape.acts, none)


def step(
    memory: Memory | None, observations: Tensor, shape: ChunkShape, plan: Plan, starts: Tensor | None = None
) -> tuple[Tensor, Memory]:
    """Actions (..., E, A) in [−1, 1] for the next observations (..., E, O), and the memory for those after.

    A chunk's first ``acts`` actions are taken, then another is planned from what is seen by then. Episodes begin where
    there is no memory, and where ``starts`` (E,) is true.
    """
    if memory is None:
        known = Memory.fresh(observations, shape)
    else:
        known = dataclasses.replace(memory, window=slid(memory.window, observations))
    if starts is not None:
        begun = Memory.fresh(observations, shape)
        known = Memory(
            torch.where(starts[:, None, None], begun.window, known.window),
            known.chunk,
            torch.where(starts, begun.taken, known.taken),
            torch.where(starts, begun.planned, known.planned),
        )
    over = known.taken >= shape.acts
    if over.any():
        chunk = torch.where(over[:, None, None], plan(known.window, known.planned), known.chunk)
        known = Memory(known.window, chunk, torch.where(over, 0, known.taken), known.planned + over.long())
    where = known.taken[:, None, None].expand(*known.chunk.shape[:-2], 1, shape.action_size)
    return known.chunk.gather(-2, where).squeeze(-2), dataclasses.replace(known, taken=known.taken + 1)


def slid(window: Tensor, observations: Tensor) -> Tensor:
    """The window (..., H, O) with the next observations (..., O) in it, and without the oldest."""
    return torch.cat((window[..., 1:, :], observations.unsqueeze(-2)), -2)


def filled(observations: Tensor, shape: ChunkShape) -> Tensor:
    """The windows (..., H, O) of episodes that begin with these observations (..., O)."""
    newest = observations.unsqueeze(-2)
    return newest.expand(*newest.shape[:-2], shape.history, -1)


class Receding:
    """Acts in episodes that start together, by :func:`step`."""

    def __init__(self, plan: Plan, shape: ChunkShape) -> None:
        self._plan, self._shape = plan, shape
        self._memory: Memory | None = None

    def __call__(self, observations: Tensor) -> Tensor:
        """Actions (..., E, A) in [−1, 1] for the next observations (..., E, O)."""
        actions, self._memory = step(self._memory, observations, self._shape, self._plan)
        return actions
