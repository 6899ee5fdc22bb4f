"""The interactive loop in rounds, as the released hybrid-IRL code has it (reference/algorithms.md 2.6).

A round is ``round_steps`` policy steps under a frozen reward, then fresh roll-outs of the stochastic policy and
one step of the reward on them (best response: older roll-outs are forgotten). Each round starts with an
environment reset and uniform actions, its first chunk has no updates, and the agent's learning rate falls
linearly to 0 over the round: artefacts of calling the old library's `learn` anew, kept because the published
curves come from them. The roll-outs' steps are counted here under ``reward``; the released code left them out. It also
took them from the reset distribution of the training (FILTER, GUITAR), which compares the expert with episodes that are
not the learner's own; here they start where the task does (reference/field.md 6.4, item 6).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..robots import InputError, TaskBatch
from .interactive import InteractiveConfig, InteractiveTraining
from .randomness import Generators
from .rewards import DiscriminatorReward


@dataclasses.dataclass(frozen=True)
class RoundsConfig(InteractiveConfig):
    """The clock of a round, besides the loop's own: ``random_steps`` here open every round, and the agent's rate falls
    to 0 in each if ``rate_falls``."""

    random_steps: int = 100
    update_every: int = 64
    round_steps: int = 5_000
    rollouts: int = 4
    rate_falls: bool = True


class RoundsTraining(InteractiveTraining):
    """R runs of an interactive learner whose reward is updated once per round, on fresh roll-outs.

    The last chunk of a round is cut at its end, where the released code overshoots by up to 63 steps.
    """

    rolls_out = True
    config: RoundsConfig
    reward: DiscriminatorReward

    def _advance(self) -> Mapping[str, Tensor]:
        """Act for a chunk of the round, then update; at the round's end, update the reward."""
        config, into = self.config, self.steps % self.config.round_steps
        if into == 0 and self.steps:
            self._observations = self.resets.reset(self.tasks)
        count = min(config.update_every, config.round_steps - into, config.steps - self.steps)
        self._collect(count)
        metrics: dict[str, Tensor] = {}
        if into:
            if config.rate_falls:
                self.agent.set_learning_rate(self.agent.learning_rate * (1 - (into + count) / config.round_steps))
            metrics.update(self.update(round(count * config.updates_per_step)))
        if self.steps % config.round_steps == 0:
            metrics.update(self._finish_round())
        return metrics

    def _acts_randomly(self) -> bool:
        begun = self.steps >= self.config.round_steps
        return (begun or not self._took_over) and self.steps % self.config.round_steps < self.config.random_steps

    def _reward_update_is_due(self) -> bool:
        return False

    def _finish_round(self) -> Mapping[str, Tensor]:
        finished = self.steps // self.config.round_steps - 1
        self.reward.start_round(finished)
        rows = self._roll_out(finished)
        size = self.reward.batch_size
        expert = self.layout.batch(self._expert_batches(1, size)[0])
        picks = self.generators.uniform((size,))
        chosen = [r[(pick * len(r)).long()] for r, pick in zip(rows, picks, strict=True)]
        learner = self.layout.batch(torch.stack(chosen))
        shares = self._ended.shares(self.device)
        return self.reward.update(expert, learner, shares, self.generators, self.agent.log_prob)

    def _roll_out(self, finished: int) -> list[Tensor]:
        """Packed rows of ``rollouts`` new episodes for each run, from the true initial states."""
        runs, each = len(self.seeds), self.config.rollouts
        # Streams of their own for every round: nothing has to be kept between rounds, and a run's training draws
        # do not depend on how long the others' episodes last.
        firsts = [(seed + 1) * 1_000_003 + finished * each for seed in self.seeds]
        generators = Generators(firsts, self.device)
        seeds = [first + i for first in firsts for i in range(each)]
        tasks = TaskBatch(self.task, [seed % 2**31 for seed in seeds])
        rows: list[list[Tensor]] = [[] for _ in range(runs)]
        observations = tasks.reset()
        running = np.ones(len(tasks), bool)
        while running.any():
            seen = torch.from_numpy(observations).to(self.device).view(runs, each, -1)
            noise = generators.normal((each, self.layout.action_size))
            actions = self.agent.act(seen, noise).flatten(0, 1).cpu().numpy()
            result = tasks.step(actions, "reward", running)
            packed = self.layout.pack(
                observations, actions, result.next_observations, result.rewards, result.terminated
            )
            self._ended.add(tasks.elapsed, result.terminated, running)
            for index in np.flatnonzero(running):
                rows[index // each].append(packed[index])
            running &= ~result.ended
            observations = result.next_observations
        self.tasks.counts["reward"] += tasks.counts["reward"].reshape(runs, each).sum(1)
        tasks.close()
        return [torch.stack(r).to(self.device) for r in rows]


def check_rounds(reward: object) -> DiscriminatorReward:
    """The reward, if rounds can update it. Errors: :class:`InputError` otherwise."""
    if not isinstance(reward, DiscriminatorReward):
        raise InputError("loop=rounds updates a discriminator: choose reward=wasserstein or reward=gan")
    return reward
