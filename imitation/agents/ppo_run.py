"""One run of stable-baselines3's PPO, fed with rows that the suite's own loop has collected."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from ..replay import Batch

if TYPE_CHECKING:
    from .ppo import PPOConfig

_METRICS = {
    "policy_loss": "policy_gradient_loss",
    "value_loss": "value_loss",
    "policy_change": "approx_kl",
    "clipped": "clip_fraction",
    "exploration": "std",
}


class _Shape(gymnasium.Env[np.ndarray, np.ndarray]):
    """What PPO is made for: the sizes alone. It never steps it."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        self.observation_space = Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (action_size,), np.float32)


class _Rollout(RolloutBuffer):
    """Goes through its rows in an order of its own stream instead of numpy's global one."""

    order: np.random.Generator

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Minibatches of a random order of all rows. The buffer is of one environment, so nothing has to be flattened
        but that axis."""
        size = self.buffer_size if batch_size is None else batch_size
        order = self.order.permutation(self.buffer_size)
        for first in range(0, len(order), size):
            yield self._get_samples(order[first : first + size])

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> RolloutBufferSamples:
        arrays = (self.observations, self.actions, self.values, self.log_probs, self.advantages, self.returns)
        return RolloutBufferSamples(*(self.to_torch(array[batch_inds, 0]) for array in arrays))


@dataclasses.dataclass(frozen=True)
class _Hiding:
    """Hides from a network what its ``view`` (O,) has as 0."""

    view: Tensor

    def __call__(self, network: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * self.view,)


class PPORun:
    """A learner with its policy, optimiser and nothing else that lasts between rounds."""

    def __init__(
        self,
        config: PPOConfig,
        observation_size: int,
        action_size: int,
        seed: int,
        device: torch.device,
        views: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    ) -> None:
        self._config = config
        with torch.random.fork_rng(devices=[]):  # it draws its first parameters from torch's global stream
            self._learner = stable_baselines3.PPO(
                "MlpPolicy",
                _Shape(observation_size, action_size),
                learning_rate=config.learning_rate,
                n_steps=config.batch_size,  # each round brings a buffer of its own size
                batch_size=config.batch_size,
                n_epochs=config.epochs,
                gamma=config.discount,
                gae_lambda=config.gae_lambda,
                clip_range=config.clip_range,
                ent_coef=config.entropy_weight,
                vf_coef=config.value_weight,
                max_grad_norm=config.gradient_limit,
                policy_kwargs={"net_arch": list(config.hidden)},
                device="cpu",
            )
        self._initialise(torch.Generator().manual_seed(seed))
        self._learner.device = device
        self._learner.policy.to(device)
        self._learner.set_logger(Logger(None, []))
        sides = self.policy.mlp_extractor
        for net, view in zip((sides.policy_net, sides.value_net), views, strict=True):
            if view is not None:
                net.register_forward_pre_hook(_Hiding(torch.from_numpy(view).float().to(device)))

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw the parameters anew, as stable-baselines3 does, but from the run's own stream."""
        gains = {self.policy.action_net: 0.01, self.policy.value_net: 1.0}
        for layer in self.policy.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.orthogonal_(layer.weight, gains.get(layer, math.sqrt(2)), generator)
                torch.nn.init.zeros_(layer.bias)

    @property
    def policy(self) -> ActorCriticPolicy:
        """Its actor and critic."""
        return self._learner.policy

    def policy_parameters(self) -> list[Tensor]:
        """The mean network's weights (in, out), then its biases (1, out)."""
        layers = [*self.policy.mlp_extractor.policy_net, self.policy.action_net]
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        return [layer.weight.T for layer in linear] + [layer.bias[None] for layer in linear]

    def learn(self, rows: Batch, ended: Tensor, seed: int) -> Mapping[str, float]:
        """One round on rows (T, ...) in the order of time, observations standardised.

        ``seed`` decides the order of the minibatches. When the parameters have diverged, so are the metrics: not a
        number.
        """
        try:
            self._round(rows, ended, seed)
        except ValueError:  # torch's distributions refuse what is not finite, and deviations of 0
            std = self.policy.log_std.exp()
            usable = std.isfinite().all() and std.all()
            if usable and all(parameter.isfinite().all() for parameter in self.policy.parameters()):
                raise
            return dict.fromkeys(_METRICS, float("nan"))
        found = self._learner.logger.name_to_value
        return {name: float(found[f"train/{theirs}"]) for name, theirs in _METRICS.items()}

    def _round(self, rows: Batch, ended: Tensor, seed: int) -> None:
        config, learner = self._config, self._learner
        spaces = (learner.observation_space, learner.action_space)
        rollout = _Rollout(len(ended), *spaces, learner.device, config.gae_lambda, config.discount)
        rollout.order = np.random.default_rng(seed)
        with torch.no_grad():
            values, log_probs, _ = self.policy.evaluate_actions(rows.observations, rows.actions)
            following = self.policy.predict_values(rows.next_observations).flatten()
        cut = ended * (1 - rows.terminated)  # by time alone: what follows is worth its value
        starts = torch.cat((torch.ones_like(ended[:1]), ended[:-1]))
        rollout.observations[:, 0] = rows.observations.cpu().numpy()
        rollout.actions[:, 0] = rows.actions.cpu().numpy()
        rollout.rewards[:, 0] = (rows.rewards + config.discount * cut * following).cpu().numpy()
        rollout.episode_starts[:, 0] = starts.cpu().numpy()
        rollout.values[:, 0] = values.flatten().cpu().numpy()
        rollout.log_probs[:, 0] = log_probs.cpu().numpy()
        rollout.compute_returns_and_advantage(following[-1:], ended[-1:].cpu().numpy())
        learner.rollout_buffer = rollout
        learner.train()

    def state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments."""
        tensors = {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        for index, moments in self.policy.optimizer.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        return tensors

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        part = "policy."
        self.policy.load_state_dict({k.removeprefix(part): v for k, v in state.items() if k.startswith(part)})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value.clone()
        groups = self.policy.optimizer.state_dict()["param_groups"]
        self.policy.optimizer.load_state_dict({"state": moments, "param_groups": groups})
