"""The interactive loop: act, keep, and improve the policy by batches from all that was seen."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import InputError, Task
from .acting import ActingConfig, ActingTraining
from .agents import Agent
from .capture import CapturedUpdate, Update
from .replay import Mixture, Schedule
from .resets import Resets
from .rewards import Reward
from .training import State
from .worlds import SimulatorWorld, World

_log = logging.getLogger(__name__)
# Bytes of a run's batches that are drawn together for updates to come, besides their noise and, where the agent clones,
# as many of the expert's: thousands of updates at once would fill the memory.
_AT_ONCE = 2**26


@dataclasses.dataclass(frozen=True)
class InteractiveConfig(ActingConfig):
    """The clock of the loop, per run, besides what every acting learner has.

    Every ``update_every`` environment steps the agent makes ``update_every × updates_per_step`` updates. The
    first ``random_steps`` actions are uniform, or those of an agent that was taken over, and updates start after them.
    ``expert_share`` is the share of expert rows in each batch as (batch number, share) points, linear in between.
    ``buffer_size`` rows are kept.
    """

    random_steps: int = 1_000
    update_every: int = 50
    updates_per_step: float = 1.0
    batch_size: int = 256
    expert_share: tuple[tuple[int, float], ...] = ((0, 0.0),)
    buffer_size: int = 1_000_000


class InteractiveTraining(ActingTraining):
    """R runs of one interactive learner, trained together.

    :meth:`advance` makes the next ``update_every`` environment steps and the updates that belong to them. The
    parts do not know of each other: a task batch, an agent, a reward, a mixture, a reset distribution and a world.
    """

    agent: Agent

    def __init__(
        self,
        config: InteractiveConfig,
        task: Task,
        agent: Agent,
        reward: Reward,
        resets: Resets,
        demonstrations: Demonstrations | None,
        seeds: list[int],
        device: torch.device | str = "cpu",
        offline: Demonstrations | None = None,
        world: World | None = None,
    ) -> None:
        if demonstrations is None and any(share for _, share in config.expert_share):
            raise InputError("this learner needs demonstrations: give data=<bundled name or file>")
        self.config = config  # the same as the base's, by its own type
        super().__init__(config, task, agent, reward, resets, demonstrations, seeds, device, offline)
        self.mixture = Mixture(self.expert_rows, Schedule(config.expert_share), config.batch_size)
        self.world: World = SimulatorWorld() if world is None else world
        self.world.prepare(self.generators)
        self.updates = 0
        self._owed = 0.0
        if config.steps <= config.random_steps and not self.rolls_out:
            _log.warning(
                "all steps=%d are among the first loop.random_steps=%d, in which nothing is learned: give more steps=, "
                "or fewer loop.random_steps=", config.steps, config.random_steps,
            )  # fmt: skip
        self._captured: dict[int, CapturedUpdate] = {}

    @property
    def keeps(self) -> int:
        """``buffer_size``, or all there will be."""
        return min(self.config.buffer_size, max(self.config.steps, 1))

    def begin(self) -> np.ndarray:
        """Start the world and the first episodes, unless they have been; returns the observations (R, O)."""
        if self._observations is None:
            self.world.begin(self.tasks)
        return super().begin()

    def _advance(self) -> Mapping[str, Tensor]:
        """Act for ``update_every`` steps, then update; returns the last update's metrics, each (R,)."""
        count = min(self.config.update_every, self.config.steps - self.steps)
        self._collect(count)
        if self.steps <= self.config.random_steps:
            return {}
        self._owed += count * self.config.updates_per_step
        updates = int(self._owed)
        self._owed -= updates
        return self.update(updates)

    @property
    def _improved(self) -> bool:
        return self.updates > 0

    def _acts_randomly(self) -> bool:
        return self.steps < self.config.random_steps and not self._took_over

    def _reward_update_is_due(self) -> bool:
        return self.reward.learned and self.updates % self.reward.update_every == 0

    def update(self, count: int) -> Mapping[str, Tensor]:
        """Make ``count`` updates of the agent, and of the reward when it is due; returns the last metrics (R,)."""
        if not count:
            return {}
        metrics = dict(self.world.grow(self.buffer, self.expert_rows, self.agent.act, self.generators))
        self.agent.follow_ends(*self._ended.shares(self.device))
        together = max(1, _AT_ONCE // (self.config.batch_size * self.layout.width * 4))
        for begin in range(0, count, together):
            metrics.update(self._updates(min(together, count - begin)))
        counts = self.tasks.counts["evaluation"]
        return {**metrics, **self.world.diagnose(self.steps, self.agent.act, self.reward.relabel, counts)}

    def _updates(self, count: int) -> Mapping[str, Tensor]:
        """As many, whose rows and noise are drawn together."""
        metrics, size = dict[str, Tensor](), self.config.batch_size
        rows = self.mixture.sample(self.world.rows(self.buffer), self.generators, count, self.updates)
        noise = self.generators.normal((count, self.agent.noise_rows, size, self.layout.action_size))
        expert = self._expert_batches(count, size) if self.agent.wants_expert_rows else None
        for index in range(count):
            if self._reward_update_is_due():
                metrics.update(self._update_reward())
            inputs = (rows[index], noise[:, index])
            if expert is not None:
                inputs = (*inputs, expert[index])
            metrics.update(self._agent_update(inputs)(*inputs))
            self.updates += 1
        return metrics

    def _agent_update(self, inputs: tuple[Tensor, ...]) -> Update:
        """The agent's update: called as it is on the CPU, recorded at the first use of each phase on a GPU."""
        agent, phase = self.agent, self.agent.phase(self.updates)
        update = functools.partial(self._relabel_and_update, phase)
        if self.device.type != "cuda" or not agent.recordable:
            return update
        if phase not in self._captured:
            self._captured[phase] = CapturedUpdate(update, inputs, agent.training_state, agent.set_training_state)
        return self._captured[phase]

    def _relabel_and_update(
        self, phase: int, rows: Tensor, noise: Tensor, expert_rows: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """One agent update on packed rows (R, B, width) under the current reward; pure, so that it can be recorded."""
        batch = self.layout.batch(rows)
        batch = batch.with_rewards(self.world.adjusted(self.reward.relabel(batch), batch))
        expert = None if expert_rows is None else self.layout.batch(expert_rows)
        return {**self.agent.update(batch, noise, expert, phase), "reward": batch.rewards.mean(-1)}

    def made(self) -> dict[str, np.ndarray]:
        """What was done besides environment steps, each (R,): model steps where the world is learned, and updates."""
        return {**self.world.made(), "updates": np.full(len(self.seeds), self.updates, np.int64)}

    def state(self) -> State:
        """Everything that decides how the training goes on, the world included."""
        state, world = super().state(), self.world.state()
        tensors = state.tensors | {f"world.{name}": value for name, value in world.tensors.items()}
        return State(tensors, {**state.values, "world": world.values})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        super().set_state(state)
        # One of before there were worlds has none: it was the simulator's.
        self.world.set_state(State(state.part("world"), state.values.get("world", {})))

    def _clock(self) -> dict[str, Any]:
        return {**super()._clock(), "updates": self.updates, "owed": self._owed}

    def _set_clock(self, clock: Mapping[str, Any]) -> None:
        super()._set_clock(clock)
        self.updates, self._owed = clock["updates"], clock["owed"]
