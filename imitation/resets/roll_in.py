"""Resets by roll-in: a frozen behaviour-cloning policy acts first, the learner goes on where it leaves off.

Needs no simulator states, only actions (reference/algorithms.md 3.9: the released GUITAR code resets so). Trained
on the expert's rows alone it is FILTER's distribution as far as cloning can follow the expert; with offline
rows as well it broadens to what a policy of the learner's own body can reach.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ...robots import InputError, TaskBatch, view_mask
from ..offline import BehaviourCloning, CloningConfig
from ..parts import Setting
from .base import InitialStart, MixedResets, Start, only

logger = logging.getLogger(__name__)
_VISITS = 2  # roll-ins of the whole horizon for the roll-outs of a learned world


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

    An episode that ends during the roll-in starts anew and the count goes on, as in the released code. In a learned
    world roll-outs begin in the states of two such roll-ins of the whole horizon, made in the simulator once.
    """

    def __init__(self, cloning: BehaviourCloning) -> None:
        self._cloning = cloning
        self._visited: Tensor | None = None

    def prepare(self) -> None:
        """Clone the policy."""
        logger.info("cloning the roll-in policy: %d updates", self._cloning.total)
        while self._cloning.steps < self._cloning.total:
            self._cloning.advance()

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        """Roll in. Its steps are counted under ``reset``."""
        return self._roll_in(tasks, index, int(random.integers(tasks.task.horizon)), random)[-1]

    def _roll_in(self, tasks: TaskBatch, index: int, steps: int, random: np.random.Generator) -> list[np.ndarray]:
        """The observations (O,) before each step and after the last."""
        mask = only(index, len(tasks))
        seen = [tasks.reset(mask)[index]]
        actions = np.zeros((len(tasks), tasks.spaces.action_size), np.float32)
        for _ in range(steps):
            noise = random.standard_normal(tasks.spaces.action_size, np.float32)
            actions[index] = self._act(index, seen[-1], noise)
            result = tasks.step(actions, "reset", mask)
            seen.append(tasks.reset(mask)[index] if result.ended[index] else result.next_observations[index])
        return seen

    def visit(self, tasks: TaskBatch, random: Sequence[np.random.Generator]) -> None:
        """Two roll-ins of each run, counted under ``reset``."""
        seen = [
            [each for _ in range(_VISITS) for each in self._roll_in(tasks, run, tasks.task.horizon - 1, stream)]
            for run, stream in enumerate(random)
        ]
        self._visited = torch.from_numpy(np.array(seen, np.float32))

    def imagined(self, run: int, count: int, random: np.random.Generator) -> np.ndarray:
        """Observations (count, O) of the run's roll-ins, none before they were made."""
        if self._visited is None:
            return np.zeros((0, 0), np.float32)
        return self._visited[run].numpy()[random.integers(self._visited.shape[1], size=count)]

    @torch.no_grad()
    def _act(self, index: int, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return self._cloning.sample(index, torch.from_numpy(observation), torch.from_numpy(noise)).numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The cloned policy's parameters, and where it has been for a learned world."""
        visited = {} if self._visited is None else {"visited": self._visited}
        return {k: v.detach() for k, v in self._cloning.actor.state_dict().items()} | visited

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Continue from :meth:`tensors`."""
        self._visited = tensors.get("visited")
        self._cloning.actor.load_state_dict({k: v for k, v in tensors.items() if k != "visited"})


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
