"""The one interactive loop: every learner that acts in the task is a choice of its parts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import InputError, Task, TaskBatch
from .agents import Agent
from .capture import CapturedUpdate, Update
from .policy import Policy
from .randomness import Generators
from .replay import Mixture, ReplayBuffer, RowLayout, Schedule, Visits
from .resets import Resets
from .rewards import Reward, TaskReward
from .selection import Measure, NegativeReturn, OccupancyDistance, SelectBy, Selection
from .task_state import set_tasks_state, tasks_state
from .training import State


@dataclasses.dataclass(frozen=True)
class InteractiveConfig:
    """The clock of the loop, per run.

    Every ``update_every`` environment steps the agent makes ``update_every × updates_per_step`` updates. The
    first ``random_steps`` actions are uniform, and updates start after them. ``expert_share`` is the share of
    expert rows in each batch as (batch number, share) points, linear in between. ``buffer_size`` rows are kept.
    Without ``bootstrap_timeouts`` an episode cut by time is stored as if the task had ended it, as some
    released code does.

    Every ``select_every`` steps the deployed policy is chosen anew (:class:`~.selection.Selection`), by at most
    ``select_episodes`` episodes of the present candidate: ``occupancy`` compares its states with the expert's,
    ``return`` is for the task's own reward alone, and ``none`` deploys the last.
    """

    steps: int = 100_000
    random_steps: int = 1_000
    update_every: int = 50
    updates_per_step: float = 1.0
    batch_size: int = 256
    expert_share: tuple[tuple[int, float], ...] = ((0, 0.0),)
    buffer_size: int = 1_000_000
    bootstrap_timeouts: bool = True
    select_by: SelectBy = "none"
    select_every: int = 5_000
    select_episodes: int = 4


class InteractiveTraining:
    """R runs of one interactive learner, trained together.

    :meth:`advance` makes the next ``update_every`` environment steps and the updates that belong to them. The
    parts do not know of each other: a task batch, an agent, a reward, a mixture and a reset distribution.
    """

    rolls_out = False  # whether the reward's rows come from roll-outs of their own

    def __init__(
        self,
        config: InteractiveConfig,
        task: Task,
        agent: Agent,
        reward: Reward,
        resets: Resets,
        demonstrations: Demonstrations | None,
        seeds: list[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.task = config, task
        self.agent, self.reward, self.resets = agent, reward, resets
        self.seeds = seeds
        self.device = torch.device(device)
        self.tasks = TaskBatch(task, seeds)
        spaces = self.tasks.spaces
        self.layout = RowLayout(spaces.observation_size, spaces.action_size)
        if demonstrations is None:
            if reward.learned or any(share for _, share in config.expert_share):
                raise InputError("this learner needs demonstrations: give data=<bundled name or file>")
            expert_rows = torch.zeros(0, self.layout.width)
        else:
            expert_rows = self.layout.demonstrations(demonstrations)
        self.mixture = Mixture(expert_rows.to(self.device), Schedule(config.expert_share), config.batch_size)
        self._ended = EndedShares(task, demonstrations, len(seeds))
        capacity = min(config.buffer_size, max(config.steps, 1))
        self.buffer = ReplayBuffer(len(seeds), capacity, self.layout, self.device)
        # A learned reward compares the expert with episodes from the task's own initial states alone.
        apart = reward.learned and resets.from_initial is not None and not self.rolls_out
        if apart and resets.initial_share == 0:
            raise InputError(
                "a learned reward needs episodes from the task's own initial states: leave them a share of the resets, "
                "or choose loop=rounds, which makes them apart"
            )
        self.visits = Visits(len(seeds), capacity, self.layout, self.device) if apart else None
        self.generators = Generators(seeds, self.device)
        self.steps = 0
        self.updates = 0
        self._owed = 0.0
        self._captured: dict[int, CapturedUpdate] = {}
        agent.to(self.device)
        agent.initialise(self.generators)
        if isinstance(reward, torch.nn.Module):
            reward.to(self.device)
        reward.initialise(self.generators)
        self.selection = self._selection(demonstrations)
        self._observations: np.ndarray | None = None

    @property
    def total(self) -> int:
        """Environment steps per run when finished."""
        return self.config.steps

    def _selection(self, demonstrations: Demonstrations | None) -> Selection | None:
        if self.config.select_by == "none":
            return None
        if self.config.select_by == "return":
            if not isinstance(self.reward, TaskReward):
                raise InputError("loop.select_by=return: it is the task's own reward, which this learner must not see")
            measure: Measure = NegativeReturn()
        elif demonstrations is None:
            raise InputError("loop.select_by=occupancy compares with demonstrations: give data=<bundled name or file>")
        else:
            measure = OccupancyDistance(demonstrations, self.task.horizon)
        net, _ = self.agent.deployed()
        return Selection(measure, self.config.select_episodes, self.task, self.seeds, net, self.device)

    def advance(self) -> Mapping[str, Tensor]:
        """Act for ``update_every`` steps, then update; returns the last update's metrics, each (R,).

        Where it is due, and at the end, the deployed policy is chosen anew afterwards.
        """
        before, every = self.steps, self.config.select_every
        metrics = self._advance()
        due = self.steps // every > before // every or self.steps >= self.total
        if self.selection is None or not self.updates or not due:
            return metrics
        net, _ = self.agent.deployed()
        counts = self.tasks.counts["selection"]
        return {**metrics, **self.selection.consider(self.steps, self.agent.best_actions, net, counts)}

    def _advance(self) -> Mapping[str, Tensor]:
        count = min(self.config.update_every, self.config.steps - self.steps)
        self._collect(count)
        if self.steps <= self.config.random_steps:
            return {}
        self._owed += count * self.config.updates_per_step
        updates = int(self._owed)
        self._owed -= updates
        return self.update(updates)

    def begin(self) -> np.ndarray:
        """Start the first episodes, unless they have been; returns the observations (R, O)."""
        if self._observations is None:
            self.resets.prepare()
            self._observations = self.resets.reset(self.tasks)
        return self._observations

    def _acts_randomly(self) -> bool:
        return self.steps < self.config.random_steps

    def _reward_update_is_due(self) -> bool:
        return self.reward.learned and self.updates % self.reward.update_every == 0

    def _collect(self, count: int) -> None:
        size = self.layout.action_size
        random = self.generators.uniform((count, size), -1.0, 1.0)
        noise = self.generators.normal((count, size))
        observations = self.begin()
        for index in range(count):
            if self._acts_randomly():
                actions = random[:, index]
            else:
                seen = torch.from_numpy(observations).to(self.device)
                actions = self.agent.act(seen, noise[:, index])
            chosen = actions.cpu().numpy()
            result = self.tasks.step(chosen, "policy")
            final = result.terminated if self.config.bootstrap_timeouts else result.ended
            rows = self.layout.pack(observations, chosen, result.next_observations, result.rewards, final)
            self.buffer.add(rows)
            counted = self.resets.from_initial
            if self.visits is not None and counted is not None:
                self.visits.add(rows, counted)
            self._ended.add(self.tasks.elapsed, result.terminated, counted)
            observations = result.next_observations
            if result.ended.any():
                fresh = self.resets.reset(self.tasks, result.ended)
                observations = np.where(result.ended[:, None], fresh, observations)
            self.steps += 1
        self._observations = observations

    def update(self, count: int) -> Mapping[str, Tensor]:
        """Make ``count`` updates of the agent, and of the reward when it is due; returns the last metrics (R,)."""
        if not count:
            return {}
        metrics: dict[str, Tensor] = {}
        size = self.config.batch_size
        rows = self.mixture.sample(self.buffer, self.generators, count, self.updates)
        noise = self.generators.normal((count, self.agent.noise_rows, size, self.layout.action_size))
        expert = self._expert_batches(count, size) if self.agent.wants_expert_rows else None
        for index in range(count):
            if self._reward_update_is_due():
                metrics.update(self._update_reward())
            inputs = (rows[index], noise[:, index])
            if expert is not None:
                inputs = (*inputs, expert[index])
            metrics.update(self._agent_update(inputs)(*inputs))
            self.updates += 1
        return metrics

    def _agent_update(self, inputs: tuple[Tensor, ...]) -> Update:
        """The agent's update: called as it is on the CPU, recorded at the first use of each phase on a GPU."""
        agent, phase = self.agent, self.agent.phase(self.updates)
        update = functools.partial(self._relabel_and_update, phase)
        if self.device.type != "cuda" or not agent.recordable:
            return update
        if phase not in self._captured:
            self._captured[phase] = CapturedUpdate(update, inputs, agent.training_state, agent.set_training_state)
        return self._captured[phase]

    def _relabel_and_update(
        self, phase: int, rows: Tensor, noise: Tensor, expert_rows: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """One agent update on packed rows (R, B, width) under the current reward; pure, so that it can be recorded."""
        batch = self.layout.batch(rows)
        batch = batch.with_rewards(self.reward.relabel(batch))
        expert = None if expert_rows is None else self.layout.batch(expert_rows)
        return {**self.agent.update(batch, noise, expert, phase), "reward": batch.rewards.mean(-1)}

    def _update_reward(self) -> Mapping[str, Tensor]:
        size = self.reward.batch_size
        expert = self.layout.batch(self._expert_batches(1, size)[0])
        rows = self.buffer if self.visits is None else self.visits
        learner = self.layout.batch(rows.newest(self.reward.recent_rows, self.generators.uniform((size,))))
        shares = self._ended.shares(self.device)
        return self.reward.update(expert, learner, shares, self.generators, self.agent.log_prob)

    def _expert_batches(self, count: int, size: int) -> list[Tensor]:
        rows = self.mixture.expert_rows
        return list(rows[self.generators.integers(len(rows), (count, size))].unbind(1))

    def act(self, observations: Tensor) -> Tensor:
        """The deployed policies' deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O)."""
        chosen = self.selection
        return self.agent.best_actions(observations, chosen.net if chosen is not None and chosen.begun else None)

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run."""
        net, head = self.agent.deployed()
        if self.selection is not None and self.selection.begun:
            net, training = self.selection.net, {**training, "chosen_at_step": int(self.selection.chosen_at[run])}
        return Policy.of_network(net, run, self.agent.policy_normaliser, head, self.task, self.tasks.spaces, training)

    def ranking(self) -> np.ndarray | None:
        """The measure by which each run's deployed policy was chosen (R,): lower is better; none without one."""
        return self.selection.best if self.selection is not None and self.selection.begun else None

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,)."""
        return {name: counts.copy() for name, counts in self.tasks.counts.items()}

    def state(self) -> State:
        """Everything that decides how the training goes on: tensors, and the rest as JSON."""
        tensors: dict[str, Tensor] = {"generators": self.generators.state()}
        tensors |= {f"agent.{k}": v for k, v in self.agent.training_state().items()}
        tensors |= {f"reward.{k}": v for k, v in self.reward.training_state().items()}
        tensors |= {f"buffer.{k}": v for k, v in self.buffer.state().items()}
        if self.visits is not None:
            tensors |= {f"visits.{k}": v for k, v in self.visits.state().items()}
        if self.selection is not None:
            tensors |= {f"selection.{k}": v for k, v in self.selection.state().items()}
        tensors |= {"lived": torch.from_numpy(self._ended.lived), "lost": torch.from_numpy(self._ended.lost)}
        tensors["observations"] = torch.from_numpy(self.begin())
        resets = self.resets.state()
        tensors |= {f"resets.{k}": v for k, v in resets.tensors.items()}
        tasks = tasks_state(self.tasks)
        tensors |= {f"tasks.{k}": v for k, v in tasks.tensors.items()}
        clock = {"steps": self.steps, "updates": self.updates, "owed": self._owed}
        return State(tensors, {"clock": clock, "tasks": tasks.values, "resets": resets.values})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`: on the CPU bit-equal to never having stopped."""
        tensors = state.tensors
        self.generators.set_state(tensors["generators"])
        self.agent.set_training_state(state.part("agent"))
        self.reward.set_training_state(state.part("reward"))
        self.buffer.set_state(state.part("buffer"))
        if self.visits is not None:
            self.visits.set_state(state.part("visits"))
        if self.selection is not None:
            self.selection.set_state(state.part("selection"))
        self._ended.lived[:], self._ended.lost[:] = tensors["lived"].numpy(), tensors["lost"].numpy()
        self._observations = tensors["observations"].numpy()
        self.resets.set_state(State(state.part("resets"), state.values["resets"]))
        set_tasks_state(self.tasks, State(state.part("tasks"), state.values["tasks"]))
        clock = state.values["clock"]
        self.steps, self.updates, self._owed = clock["steps"], clock["updates"], clock["owed"]

    def close(self) -> None:
        """Free the environments."""
        self.tasks.close()


