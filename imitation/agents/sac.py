"""Soft actor-critic over R runs at once (Haarnoja et al. 2018, arXiv 1812.05905), entropy tuned per run.

Losses, order of updates and defaults are stable-baselines3's SAC (a test compares losses and gradients on equal
weights, batch and noise), so results can be compared with the wider field's.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..networks import GaussianActor, Normaliser, StackedMLP, TwinCritic
from ..optimisers import Adam
from ..policy import Head
from ..randomness import Generators
from ..replay import Batch
from .base import ActorCritic, ActorCriticConfig, Average, follow


@dataclasses.dataclass(frozen=True)
class SACConfig(ActorCriticConfig):
    """Sizes and rates of SAC, besides those that TD3 has too.

    ``target_entropy`` is −A when left out. The entropy coefficient starts at ``initial_entropy_coefficient`` and is
    tuned towards it, or stays where it is without ``tune_entropy``. ``critics`` is how many action values there
    are, of which the lowest counts. The cloning term is of sampled actions (BC-Reg, arXiv 2402.08848), towards those of
    ``cloning_rows``: the expert's, or the learner's own batch, which is what the released BC-Reg does unawares
    (reference/field.md 6.4, item 2).
    """

    initial_entropy_coefficient: float = 1.0
    target_entropy: float | None = None
    tune_entropy: bool = True
    critics: int = 2
    cloning_rows: Literal["expert", "learner"] = "expert"


class SAC(ActorCritic):
    """R soft actor-critics. :meth:`update` is a pure function of tensors: no files, loggers, syncs or draws."""

    Config: ClassVar[type[Any] | None] = SACConfig

    def __init__(
        self,
        config: SACConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(config, runs, observation_size, action_size, normaliser, precision)
        self.config = config  # the same, by its own type
        sizes = (action_size, config.hidden)
        self.actor = GaussianActor(runs, observation_size, *sizes)
        self.average_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.average = Average(config.averaging)
        self.critic = TwinCritic(
            runs, len(normaliser.mean), *sizes, layer_norm=config.layer_norm, members=config.critics
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_entropy_coefficient = nn.Parameter(torch.full((runs,), config.initial_entropy_coefficient).log())
        self.target_entropy = -float(action_size) if config.target_entropy is None else config.target_entropy

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimisers; call once, after moving to the device."""
        self.actor.net.initialise(generators, self.config.initialisation)
        self.critic.net.initialise(generators, self.config.initialisation)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.average_actor.load_state_dict(self.actor.state_dict())
        self.compute_with(self.actor.net, self.critic.net, self.target_critic.net)
        self.actor_optimiser = self.optimiser_of(self.actor.net)
        self.critic_optimiser = self.optimiser_of(self.critic.net)
        self.entropy_optimiser = Adam([], self.config.learning_rate, extra=[self.log_entropy_coefficient])
        self.optimisers = {
            "actor_optimiser": self.actor_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "entropy_optimiser": self.entropy_optimiser,
        }

    @property
    def wants_expert_rows(self) -> bool:
        """For the cloning term, where it is towards the expert."""
        return super().wants_expert_rows and self.config.cloning_rows == "expert"

    @property
    def noise_rows(self) -> int:
        """How many sets of (B, A) standard normal numbers one update takes."""
        return 3 if self.config.cloning_weight else 2

    def update(self, batch: Batch, noise: Tensor, expert: Batch | None = None, phase: int = 0) -> dict[str, Tensor]:
        """One step of entropy coefficient, critics, actor and targets.

        ``noise`` is (R, noise_rows, B, A) standard normal; ``expert`` the rows for the cloning term. Returns
        detached metrics (R,).
        """
        observations = self.normaliser(batch.observations)
        seen = self.seen_by_policy(batch.observations, observations)
        actions, log_probs = self.actor.sample(seen, noise[:, 0])
        coefficient = self.log_entropy_coefficient.detach().exp()
        metrics = {"entropy_coefficient": coefficient, "entropy": -log_probs.detach().mean(-1)}
        if self.config.tune_entropy:
            excess = (log_probs.detach() + self.target_entropy).mean(-1)
            self.entropy_optimiser.apply([-excess])  # the gradient of −log α · excess

        sampled = (actions.detach(), log_probs.detach())
        critic_losses = self.critic_loss(batch, observations, sampled, noise[:, 1], coefficient)
        self.critic_optimiser.step(critic_losses["critic_loss"].sum())

        actor_losses = self.actor_loss(observations, actions, log_probs, coefficient)
        actor_loss = actor_losses["actor_loss"]
        if self.config.cloning_weight:
            pulling = expert if self.wants_expert_rows else batch
            assert pulling is not None
            error = self.cloning_error(pulling, noise[:, 2])
            metrics["cloning_error"] = error.detach()
            actor_loss = actor_loss + self.config.cloning_weight * error
        self.actor_optimiser.step(actor_loss.sum())
        self._follow()
        metrics |= critic_losses | actor_losses
        return {name: value.detach() for name, value in metrics.items()}

    def critic_loss(
        self,
        batch: Batch,
        observations: Tensor,
        sampled: tuple[Tensor, Tensor],
        noise: Tensor,
        coefficient: Tensor,
    ) -> dict[str, Tensor]:
        """½ Σ_j (Q_j(s, a) − y)² averaged over the batch, y = r + γ (1 − terminated) V̄(s'); (R,).

        ``observations`` are the batch's, normalised; ``sampled`` the policy's actions there and their log π, for
        objectives that need V(s); ``noise`` (R, B, A) draws the actions at the next states.
        """
        target = batch.rewards + self.discounted_next_values(batch, noise, coefficient)
        values = self.critic(observations, batch.actions)
        loss = 0.5 * (values - target[:, None]).square().mean(-1).sum(-1)
        return {"critic_loss": loss, "value": values.detach().mean((1, 2))}

    @torch.no_grad()
    def discounted_next_values(self, batch: Batch, noise: Tensor, coefficient: Tensor) -> Tensor:
        """γ (1 − terminated) V̄(s') (R, B) with V̄ = min_j Q̄_j(s', a') − α log π(a'|s'), a' from the policy."""
        next_observations = self.normaliser(batch.next_observations)
        seen = self.seen_by_policy(batch.next_observations, next_observations)
        next_actions, next_log_probs = self.actor.sample(seen, noise)
        next_values = self.target_critic(next_observations, next_actions).amin(1)
        next_values = next_values - coefficient[:, None] * next_log_probs
        return self.config.discount * (1 - batch.terminated) * next_values

    def actor_loss(
        self, observations: Tensor, actions: Tensor, log_probs: Tensor, coefficient: Tensor
    ) -> dict[str, Tensor]:
        """E[α log π(a|s) − min_j Q_j(s, a)], (R,)."""
        values = self.critic(observations, actions).amin(1)
        return {"actor_loss": (coefficient[:, None] * log_probs - values).mean(-1)}

    def cloning_error(self, rows: Batch, noise: Tensor) -> Tensor:
        """The squared error between sampled actions and those of the rows, (R,)."""
        size = rows.observations.shape[1]
        actions, _ = self.actor.sample(self.policy_normaliser(rows.observations), noise[:, :size])
        return (actions - rows.actions).square().mean((1, 2))

    def _follow(self) -> None:
        """Move the target critics and the average actor towards what they follow."""
        follow(self.target_critic.net, self.critic.net, self.config.target_rate)
        self.average.follow(self.average_actor.net, self.actor.net)

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions in [−1, 1] for observations (R, ..., O), sampled with standard normal ``noise`` (R, ..., A)."""
        mean, log_std = self.actor(self.rows(observations), exact=True)
        return (mean + log_std.exp() * noise.view_as(mean)).tanh().view(noise.shape)

    def log_prob(self, batch: Batch) -> Tensor:
        """log π(a|s) (R, B) of a batch under the current policy, without gradient."""
        with torch.no_grad():
            return self.actor.log_prob(self.policy_normaliser(batch.observations), batch.actions)

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The averaged actor."""
        return self.average_actor.net, "squashed-gaussian"
