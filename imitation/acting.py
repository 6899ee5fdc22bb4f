"""What every learner that acts in its task shares, whichever way its policy is improved: starts, steps and accounts,
the reward's updates, the choice of the policy to deploy, and the state of it all.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import InputError, Task, TaskBatch, Transitions, view_mask
from .agents import ActingAgent
from .agents.base import Average
from .early_ends import EndedShares
from .policy import Policy
from .randomness import Generators
from .replay import Batch, ReplayBuffer, RowLayout, Visits
from .resets import Resets
from .rewards import Reward, TaskReward
from .selection import Measure, NegativeReturn, OccupancyDistance, SelectBy, Selection
from .task_state import set_tasks_state, tasks_state
from .training import Memoryless, State

_PROBED = 32  # rows of each side on which the reward's own movement is measured: few, as it is at every update


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """How restless a reward is (R,): the mean square by which it moved on rows (R, B), per variance between them."""
    return (after - before).square().mean(-1) / after.var(-1).clamp(min=1e-12)


@dataclasses.dataclass(frozen=True)
class ActingConfig:
    """``steps`` are each run's environment steps of the policy in training.

    Without ``bootstrap_timeouts`` an episode cut by time is stored as if the task had ended it, as some
    released code does.

    Every ``select_every`` steps the deployed policy is chosen anew (:class:`~.selection.Selection`), by at most
    ``select_episodes`` episodes of the present candidate: ``occupancy`` compares its states with the expert's,
    ``return`` is for the task's own reward alone, and ``none`` deploys the last.
    """

    steps: int = 100_000
    bootstrap_timeouts: bool = True
    select_by: SelectBy = "none"
    select_every: int = 5_000
    select_episodes: int = 4


class ActingTraining(Memoryless, abc.ABC):
    """R runs of a learner that acts, trained together. Subclasses say in :meth:`_advance` how the policy is improved.

    ``offline`` are other recordings of the task, which say with the demonstrations how wide its states are. The parts
    do not know of each other.
    """

    rolls_out = False  # whether the reward's rows come from roll-outs of their own

    def __init__(
        self,
        config: ActingConfig,
        task: Task,
        agent: ActingAgent,
        reward: Reward,
        resets: Resets,
        demonstrations: Demonstrations | None,
        seeds: list[int],
        device: torch.device | str = "cpu",
        offline: Demonstrations | None = None,
    ) -> None:
        self.config, self.task = config, task
        self.agent, self.reward, self.resets = agent, reward, resets
        self.seeds = seeds
        self.device = torch.device(device)
        self.tasks = TaskBatch(task, seeds)
        spaces = self.tasks.spaces
        self.layout = RowLayout(spaces.observation_size, spaces.action_size)
        if demonstrations is None:
            if reward.learned:
                raise InputError("this learner needs demonstrations: give data=<bundled name or file>")
            expert_rows = torch.zeros(0, self.layout.width)
        else:
            expert_rows = self.layout.demonstrations(demonstrations)
        self.expert_rows = expert_rows.to(self.device)
        self._ended = EndedShares(task, demonstrations, len(seeds))
        self.buffer = ReplayBuffer(len(seeds), self.keeps, self.layout, self.device)
        # A learned reward compares the expert with episodes from the task's own initial states alone.
        apart = reward.learned and resets.from_initial is not None and not self.rolls_out
        if apart and resets.initial_share == 0:
            raise InputError(
                "a learned reward needs episodes from the task's own initial states: leave them a share of the resets, "
                "or choose loop=rounds, which makes them apart"
            )
        if agent.implies_reward and resets.from_initial is not None:
            raise InputError(
                "an implied reward compares the expert with all rows by which the policy is improved, which must begin "
                "in the task's own initial states: choose resets=initial, or a learned reward (learner=hype_filter)"
            )
        self.visits = Visits(len(seeds), self.keeps, self.layout, self.device) if apart else None
        self.generators = Generators(seeds, self.device)
        self.steps, self._took_over = 0, False
        agent.to(self.device)
        agent.initialise(self.generators)
        if isinstance(reward, torch.nn.Module):
            reward.to(self.device)
        reward.initialise(self.generators)
        self.selection = self._selection(demonstrations, offline)
        self._observations: np.ndarray | None = None

    @property
    @abc.abstractmethod
    def keeps(self) -> int:
        """How many rows of each run stay in the buffer."""

    @property
    def total(self) -> int:
        """Environment steps per run when finished."""
        return self.config.steps

    def _selection(self, demonstrations: Demonstrations | None, offline: Demonstrations | None) -> Selection | None:
        if self.config.select_by == "none":
            return None
        if self.config.select_by == "return":
            if not isinstance(self.reward, TaskReward):
                raise InputError("loop.select_by=return: it is the task's own reward, which this learner must not see")
            measure: Measure = NegativeReturn()
        elif demonstrations is None:
            raise InputError("loop.select_by=occupancy compares with demonstrations: give data=<bundled name or file>")
        else:
            # A policy is not chosen by what its judge may not see: the reward, or the critic that implies it.
            judge, name = (self.agent, "critic_view") if self.agent.implies_reward else (self.reward, "view")
            view = view_mask(self.task, getattr(getattr(judge, "config", None), name, ()), name)
            measure = OccupancyDistance(demonstrations, self.task.horizon, offline, view)
        net, _ = self.agent.deployed()
        return Selection(measure, self.config.select_episodes, self.task, self.seeds, net, self.device)

    def advance(self) -> Mapping[str, Tensor]:
        """Act, then improve the policy; returns the newest metrics, each (R,).

        Where it is due, and at the end, the deployed policy is chosen anew afterwards.
        """
        before, every = self.steps, self.config.select_every
        metrics = self._advance()
        due = self.steps // every > before // every or self.steps >= self.total
        if self.selection is None or not self._improved or not due:
            return metrics
        net, _ = self.agent.deployed()
        counts = self.tasks.counts["selection"]
        return {**metrics, **self.selection.consider(self.steps, self.agent.best_actions, net, counts)}

    @abc.abstractmethod
    def _advance(self) -> Mapping[str, Tensor]:
        """Act for a while, then improve the policy by what was seen; returns metrics, each (R,)."""

    @property
    @abc.abstractmethod
    def _improved(self) -> bool:
        """Whether the policy has been updated yet: before that there is nothing to choose."""

    def begin(self) -> np.ndarray:
        """Start the first episodes, unless they have been; returns the observations (R, O)."""
        if self._observations is None:
            self.resets.prepare()
            self._observations = self.resets.reset(self.tasks)
        return self._observations

    def take_over(self, state: State, source: str) -> None:
        """Begin with the agent and the reward of an earlier training's ``state``, called ``source`` in messages.

        Everything else begins anew: steps and what is kept of them, draws, the average of policies, and the choice
        among them. What they were standardised by comes with them.
        Errors: :class:`InputError` when they are of other kinds or sizes than this training's.
        """
        runs = len(state.tensors.get("lived", ()))
        if runs not in (0, len(self.seeds)):
            raise InputError(f"start={source}: it has {runs} runs: give runs={runs}")
        for name, part in (("agent", self.agent), ("reward", self.reward)):
            theirs, ours = (
                {k: tuple(v.shape) for k, v in tensors.items()} for tensors in (state.part(name), part.training_state())
            )
            # An optimiser of torch's own, as PPO's, has no moments before its first step.
            moments = {k for k in theirs.keys() - ours.keys() if "optimiser" in k.split(".")}
            if not runs or {k: v for k, v in theirs.items() if k not in moments} != ours:
                raise InputError(
                    f"start={source}: its {name} is not made like this training's: give the learner, the task and the "
                    f"{name}.… settings it was trained with"
                )
        self.agent.set_training_state(state.part("agent"))
        self.reward.set_training_state(state.part("reward"))
        for module in self.agent.modules() if isinstance(self.agent, torch.nn.Module) else ():
            if isinstance(module, Average):
                module.updates.zero_()
        self._took_over = True

    def _acts_randomly(self) -> bool:
        return False

    def _collect(self, count: int) -> None:
        """Act for ``count`` steps and keep them."""
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
            self._keep(observations, chosen, result)
            observations = result.next_observations
            if result.ended.any():
                fresh = self.resets.reset(self.tasks, result.ended)
                observations = np.where(result.ended[:, None], fresh, observations)
            self.steps += 1
        self._observations = observations

    def _keep(self, observations: np.ndarray, actions: np.ndarray, result: Transitions) -> None:
        """Store one step of every run."""
        final = result.terminated if self.config.bootstrap_timeouts else result.ended
        rows = self.layout.pack(observations, actions, result.next_observations, result.rewards, final)
        self.buffer.add(rows)
        counted = self.resets.from_initial
        if self.visits is not None and counted is not None:
            self.visits.add(rows, counted)
        if not self.rolls_out:
            self._ended.add(self.tasks.elapsed, result.terminated, counted)

    def _update_reward(self) -> Mapping[str, Tensor]:
        """One step of the reward on expert rows and on the learner's newest."""
        size = self.reward.batch_size
        expert = self.layout.batch(self._expert_batches(1, size)[0])
        rows = self.buffer if self.visits is None else self.visits
        learner = self._as_done(
            self.layout.batch(rows.newest(self.reward.recent_rows, self.generators.uniform((size,))))
        )
        shares, probe = self._ended.shares(self.device), expert.first(_PROBED).joined(learner.first(_PROBED))
        before = self.reward.relabel(probe)
        metrics = self.reward.update(expert, learner, shares, self.generators, self.agent.log_prob)
        return {**metrics, "reward_change": relative_change(before, self.reward.relabel(probe))}

    def _as_done(self, batch: Batch) -> Batch:
        """The learner's rows with the actions that its robot made of those that it chose."""
        return batch

    def _expert_batches(self, count: int, size: int) -> list[Tensor]:
        rows = self.expert_rows
        return list(rows[self.generators.integers(len(rows), (count, size))].unbind(1))

    def act(self, observations: Tensor) -> Tensor:
        """The deployed policies' deterministic actions (R, E, A) in [−1, 1] for observations (R, E, O)."""
        return self.agent.best_actions(observations, None if self._kept is None else self._kept.net)

    @property
    def _kept(self) -> Selection | None:
        """The selection once it has chosen; before that, and without one, the last policy is the deployed one."""
        return self.selection if self.selection is not None and self.selection.begun else None

    def policy(self, run: int, training: Mapping[str, Any]) -> Policy:
        """The deployable policy of one run."""
        net, head = self.agent.deployed()
        if self._kept is not None:
            net, training = self._kept.net, {**training, "chosen_at_step": int(self._kept.chosen_at[run])}
        return Policy.of_network(net, run, self.agent.policy_normaliser, head, self.task, self.tasks.spaces, training)

    def ranking(self) -> np.ndarray | None:
        """The measure by which each run's deployed policy was chosen (R,): lower is better; none without one."""
        return None if self._kept is None else self._kept.best

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,)."""
        return {name: counts.copy() for name, counts in self.tasks.counts.items()}

    def _clock(self) -> dict[str, Any]:
        """How far the training is, as JSON can hold it."""
        return {"steps": self.steps, "took_over": self._took_over}

    def _set_clock(self, clock: Mapping[str, Any]) -> None:
        self.steps, self._took_over = clock["steps"], clock.get("took_over", False)

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
        return State(tensors, {"clock": self._clock(), "tasks": tasks.values, "resets": resets.values})

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
        self._set_clock(state.values["clock"])

    def close(self) -> None:
        """Free the environments."""
        self.tasks.close()
