"""Offline imitation by an agent whose critic implies its reward: updates on the demonstrations, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import Spaces, Task
from .agents import Agent
from .policy import Policy
from .randomness import Generators
from .replay import RowLayout
from .training import State, WithoutSteps


@dataclasses.dataclass(frozen=True)
class OfflineConfig:
    """``steps`` counts updates on ``batch_size`` expert rows drawn with replacement."""

    steps: int = 20_000
    batch_size: int = 256


class OfflineTraining(WithoutSteps):
    """R runs of an agent on the same demonstrations, each with its own initialisation and batches."""

    def __init__(
        self,
        config: OfflineConfig,
        task: Task,
        spaces: Spaces,
        agent: Agent,
        demonstrations: Demonstrations,
        seeds: list[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.task, self.spaces, self.agent, self.seeds = config, task, spaces, agent, seeds
        self.device = torch.device(device)
        self.layout = RowLayout(spaces.observation_size, spaces.action_size)
        self._rows = self.layout.demonstrations(demonstrations).to(self.device)
        self.generators = Generators(seeds, self.device)
        agent.to(self.device)
        agent.initialise(self.generators)
        self.steps = 0

    @property
    def total(self) -> int:
        """Updates when finished."""
        return self.config.steps

    def advance(self) -> Mapping[str, Tensor]:
        """The next hundred updates; returns the last one's metrics, each (R,)."""
        count, size = min(100, self.config.steps - self.steps), self.config.batch_size
        self.steps += count
        metrics: Mapping[str, Tensor] = {}
        for _ in range(count):  # drawn one by one, so that it does not matter where a training pauses
            rows = self._rows[self.generators.integers(len(self._rows), (size,))]
            noise = self.generators.normal((self.agent.noise_rows, size, self.layout.action_size))
            metrics = self.agent.update(self.layout.batch(rows), noise)
        return metrics

    def act(self, observations: Tensor) -> Tensor:
        """Deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O)."""
        return self.agent.best_actions(observations)

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run."""
        net, head = self.agent.deployed()
        return Policy.of_network(net, run, self.agent.policy_normaliser, head, self.task, self.spaces, training)

    def state(self) -> State:
        """Everything that decides how the training goes on."""
        tensors = {f"agent.{k}": v for k, v in self.agent.training_state().items()}
        tensors["generators"] = self.generators.state()
        return State(tensors, {"steps": self.steps})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        self.agent.set_training_state(state.part("agent"))
        self.generators.set_state(state.tensors["generators"])
        self.steps = state.values["steps"]
