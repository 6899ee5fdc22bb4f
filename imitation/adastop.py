"""AdaStop: how many runs a comparison of learners needs (Mathieu, Della Vecchia et al. 2023, arXiv 2306.10882).

Runs come in groups of n for each learner. After each group the learners are tested by permutations of their runs within
the groups: are their means further apart than chance would put them? Looking K times would find differences where there
are none, so the level is spent in K equal parts, each conditional on nothing having been found before. A pair that is
never decided is not shown to differ, which is not to say that it is equal.

The authors' package (adastop 0.1.3) compares all pairs with one threshold. Measured with it, the probability of even
one wrong "differs" is above its level: 0.10 at 0.05 for two learners, as its two-sided test has thresholds of signed
differences; and with thresholds of absolute ones still 0.059 for four learners and 0.065 for six, as permutations of
pairs that share runs are no permutations of the data. Here every set of learners is tested by permutations of its own
runs among all of its members, which is exact, at a level that grows with its size (Ryan 1960, Einot and Gabriel 1975,
by permutations Petrondas and Gabriel 1983): a pair differs when every set with both in it does. Whichever learners are
equal, the probability of a wrong "differs" is at most the level. For two learners the values are the package's at half
the level.
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
_SLACK = 1e-12  # of probabilities
_WORK = 1_000_000  # permutations of all sets together, from which on each set has fewer, but never less than
_FEWEST = 1_000
MOST_LEARNERS = 12  # their sets are all tested, and there are 2 to the power of their number
Groups = Mapping[str, NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class AdaStopConfig:
    """``group`` n runs of each learner at a time, ``stages`` K times at most, ``level`` of the family of pairs.

    ``permutations`` is how many are looked at of each set of learners; for two, all of them where there are no more.
    """

    group: int = 5
    stages: int = 5
    level: float = 0.05
    permutations: int = 10_000
    seed: int = 0


class AdaStop:
    """The sequential test of all pairs of learners.

    Give it the scores of all runs so far after each group of runs (:meth:`look`); :meth:`wanted` says which learners
    need another group.
    """

    def __init__(self, config: AdaStopConfig, learners: Sequence[str]) -> None:
        self.config = config
        self.learners = list(learners)
        self.stages = 0
        pairs = itertools.combinations(self.learners, 2)
        self.decisions: dict[tuple[str, str], Decision] = dict.fromkeys(pairs, "undecided")
        sets = [s for size in range(2, len(learners) + 1) for s in itertools.combinations(self.learners, size)]
        permutations = min(config.permutations, max(_FEWEST, _WORK // max(len(sets), 1)))
        self._open = [_Family(members, config, self._level(len(members)), permutations, k) for k, members in
                      enumerate(sets)]  # fmt: skip

    def _level(self, size: int) -> float:
        """Of a set: disjoint sets, of equal learners each, come to the level together."""
        if size >= len(self.learners) - 1:
            return self.config.level
        return 1 - (1 - self.config.level) ** (size / len(self.learners))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to decide, or no stage left to decide it by."""
        return "undecided" not in self.decisions.values() or self.stages == self.config.stages

    def wanted(self) -> list[str]:
        """The learners of which the next stage needs ``group`` more runs each, in the order given."""
        if self.finished:
            return []
        undecided = {name for pair, found in self.decisions.items() if found == "undecided" for name in pair}
        return [name for name in self.learners if name in undecided]

    def look(self, scores: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> None:
        """Test by the runs of the next stage; ``scores`` has all (stage · n, at least) of each learner still wanted.

        Errors: :class:`ValueError` when scores are missing, or there is nothing left to decide.
        """
        if self.finished:
            raise ValueError("the comparison is finished")
        group = self.config.group
        whole = slice(self.stages * group, (self.stages + 1) * group)
        groups = {name: np.asarray(scores[name], np.float64)[whole] for name in self.wanted()}
        short = [name for name, values in groups.items() if len(values) < group]
        if short:
            raise ValueError(f"stage {self.stages + 1} needs {(self.stages + 1) * group} runs of {short[0]}")
        self.stages += 1
        # A set that is not told apart has all its pairs undecided, so that all its members are still wanted.
        self._open = [family for family in self._open if not family.differs(groups)]
        undecided = {pair for family in self._open for pair in itertools.combinations(family.members, 2)}
        for pair, found in self.decisions.items():
            if found == "undecided" and pair not in undecided:
                first, second = (np.mean(np.asarray(scores[name])[: self.stages * group]) for name in pair)
                self.decisions[pair] = "larger" if first > second else "smaller"


class _Family:
    """The sequential test that the learners of a set are all the same.

    ``sums`` (permutations, members) are each learner's mean under permutations of the runs among the set, summed over
    stages; the first row is that of the runs as they are. Rows that would have been decided before are left out.
    """

    def __init__(
        self, members: tuple[str, ...], config: AdaStopConfig, level: float, permutations: int, number: int
    ) -> None:
        self.members = members
        self.thresholds: list[float] = []
        self._config, self._level, self._permutations = config, level, permutations
        self._sums = np.zeros((1, len(members)))
        self._count = 1.0  # of permutations, those left out included
        self._spent = 0.0
        self._random = np.random.default_rng([config.seed, number])

    def differs(self, groups: Groups) -> bool:
        """Look at the next group of runs; whether the learners are not the same."""
        self._permute(np.concatenate([groups[name] for name in self.members]))
        ranges = np.ptp(self._sums, axis=1)
        scale = float(ranges.max()) or 1.0
        ranges = np.round(ranges / scale, _DIGITS) * scale
        values = np.sort(ranges)
        beyond = (len(values) - np.searchsorted(values, values, side="right")) / self._count
        level = (len(self.thresholds) + 1) / self._config.stages * self._level
        allowed = int(np.argmax(self._spent + beyond <= level + _SLACK))
        threshold = float(values[allowed])
        self._spent += float(beyond[allowed])
        self.thresholds.append(threshold)
        self._sums = self._sums[ranges <= threshold]  # what follows is conditional on not having been decided here
        return bool(ranges[0] > threshold)

    def _permute(self, pooled: NDArray[np.float64]) -> None:
        """Add the means of the new group's runs (members · n,) to the sums, under all permutations or random ones."""
        n, size = self._config.group, len(self.members)
        ways = math.comb(2 * n, n)
        if size == 2 and self._count * ways <= self._permutations:
            chosen = np.array(list(itertools.combinations(range(2 * n), n)))
            first = pooled[chosen].sum(axis=1) / n
            new = np.stack([first, pooled.sum() / n - first], axis=1)
            self._sums = (new[:, None] + self._sums[None]).reshape(-1, 2)
            self._count *= ways
            return
        repeats = max(1, int(self._permutations // self._count))
        before = np.tile(self._sums, (repeats, 1))
        orders = np.argsort(self._random.random((len(before), size * n)), axis=1)
        orders[0] = np.arange(size * n)
        self._sums = before + pooled[orders].reshape(-1, size, n).mean(axis=2)
        self._count *= repeats


def replay(config: AdaStopConfig, scores: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> AdaStop:
    """The test as far as the scores go, from the beginning: the same scores always give the same decisions."""
    test = AdaStop(config, list(scores))
    while not test.finished and all(len(scores[name]) >= (test.stages + 1) * config.group for name in test.wanted()):
        test.look(scores)
    return test
