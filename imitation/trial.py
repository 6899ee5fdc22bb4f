"""A small cloning of demonstrations, tried out: what they teach before anything long is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..datasets import Demonstrations
from ..robots import Task
from .evaluation import evaluate
from .networks import Normaliser
from .offline import BehaviourCloning, CloningConfig

_HELD_OUT = 5  # every fifth episode is not learned from


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a small cloning does.

    ``action_divergence`` is its squared error on episodes that it did not see, as a share of the actions' variance
    (none for a single episode), ``returns`` (E,) are those of its episodes, ``score`` their mean between random and
    expert.
    """

    action_divergence: float | None
    returns: tuple[float, ...]
    score: float | None
    updates: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "returns": list(self.returns)}


def try_cloning(
    task: Task,
    demonstrations: Demonstrations,
    random_return: float | None,
    expert_return: float | None,
    *,
    updates: int = 3_000,
    episodes: int = 5,
    seed: int = 0,
    advance: Callable[[int], None] = lambda updates: None,
) -> Trial:
    """Clone by regression for some updates, and play.

    Errors: :class:`~understudy.robots.InputError` for demonstrations without actions.
    """
    demonstrations.need_actions("a trial of cloning", "leave it out")
    learned, held_out = _split(demonstrations)
    normaliser = Normaliser.of(demonstrations.observations)
    config = CloningConfig(steps=updates, hidden=(128, 128), batch_size=128)
    training = BehaviourCloning(config, task, task.spaces, learned, normaliser, [seed])
    while training.steps < training.total:
        before = training.steps
        training.advance()
        advance(training.steps - before)
    played = evaluate(training.act, task, 1, episodes)
    returns = played.returns[0]
    known = random_return is not None and expert_return is not None and random_return != expert_return
    score = float((returns.mean() - random_return) / (expert_return - random_return)) if known else None  # pyright: ignore
    return Trial(_error(training, held_out), tuple(returns.tolist()), score, updates)


def _split(demonstrations: Demonstrations) -> tuple[Demonstrations, Demonstrations | None]:
    """Episodes to learn from, and those held out; none when there is but one."""
    count = len(demonstrations.starts)
    if count < 2:
        return demonstrations, None
    out = np.arange(count) % _HELD_OUT == min(_HELD_OUT, count) - 1
    return demonstrations.only(~out), demonstrations.only(out)


@torch.no_grad()
def _error(training: BehaviourCloning, held_out: Demonstrations | None) -> float | None:
    if held_out is None:
        return None
    said = training.act(torch.from_numpy(held_out.observations)[None])[0].numpy()
    variance = held_out.actions.var(0)
    moving = variance > 1e-8
    if not moving.any():
        return 0.0
    return float((((said - held_out.actions) ** 2).mean(0)[moving] / variance[moving]).mean())
