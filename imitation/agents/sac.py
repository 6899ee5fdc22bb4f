"""Soft actor-critic over R runs at once (Haarnoja et al. 2018, arXiv 1812.05905), entropy tuned per run.

Losses, order of updates and defaults are stable-baselines3's SAC (a test compares losses and gradients on equal
weights, batch and noise), so results can be compared with the wider field's.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...robots import InputError
from ..networks import GaussianActor, Initialisation, Normaliser, StackedMLP, TwinCritic
from ..optimisers import Adam, Optimiser, OptimisticAdam
from ..parts import Setting
from ..policy import Head
from ..randomness import Generators
from ..replay import Batch
from .base import ActorCritic, Average, follow


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """Sizes and rates of SAC.

    ``target_entropy`` is −A when left out. The entropy coefficient starts at ``initial_entropy_coefficient`` and is
    tuned towards it, or stays where it is without ``tune_entropy``. ``critics`` is how many action values there
    are, of which the lowest counts. ``layer_norm`` normalises the critics' hidden layers.
    ``cloning_weight`` adds that multiple of the squared error between a sampled action and the expert's to the
    actor's loss, on expert rows (BC-Reg, arXiv 2402.08848). With ``averaging`` the policy that is evaluated
    and deployed has an average of the actor's parameters (:class:`~understudy.imitation.agents.base.Average`).
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005
    initial_entropy_coefficient: float = 1.0
    target_entropy: float | None = None
    tune_entropy: bool = True
    critics: int = 2
    layer_norm: bool = False
    optimiser: Optimiser = "adam"
    initialisation: Initialisation = "linear"
    cloning_weight: float = 0.0
    averaging: float | None = None


class SAC(ActorCritic):
    """R soft actor-critics. :meth:`update` is a pure function of tensors: no files, loggers, syncs or draws."""

    Config: ClassVar[type[Any] | None] = SACConfig

    @classmethod
    def create(cls, config: SACConfig, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` for a cloning term without demonstrations."""
        if config.cloning_weight and setting.demonstrations is None:
            raise InputError("agent.cloning_weight needs demonstrations: give data=<bundled name or file>")
        return cls(config, *setting.sizes)

    def __init__(
        self,
        config: SACConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(normaliser, action_size, precision)
        self.config = config
        self.runs = runs
        self.actor = GaussianActor(runs, observation_size, action_size, config.hidden)
        self.average_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.average = Average(config.averaging)
        sizes = (runs, observation_size, action_size, config.hidden)
        self.critic = TwinCritic(*sizes, layer_norm=config.layer_norm, members=config.critics)
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
        make = {"adam": Adam, "oadam": OptimisticAdam}[self.config.optimiser]
        self.actor_optimiser = make([self.actor.net], self.config.learning_rate)
        self.critic_optimiser = make([self.critic.net], self.config.learning_rate)
        self.entropy_optimiser = Adam([], self.config.learning_rate, extra=[self.log_entropy_coefficient])
        self.optimisers = {
            "actor_optimiser": self.actor_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "entropy_optimiser": self.entropy_optimiser,
        }

    @property
    def noise_rows(self) -> int:
        """How many sets of (B, A) standard normal numbers one update takes."""
        return 3 if self.config.cloning_weight else 2

    @property
    def wants_expert_rows(self) -> bool:
        """For the cloning term."""
        return self.config.cloning_weight > 0

    @property
    def learning_rate(self) -> float:
        """The rate of actor, critics and entropy coefficient."""
        return self.config.learning_rate

    def update(self, batch: Batch, noise: Tensor, expert: Batch | None = None, phase: int = 0) -> dict[str, Tensor]:
        """One step of entropy coefficient, critics, actor and targets.

        ``noise`` is (R, noise_rows, B, A) standard normal; ``expert`` the rows for the cloning term. Returns
        detached metrics (R,).
        """
        observations = self.normaliser(batch.observations)
        actions, log_probs = self.actor.sample(observations, noise[:, 0])
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
            assert expert is not None
            error = self.cloning_error(expert, noise[:, 2])
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
        next_actions, next_log_probs = self.actor.sample(next_observations, noise)
        next_values = self.target_critic(next_observations, next_actions).amin(1)
        next_values = next_values - coefficient[:, None] * next_log_probs
        return self.config.discount * (1 - batch.terminated) * next_values

    def actor_loss(
        self, observations: Tensor, actions: Tensor, log_probs: Tensor, coefficient: Tensor
    ) -> dict[str, Tensor]:
        """E[α log π(a|s) − min_j Q_j(s, a)], (R,)."""
        values = self.critic(observations, actions).amin(1)
        return {"actor_loss": (coefficient[:, None] * log_probs - values).mean(-1)}

    def cloning_error(self, expert: Batch, noise: Tensor) -> Tensor:
        """The squared error between sampled and expert actions on expert rows, (R,)."""
        size = expert.observations.shape[1]
        actions, _ = self.actor.sample(self.normaliser(expert.observations), noise[:, :size])
        return (actions - expert.actions).square().mean((1, 2))

    def _follow(self) -> None:
        """Move the target critics and the average actor towards what they follow."""
        follow(self.target_critic.net, self.critic.net, self.config.target_rate)
        self.average.follow(self.average_actor.net, self.actor.net)

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions in [−1, 1] for observations (R, ..., O), sampled with standard normal ``noise`` (R, ..., A)."""
        mean, log_std = self.actor(self.rows(observations), exact=True)
        return (mean + log_std.exp() * noise.view_as(mean)).tanh().view(noise.shape)

    @torch.no_grad()
    def best_actions(self, observations: Tensor) -> Tensor:
        """The modes (R, ..., A) in [−1, 1] of the averaged policy for observations (R, ..., O)."""
        mean, _ = self.average_actor(self.rows(observations), exact=True)
        return mean.tanh().view(*observations.shape[:-1], self.action_size)

    def log_prob(self, batch: Batch) -> Tensor:
        """log π(a|s) (R, B) of a batch under the current policy, without gradient."""
        with torch.no_grad():
            return self.actor.log_prob(self.normaliser(batch.observations), batch.actions)

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The averaged actor."""
        return self.average_actor.net, "squashed-gaussian"
