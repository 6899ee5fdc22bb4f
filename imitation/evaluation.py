"""Evaluation by the task's true return, which no learner sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..robots import Task, TaskBatch

Act = Callable[[Tensor], Tensor]
# Observations (R, E, O) -> actions (R, E, A), each within -1 and 1.


def evaluate(
    act: Act,
    task: Task,
    runs: int,
    episodes: int,
    *,
    seed: int = 10_000_000,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Play ``episodes`` E episodes for each of R runs, all at once.

    Episode e starts from the initial state of seed ``seed + e`` for every run and every evaluation, so that
    runs and evaluations are compared on equal starts.
    """
    seeds = [seed + episode for _ in range(runs) for episode in range(episodes)]
    tasks = TaskBatch(task, seeds)
    observations = tasks.reset()
    returns = np.zeros(len(seeds))
    running = np.ones(len(seeds), bool)
    try:
        while running.any():
            seen = torch.from_numpy(observations).to(device).view(runs, episodes, -1)
            actions = act(seen).flatten(0, 1).cpu().numpy()
            result = tasks.step(actions, "evaluation", running)
            returns += result.rewards
            running &= ~result.ended
            observations = result.next_observations
        lengths = tasks.elapsed.copy()
    finally:
        tasks.close()
    return Evaluation(returns.reshape(runs, episodes), lengths.reshape(runs, episodes))


class Evaluation:
    """Undiscounted ``returns`` (R, E) and ``lengths`` (R, E) of an evaluation."""

    def __init__(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        self.returns = returns
        self.lengths = lengths

    @property
    def steps(self) -> np.ndarray:
        """Environment steps the evaluation took (R,)."""
        return self.lengths.sum(1)
