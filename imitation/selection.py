"""Which of a training's many policies to deploy: the one that imitates best so far, found without any reward.

Adversarial imitation does not get better step by step: a policy that runs may fall some thousand updates later and
then run again, and the theory speaks of the best or the average iterate, not of the last. The choice needs a measure
that the learner may see. Here it is how far the states that the policy visits are from the expert's, by the root of
the energy distance (:class:`OccupancyDistance`), in the spirit of the reward-free proxies by which Hussenot et al. 2021
(arXiv 2105.12034) choose hyper-parameters; in a training of HyPE on Hopper its rank correlation with the return was
−0.99 (docs/results).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ..datasets import Demonstrations
from ..robots import Task, TaskBatch
from .evaluation import play
from .networks import Normaliser, StackedMLP

SelectBy = Literal["occupancy", "return", "none"]
ActWith = Callable[[Tensor, StackedMLP], Tensor]
# Observations (R, E, O) and a network -> its actions (R, E, A), each within -1 and 1.
_ROWS = 2_000  # of the expert: distances between all pairs are kept in memory for a moment
_COUNTED = ("played", "chosen_at")  # what a selection keeps beside the network and its measure, each (R,)
_FIRST_SEED = 20_000_000  # away from the seeds of trainings and of evaluations


@dataclasses.dataclass(frozen=True)
class Episode:
    """``observations`` (T, O) and ``rewards`` (T,) of an episode, and the share of the horizon lost to an early end."""

    observations: np.ndarray
    rewards: np.ndarray
    lost: float


class Measure(Protocol):
    """How bad an episode is: lower is better. ``name`` is for the log.

    ``behind`` is how far a candidate may be behind, in units of the best measure, and still make the policy in place
    defend its own.
    """

    name: str
    behind: float

    def __call__(self, episode: Episode) -> float:
        """The number by which policies are ranked."""
        ...


class OccupancyDistance:
    """The root of the energy distance 2 E|X − Y| − E|X − X'| − E|Y − Y'| of the expert's states X and an episode's Y.

    The root is the metric (Székely and Rizzo 2013), and it grows with the share of the horizon that a fall loses as a
    return falls with it, where the distance itself grows with its square: by a mean of that, a policy which falls
    late in every episode would be preferred to one which falls early in one of ten.

    States are observations standardised with the statistics of the expert's, and of ``offline`` recordings where there
    are some: where a learner cannot go the expert's way, the expert alone does not say how wide the world is. An
    episode that the task ends early spends the rest of its horizon in one state of its own, as far from every other
    as the expert's farthest two.
    ``view`` (O,) is 0 where states are not to be compared: what a reward may not see should choose no policy either.
    0 where the distributions are equal; falling early and standing still are both far.
    """

    name = "occupancy_distance"
    behind = 1.0

    def __init__(
        self,
        demonstrations: Demonstrations,
        horizon: int,
        offline: Demonstrations | None = None,
        view: np.ndarray | None = None,
    ) -> None:
        seen = demonstrations.observations
        known = (recorded.observations for recorded in (demonstrations, offline) if recorded)
        self._normaliser = Normaliser.of(*known).hiding(view)
        picked = np.linspace(0, len(seen) - 1, min(len(seen), _ROWS)).round().astype(int)
        self._expert = self._normaliser(torch.from_numpy(seen[picked]))
        lengths, ended = demonstrations.episode_lengths, demonstrations.episode_terminated
        lost = float((horizon - lengths)[ended].sum())
        self._lost = lost / (float(lengths.sum()) + lost)
        between = torch.cdist(self._expert, self._expert)
        self._spread, self._far = float(between.mean()), float(between.max())

    def __call__(self, episode: Episode) -> float:
        """The distance (≥ 0, in roots of standard deviations of the states)."""
        states = self._normaliser(torch.from_numpy(episode.observations))
        spread = float(torch.cdist(states, states).mean())
        between = float(torch.cdist(self._expert, states).mean())
        e, l, far = self._lost, episode.lost, self._far  # noqa: E741
        across = (1 - e) * (1 - l) * between + ((1 - e) * l + e * (1 - l)) * far
        expert = (1 - e) ** 2 * self._spread + 2 * e * (1 - e) * far
        learner = (1 - l) ** 2 * spread + 2 * l * (1 - l) * far
        return max(2 * across - expert - learner, 0.0) ** 0.5  # what is equal may come out below 0 by rounding


class NegativeReturn:
    """The task's own return, for learners that are given its reward."""

    name = "negative_return"
    behind = 0.0  # a return has no zero to be twice as far from

    def __call__(self, episode: Episode) -> float:
        """Minus the undiscounted return."""
        return -float(episode.rewards.sum())


