"""How much a learned reward moves while it is learned, on rows that stay the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..robots import InputError
from .acting import ActingTraining
from .replay import Batch

_TOGETHER = 10  # updates whose mean is taken


@dataclasses.dataclass(frozen=True)
class Restlessness:
    """Variances over time (R,) of a row's reward, in the mean over rows, per variance between rows.

    ``neighbours`` from an update to the next (half the mean square of the difference), ``all`` over all updates,
    ``tens`` of the means of ten updates each. What is noise alone has the first equal to the second and the third a
    tenth of it.
    """

    neighbours: NDArray[np.float64]
    all: NDArray[np.float64]
    tens: NDArray[np.float64]

    @classmethod
    def of(cls, rewards: Tensor) -> Restlessness:
        """From rewards (U, R, N) of N rows after each of U updates."""
        between = rewards.mean(0).var(-1).clamp(min=1e-12)
        tens = rewards[: len(rewards) // _TOGETHER * _TOGETHER].unflatten(0, (-1, _TOGETHER)).mean(1)
        steps = rewards.diff(dim=0).square().mean(0) / 2
        return cls(*((moved.mean(-1) / between).numpy() for moved in (steps, rewards.var(0), tens.var(0))))


def follow(
    training: ActingTraining, updates: int, rows: int, advance: Callable[[int], None] = lambda count: None
) -> Restlessness:
    """Go on with a training until its reward has had ``updates`` more, and follow what ``rows`` of each side are worth.

    The rows are the expert's and the learner's newest, as they are at the start. ``advance`` is told of each update.
    Errors: :class:`InputError` when the training ends before that.
    """
    reward, batch, seen = training.reward, _rows(training, rows), list[Tensor]()
    learn = reward.update

    def watched(*given: Any, **named: Any) -> Mapping[str, Tensor]:
        metrics = learn(*given, **named)
        if len(seen) < updates:
            seen.append(reward.relabel(batch).double().cpu())
            advance(1)
        return metrics

    reward.update = watched
    try:
        while len(seen) < updates and training.steps < training.total:
            training.advance()
    finally:
        del reward.update
    if len(seen) < updates:
        raise InputError(
            f"the training ended after {len(seen)} updates of its reward, of updates={updates}: give more steps="
        )
    return Restlessness.of(torch.stack(seen))


def _rows(training: ActingTraining, count: int) -> Batch:
    """Rows (R, 2B): the expert's, and the learner's newest. Drawn from a stream of their own, so nothing else moves."""
    generator = torch.Generator().manual_seed(0)
    runs, device = len(training.seeds), training.device
    which = torch.randint(len(training.expert_rows), (runs, count), generator=generator)
    expert = training.layout.batch(training.expert_rows[which.to(device)])
    kept = training.buffer if training.visits is None else training.visits
    uniform = torch.rand((runs, count), generator=generator).to(device)
    return expert.joined(training.layout.batch(kept.newest(10 * count, uniform)))
