"""Telling a policy where to go, for data whose makers went wherever they pleased (play).

Reuss et al. 2023 (arXiv 2304.02532): a policy is told a place that its episode came to later, and, where the task has
its robot go, that place. Chunks and drawing them are :mod:`~.chunks`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ..robots import Goal, InputError, Task
from .networks import Normaliser


@dataclasses.dataclass(frozen=True)
class Aim:
    """A goal of a policy's: :class:`~understudy.robots.Goal`, and how it is told."""

    goal: Goal

    @classmethod
    def of(cls, task: Task, option: str) -> Aim:
        """That of a task. Errors: :class:`InputError` when the task is not about going somewhere."""
        if task.goal is None:
            raise InputError(f"{option}: {task.name} has no goal to be told: choose a maze (task=gap-maze), or false")
        return cls(task.goal)

    def visible(self, view: np.ndarray | None, size: int, option: str) -> np.ndarray | None:
        """The view (O,), or all of it, without the columns that say the goal, which is told apart from them.

        Errors: :class:`InputError` for a view without the columns that are to become the goal.
        """
        if view is not None and not view[: self.goal.size].all():
            raise InputError(
                f"{option} hides the first {self.goal.size} columns, which are to reach the goal: show them"
            )
        if self.goal.place is not None:
            return view
        mask = np.ones(size, np.float32) if view is None else view.copy()
        mask[-self.goal.size :] = 0
        return mask

    def wanted(self, observations: Tensor) -> Tensor:
        """Where to go (..., G), for observations (..., O)."""
        if self.goal.place is None:
            return observations[..., -self.goal.size :]
        return observations.new_tensor(self.goal.place).expand(*observations.shape[:-1], -1)

    def told(self, goals: Tensor, normaliser: Normaliser, said: Tensor | None = None) -> Tensor:
        """Goals (..., G) as networks see them (..., G + 1), standardised, and with a 1 that says that they are said.

        Where ``said`` (..., 1) is 0 all is 0: no goal.
        """
        mean, std = normaliser.mean[: self.goal.size], normaliser.std[: self.goal.size]
        standard = ((goals - mean) / std).clamp(-normaliser.limit, normaliser.limit)
        flag = torch.ones_like(standard[..., :1]) if said is None else said
        return torch.cat((standard * flag, flag), -1)


def seen(
    window: Tensor, normaliser: Normaliser, aim: Aim | None, goals: Tensor | None = None, said: Tensor | None = None
) -> Tensor:
    """What a chunk is made from (..., S): a window (..., H, O), and the goal (its own if none (..., G) are given)."""
    observed = normaliser(window).flatten(-2)
    if aim is None:
        return observed
    return torch.cat(
        (observed, aim.told(aim.wanted(window[..., -1, :]) if goals is None else goals, normaliser, said)), -1
    )
