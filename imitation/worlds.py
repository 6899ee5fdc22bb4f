"""Where the policy is improved: on the rows of the simulator, or on those of a learned world.

In a learned world (HyPER, Ren et al. 2024, arXiv 2402.08848; branched roll-outs as of Janner et al. 2019, arXiv
1906.08253) the learner acts in the simulator only to see what the ensemble of :mod:`.dynamics` is fitted to, with the
expert's rows, and what a learned reward compares with the expert. The agent's batches come from roll-outs of its
present policy in the ensemble, which start where the reset distribution says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ..robots import Health, InputError, Task, TaskBatch
from .dynamics import Dynamics, DynamicsConfig
from .parts import Setting
from .randomness import Generators
from .replay import Batch, ReplayBuffer, RowLayout, Schedule
from .resets import Resets
from .training import State
from .world_diagnosis import WorldDiagnosis, visited_errors

Act = Callable[[Tensor, Tensor], Tensor]
# Exploring actions (R, B, A) for observations (R, B, O) and standard normal noise (R, B, A).
Predict = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# What follows observations (R, B, O) and actions (R, B, A), drawn by (R, B) uniform and (R, B, O) normal numbers: next
# observations (R, B, O), and how unsure they are (R, B).


class World(Protocol):
    """Where the rows come from by which the policy is improved."""

    def prepare(self, generators: Generators) -> None:
        """Draw what has to be drawn, once."""
        ...

    def begin(self, tasks: TaskBatch) -> None:
        """Called once before the first episode of a training that starts anew."""
        ...

    def rows(self, real: ReplayBuffer) -> ReplayBuffer:
        """What the agent's batches are drawn from, given what happened in the simulator."""
        ...

    def grow(self, real: ReplayBuffer, expert: Tensor, act: Act, generators: Generators) -> Mapping[str, Tensor]:
        """Take note of the newest steps in the simulator, before updates; returns metrics (R,)."""
        ...

    def adjusted(self, rewards: Tensor, batch: Batch) -> Tensor:
        """The rewards (R, B) of a batch in this world; pure."""
        ...

    def diagnose(
        self, step: int, act: Act, reward: Callable[[Batch], Tensor], counts: np.ndarray
    ) -> Mapping[str, Tensor]:
        """After updates: what this world is worth, where it is due, as metrics (R,) under the present learned reward.

        Environment steps for it are added to ``counts`` (R,).
        """
        ...

    def made(self) -> dict[str, np.ndarray]:
        """What it has taken besides environment steps, each (R,)."""
        ...

    def state(self) -> State:
        """What decides how it goes on."""
        ...

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`."""
        ...


class SimulatorWorld:
    """The simulator's own rows, and nothing else."""

    Config: ClassVar[type[Any] | None] = None

    def prepare(self, generators: Generators) -> None:
        """Nothing to draw."""

    def begin(self, tasks: TaskBatch) -> None:
        """Nothing to prepare."""

    def rows(self, real: ReplayBuffer) -> ReplayBuffer:
        """What happened."""
        return real

    def grow(self, real: ReplayBuffer, expert: Tensor, act: Act, generators: Generators) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def adjusted(self, rewards: Tensor, batch: Batch) -> Tensor:
        """As they are."""
        return rewards

    def diagnose(
        self, step: int, act: Act, reward: Callable[[Batch], Tensor], counts: np.ndarray
    ) -> Mapping[str, Tensor]:
        """It is the truth."""
        return {}

    def made(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def state(self) -> State:
        """Empty."""
        return State({}, {})

    def set_state(self, state: State) -> None:
        """Nothing to restore."""


_COUNTED = ("model_steps", "_seen", "_fitted", "_diagnosed")


@dataclasses.dataclass(frozen=True)
class ModelConfig(DynamicsConfig):
    """A learned world, besides its ensemble's sizes.

    The ensemble is fitted anew every ``fit_every`` steps in the simulator. For each of these steps the policy makes
    ``model_steps`` steps in the model, in roll-outs of ``horizon`` steps, which is a schedule: (step in the simulator,
    horizon) points, linear in between. The newest ``buffer_size`` rows are kept, of which a share ``real_share`` are
    the simulator's, drawn from all of them.

    ``uncertainty`` is what the elites' disagreement does, measured in its 95 % quantile on held-out rows: ``penalise``
    takes ``uncertainty_weight`` times it off the reward, ``explore`` adds it, ``truncate`` ends a roll-out (by time, so
    that it bootstraps) where it is above ``uncertainty_limit``.

    Every ``diagnose_every`` steps the policy plays a few short episodes in the simulator to compare
    (:class:`~.world_diagnosis.WorldDiagnosis`), which are counted as evaluation.

    ``episodes`` says where the learner's own episodes in the simulator start: in the task's ``initial`` states, as in
    the paper, or, as roll-outs do, where the ``resets`` say (FILTER's resets), so that the ensemble sees what the
    learner does there.
    """

    fit_every: int = 500
    model_steps: int = 100
    horizon: tuple[tuple[int, int], ...] = ((0, 2), (3_000, 6))
    buffer_size: int = 100_000
    uncertainty: Literal["none", "penalise", "truncate", "explore"] = "none"
    uncertainty_weight: float = 0.1
    uncertainty_limit: float = 2.0
    diagnose_every: int = 2_000
    episodes: Literal["initial", "resets"] = "initial"
    real_share: float = 0.0


class ModelWorld:
    """R learned worlds: their ensembles, the newest rows of the policy's roll-outs in them, and the count of these."""

    Config: ClassVar[type[Any] | None] = ModelConfig

    @classmethod
    def create(cls, config: ModelConfig, setting: Setting, starts: Resets) -> Self:
        """For a setting, roll-outs starting where ``starts`` says.

        Errors: :class:`InputError` where it is not known when an episode ends, and for what makes no world.
        """
        if setting.task.terminates and setting.task.health is None:
            raise InputError(
                f"world=model: {setting.task.name} can end early, and by what rule is not known: choose world=simulator"
            )
        if config.elites > config.members:
            raise InputError(f"world.elites={config.elites}: there are world.members={config.members}")
        if not 0 <= config.real_share < 1:
            raise InputError(f"world.real_share={config.real_share:g}: a share from 0 to less than 1 is expected")
        points = [point for point in config.horizon if len(point) == 2 and point[1] >= 1]
        ascending = [step for step, _ in points] == sorted({step for step, _ in points})
        if not points or len(points) < len(config.horizon) or not ascending:
            raise InputError("world.horizon: ascending points [[step,horizon],…] with horizons from 1 are expected")
        for run in range(len(setting.seeds)):  # a way to start that it has not is known before anything begins
            starts.imagined(run, 0)
        return cls(config, setting.task, setting, starts)

    def __init__(self, config: ModelConfig, task: Task, setting: Setting, starts: Resets) -> None:
        self.config, self.task, self.starts = config, task, starts
        runs, observation_size, action_size, _, _ = setting.sizes
        self.layout = RowLayout(observation_size, action_size)
        self.dynamics = Dynamics(config, runs, observation_size, action_size).to(setting.device)
        self.imagined = ReplayBuffer(runs, config.buffer_size, self.layout, setting.device)
        self.model_steps = 0
        self._horizon = Schedule(config.horizon)
        self._seen, self._fitted, self._diagnosed = 0, 0, 0
        self._diagnosis = WorldDiagnosis(task, setting.seeds, setting.demonstrations)

    def prepare(self, generators: Generators) -> None:
        """Draw the ensembles' parameters."""
        self.dynamics.initialise(generators)

    def begin(self, tasks: TaskBatch) -> None:
        """Prepare the starts of roll-outs."""
        self.starts.prepare()
        self.starts.visit(tasks)

    def rows(self, real: ReplayBuffer) -> ReplayBuffer:
        """What the policy did in the model."""
        return self.imagined

    @property
    def horizon(self) -> int:
        """How long the next roll-outs are."""
        return round(self._horizon(self._seen))

    def grow(self, real: ReplayBuffer, expert: Tensor, act: Act, generators: Generators) -> Mapping[str, Tensor]:
        """Fit the ensembles if it is due, and roll the policy out in them; returns metrics (R,)."""
        new, metrics = real.added - self._seen, dict[str, Tensor]()
        self._seen = real.added
        if not self._fitted or self._seen // self.config.fit_every > self._fitted // self.config.fit_every:
            metrics.update(self._fit(real, expert, generators))
        horizon = self.horizon
        count = max(1, round(new * self.config.model_steps / horizon))
        begins = self._begin(count, real, generators)
        limit = self.config.uncertainty_limit * self.dynamics.typical if self.config.uncertainty == "truncate" else None
        numbers = Numbers.draw(generators, horizon, count, self.layout)
        health = self.task.health if self.task.terminates else None
        rows = roll_out(self.dynamics.step, act, begins, health, numbers, limit)
        self.model_steps += rows.shape[1]
        self._keep(rows, real, generators)
        batch = self.layout.batch(rows)
        unsure = batch.rewards.mean(-1) / self.dynamics.typical
        return {**metrics, "model_disagreement": unsure, "model_ends": batch.terminated.mean(-1)}

    def _fit(self, real: ReplayBuffer, expert: Tensor, generators: Generators) -> dict[str, Tensor]:
        runs, metrics = len(real.rows), dict[str, Tensor]()
        if self._fitted:
            unseen = torch.arange(self._fitted, self._seen, device=real.rows.device) % real.capacity
            metrics.update(visited_errors(self.dynamics, self.layout.batch(real.rows[:, unseen])))
        shown = self.layout.batch(expert.expand(runs, -1, -1)) if len(expert) else None
        metrics.update(self.dynamics.fit(shown, self.layout.batch(real.rows[:, : len(real)]), generators))
        self._fitted = self._seen
        return metrics

    def _begin(self, count: int, real: ReplayBuffer, generators: Generators) -> Tensor:
        """Where roll-outs begin (R, count, O): where the resets say, and in states that the learner has been in."""
        picks = generators.integers(len(real), (count,))
        begins = self.layout.batch(real.gather(picks)).observations.clone()
        for run in range(len(begins)):
            elsewhere = self.starts.imagined(run, count)
            if len(elsewhere):
                begins[run, : len(elsewhere)] = torch.from_numpy(elsewhere).to(begins.device)
        return begins

    def _keep(self, rows: Tensor, real: ReplayBuffer, generators: Generators) -> None:
        """Keep packed rows (R, n, width) of roll-outs, and as many of the simulator as belong beside them."""
        share = self.config.real_share
        rows = rows[:, -max(1, round(self.config.buffer_size * (1 - share))) :]
        self.imagined.extend(rows)
        count = min(round(rows.shape[1] * share / (1 - share)), self.config.buffer_size - 1)
        if count:
            seen = real.gather(generators.integers(len(real), (count,)))
            self.layout.batch(seen).rewards.zero_()  # nothing is unsure about them
            self.imagined.extend(seen)

    def adjusted(self, rewards: Tensor, batch: Batch) -> Tensor:
        """With the uncertainty that is in the place of the task's reward in imagined rows."""
        if self.config.uncertainty not in ("penalise", "explore"):
            return rewards
        sign = -1.0 if self.config.uncertainty == "penalise" else 1.0
        unsure = batch.rewards * (1 - batch.expert) / self.dynamics.typical[:, None]
        return rewards + sign * self.config.uncertainty_weight * unsure

    def diagnose(
        self, step: int, act: Act, reward: Callable[[Batch], Tensor], counts: np.ndarray
    ) -> Mapping[str, Tensor]:
        """The open-loop errors against the simulator, and the learned return in both."""
        every, before = self.config.diagnose_every, self._diagnosed
        self._diagnosed = step
        if step // every == before // every:
            return {}
        return self._diagnosis(step, self.dynamics, act, reward, self.imagined.rows.device, counts)

    def made(self) -> dict[str, np.ndarray]:
        """Steps in the model, each (R,)."""
        return {"model steps": np.full(len(self.dynamics.typical), self.model_steps, np.int64)}

    def state(self) -> State:
        """Parameters, rows, starts and counts."""
        tensors = {f"dynamics.{name}": value for name, value in self.dynamics.state_dict().items()}
        tensors |= {f"imagined.{name}": value for name, value in self.imagined.state().items()}
        starts = self.starts.state()
        tensors |= {f"starts.{name}": value for name, value in starts.tensors.items()}
        return State(tensors, {**{name: getattr(self, name) for name in _COUNTED}, "starts": starts.values})

    def set_state(self, state: State) -> None:
        """Continue from :meth:`state`."""
        self.dynamics.load_state_dict(state.part("dynamics"))
        self.imagined.set_state(state.part("imagined"))
        self.starts.set_state(State(state.part("starts"), state.values["starts"]))
        for name in _COUNTED:
            setattr(self, name, state.values[name])


@dataclasses.dataclass(frozen=True)
class Numbers:
    """For T steps of roll-outs: the policy's noise (R, T, B, A), which elite (R, T, B), and its noise (R, T, B, O)."""

    policy: Tensor
    which: Tensor
    model: Tensor

    @classmethod
    def draw(cls, generators: Generators, steps: int, count: int, layout: RowLayout) -> Self:
        """From the runs' streams."""
        return cls(
            generators.normal((steps, count, layout.action_size)),
            generators.uniform((steps, count)),
            generators.normal((steps, count, layout.observation_size)),
        )


@torch.no_grad()
def roll_out(
    predict: Predict, act: Act, begins: Tensor, health: Health | None, numbers: Numbers, limit: Tensor | None = None
) -> Tensor:
    """Packed rows (R, T · B, width) of a policy's roll-outs in a model from ``begins`` (R, B, O); pure.

    A roll-out that ends (by the rule of ``health``, or because the model is less sure than ``limit`` (R,)) begins again
    where it began, so that every step counts. How unsure the model was stands in the place of the task's reward.
    """
    observations, rows = begins, list[Tensor]()
    for step in range(numbers.which.shape[1]):
        actions = act(observations, numbers.policy[:, step]).clamp(-1, 1)
        after, unsure = predict(observations, actions, numbers.which[:, step], numbers.model[:, step])
        ended = torch.zeros_like(unsure, dtype=torch.bool) if health is None else ~health.healthy(after)
        flags = torch.stack((unsure, ended.float(), torch.zeros_like(unsure)), -1)
        rows.append(torch.cat((observations, actions, after, flags), -1))
        over = ended if limit is None else ended | (unsure > limit[:, None])
        observations = torch.where(over[..., None], begins, after)
    return torch.cat(rows, 1)
