"""The on-policy loop: act for a round, update the reward on it, and improve the policy by it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..robots import Transitions
from .acting import ActingConfig, ActingTraining
from .agents import OnPolicyAgent
from .replay import Batch


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig(ActingConfig):
    """A round is ``round_steps`` environment steps of each run. ``steps`` are rounded up to whole rounds.

    The reward takes a step for every ``reward.update_every`` minibatches of the agent, before they are made and on
    the round's rows alone (those of the newest episodes from the task's initial states where resets lead elsewhere).
    """

    round_steps: int = 2_048


class OnPolicyTraining(ActingTraining):
    """R runs of an on-policy learner, trained together (GAIL and AIRL as published: arXiv 1606.03476, 1710.11248)."""

    config: OnPolicyConfig
    agent: OnPolicyAgent
    _ends: list[np.ndarray]

    @property
    def keeps(self) -> int:
        """A round's."""
        return self.config.round_steps

    @property
    def total(self) -> int:
        """Environment steps per run when finished: whole rounds."""
        return -(-self.config.steps // self.config.round_steps) * self.config.round_steps

    @property
    def _improved(self) -> bool:
        return self.steps > 0

    def _keep(self, observations: np.ndarray, actions: np.ndarray, result: Transitions) -> None:
        super()._keep(observations, actions, result)
        self._ends.append(result.ended)

    def _as_done(self, batch: Batch) -> Batch:
        return dataclasses.replace(batch, actions=batch.actions.clamp(-1, 1))

    def _advance(self) -> Mapping[str, Tensor]:
        """One round."""
        self._ends = []
        self._collect(self.config.round_steps)
        metrics: dict[str, Tensor] = {}
        if self.reward.learned:
            for _ in range(max(1, self.agent.updates_of(self.config.round_steps) // self.reward.update_every)):
                metrics.update(self._update_reward())
        rows = self.layout.batch(self.buffer.rows)  # as long as a round, so in the order of time
        done = self._as_done(rows)
        rewards = self.reward.relabel(done)
        if self.reward.needs_log_prob:  # AIRL's log D − log(1 − D) = f − log π: nothing else here rewards entropy
            rewards = rewards - self.agent.log_prob(done)
        rows = rows.with_rewards(rewards)
        ended = torch.from_numpy(np.stack(self._ends, 1)).to(self.device, torch.float32)
        metrics.update(self.agent.learn(rows, ended, self.generators))
        return {**metrics, "reward": rows.rewards.mean(-1)}
