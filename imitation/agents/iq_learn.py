"""IQ-Learn: the reward is implicit in the critic, whose loss is the inverse objective itself.

Garg et al. 2021, arXiv 2106.12142; reference/algorithms.md 3.13.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...robots import InputError
from ..parts import Setting
from ..randomness import Generators
from ..replay import Batch
from .sac import SAC, SACConfig


@dataclasses.dataclass(frozen=True)
class IQLearnConfig(SACConfig):
    """SAC's sizes with one critic (the lower of two would change what an inverse objective finds) and a fixed
    entropy coefficient, to which this learner is most sensitive.

    ``value_term`` is the part of the objective that holds values down: ``value`` E[V(s) − γ V̄(s')] over the
    expert's and the learner's rows, ``value_expert`` the same over the expert's alone, ``initial`` (1 − γ) E[V(s₀)]
    over the first states of the expert's episodes, as the paper has it, and ``v0`` the same over all the expert's
    states, as the released code has it. ``regularisation`` is α of the χ² term (Q − γ V̄)² / 4α, which is over
    ``regularised`` rows: those of both, or the expert's alone. Offline (``loop=offline``) all rows are the expert's.
    The actor moves at ``actor_learning_rate``, a tenth of the critic's, as released. ``absorbing`` treats an early end
    as a state that lasts for ever and has an implied reward of its own (see :class:`IQLearn`); without it an ended
    episode is worth 0, as released, which beckons where values are below that.
    """

    critics: int = 1
    tune_entropy: bool = False
    initial_entropy_coefficient: float = 0.01
    actor_learning_rate: float = 3e-5
    value_term: Literal["value", "value_expert", "initial", "v0"] = "value"
    regularisation: float = 0.5
    regularised: Literal["both", "expert"] = "both"
    absorbing: bool = True


class IQLearn(SAC):
    """R IQ-Learn agents: soft actor-critic, but for the critic's loss.

    With r_Q(s, a) = Q(s, a) − γ (1 − terminated) V̄(s') and the χ² divergence the critic minimises
    −E_expert[r_Q] + value term + E[r_Q²] / 4α. V(s) carries the critic's gradient and the target V̄(s') none.

    The objective rewards what only the learner does by less than 0, so its values are soon below what an ended episode
    is worth, and it learns to fall. An absorbing state is a single point, whose implied reward minimises the objective
    in closed form (:meth:`follow_ends`). As with the learned rewards its value is taken off all others: an end is worth
    0, and r_Q is what it would be, r_absorbing + Q(s, a) − γ (1 − terminated) V̄(s').
    """

    Config: ClassVar[type[Any] | None] = IQLearnConfig
    implies_reward = True
    config: IQLearnConfig
    _initial: Tensor
    _expert_count: int
    _at_initial: Tensor
    _absorbing: Tensor

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` without demonstrations."""
        if setting.demonstrations is None:
            raise InputError("agent=iq_learn needs demonstrations: give data=<bundled name or file>")
        if config.absorbing and config.regularised == "expert":
            raise InputError(
                "agent.regularised=expert leaves the implied reward of what only the learner does without a bound, the "
                "absorbing state's with it: add agent.absorbing=false, or choose regularised=both"
            )
        if config.cloning_weight:
            raise InputError("agent.cloning_weight: iq_learn has no cloning term; leave it at 0")
        if not setting.task.terminates:
            config = dataclasses.replace(config, absorbing=False)
        agent = super().create(config, setting)
        if config.value_term == "initial":
            first = setting.demonstrations.observations[setting.demonstrations.times == 0]
            if not len(first):
                raise InputError(
                    f"{setting.demonstrations.source}: agent.value_term=initial needs the first rows of its episodes, "
                    "which are not among the chosen ones: choose others, or agent.value_term=value"
                )
            agent.set_initial_states(torch.from_numpy(first))
        return agent

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimisers, the actor's with a rate of its own."""
        super().initialise(generators)
        self.register_buffer("_absorbing", torch.zeros(self.runs, device=self.normaliser.mean.device), persistent=False)
        self.actor_optimiser.set_learning_rate(self.config.actor_learning_rate)

    def set_initial_states(self, observations: Tensor) -> None:
        """The states (N, O) that ``value_term="initial"`` is about."""
        self.register_buffer("_initial", observations.float(), persistent=False)

    @property
    def early_ends(self) -> str:
        """What an early end is worth, in words."""
        if self.config.absorbing:
            return "absorbing states (the implied reward is relative to the absorbing state's)"
        return "ignored, an ended episode is worth 0 whatever the values of others"

    def follow_ends(self, expert: Tensor, learner: Tensor) -> None:
        """Follow the shares of time (R,) that both sides spend after early ends, p and q.

        At a single point where nothing is chosen the objective is −p r + t + (p + q) r² / 8α, with the value term
        t = (p + q) r / 2 over both sides' rows, p r over the expert's, and q r over initial states, which the
        learner's occupancy telescopes to. Its minimum is at r = 2α (p − q) / (p + q), 0 and twice the first. (``v0``
        takes all the expert's states for initial ones, so for it this is as good as that is.)
        """
        if not self.config.absorbing:
            return
        share = {"value": 1.0, "value_expert": 0.0}.get(self.config.value_term, 2.0)
        balance = (expert - learner) / (expert + learner)
        self._absorbing.copy_(2 * self.config.regularisation * share * balance)

    @property
    def noise_rows(self) -> int:
        """Actions at the states and at the next states of both sides' rows, and at initial states if they count, which
        another set chooses."""
        return 6 if self.config.value_term == "initial" else 4

    @property
    def wants_expert_rows(self) -> bool:
        """The other side of the objective."""
        return True

    def update(self, batch: Batch, noise: Tensor, expert: Batch | None = None, phase: int = 0) -> dict[str, Tensor]:
        """One step of critic, actor and target on learner rows and as many expert rows; metrics (R,).

        Without ``expert`` all rows are the expert's (offline).
        """
        self._at_initial = noise[:, -2:]
        if expert is None:
            self._expert_count = batch.expert.shape[1]
            return super().update(batch, noise[:, :2])
        self._expert_count = expert.expert.shape[1]
        return super().update(expert.joined(batch), noise[:, :4].unflatten(1, (2, 2)).flatten(2, 3))

    def critic_loss(
        self,
        batch: Batch,
        observations: Tensor,
        sampled: tuple[Tensor, Tensor],
        noise: Tensor,
        coefficient: Tensor,
    ) -> dict[str, Tensor]:
        """The inverse objective (R,); ``batch`` has the expert's rows first, then the learner's."""
        size = self._expert_count
        following = self.discounted_next_values(batch, noise, coefficient) - self._absorbing[:, None]
        actions, log_probs = sampled
        rewards = self.critic(observations, batch.actions).amin(1) - following
        values = self.critic(observations, actions).amin(1) - coefficient[:, None] * log_probs
        if self.config.value_term == "v0":
            term = (1 - self.config.discount) * values[:, :size].mean(-1)
        elif self.config.value_term == "initial":
            term = (1 - self.config.discount) * self._initial_values(coefficient)
        else:
            gaps = values - following
            term = (gaps if self.config.value_term == "value" else gaps[:, :size]).mean(-1)
        held = rewards if self.config.regularised == "both" else rewards[:, :size]
        loss = -rewards[:, :size].mean(-1) + term + held.square().mean(-1) / (4 * self.config.regularisation)
        found = rewards.detach()
        metrics = {"critic_loss": loss, "value": values.detach().mean(-1), "reward_expert": found[:, :size].mean(-1)}
        if size < found.shape[1]:
            metrics["reward_learner"] = found[:, size:].mean(-1)
        return metrics

    def _initial_values(self, coefficient: Tensor) -> Tensor:
        """The mean of V over as many initial states as a batch has rows, drawn uniformly, (R,)."""
        uniform = torch.special.ndtr(self._at_initial[:, 1, :, 0])  # of standard normal numbers
        states = self._initial[(uniform * len(self._initial)).long().clamp(max=len(self._initial) - 1)]
        observations = self.normaliser(states)
        with torch.no_grad():
            actions, log_probs = self.actor.sample(self.seen_by_policy(states, observations), self._at_initial[:, 0])
        return (self.critic(observations, actions).amin(1) - coefficient[:, None] * log_probs).mean(-1)
