"""Checks on the learners themselves: agents that drift without a reward, and what a learned reward is worth.

Drift: an agent that is given pure noise for a reward should come to nothing in particular. One whose return moves all
the same has a bias of its own (a bonus for lasting, say), and so has whatever is learned with it.
Worth: how well the learned reward ranks episodes by their true return; and what a fresh policy comes to on the frozen
reward alone, in the same body or in another (Fu et al. 2018, arXiv 1710.11248; EvIL, arXiv 2406.11905).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ..robots import TaskBatch
from .acting import ActingTraining
from .evaluation import play
from .parts import Setting
from .randomness import Generators
from .replay import Batch
from .rewards import FixedReward, Reward

FIRST_SEED = 20_000_000  # of the episodes that rewards are judged on, where neither trainings nor evaluations are
NOISE = (0.0, 0.1, 0.3, 0.6, 1.0)  # shares of random actions
_spearman: Any = stats.spearmanr  # whose result SciPy types as nothing


class ZeroReward(FixedReward):
    """0 everywhere: the control of :class:`NoiseReward`."""

    sees_actions = False

    def relabel(self, batch: Batch) -> Tensor:
        """Zeros (R, B)."""
        return torch.zeros_like(batch.rewards)


class NoiseReward(FixedReward):
    """Noise of mean 0 and deviation 1 that belongs to a transition: the same row always has the same reward.

    It is the fractional part of a random, very steep linear function of state and action, so that neighbouring rows
    have nothing to do with each other and there is nothing to be learned.
    """

    def __init__(self, setting: Setting) -> None:
        self._size = setting.spaces.observation_size + setting.spaces.action_size
        self._directions = torch.zeros(len(setting.seeds), self._size, device=setting.device)

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For the sizes of a setting."""
        return cls(setting)

    def initialise(self, generators: Generators) -> None:
        """Draw each run's direction."""
        self._directions = 1e4 * generators.normal((self._size,))

    def relabel(self, batch: Batch) -> Tensor:
        """The rewards (R, B)."""
        rows = torch.cat((batch.observations, batch.actions), -1)
        heights = (rows.double() @ self._directions.double()[..., None]).squeeze(-1)
        return ((heights.remainder(1.0) - 0.5) * 12**0.5).to(batch.rewards.dtype)

    def training_state(self) -> dict[str, Tensor]:
        """The directions."""
        return {"directions": self._directions}

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        self._directions = state["directions"].to(self._directions.device)


class FrozenReward(FixedReward):
    """A learned reward as it was when its training ended."""

    def __init__(self, learned: Reward) -> None:
        self._learned = learned
        self.early_ends = learned.early_ends

    def relabel(self, batch: Batch) -> Tensor:
        """The rewards (R, B) of the reward within."""
        return self._learned.relabel(batch)

    def training_state(self) -> dict[str, Tensor]:
        """That of the reward within."""
        return self._learned.training_state()

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        self._learned.set_training_state(state)


@dataclasses.dataclass(frozen=True)
class Drift:
    """Mean returns (R,) of R runs at the start, and after training on no reward and on noise."""

    start: NDArray[np.float64]
    zero: NDArray[np.float64]
    noise: NDArray[np.float64]

    def p_value(self) -> float:
        """How often chance alone makes noise move the returns further than no reward does, as much as it did.

        By exchanging the two within each seed; with five runs the smallest possible value is 1/32.
        """
        moved = np.abs(self.noise - self.start), np.abs(self.zero - self.start)

        def mean(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
            return np.asarray((a - b).mean(axis=axis))

        found = stats.permutation_test(
            moved, mean, permutation_type="samples", alternative="greater", n_resamples=9999, vectorized=True,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        return float(found.pvalue)


@dataclasses.dataclass(frozen=True)
class Episodes:
    """Episodes of good and bad policies: packed rows (T, N, width), which of them were lived (T, N), returns (R, E).

    N are R · E episodes, run after run.
    """

    rows: Tensor
    lived: Tensor
    returns: NDArray[np.float64]


def mixed_episodes(training: ActingTraining, episodes: int, *, noise: Sequence[float] = NOISE) -> Episodes:
    """``episodes`` of each run's deployed policy for each share of random actions, from starts of their own."""
    runs, total = len(training.seeds), episodes * len(noise)
    seeds = range(FIRST_SEED, FIRST_SEED + total)
    tasks = TaskBatch(training.task, [seed for _ in range(runs) for seed in seeds])
    controller = training.controller(seeds)
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor(noise).repeat_interleave(episodes)[None, :, None]
    size = training.layout.action_size
    taken: list[Tensor] = []

    def act(observations: Tensor) -> Tensor:
        chosen = controller(observations)
        random = torch.rand((runs, total, size), generator=generator) * 2 - 1
        slips = torch.rand((runs, total, 1), generator=generator) < shares
        taken[:] = [torch.where(slips.to(chosen.device), random.to(chosen), chosen)]
        return taken[0]

    rows, lived = list[Tensor](), list[Tensor]()
    returns = np.zeros(runs * total)
    try:
        everywhere = np.ones(len(tasks), bool)
        for observations, running, result in play(act, tasks, runs, "evaluation", everywhere, training.device):
            actions = taken[0].flatten(0, 1).cpu().numpy()
            packed = training.layout.pack(
                observations, actions, result.next_observations, result.rewards, result.terminated
            )
            rows.append(packed)
            lived.append(torch.from_numpy(running))
            returns += result.rewards
    finally:
        tasks.close()
    return Episodes(torch.stack(rows), torch.stack(lived), returns.reshape(runs, total))


def learned_returns(training: ActingTraining, episodes: Episodes) -> NDArray[np.float64]:
    """The sum of the present reward over each episode (R, E), which is what the agent is after."""
    runs = len(training.seeds)
    sums = torch.zeros(episodes.rows.shape[1], dtype=torch.float64)
    for rows, lived in zip(episodes.rows, episodes.lived, strict=True):
        batch = training.layout.batch(rows.view(runs, -1, rows.shape[-1]).to(training.device))
        sums += training.reward.relabel(batch).flatten().double().cpu() * lived
    return sums.view(runs, -1).numpy()


def rank_correlations(learned: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation (R,) of learned and true returns (R, E) of the same episodes; 0 where one is constant."""
    found = np.zeros(len(true))
    for run, (one, two) in enumerate(zip(learned, true, strict=True)):
        if np.ptp(one) > 0 and np.ptp(two) > 0:
            found[run] = float(_spearman(one, two).statistic)
    return found
