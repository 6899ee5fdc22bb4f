"""Resets by roll-in: a frozen behaviour-cloning policy acts first, the learner goes on where it leaves off.

Needs no simulator states, only actions (reference/algorithms.md 3.9: the released GUITAR code resets so). Trained
on the expert's rows alone it is FILTER's distribution as far as cloning can follow the expert; with offline
rows as well it broadens to what a policy of the learner's own body can reach.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ...robots import InputError, TaskBatch, view_mask
from ..offline import BehaviourCloning, CloningConfig
from ..parts import Setting
from .base import InitialStart, MixedResets, Start

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RollInConfig:
    """``share`` of the episodes start with a roll-in of a policy cloned from ``source`` by ``updates`` updates.

    ``source`` is the expert's rows, the offline rows, or both together, unweighted. ``view`` names the parts of the
    observation that the cloned policy may see (:func:`understudy.robots.view_mask`; all when empty).
    """

    share: float = 0.5
    source: Literal["expert", "offline", "both"] = "both"
    updates: int = 5_000
    view: tuple[str, ...] = ()


class RollInStart(Start):
    """Acts for a number of steps that is uniform over the horizon with the run's own cloned policy (sampled).

    An episode that ends during the roll-in starts anew and the count goes on, as in the released code.
    """

    def __init__(self, cloning: BehaviourCloning) -> None:
        self._cloning = cloning

    def prepare(self) -> None:
        """Clone the policy."""
        logger.info("cloning the roll-in policy: %d updates", self._cloning.total)
        while self._cloning.steps < self._cloning.total:
            self._cloning.advance()

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        """Roll in. Its steps are counted under ``reset``."""
        mask = np.zeros(len(tasks), bool)
        mask[index] = True
        observation = tasks.reset(mask)[index]
        actions = np.zeros((len(tasks), tasks.spaces.action_size), np.float32)
        for _ in range(int(random.integers(tasks.task.horizon))):
            noise = random.standard_normal(tasks.spaces.action_size, np.float32)
            actions[index] = self._act(index, observation, noise)
            result = tasks.step(actions, "reset", mask)
            observation = result.next_observations[index]
            if result.ended[index]:
                observation = tasks.reset(mask)[index]
        return observation

    @torch.no_grad()
    def _act(self, index: int, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return self._cloning.sample(index, torch.from_numpy(observation), torch.from_numpy(noise)).numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The cloned policy's parameters."""
        return {k: v.detach() for k, v in self._cloning.actor.state_dict().items()}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Continue from :meth:`tensors`."""
        self._cloning.actor.load_state_dict(tensors)


class RollInResets(MixedResets):
    """A share of the episodes starts with a behaviour-cloning roll-in of random length."""

    Config: ClassVar[type[Any] | None] = RollInConfig

    @classmethod
    def create(cls, config: RollInConfig, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` when the data to clone from are missing."""
        start = roll_in_start(setting, config.source, config.updates, config.view)
        return cls({"initial": InitialStart(), "roll_in": start}, [1 - config.share, config.share], setting.seeds)


def roll_in_start(setting: Setting, source: str, updates: int, view: tuple[str, ...]) -> RollInStart:
    """Roll-ins of a policy cloned from the expert's rows, the offline rows or both, which sees ``view`` alone.

    Errors: :class:`InputError` when these data are missing.
    """
    needed = {"expert": ["data"], "offline": ["offline"], "both": ["data", "offline"]}[source]
    given = {"data": setting.demonstrations, "offline": setting.offline}
    chosen = [given[option] for option in needed]
    rows = [recorded for recorded in chosen if recorded is not None]
    if len(rows) < len(needed):
        missing = next(option for option in needed if given[option] is None)
        raise InputError(f"a roll-in cloned from {source} rows needs them: give {missing}=<bundled name or file>")
    for each in rows:
        each.need_actions("a roll-in", "choose another resets=")
    recorded = rows[0] if len(rows) == 1 else rows[0].joined(rows[1])
    view_mask(setting.task, view, "resets.view")  # refused by this name
    # The processor is where single observations come from; it acts for one environment at a time.
    config = CloningConfig(steps=updates, loss="likelihood", view=view)
    cloning = BehaviourCloning(
        config, setting.task, setting.spaces, recorded, setting.normaliser,
        [seed + 1_000_000_007 for seed in setting.seeds],
    )  # fmt: skip
    return RollInStart(cloning)
