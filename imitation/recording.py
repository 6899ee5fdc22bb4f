"""Recording demonstrations: a policy or random actions at work, with everything a learner may want to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..datasets import Demonstrations
from ..robots import Controller, Task, TaskBatch, physics_state
from .evaluation import Act

# Episodes played at once. A policy always sees this many rows, because the rounding of a matrix product depends
# on its size: so an episode is the same to the bit however many are recorded.
TOGETHER = 16
RANDOM_SEED = 20_000_000  # first of the episodes by which the return of random actions is measured


def record(
    task: Task,
    act: Act | Controller | None,
    *,
    seed: int,
    episodes: int | None = None,
    steps: int | None = None,
    noise: float = 0.0,
    metadata: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Demonstrations:
    """Play whole episodes until there are ``episodes`` E or at least ``steps`` rows, whichever comes first.

    ``act`` maps observations (1, B, O) to actions (1, B, A) in [−1, 1], or is a controller: one of the task's scripts,
    or a policy with a memory (:class:`Playing`). None stands for uniform random actions.
    Gaussian ``noise`` of that standard deviation is added to each action, which is then clipped; the stored
    action is the executed one. Episode e is reset with seed ``seed + e``, which also decides its noise and
    random actions. The full simulator state before each step is kept. ``advance`` is told the number of rows
    after each episode. The expert's return is the mean of the episodes.
    """
    assert episodes is not None or steps is not None
    played: list[_Episode] = []
    rows = 0
    controller = Playing(lambda seeds: act) if callable(act) else act
    for episode in _episodes(task, controller, seed, episodes, noise):
        played.append(episode)
        rows += len(episode.rewards)
        advance(len(episode.rewards))
        if steps is not None and rows >= steps:
            break
    lengths = np.array([len(episode.rewards) for episode in played])
    starts = np.cumsum(lengths) - lengths
    returns = np.array([episode.rewards.sum() for episode in played])
    names = [field.name for field in dataclasses.fields(_Episode)]
    columns: dict[str, Any] = {name: _joined(played, name) for name in names}
    columns["rewards"] = columns["rewards"].astype(np.float32)
    return Demonstrations(
        **columns,
        times=np.arange(rows) - np.repeat(starts, lengths),
        starts=starts,
        task_name=task.name,
        environment_id=task.environment_id,
        environment_keywords=task.keywords,
        episode_returns=returns,
        episode_lengths=lengths,
        episode_seeds=seed + np.arange(len(played)),
        expert_return=float(returns.mean()),
        source=f"a recording on {task.name}",
        metadata=metadata or {},
    )


class Playing:
    """A policy as a controller: what ``make`` gives acts in the episodes that start together."""

    def __init__(self, make: Callable[[Sequence[int]], Act]) -> None:
        self._make = make
        self._act: Act | None = None

    def begin(self, seeds: Sequence[int]) -> None:
        """Forget the last episodes."""
        self._act = self._make([*seeds, *[0] * (TOGETHER - len(seeds))])

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [−1, 1] for observations (N, O)."""
        assert self._act is not None, "begin comes first"
        count, size = observations.shape
        seen = torch.zeros(1, TOGETHER, size)
        seen[0, :count] = torch.from_numpy(observations)
        return self._act(seen)[0, :count].cpu().numpy()


def measure_random_return(task: Task, episodes: int, *, seed: int = RANDOM_SEED) -> float:
    """The mean undiscounted return of uniform random actions."""
    played = _episodes(task, None, seed, episodes, 0.0)
    return float(np.mean([episode.rewards.sum() for episode in played]))


@dataclasses.dataclass(frozen=True)
class _Episode:
    """T rows of one episode; rewards are float64 here."""

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    states: np.ndarray


def _joined(episodes: list[_Episode], name: str) -> np.ndarray:
    columns: list[np.ndarray] = [getattr(episode, name) for episode in episodes]
    return np.concatenate(columns)


def _episodes(task: Task, act: Controller | None, seed: int, count: int | None, noise: float) -> Iterator[_Episode]:
    """Episodes in the order of their seeds, without end when ``count`` is none."""
    first = 0
    while count is None or first < count:
        together = TOGETHER if count is None else min(TOGETHER, count - first)
        tasks = TaskBatch(task, [seed + first + k for k in range(together)])
        generators = [np.random.default_rng([seed + first + k, 1]) for k in range(together)]
        if act is not None:
            act.begin([seed + first + k for k in range(together)])
        try:
            yield from _play(tasks, act, generators, noise)
        finally:
            tasks.close()
        first += together


def _play(
    tasks: TaskBatch, act: Controller | None, generators: list[np.random.Generator], noise: float
) -> list[_Episode]:
    """One episode in each environment."""
    count, size = len(tasks), tasks.spaces.action_size
    observations, running = tasks.reset(), np.ones(count, bool)
    states = np.stack([physics_state(environment) for environment in tasks.environments])
    steps: list[_Episode] = []
    while running.any():
        if act is None:
            actions = np.stack([generator.uniform(-1, 1, size) for generator in generators])
        else:
            actions = act.act(observations)
            if noise:
                actions = actions + noise * np.stack([g.standard_normal(size) for g in generators])
        actions = np.clip(actions, -1, 1).astype(np.float32)
        for k in np.flatnonzero(running):
            states[k] = physics_state(tasks.environments[k])
        result = tasks.step(actions, "policy", running)
        after = (result.next_observations, result.rewards, result.terminated, result.truncated)
        steps.append(_Episode(observations, actions, *after, states.copy()))
        running = running & ~result.ended
        observations = result.next_observations
    names = [field.name for field in dataclasses.fields(_Episode)]
    stacked = {name: np.stack([getattr(step, name) for step in steps], axis=1) for name in names}
    lengths = tasks.elapsed
    return [_Episode(**{name: stacked[name][k, : lengths[k]] for name in names}) for k in range(count)]
