"""What every reward is to the loop, and the task's own reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..randomness import Generators
from ..replay import Batch


class Reward(Protocol):
    """A reward model for R runs.

    The loop relabels every batch with the current model (an old reward is wrong as soon as the model moves),
    and updates a model whose ``learned`` is true every ``update_every`` agent updates.
    """

    learned: bool
    update_every: int
    batch_size: int

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimiser."""
        ...

    def relabel(self, batch: Batch) -> Tensor:
        """The rewards (R, B) of a batch, without gradient."""
        ...

    def update(
        self, expert: Batch, learner: Batch, ended: tuple[Tensor, Tensor], generators: Generators
    ) -> Mapping[str, Tensor]:
        """One step on expert and learner rows (R, B); ``ended``: shares of time after early ends (R,)."""
        ...

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments."""
        ...

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        ...


class TaskReward:
    """The task's true reward, for training experts (``learner=sac``). Nothing is learned."""

    learned = False
    update_every = 0
    batch_size = 0

    def initialise(self, generators: Generators) -> None:
        """Nothing to draw."""

    def relabel(self, batch: Batch) -> Tensor:
        """The stored rewards (R, B)."""
        return batch.rewards

    def update(
        self, expert: Batch, learner: Batch, ended: tuple[Tensor, Tensor], generators: Generators
    ) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def training_state(self) -> dict[str, Tensor]:
        """Empty."""
        return {}

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


def gradient_penalty(scores: Tensor, inputs: Tensor, target: float) -> Tensor:
    """E[(‖∇ₓ score‖₂ − target)²] per run (R,), differentiable; ``inputs`` (R, B, X) made ``scores`` (R, B).

    WGAN-GP (arXiv 1704.00028) with target 1; the released hybrid-IRL code uses 0.4.
    """
    (slope,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    norm = (slope.square().sum(-1) + 1e-12).sqrt()
    return (norm - target).square().mean(-1)
