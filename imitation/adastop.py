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

Sets double with every learner. More than twelve are tested in overlapping blocks in which every two meet: a pair
differs when it does in one of its blocks, and the blocks share the level (Bonferroni), so that it still holds for all
pairs. With five runs each and a level of .05 no more than twelve can be told apart in any case, for the smallest
p-value of a pair is 1/126: it takes six or more.
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
TOGETHER = 12  # learners whose sets are all tested: there are 2 to the power of their number
Scores = Mapping[str, Sequence[float] | NDArray[np.float64]]


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
        blocks = _blocks(self.learners)
        self._blocks = [_Block(members, config, config.level / len(blocks), k) for k, members in enumerate(blocks)]

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to decide, or no stage left to decide it by."""
        return "undecided" not in self.decisions.values() or self.stages == self.config.stages

    def wanted(self) -> list[str]:
        """The learners of which the next stage needs ``group`` more runs each, in the order given."""
        if self.finished:
            return []
        members = frozenset[str]().union(*(family.members for block in self._blocks for family in block.families))
        return [name for name in self.learners if name in members]

    def look(self, scores: Scores) -> None:
        """Test by the runs of the next stage; ``scores`` has all (stage · n, at least) of each learner still wanted.

        Errors: :class:`ValueError` when scores are missing, or there is nothing left to decide.
        """
        if self.finished:
            raise ValueError("the comparison is finished")
        needed = (self.stages + 1) * self.config.group
        so_far = {name: np.asarray(scores[name], np.float64)[:needed] for name in self.wanted()}
        short = [name for name, values in so_far.items() if len(values) < needed]
        if short:
            raise ValueError(f"stage {self.stages + 1} needs {needed} runs of {short[0]}")
        self.stages += 1
        for block in self._blocks:
            block.look(so_far, self.stages)
        for pair, found in self.decisions.items():
            if found == "undecided" and any(block.tells_apart(*pair) for block in self._blocks):
                first, second = (np.mean(so_far[name]) for name in pair)
                self.decisions[pair] = "larger" if first > second else "smaller"
        undecided = [frozenset(pair) for pair, found in self.decisions.items() if found == "undecided"]
        for block in self._blocks:
            block.forget(undecided)


def _blocks(learners: Sequence[str]) -> list[Sequence[str]]:
    """Learners in blocks in which every two of them meet: one block, if they are not too many."""
    if len(learners) <= TOGETHER:
        return [learners]
    half = TOGETHER // 2
    count = -(-len(learners) // half)
    halves = [learners[k * len(learners) // count : (k + 1) * len(learners) // count] for k in range(count)]
    return [[*one, *two] for one, two in itertools.combinations(halves, 2)]


def _level_of(size: int, learners: int, level: float) -> float:
    """Of a set of a size: disjoint sets, of equal learners each, come to the level of all learners together."""
    return level if size >= learners - 1 else 1 - (1 - level) ** (size / learners)


class _Block:
    """The test of all sets of some learners. ``families`` are the sets that were not told apart yet, largest first."""

    def __init__(self, learners: Sequence[str], config: AdaStopConfig, level: float, number: int) -> None:
        self._learners = frozenset(learners)
        sets = [s for size in range(2, len(learners) + 1) for s in itertools.combinations(learners, size)]
        permutations = min(config.permutations, max(_FEWEST, _WORK // max(len(sets), 1)))
        first = number << TOGETHER  # each set draws permutations of its own
        self.families = [
            _Family(members, config, _level_of(len(members), len(learners), level), permutations, first + k)
            for k, members in enumerate(sets)
        ][::-1]

    def look(self, scores: Scores, stages: int) -> None:
        """Leave those sets that are not told apart by the runs of so many stages.

        What is part of such a set decides nothing, so it waits until that set is told apart: few are ever tested
        if learners are alike, and few are kept if they are not.
        """
        kept: list[_Family] = []
        whole: list[frozenset[str]] = []
        for family in self.families:
            if any(family.members <= members for members in whole):
                kept.append(family)
            elif not family.differs(scores, stages):
                kept.append(family)
                whole.append(family.members)
        self.families = kept

    def tells_apart(self, first: str, second: str) -> bool:
        """Whether no set with both in it is left."""
        pair = {first, second}
        return pair <= self._learners and not any(pair <= family.members for family in self.families)

    def forget(self, undecided: Sequence[frozenset[str]]) -> None:
        """Drop sets that hold no pair which is undecided: another block has told theirs apart."""
        self.families = [f for f in self.families if any(pair <= f.members for pair in undecided)]


class _Family:
    """The sequential test that the learners of a set are all the same.

    ``sums`` (permutations, members) are each learner's mean under permutations of the runs among the set, summed over
    stages; the first row is that of the runs as they are. Rows that would have been decided before are left out.
    """

    def __init__(
        self, members: tuple[str, ...], config: AdaStopConfig, level: float, permutations: int, number: int
    ) -> None:
        self.members = frozenset(members)
        self.thresholds: list[float] = []
        self._order = members
        self._config, self._level, self._permutations = config, level, permutations
        self._sums = np.zeros((1, len(members)))
        self._count = 1.0  # of permutations, those left out included
        self._spent = 0.0
        self._seed = [config.seed, number]
        self._random: np.random.Generator | None = None

    def differs(self, scores: Scores, stages: int) -> bool:
        """Look at the groups of runs until a stage, one after the other; whether the learners are not the same."""
        n = self._config.group
        return any(
            self._look([np.asarray(scores[name], np.float64)[k * n : (k + 1) * n] for name in self._order])
            for k in range(len(self.thresholds), stages)
        )

    def _look(self, groups: list[NDArray[np.float64]]) -> bool:
        self._permute(np.concatenate(groups))
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
        n, size = self._config.group, len(self._order)
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
        if self._random is None:
            self._random = np.random.default_rng(self._seed)
        orders = np.argsort(self._random.random((len(before), size * n)), axis=1)
        orders[0] = np.arange(size * n)
        self._sums = before + pooled[orders].reshape(-1, size, n).mean(axis=2)
        self._count *= repeats


def can_decide(config: AdaStopConfig, learners: int) -> bool:
    """Whether any pair of so many learners could be told apart by the runs of all stages, however far apart it is."""
    blocks = _blocks([str(k) for k in range(learners)])
    largest = max(map(len, blocks), default=0)
    level = _level_of(2, largest, config.level / len(blocks))
    ways = math.comb(2 * config.group, config.group) ** config.stages
    return learners < 2 or 2 / ways <= level + _SLACK


def replay(config: AdaStopConfig, scores: Scores) -> AdaStop:
    """The test as far as the scores go, from the beginning: the same scores always give the same decisions."""
    test = AdaStop(config, list(scores))
    while not test.finished and all(len(scores[name]) >= (test.stages + 1) * config.group for name in test.wanted()):
        test.look(scores)
    return test