class EndedShares:
    """The shares of time that expert and learner spend after early ends, were episodes carried on to the horizon.

    The learner's is over all its steps so far, per run, in episodes that began in the task's own initial states:
    those that the reward compares with the expert's. Both get the same small pseudo-share, half a step of
    the expert's time, so that their ratio is finite, and 1 when neither ever ended early.
    """

    def __init__(self, task: Task, demonstrations: Demonstrations | None, runs: int) -> None:
        self._horizon = task.horizon
        self.lived, self.lost = np.zeros(runs), np.zeros(runs)
        lengths = np.ones(1) if demonstrations is None else demonstrations.episode_lengths
        ended = np.zeros(1, bool) if demonstrations is None else demonstrations.episode_terminated
        lost = float((task.horizon - lengths)[ended].sum())
        time = float(lengths.sum())
        self._pseudo = 0.5 / (time + 1)
        self._expert = lost / (time + lost) + self._pseudo

    def add(self, elapsed: np.ndarray, terminated: np.ndarray, counted: np.ndarray | None) -> None:
        """Count a step, and what an early end after ``elapsed`` steps (R,) left unused, where the mask (R,) is true."""
        mask = np.ones_like(terminated) if counted is None else counted
        self.lived += mask
        self.lost += np.where(terminated & mask, self._horizon - elapsed, 0)

    def shares(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The expert's and the learner's share, each (R,)."""
        learner = self.lost / np.maximum(self.lived + self.lost, 1) + self._pseudo
        expert = np.full_like(learner, self._expert)
        return (
            torch.as_tensor(expert, dtype=torch.float32, device=device),
            torch.as_tensor(learner, dtype=torch.float32, device=device),
        )
