"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) by stable-baselines3, for the on-policy
classics. R independent learners; what acts in the tasks is one stack of copies of their policies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...robots import InputError, view_mask
from ..networks import Normaliser, StackedMLP
from ..parts import Setting
from ..policy import Head
from ..randomness import Generators
from ..replay import Batch
from .base import rows_of

if TYPE_CHECKING:  # stable-baselines3 takes seconds to import, which only those who use it should pay
    from .ppo_run import PPORun

_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Sizes and rates, with stable-baselines3's defaults.

    A round's rows are gone through ``epochs`` times in minibatches of ``batch_size``. ``clip_range`` bounds the ratio
    of new to old probabilities, ``gae_lambda`` is that of the advantages, ``entropy_weight`` and ``value_weight``
    those of the losses, ``gradient_limit`` the largest norm of a gradient. ``policy_view`` and ``critic_view`` name the
    parts of the observation that policy and value may see (:func:`understudy.robots.view_mask`; all when empty).
    """

    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    discount: float = 0.99
    epochs: int = 10
    batch_size: int = 64
    clip_range: float = 0.2
    gae_lambda: float = 0.95
    entropy_weight: float = 0.0
    value_weight: float = 0.5
    gradient_limit: float = 0.5
    policy_view: tuple[str, ...] = ()
    critic_view: tuple[str, ...] = ()


class PPO(nn.Module):
    """R PPO learners. The policy is a Gaussian around a tanh network; tasks cut its actions to [−1, 1].

    Everything is computed in float32. The deployed policy is the mean.
    """

    Config: ClassVar[type[Any] | None] = PPOConfig
    has_density = True
    implies_reward = False
    on_policy = True

    @classmethod
    def create(cls, config: PPOConfig, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` for a view that the task does not have, or minibatches of one."""
        if config.batch_size < 2:
            raise InputError("agent.batch_size=1: advantages are standardised in each minibatch, so give at least 2")
        runs, observation_size, action_size, normaliser, _ = setting.sizes
        views = (
            view_mask(setting.task, config.policy_view, "agent.policy_view"),
            view_mask(setting.task, config.critic_view, "agent.critic_view"),
        )
        return cls(config, runs, observation_size, action_size, normaliser, views)

    def __init__(
        self,
        config: PPOConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        views: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    ) -> None:
        super().__init__()
        self.config = config
        self._views = views
        self._normaliser, self.policy_normaliser = normaliser.hiding(None), normaliser.hiding(views[0])
        self._sizes = (observation_size, action_size)
        layers = (observation_size, *config.hidden, action_size)
        self.net = StackedMLP((runs,), layers, activation="tanh").requires_grad_(False)
        self.register_buffer("log_std", torch.zeros(runs, action_size))
        self._runs: list[PPORun] = []

    log_std: Tensor

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters, as stable-baselines3 does."""
        from .ppo_run import PPORun

        seeds = generators.integers(_SEEDS, (1,)).flatten().tolist()
        self._runs = [PPORun(self.config, *self._sizes, seed, self.log_std.device, self._views) for seed in seeds]
        self._copy_policies()

    def _copy_policies(self) -> None:
        with torch.no_grad():
            for index, run in enumerate(self._runs):
                for mine, theirs in zip(self.net.master(), run.policy_parameters(), strict=True):
                    mine[index].copy_(theirs)
                self.log_std[index].copy_(run.policy.log_std)

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Sampled actions for observations (R, ..., O), made with noise (R, ..., A); not cut to [−1, 1]."""
        means = self.net(rows_of(observations, self.policy_normaliser)).view(noise.shape)
        std = self.log_std.exp().view(len(noise), *[1] * (noise.dim() - 2), -1)
        return means + std * noise

    @torch.no_grad()
    def best_actions(self, observations: Tensor, net: StackedMLP | None = None) -> Tensor:
        """The means (R, ..., A), cut to [−1, 1], of the policy or of an earlier ``net`` of it, for (R, ..., O)."""
        means = (self.net if net is None else net)(rows_of(observations, self.policy_normaliser))
        return means.clamp(-1, 1).view(*observations.shape[:-1], means.shape[-1])

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Tensor:
        """log π(a|s) (R, B) of a batch under the current policy."""
        means = self.net(self.policy_normaliser(batch.observations))
        density = torch.distributions.Normal(means, self.log_std.exp()[:, None])
        return density.log_prob(batch.actions).sum(-1)

    def updates_of(self, rows: int) -> int:
        """How many minibatches a round of so many rows makes."""
        return self.config.epochs * -(-rows // self.config.batch_size)

    def learn(self, rows: Batch, ended: Tensor, generators: Generators) -> Mapping[str, Tensor]:
        """Improve the policy by one round's rows (R, T) in the order of time; returns metrics (R,).

        ``ended`` (R, T) says after which steps an episode was over for whichever reason; what comes after is
        worth the value of the true next state unless the task itself ended the episode.
        """
        seeds = generators.integers(_SEEDS, (1,)).flatten().tolist()
        seen = dataclasses.replace(
            rows,
            observations=self._normaliser(rows.observations),
            next_observations=self._normaliser(rows.next_observations),
        )
        found = [
            run.learn(seen.of_run(k), ended[k], seed)
            for k, (run, seed) in enumerate(zip(self._runs, seeds, strict=True))
        ]
        self._copy_policies()
        return {name: torch.tensor([values[name] for values in found]) for name in found[0]}

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The means."""
        return self.net, "clipped"

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments of every run, and what observations are standardised by."""
        state = {f"{k}.{name}": value for k, run in enumerate(self._runs) for name, value in run.state().items()}
        for label, normaliser in self._normalisers().items():
            state |= {f"{label}.{name}": value for name, value in normaliser.state_dict().items()}
        return state

    def _normalisers(self) -> dict[str, Normaliser]:
        return {"normaliser": self._normaliser, "policy_normaliser": self.policy_normaliser}

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        for k, run in enumerate(self._runs):
            start = f"{k}."
            run.set_state({name.removeprefix(start): v for name, v in state.items() if name.startswith(start)})
        for label, normaliser in self._normalisers().items():
            start = f"{label}."
            if kept := {name.removeprefix(start): v for name, v in state.items() if name.startswith(start)}:
                normaliser.load_state_dict(kept)  # checkpoints of earlier versions have none: theirs are the data's
        self._copy_policies()
