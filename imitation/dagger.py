"""DAgger: the learner acts, and the expert says what it would have done there (Ross et al. 2011, arXiv 1011.0686)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import Spaces, Task, TaskBatch
from .chunk_policy import ChunkPolicy
from .chunks import filled, slid
from .networks import Normaliser
from .offline import BehaviourCloning, CloningConfig
from .policy import Policy
from .task_state import set_tasks_state, tasks_state
from .training import State


@dataclasses.dataclass(frozen=True)
class DaggerConfig(CloningConfig):
    """Cloning in rounds, on all rows so far: the demonstrations', and those that the expert has labelled.

    A round is ``round_steps`` environment steps and then ``updates_per_round`` updates, which are also made once on
    the demonstrations alone before the first. In round i = 1, 2, … each action is the expert's with probability
    ``expert_acts`` to the power i, otherwise the learner's; at 0 the learner always acts: the paper's
    choice without a parameter, with the demonstrations as its first round. ``steps`` are environment steps per run.
    """

    steps: int = 20_000
    round_steps: int = 1_000
    updates_per_round: int = 1_000
    expert_acts: float = 0.0


class DaggerTraining(BehaviourCloning):
    """R runs of DAgger with a queryable expert, each with rows of its own.

    Labels are the expert's deterministic actions, so each step is one query of the expert. One that plans chunks is
    asked for a plan at every step, by what the learner has seen in the episode so far, and the plan's first action is
    the label; where plans are drawn, the training's own stream of numbers draws them.
    """

    config: DaggerConfig

    def __init__(
        self,
        config: DaggerConfig,
        task: Task,
        spaces: Spaces,
        demonstrations: Demonstrations,
        expert: Policy,
        normaliser: Normaliser,
        seeds: list[int],
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(config, task, spaces, demonstrations, normaliser, seeds, device, precision)
        self.config = config  # the same, by its own type
        self.expert = expert.to(self.device)
        self.tasks = TaskBatch(task, seeds)
        self._begun = len(demonstrations)
        self._seen = _room(self._observations, len(seeds), config.steps)
        self._labels = _room(self._actions, len(seeds), config.steps)
        self._now: np.ndarray | None = None
        self._window: Tensor | None = None  # (R, H, O), what an expert that plans chunks has been shown last

    @property
    def row_count(self) -> int:
        """The demonstrations' rows and those labelled so far."""
        return self._begun + self.steps

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (R, B, O) and the expert's actions there (R, B, A), of row numbers (R, B)."""
        runs = torch.arange(len(self.seeds), device=self.device)[:, None]
        return self._seen[runs, rows], self._labels[runs, rows]

    def advance(self) -> Mapping[str, Tensor]:
        """The next round; returns the last loss and how far the learner's actions were from the expert's, (R,)."""
        if not self.steps:
            self.update(self.config.updates_per_round)
        disagreement = self._round(min(self.config.round_steps, self.config.steps - self.steps))
        return {"cloning_loss": self.update(self.config.updates_per_round), "disagreement": disagreement}

    def _round(self, count: int) -> Tensor:
        number = self.steps // self.config.round_steps + 1
        lots = self.generators.uniform((count, 1)).cpu().numpy()
        apart = torch.zeros(len(self.seeds), device=self.device)
        observations = self._start()
        for index in range(count):
            seen = torch.from_numpy(observations).to(self.device)
            labels, own = self._advice(seen), self.act(seen[:, None])[:, 0]
            self._seen[:, self.row_count], self._labels[:, self.row_count] = seen, labels
            self.steps += 1
            apart += (own - labels).square().mean(-1)
            helped = lots[:, index] < self.config.expert_acts**number
            actions = np.where(helped, labels.cpu().numpy(), own.cpu().numpy())
            result = self.tasks.step(actions, "policy")
            observations = result.next_observations
            if result.ended.any():
                fresh = self.tasks.reset(result.ended)
                observations = np.where(result.ended[:, None], fresh, observations)
        self._now = observations
        return apart / count

    def _advice(self, seen: Tensor) -> Tensor:
        """What the expert would do (R, A) where the episodes are now (R, O)."""
        expert = self.expert
        if not isinstance(expert, ChunkPolicy):
            return expert.act(seen)
        window = filled(seen, expert.shape)
        if self._window is not None:
            begins = torch.from_numpy(self.tasks.elapsed == 0).to(self.device)
            window = torch.where(begins[:, None, None], window, slid(self._window, seen))
        self._window = window
        return expert.plan_of(window, self.generators.normal((expert.shape.said,)))[:, 0]

    def _start(self) -> np.ndarray:
        if self._now is None:
            self._now = self.tasks.reset()
        return self._now

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,)."""
        return {name: counts.copy() for name, counts in self.tasks.counts.items()}

    def state(self) -> State:
        """Everything that decides how the training goes on."""
        cloning, observations = super().state(), self._start()
        tasks = tasks_state(self.tasks)
        tensors = {**cloning.tensors, **{f"tasks.{k}": v for k, v in tasks.tensors.items()}}
        tensors["now"] = torch.from_numpy(observations)
        if self._window is not None:
            tensors["window"] = self._window.contiguous()
        tensors["seen"] = self._seen[:, self._begun : self.row_count].contiguous()
        tensors["labels"] = self._labels[:, self._begun : self.row_count].contiguous()
        return State(tensors, {**cloning.values, "tasks": tasks.values})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        super().set_state(state)
        set_tasks_state(self.tasks, State(state.part("tasks"), state.values["tasks"]))
        self._now = state.tensors["now"].numpy()
        window = state.tensors.get("window")  # none before the first step, and with an expert that has no memory
        self._window = None if window is None else window.to(self.device)
        self._seen[:, self._begun : self.row_count] = state.tensors["seen"].to(self.device)
        self._labels[:, self._begun : self.row_count] = state.tensors["labels"].to(self.device)

    def close(self) -> None:
        """Free the environments."""
        self.tasks.close()


def _room(rows: Tensor, runs: int, more: int) -> Tensor:
    """The same rows (N, X) for every run, with room for more: (R, N + more, X)."""
    return torch.cat((rows, rows.new_zeros(more, rows.shape[1]))).repeat(runs, 1, 1)