class Selection:
    """The best policy so far of each of R runs, by roll-outs of its own from the task's initial states.

    Every candidate plays at most ``episodes`` episodes, the same starts for each, and drops out as soon as its mean
    is no better than that of the policy it would replace: most play one. The lowest of many noisy means flatters: so
    whenever a candidate is not far behind after its first episode, the policy in place plays another too, from a start
    that is new to it, and what it was lucky in comes out. Were it asked only by those ahead of it, a policy that was
    lucky in all of its episodes would stay for good before better ones that no luck brings further. ``net`` holds the
    chosen parameters, ``chosen_at`` (R,) the training step that they are from, ``best`` (R,) the mean of their
    ``played`` (R,) episodes.
    """

    def __init__(
        self,
        measure: Measure,
        episodes: int,
        task: Task,
        seeds: Sequence[int],
        net: StackedMLP,
        device: torch.device | str = "cpu",
    ) -> None:
        self._measure, self._episodes, self._task, self._seeds = measure, episodes, task, seeds
        self._device = device
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.best = np.full(len(seeds), np.inf)
        self.played = np.zeros(len(seeds), np.int64)
        self.chosen_at = np.zeros(len(seeds), np.int64)

    @property
    def begun(self) -> bool:
        """Whether there has been a candidate."""
        return bool(self.chosen_at.any())

    def consider(self, step: int, act: ActWith, candidate: StackedMLP, counts: np.ndarray) -> dict[str, Tensor]:
        """Let every run's ``candidate`` at training step ``step`` race; returns its first and the best measure (R,).

        ``act`` gives the actions (R, E, A) of a network for observations (R, E, O). The environment steps are added
        to ``counts`` (R,).
        """
        runs = len(self._seeds)
        sums, racing = np.zeros(runs), np.ones(runs, bool)
        first = means = sums
        for number in range(self._episodes):
            sums = sums + self._play(act, candidate, np.full(runs, number), racing, counts)
            means = sums / (number + 1)
            if number == 0:
                first = means
                if self.begun:
                    self._defend(act, means < (1 + self._measure.behind) * self.best, counts)
            racing &= means < self.best
            if not racing.any():
                break
        if not self.begun:  # whatever they are worth
            racing[:] = True
        self.best = np.where(racing, means, self.best)
        self.played[racing] = self._episodes
        self.chosen_at[racing] = step
        where = torch.from_numpy(racing).to(self._device)
        with torch.no_grad():
            for mine, theirs in zip(self.net.master(), candidate.master(), strict=True):
                mine[where] = theirs[where]
        best = torch.from_numpy(self.best)
        return {f"candidate_{self._measure.name}": torch.from_numpy(first), f"best_{self._measure.name}": best}

    def _defend(self, act: ActWith, where: np.ndarray, counts: np.ndarray) -> None:
        """One more episode of the policies in place, except where there is nothing left to lose."""
        where = where & np.isfinite(self.best)
        if where.any():
            measured = self._play(act, self.net, self.played, where, counts)
            self.best = np.where(where, (self.best * self.played + measured) / (self.played + 1), self.best)
            self.played += where

    def _play(
        self, act: ActWith, net: StackedMLP, numbers: np.ndarray, racing: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """The measure of episode ``numbers`` (R,) of the runs still racing, 0 for the others (R,).

        What cannot be measured is worse than anything that can: infinite.
        """

        def used(seen: Tensor) -> Tensor:
            return act(seen, net)

        runs = len(self._seeds)
        starts = zip(self._seeds, numbers.tolist(), strict=True)
        tasks = TaskBatch(self._task, [_FIRST_SEED + 1_000 * seed + number for seed, number in starts])
        seen: list[list[np.ndarray]] = [[] for _ in range(runs)]
        rewards: list[list[float]] = [[] for _ in range(runs)]
        terminated = np.zeros(runs, bool)
        try:
            for observations, running, result in play(used, tasks, runs, "selection", racing, self._device):
                for run in np.flatnonzero(running):
                    seen[run].append(observations[run])
                    rewards[run].append(float(result.rewards[run]))
                terminated |= result.terminated
            lost = np.where(terminated, 1 - tasks.elapsed / self._task.horizon, 0.0)
            counts += tasks.counts["selection"]
        finally:
            tasks.close()
        measured = np.zeros(runs)
        for run in np.flatnonzero(racing):
            measured[run] = self._measure(Episode(np.stack(seen[run]), np.array(rewards[run]), float(lost[run])))
        return np.where(np.isnan(measured), np.inf, measured)

    def state(self) -> dict[str, Tensor]:
        """The chosen parameters, what they are worth by how many episodes, and where they are from."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        counted = {name: torch.from_numpy(getattr(self, name)) for name in _COUNTED}
        return tensors | counted | {f"best_{self._measure.name}": torch.from_numpy(self.best)}

    def set_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        self.best = tensors[f"best_{self._measure.name}"].numpy().copy()
        for name in _COUNTED:
            setattr(self, name, tensors[name].numpy().copy())
