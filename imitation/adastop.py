"""AdaStop: how many runs a comparison of learners needs (Mathieu, Della Vecchia et al. 2023, arXiv 2306.10882).

Runs come in groups of n for each learner. After each group every pair is tested by permutations of its runs within the
groups, and a pair whose means differ by more than chance would make them is decided, the largest difference first (a
step-down test). Looking several times and at several pairs would find differences where there are none; so the level is
spent in K equal parts, and the threshold is that of the largest difference of all undecided pairs. The probability of
even one wrong "differs" stays under the level, whatever the scores are distributed as. A pair that is never decided is
not shown to differ, which is not to say that it is equal.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Decision = Literal["larger", "smaller", "undecided"]
_DIGITS = 12  # of differences: sums of the same scores in another order are the same


@dataclasses.dataclass(frozen=True)
class AdaStopConfig:
    """``group`` n runs of each learner at a time, ``stages`` K times at most, ``level`` of the family of pairs.

    ``permutations`` is how many are looked at; all of them where there are no more.
    """

    group: int = 5
    stages: int = 5
    level: float = 0.05
    permutations: int = 10_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one look found: above which difference, summed over stages, the undecided pairs would be told apart."""

    runs: int
    reject_above: float


class AdaStop:
    """The sequential test of all pairs of learners, or of the ``pairs`` named.

    Give it the scores of all runs so far after each group of runs (:meth:`look`); :meth:`wanted` says which learners
    need another group.
    """

    def __init__(
        self, config: AdaStopConfig, learners: Sequence[str], pairs: Sequence[tuple[str, str]] | None = None
    ) -> None:
        self.config = config
        self.pairs = list(itertools.combinations(learners, 2) if pairs is None else pairs)
        self.decisions: dict[tuple[str, str], Decision] = dict.fromkeys(self.pairs, "undecided")
        self.stages: list[Stage] = []
        self._open = list(self.pairs)
        self._sums: NDArray[np.float64] = np.zeros((1, len(self.pairs)))
        self._count = 1.0  # of permutations, those left out included
        self._level_spent = 0.0
        self._random = np.random.default_rng(config.seed)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to decide, or no stage left to decide it by."""
        return not self._open or len(self.stages) == self.config.stages

    def wanted(self) -> list[str]:
        """The learners of which the next stage needs ``group`` more runs each, in the order of the pairs."""
        return [] if self.finished else list(dict.fromkeys(name for pair in self._open for name in pair))

    def look(self, scores: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> None:
        """Test by the runs of the next stage; ``scores`` has all (stage · n, at least) of each learner still wanted.

        Errors: :class:`ValueError` when scores are missing, or there is nothing left to decide.
        """
        if self.finished:
            raise ValueError("the comparison is finished")
        config, stage = self.config, len(self.stages)
        whole = slice(stage * config.group, (stage + 1) * config.group)
        groups = {name: np.asarray(scores[name], np.float64)[whole] for name in self.wanted()}
        short = [name for name, group in groups.items() if len(group) < config.group]
        if short:
            raise ValueError(f"stage {stage + 1} needs {(stage + 1) * config.group} runs of {short[0]}")
        self._permute(np.stack([np.concatenate([groups[a], groups[b]]) for a, b in self._open]))
        self._test(stage)

    def _permute(self, pooled: NDArray[np.float64]) -> None:
        """Add the differences of the new group (pairs, 2n) under every permutation to those of the stages before.

        The first row stays that of the runs as they are.
        """
        n = self.config.group
        ways = math.comb(2 * n, n)
        if self._count * ways <= self.config.permutations:
            chosen = np.array(list(itertools.combinations(range(2 * n), n)))
            new = _differences(chosen, pooled)
            self._sums = (new[:, None] + self._sums[None]).reshape(-1, len(pooled))
            self._count *= ways
            return
        repeats = max(1, int(self.config.permutations // self._count))
        before = np.tile(self._sums, (repeats, 1))
        chosen = np.argsort(self._random.random((len(before), 2 * n)), axis=1)[:, :n]
        chosen[0] = np.arange(n)
        self._sums = before + _differences(chosen, pooled)
        self._count *= repeats

    def _test(self, stage: int) -> None:
        """Decide pairs, the most different first, until the largest difference left is within what chance does."""
        config = self.config
        level = (stage + 1) / config.stages * config.level
        scale = np.abs(self._sums).max() or 1.0
        sums = np.round(self._sums / scale, _DIGITS) * scale
        left = list(range(len(self._open)))
        above = spent = 0.0
        while left:
            values = np.sort(self._largest(sums[:, left]))
            beyond = np.arange(len(values))[::-1] / self._count
            allowed = np.flatnonzero(self._level_spent + beyond <= level + 1e-12)
            above, spent = (values[allowed[0]], beyond[allowed[0]]) if len(allowed) else (math.inf, 0.0)
            observed = np.abs(sums[0, left])
            if observed.max() <= above:
                break
            most = left.pop(int(observed.argmax()))
            self.decisions[self._open[most]] = "larger" if sums[0, most] > 0 else "smaller"
        self._level_spent += float(spent)
        self.stages.append(Stage((stage + 1) * config.group, float(above)))
        if left:
            # What follows is conditional on not having been decided here.
            self._sums = self._sums[np.abs(sums[:, left]).max(axis=1) <= above][:, left]
        self._open = [self._open[index] for index in left]

    @staticmethod
    def _largest(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each permutation's largest difference of any pair, in either direction, as the test is two-sided."""
        return np.abs(sums).max(axis=1)


def _differences(chosen: NDArray[np.int64], pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the chosen (permutations, n) of the pooled runs (pairs, 2n) less the mean of the others."""
    n = chosen.shape[1]
    weights = np.full((len(chosen), pooled.shape[1]), -1.0 / n)
    np.put_along_axis(weights, chosen, 1.0 / n, axis=1)
    return weights @ pooled.T


def replay(
    config: AdaStopConfig,
    scores: Mapping[str, Sequence[float] | NDArray[np.float64]],
    pairs: Sequence[tuple[str, str]] | None = None,
) -> AdaStop:
    """The test as far as the scores go, from the beginning: the same scores always give the same decisions."""
    test = AdaStop(config, list(scores), pairs)
    while not test.finished and all(
        len(scores[name]) >= (len(test.stages) + 1) * config.group for name in test.wanted()
    ):
        test.look(scores)
    return test
