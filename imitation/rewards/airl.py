"""Adversarial inverse RL: a classifier whose logit is a shaped reward less the policy's log-probability."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..networks import Discriminator, Normaliser, StackedMLP
from ..replay import Batch
from .base import LogProb, log_ratio
from .discriminator import DiscriminatorConfig, DiscriminatorReward


@dataclasses.dataclass(frozen=True)
class AirlConfig(DiscriminatorConfig):
    """``inputs`` are those of the reward proper, g: ``state`` for one that transfers. With next states among them g can
    hold the shaping too, which is then no longer told from the reward.

    ``shaping_discount`` must be the agent's discount, or shaping would change what is optimal.
    """

    shaping_discount: float = 0.99


class AirlReward(DiscriminatorReward):
    """AIRL (Fu et al. 2018, arXiv 1710.11248, equation 4): D = e^f / (e^f + π) with the shaped reward

    f(s, a, s') = g(s, a) + γ (1 − terminated) h(s') − h(s),

    so the logit is f − log π(a|s), with π recomputed under the current policy on both sides' rows: an old
    log-probability would be that of another policy (reference/algorithms.md 4, row 29). The agent's reward is f:
    its own entropy bonus stands for −log π, which would otherwise count twice (the on-policy loop, whose agent has
    none, takes log π off). That is exact where the agent's entropy coefficient is 1; a smaller one makes the policy
    sharper than what f explains. :meth:`unshaped` is g, which sees what ``inputs`` names.
    """

    Config: ClassVar[type[Any] | None] = AirlConfig
    needs_log_prob = True
    config: AirlConfig
    _own: Tensor  # which of the inputs g sees

    def __init__(
        self,
        config: AirlConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(config, runs, observation_size, action_size, normaliser, precision)
        self.potential = Discriminator(runs, observation_size, config.hidden, config.members, config.activation)
        self._observation_size = observation_size
        columns = torch.arange(2 * observation_size + action_size)
        states, actions, next_states = columns.split((observation_size, action_size, observation_size))
        chosen = {
            "state": (states,),
            "state-action": (states, actions),
            "state-next-state": (states, next_states),
            "all": (columns,),
        }[config.inputs]
        self.register_buffer("_own", torch.cat(chosen), persistent=False)

    def stacks(self) -> list[StackedMLP]:
        """g and h."""
        return [self.net.net, self.potential.net]

    def inputs(self, batch: Batch) -> Tensor:
        """Standardised state, action and next state (R, B, X)."""
        states, next_states = self.normaliser(batch.observations), self.normaliser(batch.next_observations)
        return torch.cat((states, batch.actions, next_states), -1)

    def scores(self, inputs: Tensor, batch: Batch, *, exact: bool = False) -> Tensor:
        """f of each member (R, M, B)."""
        return self._shaped(inputs.unsqueeze(1), 1 - batch.terminated.unsqueeze(1), exact=exact)

    def member_scores(self, inputs: Tensor) -> Tensor:
        """f (R, M, B) of inputs of each member's own (R, M, B, X)."""
        return self._shaped(inputs, torch.ones((), device=inputs.device), exact=True)

    def _shaped(self, inputs: Tensor, goes_on: Tensor, *, exact: bool) -> Tensor:
        size = self._observation_size
        states, next_states = inputs[..., :size], inputs[..., -size:]
        own = self.net.net(inputs[..., self._own], exact=exact).squeeze(-1)
        here = self.potential.net(states, exact=exact).squeeze(-1)
        there = self.potential.net(next_states, exact=exact).squeeze(-1)
        return own + self.config.shaping_discount * goes_on * there - here

    @torch.no_grad()
    def unshaped(self, batch: Batch) -> Tensor:
        """g (R, B): the reward to take to another task."""
        return self.combined(self.net(self.inputs(batch)[..., self._own]))

    def offsets(self, batch: Batch, log_prob: LogProb | None) -> Tensor:
        """log π(a|s) of the current policy (R, 1, B)."""
        assert log_prob is not None
        return log_prob(batch).unsqueeze(1)

    def form(self, scores: Tensor) -> Tensor:
        """r = f."""
        return scores

    def objective(self, expert: Tensor, learner: Tensor) -> tuple[Tensor, Tensor]:
        """−log D on expert logits and −log(1 − D) on learner logits."""
        return functional.softplus(-expert), functional.softplus(learner)

    def absorbing_score(self, scores: Tensor, expert: Tensor, learner: Tensor) -> Tensor:
        """log p_E / p_L, as for :class:`~understudy.imitation.rewards.GanReward`."""
        return log_ratio(*self.extremes(scores), expert, learner)
