"""How much of expert's and learner's time lies after early ends: what the absorbing state's score is made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import Task


class EndedShares:
    """The shares of time that expert and learner spend after early ends, were episodes carried on to the horizon.

    The learner's is over all its steps so far, per run, in episodes that began in the task's own initial states:
    those that the reward compares with the expert's. Both get the same small pseudo-share, half a step of
    the expert's time, so that their ratio is finite, and 1 when neither ever ended early.
    """

    def __init__(self, task: Task, demonstrations: Demonstrations | None, runs: int) -> None:
        self._horizon = task.horizon
        self.lived, self.lost = np.zeros(runs), np.zeros(runs)
        lengths = np.ones(1) if demonstrations is None else demonstrations.episode_lengths
        ended = np.zeros(1, bool) if demonstrations is None else demonstrations.episode_terminated
        lost = float((task.horizon - lengths)[ended].sum())
        time = float(lengths.sum())
        self._pseudo = 0.5 / (time + 1)
        self._expert = lost / (time + lost) + self._pseudo

    def add(self, elapsed: np.ndarray, terminated: np.ndarray, counted: np.ndarray | None) -> None:
        """Count a step, and what an early end after ``elapsed`` steps left unused, where the mask is true.

        Each is (R,), or (R · E,) for E episodes of each run at once.
        """
        mask = np.ones_like(terminated) if counted is None else counted
        lost = np.where(terminated & mask, self._horizon - elapsed, 0)
        runs = len(self.lived)
        self.lived += mask.reshape(runs, -1).sum(1)
        self.lost += lost.reshape(runs, -1).sum(1)

    def shares(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The expert's and the learner's share, each (R,)."""
        learner = self.lost / np.maximum(self.lived + self.lost, 1) + self._pseudo
        expert = np.full_like(learner, self._expert)
        return (
            torch.as_tensor(expert, dtype=torch.float32, device=device),
            torch.as_tensor(learner, dtype=torch.float32, device=device),
        )
