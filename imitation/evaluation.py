"""Evaluation by the task's true return, which no learner sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..robots import Purpose, Task, TaskBatch, Transitions

FIRST_SEED = 10_000_000  # of the episodes of evaluations, where no training's are
Act = Callable[[Tensor], Tensor]
# Observations (R, E, O) -> actions (R, E, A), each within -1 and 1.


def evaluate(
    act: Act,
    task: Task,
    runs: int,
    episodes: int,
    *,
    seed: int = FIRST_SEED,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Play ``episodes`` E episodes for each of R runs, all at once.

    Episode e starts from the initial state of seed ``seed + e`` for every run and every evaluation, so that
    runs and evaluations are compared on equal starts.
    """
    seeds = [seed + episode for _ in range(runs) for episode in range(episodes)]
    tasks = TaskBatch(task, seeds)
    returns, succeeded = np.zeros(len(seeds)), np.zeros(len(seeds), bool)
    try:
        for _, _, result in play(act, tasks, runs, "evaluation", np.ones(len(seeds), bool), device):
            returns += result.rewards
            succeeded |= result.succeeded
        lengths = tasks.elapsed.copy()
    finally:
        tasks.close()
    successes = succeeded.reshape(runs, episodes) if task.succeeds else None
    return Evaluation(returns.reshape(runs, episodes), lengths.reshape(runs, episodes), successes)


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
    """Undiscounted ``returns`` (R, E) and ``lengths`` (R, E) of an evaluation.

    ``successes`` (R, E) says which episodes reached the task's aim at some step, for tasks that say so.
    """

    def __init__(self, returns: np.ndarray, lengths: np.ndarray, successes: np.ndarray | None = None) -> None:
        self.returns = returns
        self.lengths = lengths
        self.successes = successes

    @classmethod
    def along(cls, parts: Sequence[Evaluation], axis: int) -> Evaluation:
        """Several as one: of other runs (axis 0) or of other episodes (axis 1)."""

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts], axis)

        return cls(joined("returns"), joined("lengths"), None if parts[0].successes is None else joined("successes"))

    @property
    def steps(self) -> np.ndarray:
        """Environment steps the evaluation took (R,)."""
        return self.lengths.sum(1)
