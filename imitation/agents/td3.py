"""Twin delayed deterministic policy gradient over R runs at once, plain or with a cloning term.

TD3: Fujimoto et al. 2018, arXiv 1802.09477. TD3+BC: Fujimoto and Gu 2021, arXiv 2106.06860.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...robots import InputError
from ..networks import DeterministicActor, Normaliser, StackedMLP, TwinCritic
from ..policy import Head
from ..randomness import Generators
from ..replay import Batch
from .base import ActorCritic, ActorCriticConfig, Average, follow


@dataclasses.dataclass(frozen=True)
class TD3Config(ActorCriticConfig):
    """Sizes and rates of TD3, besides those that SAC has too; defaults are the paper's, with one learning rate.

    The actor and the targets move at every ``policy_delay``-th update. ``target_noise``, cut at
    ``target_clip``, smooths the target; ``exploration_noise`` is the standard deviation of what is added to
    actions that collect data. With a ``cloning_weight`` the actor minimises
    −λ Q₁(s, π(s)) + weight · (π(s_E) − a_E)² with λ = ``value_scale`` / mean|Q₁|, on expert rows (the released
    hybrid-IRL code takes the whole batch for this term, the learner's own old actions too; reference/algorithms.md
    2.5).
    """

    policy_delay: int = 2
    exploration_noise: float = 0.1
    target_noise: float = 0.2
    target_clip: float = 0.5
    value_scale: float = 2.5


@dataclasses.dataclass(frozen=True)
class TD3BCConfig(TD3Config):
    """TD3 with the cloning term."""

    cloning_weight: float = 1.0


class TD3(ActorCritic):
    """R twin delayed deterministic policy gradients."""

    Config: ClassVar[type[Any] | None] = TD3Config
    has_density = False

    def __init__(
        self,
        config: TD3Config,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(config, runs, observation_size, action_size, normaliser, precision)
        self.config = config  # the same, by its own type
        sizes = (action_size, config.hidden)
        self.actor = DeterministicActor(runs, observation_size, *sizes)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.average_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.average = Average(config.averaging)
        self.critic = TwinCritic(runs, len(normaliser.mean), *sizes, layer_norm=config.layer_norm)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimisers; call once, after moving to the device."""
        self.actor.net.initialise(generators, self.config.initialisation)
        self.critic.net.initialise(generators, self.config.initialisation)
        self.target_actor.load_state_dict(self.actor.state_dict())
        self.average_actor.load_state_dict(self.actor.state_dict())
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.compute_with(self.actor.net, self.target_actor.net, self.critic.net, self.target_critic.net)
        self.actor_optimiser = self.optimiser_of(self.actor.net)
        self.critic_optimiser = self.optimiser_of(self.critic.net)
        self.optimisers = {"actor_optimiser": self.actor_optimiser, "critic_optimiser": self.critic_optimiser}

    @property
    def noise_rows(self) -> int:
        """The target's noise."""
        return 1

    def phase(self, updates: int) -> int:
        """1 where the actor and the targets move, 0 where only the critics do."""
        return int((updates + 1) % self.config.policy_delay == 0)

    def update(self, batch: Batch, noise: Tensor, expert: Batch | None = None, phase: int = 0) -> dict[str, Tensor]:
        """One step of the critics, and in phase 1 of actor and targets; ``noise`` is (R, 1, B, A)."""
        observations = self.normaliser(batch.observations)
        metrics = self.critic_loss(batch, observations, noise[:, 0])
        self.critic_optimiser.step(metrics["critic_loss"].sum())
        if phase == 1:
            seen = self.seen_by_policy(batch.observations, observations)
            losses = self.actor_loss(observations, seen, expert)
            self.actor_optimiser.step(losses["actor_loss"].sum())
            follow(self.target_actor.net, self.actor.net, self.config.target_rate)
            follow(self.target_critic.net, self.critic.net, self.config.target_rate)
            self.average.follow(self.average_actor.net, self.actor.net)
            metrics |= losses
        return {name: value.detach() for name, value in metrics.items()}

    def critic_loss(self, batch: Batch, observations: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Σ_j (Q_j(s, a) − y)² averaged over the batch, y = r + γ (1 − terminated) min_j Q̄_j(s', ā); (R,)."""
        config = self.config
        with torch.no_grad():
            next_observations = self.normaliser(batch.next_observations)
            smoothing = (noise * config.target_noise).clamp(-config.target_clip, config.target_clip)
            seen = self.seen_by_policy(batch.next_observations, next_observations)
            next_actions = (self.target_actor(seen) + smoothing).clamp(-1, 1)
            next_values = self.target_critic(next_observations, next_actions).amin(1)
            target = batch.rewards + config.discount * (1 - batch.terminated) * next_values
        values = self.critic(observations, batch.actions)
        loss = (values - target[:, None]).square().mean(-1).sum(-1)
        return {"critic_loss": loss, "value": values.detach().mean((1, 2))}

    def actor_loss(self, observations: Tensor, seen: Tensor, expert: Batch | None) -> dict[str, Tensor]:
        """−mean Q₁(s, π(s)), or with a cloning term −λ mean Q₁ + weight · (π(s_E) − a_E)²; (R,).

        ``observations`` and ``seen`` are the critics' and the policy's view of the batch, normalised.
        """
        values = self.critic(observations, self.actor(seen))[:, 0]
        if not self.config.cloning_weight:
            return {"actor_loss": -values.mean(-1)}
        assert expert is not None
        scale = self.config.value_scale / values.detach().abs().mean(-1).clamp(min=1e-6)
        error = (self.actor(self.policy_normaliser(expert.observations)) - expert.actions).square().mean((1, 2))
        return {"actor_loss": self.config.cloning_weight * error - scale * values.mean(-1), "cloning_error": error}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions in [−1, 1] for observations (R, ..., O), with exploration noise from normal ``noise`` (R, ..., A)."""
        actions = self.actor(self.rows(observations), exact=True)
        return (actions + self.config.exploration_noise * noise.view_as(actions)).clamp(-1, 1).view(noise.shape)

    def log_prob(self, batch: Batch) -> Tensor:
        """A deterministic policy has no density. Errors: :class:`InputError`, always."""
        raise InputError("agent=td3 has no log-probability of its actions: choose agent=sac")

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The averaged actor."""
        return self.average_actor.net, "deterministic"


class TD3BC(TD3):
    """TD3 with a cloning term on expert rows."""

    Config: ClassVar[type[Any] | None] = TD3BCConfig
