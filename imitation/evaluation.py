"""Evaluation by the task's true return, which no learner sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..robots import Purpose, Task, TaskBatch, Transitions

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
    returns = np.zeros(len(seeds))
    try:
        for _, _, result in play(act, tasks, runs, "evaluation", np.ones(len(seeds), bool), device):
            returns += result.rewards
        lengths = tasks.elapsed.copy()
    finally:
        tasks.close()
    return Evaluation(returns.reshape(runs, episodes), lengths.reshape(runs, episodes))


def play(
    act: Act, tasks: TaskBatch, runs: int, purpose: Purpose, where: np.ndarray, device: torch.device | str = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray, Transitions]]:
    """Play an episode in each of the N = R · E environments where the mask (N,) is true, run after run.

    Yields at every step the observations (N, O) before it, who took it (N,), and what came of it.
    """
    observations, running = tasks.reset(), where.copy()
    while running.any():
        seen = torch.from_numpy(observations).to(device).view(runs, len(tasks) // runs, -1)
        actions = act(seen).flatten(0, 1).cpu().numpy()
        result = tasks.step(actions, purpose, running)
        yield observations, running.copy(), result
        running &= ~result.ended
        observations = result.next_observations


class Evaluation:
    """Undiscounted ``returns`` (R, E) and ``lengths`` (R, E) of an evaluation."""

    def __init__(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        self.returns = returns
        self.lengths = lengths

    @property
    def steps(self) -> np.ndarray:
        """Environment steps the evaluation took (R,)."""
        return self.lengths.sum(1)
