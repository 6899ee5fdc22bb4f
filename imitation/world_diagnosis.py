"""What a learned world is worth: its open-loop error against the simulator, and whether the policy exploits it.

The policy acts in the simulator from a start; the model replays its actions from there (open loop), and lets the policy
act for itself (exploitation). The simulator's steps teach nobody anything and are counted as evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import Task, TaskBatch, place
from .dynamics import Dynamics
from .randomness import Generators
from .replay import Batch, RowLayout
from .resets.recorded import TOLERANCE

OPEN_LOOP = (1, 5, 25)  # steps after which the error is told
_EPISODES, _STEPS = 5, OPEN_LOOP[-1]
Act = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Played:
    """Packed rows (R, E, T, width) of episodes, and which of them were played before theirs was over (R, E, T)."""

    rows: Tensor
    lived: Tensor

    def learned_return(self, layout: RowLayout, reward: Callable[[Batch], Tensor]) -> Tensor:
        """The sum of the learned reward over an episode, mean over episodes (R,)."""
        runs, episodes, steps, _ = self.rows.shape
        values = reward(layout.batch(self.rows.flatten(1, 2))).view(runs, episodes, steps)
        return (values * self.lived).sum(-1).mean(-1)


class WorldDiagnosis:
    """Plays a few short episodes of each of R runs from the task's initial states and, where the simulator can be put
    there, from the expert's."""

    def __init__(self, task: Task, seeds: tuple[int, ...], demonstrations: Demonstrations | None) -> None:
        self._task, self._seeds = task, seeds
        self._health = task.health if task.terminates else None
        self._expert = demonstrations if demonstrations is not None and _can_be_set(task, demonstrations) else None

    def __call__(
        self,
        step: int,
        dynamics: Dynamics,
        act: Act,
        reward: Callable[[Batch], Tensor],
        device: torch.device,
        counts: np.ndarray,
    ) -> dict[str, Tensor]:
        """Metrics (R,) for each start distribution; the simulator's steps are added to ``counts`` (R,).

        ``open_loop_<k>_<start>`` is the root mean square distance of the model's state from the simulator's after k
        steps of the same actions, in deviations of the states (where the episode was over before, then).
        ``return_model_<start>`` and ``return_real_<start>`` are the sums of the learned reward that the policy gets in
        both within 25 steps.
        """
        metrics = dict[str, Tensor]()
        generators = Generators([(seed + 1) * 1_000_003 + step for seed in self._seeds], device)
        firsts = [(seed * 1_009 + step) * _EPISODES for seed in self._seeds]
        tasks = TaskBatch(self._task, [first + episode for first in firsts for episode in range(_EPISODES)])
        layout = RowLayout(tasks.spaces.observation_size, tasks.spaces.action_size)
        try:
            for where in ("initial", "expert") if self._expert is not None else ("initial",):
                begins = tasks.reset() if where == "initial" else self._expert_states(step, tasks)
                real = self._play(tasks, begins, act, layout, generators)
                batch = layout.batch(real.rows)
                first = batch.observations[:, :, 0]
                predicted = open_loop(dynamics, first, batch.actions)
                metrics |= open_loop_errors(dynamics, predicted, batch.next_observations, real.lived, where)
                imagined = self._imagine(dynamics, act, first, layout, generators)
                metrics[f"return_real_{where}"] = real.learned_return(layout, reward)
                metrics[f"return_model_{where}"] = imagined.learned_return(layout, reward)
            counts += tasks.counts["evaluation"].reshape(len(self._seeds), _EPISODES).sum(1)
        finally:
            tasks.close()
        return metrics

    def _expert_states(self, step: int, tasks: TaskBatch) -> np.ndarray:
        """Put every environment into one of the expert's states; returns the observations."""
        assert self._expert is not None
        found: list[np.ndarray] = []
        for index in range(len(tasks)):
            random = np.random.default_rng([self._seeds[index // _EPISODES], step, index % _EPISODES])
            snapshot = self._expert.snapshot(int(random.integers(len(self._expert))))
            assert snapshot is not None
            found.append(tasks.place(index, snapshot))
        return np.stack(found)

    def _play(
        self, tasks: TaskBatch, observations: np.ndarray, act: Act, layout: RowLayout, generators: Generators
    ) -> Played:
        """Episodes of the policy in the simulator from where it is."""
        shape = (len(self._seeds), _EPISODES)
        running, rows, lived = np.ones(len(tasks), bool), list[Tensor](), list[np.ndarray]()
        for _ in range(_STEPS):
            seen = torch.from_numpy(observations).to(generators.device).view(*shape, -1)
            noise = generators.normal((_EPISODES, layout.action_size))
            actions = act(seen, noise).clamp(-1, 1).flatten(0, 1).cpu().numpy()
            result = tasks.step(actions, "evaluation", running)
            following = np.where(running[:, None], result.next_observations, observations)
            rows.append(layout.pack(observations, actions, following, result.rewards, result.terminated))
            lived.append(running.copy())
            running &= ~result.ended
            observations = following
        packed = torch.stack(rows, 1).view(*shape, _STEPS, -1).to(generators.device)
        return Played(packed, torch.from_numpy(np.stack(lived, 1)).view(*shape, _STEPS).to(generators.device))

    @torch.no_grad()
    def _imagine(
        self, dynamics: Dynamics, act: Act, first: Tensor, layout: RowLayout, generators: Generators
    ) -> Played:
        """Episodes of the policy in the model, from the same starts."""
        observations, running = first, torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
        rows, lived = list[Tensor](), list[Tensor]()
        for _ in range(_STEPS):
            noise = generators.normal((_EPISODES, layout.action_size))
            actions = act(observations, noise).clamp(-1, 1)
            which, draws = generators.uniform((_EPISODES,)), generators.normal((_EPISODES, layout.observation_size))
            following, _ = dynamics.step(observations, actions, which, draws)
            ended = torch.zeros_like(running) if self._health is None else ~self._health.healthy(following)
            flags = torch.stack((torch.zeros_like(which), ended.float(), torch.zeros_like(which)), -1)
            rows.append(torch.cat((observations, actions, following, flags), -1))
            lived.append(running)
            running = running & ~ended
            observations = following
        return Played(torch.stack(rows, 2), torch.stack(lived, 2))


def _can_be_set(task: Task, demonstrations: Demonstrations) -> bool:
    """Whether recorded states give back the recorded observations, by a few of them."""
    environment = task.make()
    try:
        environment.reset(seed=0)
        for row in np.unique(np.linspace(0, len(demonstrations) - 1, 20).astype(int)):
            snapshot = demonstrations.snapshot(int(row))
            if snapshot is None or np.abs(place(environment, snapshot) - snapshot.observation).max() > TOLERANCE:
                return False
    finally:
        environment.close()
    return True


def visited_errors(dynamics: Dynamics, rows: Batch, count: int = 64) -> dict[str, Tensor]:
    """The open-loop errors (R,) on the learner's own way: rows (R, N), in the order of time, that no fit has seen."""
    size = rows.rewards.shape[1]
    begins = torch.linspace(0, size - 1, min(count, size), device=rows.rewards.device).long()
    numbers = begins[:, None] + torch.arange(_STEPS, device=begins.device)
    inside = numbers < size
    numbers = numbers.clamp(max=size - 1)
    observations, after = rows.observations[:, numbers], rows.next_observations[:, numbers]
    follows = (observations[:, :, 1:] == after[:, :, :-1]).all(-1) & inside[:, 1:]
    lived = torch.cat((torch.ones_like(follows[..., :1]), follows.cumprod(-1).bool()), -1)
    predicted = open_loop(dynamics, observations[:, :, 0], rows.actions[:, numbers])
    return open_loop_errors(dynamics, predicted, after, lived, "visited")


@torch.no_grad()
def open_loop(dynamics: Dynamics, first: Tensor, actions: Tensor) -> Tensor:
    """Where the mean of the elites' means leads from ``first`` (R, E, O) by actions (R, E, T, A): (R, E, T, O)."""
    observations, found = first, list[Tensor]()
    for step in range(actions.shape[2]):
        means, _ = dynamics.predict(observations, actions[:, :, step])
        observations = means.mean(1).maximum(dynamics.low).minimum(dynamics.high)
        found.append(observations)
    return torch.stack(found, 2)


def open_loop_errors(
    dynamics: Dynamics, predicted: Tensor, true: Tensor, lived: Tensor, where: str
) -> dict[str, Tensor]:
    """Errors (R,) of states (R, E, T, O) after each number of steps in ``OPEN_LOOP``, in deviations of the states."""
    scale = dynamics.std[..., : true.shape[-1]].unsqueeze(2)
    errors = ((predicted - true) / scale).square().mean(-1)
    last = lived.sum(-1) - 1  # an episode's last step
    found = dict[str, Tensor]()
    for steps in OPEN_LOOP:
        if steps <= true.shape[2]:
            at = last.clamp(max=steps - 1)
            found[f"open_loop_{steps}_{where}"] = errors.gather(2, at[..., None]).squeeze(-1).mean(-1).sqrt()
    return found
