"""From results to the numbers of the report: each learner's scores and steps, and every pair of learners."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from ..adastop import AdaStop, AdaStopConfig, Decision, replay
from ..reaching import Reached, steps_needed, steps_ratio
from ..statistics import (
    Estimate,
    Tables,
    estimate,
    iqm,
    median,
    optimality_gap,
    paired_difference,
    permutation_p_value,
    probability_of_improvement,
)
from .matrix import Matrix
from .results import LearnerResult

MARK = "†"  # of learners whose training was stopped before its end


@dataclasses.dataclass(frozen=True)
class Summary:
    """A learner's scores, over one task or several: aggregates with intervals, and the runs that they are of."""

    learner: str
    runs: int
    iqm: Estimate
    median: Estimate
    gap: Estimate
    needed: Estimate | None = None
    reached: Reached | None = None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two learners on a task: what the test says of the first, and how far they are apart.

    ``improvement`` is the probability that a run of the first beats one of the second, ``difference`` that of means
    by seed, with its permutation ``p_value`` (of this pair alone), ``ratio`` how many times as many steps the second
    needs. What depends on pairs is none without common seeds.
    """

    first: str
    second: str
    decision: Decision
    improvement: Estimate
    difference: Estimate | None
    p_value: float | None
    ratio: Estimate | None


@dataclasses.dataclass(frozen=True)
class TaskAnalysis:
    """A task: its learners from the best, every pair with the better first, and the test that decided."""

    task: str
    scored: bool
    results: tuple[LearnerResult, ...]
    summaries: tuple[Summary, ...]
    pairs: tuple[Pair, ...]
    test: AdaStop

    @property
    def stopped(self) -> dict[str, tuple[int, int]]:
        """The learners with a training that was stopped: after how many steps, and of how many."""
        return {result.learner: found for result in self.results if (found := result.stopped) is not None}

    def name(self, learner: str) -> str:
        """What a learner is called: with a mark where its scores are of a training that was stopped."""
        return f"{learner}{MARK}" if learner in self.stopped else learner


@dataclasses.dataclass(frozen=True)
class Overall:
    """Several tasks together: the learners that all of them have, from the best, and how probably each beats the next.

    ``complete`` says whether the tasks have no others.
    """

    tasks: tuple[TaskAnalysis, ...]
    summaries: tuple[Summary, ...]
    improvements: tuple[tuple[str, str, Estimate], ...]
    complete: bool

    @property
    def titles(self) -> list[str]:
        """The names of the tasks."""
        return [task.task for task in self.tasks]

    def name(self, learner: str) -> str:
        """What a learner is called: with a mark where a training of it was stopped on any of the tasks."""
        return f"{learner}{MARK}" if any(learner in task.stopped for task in self.tasks) else learner


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All tasks, and ``overall`` those that several learners have scores on together, most tasks first."""

    tasks: tuple[TaskAnalysis, ...]
    overall: tuple[Overall, ...]


def analyse(matrix: Matrix, results: Sequence[LearnerResult]) -> Analysis:
    """All numbers of a comparison's finished cells."""
    tasks = tuple(
        _task(matrix, task, tuple(result for result in results if result.task == task))
        for task in matrix.plan.tasks
        if any(result.task == task for result in results)
    )
    return Analysis(tasks, _overall(tasks))


def _task(matrix: Matrix, task: str, results: tuple[LearnerResult, ...]) -> TaskAnalysis:
    scored = all(cell.scored for result in results for cell in result.cells)
    summaries = [_summary(result, scored) for result in results]
    order = sorted(range(len(results)), key=lambda index: -float(summaries[index].iqm.value))
    results = tuple(results[index] for index in order)
    test = _test(matrix, results)
    pairs = tuple(_pair(one, two, test, scored) for one, two in itertools.combinations(results, 2))
    return TaskAnalysis(task, scored, results, tuple(summaries[index] for index in order), pairs, test)


def _summary(result: LearnerResult, scored: bool) -> Summary:
    reached = result.reached if scored and result.acts else None
    return Summary(
        result.learner,
        len(result.final),
        *_aggregates([_values(result, scored)]),
        None if reached is None else steps_needed(reached),
        reached,
    )


def _values(result: LearnerResult, scored: bool) -> np.ndarray:
    return result.final if scored else result.returns


def _aggregates(tables: Tables) -> tuple[Estimate, Estimate, Estimate]:
    return estimate(iqm, tables), estimate(median, tables), estimate(optimality_gap, tables)


def _test(matrix: Matrix, results: tuple[LearnerResult, ...]) -> AdaStop:
    """The sequential test as far as the runs go; where their number was fixed, one look at all that each has.

    It is of returns, as in :meth:`Matrix.extend`: on one task scores are the same but for their scale, and which runs
    are needed can be said before it is known what all learners are scored by.
    """
    config = matrix.plan.test
    returns = {result.learner: result.returns for result in results}
    if matrix.plan.runs is not None:
        config = AdaStopConfig(min((len(values) for values in returns.values()), default=1), 1, config.level)
    return replay(config, returns)


def _pair(one: LearnerResult, two: LearnerResult, test: AdaStop, scored: bool) -> Pair:
    values = [_values(result, scored) for result in (one, two)]
    common = sorted(set(one.seeds) & set(two.seeds))
    paired = [
        np.array([table[result.seeds.index(seed)] for seed in common])
        for result, table in zip((one, two), values, strict=True)
    ]
    enough = len(common) > 1
    return Pair(
        one.learner,
        two.learner,
        test.decisions.get((one.learner, two.learner), "undecided"),
        estimate(probability_of_improvement, [values[0]], [values[1]]),
        paired_difference(*paired) if enough else None,
        permutation_p_value(*paired, paired=True, alternative="two-sided") if enough else None,
        steps_ratio(one.reached, two.reached) if scored and one.acts and two.acts else None,
    )


def _overall(tasks: tuple[TaskAnalysis, ...]) -> tuple[Overall, ...]:
    """Every group of tasks that share learners: all tasks first, then those that have more learners in common."""
    learners = {task.task: frozenset(result.learner for result in task.results) for task in tasks if task.scored}
    if len(learners) < 2:
        return ()
    common = frozenset[str].intersection(*learners.values()) if len(learners) == len(tasks) else frozenset[str]()
    groups: dict[tuple[str, ...], frozenset[str]] = {}
    for shared in (common, *learners.values()):
        together = tuple(task for task, names in learners.items() if shared and shared <= names)
        if len(together) > 1 and len(shared) > 1:
            groups[together] = frozenset[str].intersection(*(learners[task] for task in together))
    found = [_together(tuple(t for t in tasks if t.task in group), names) for group, names in groups.items()]
    return tuple(sorted(found, key=lambda each: -len(each.tasks)))


def _together(tasks: tuple[TaskAnalysis, ...], shared: frozenset[str]) -> Overall:
    tables = [{result.learner: result.final for result in task.results} for task in tasks]
    of = {name: [table[name] for table in tables] for name in tables[0] if name in shared}
    summaries = [Summary(name, sum(len(t) for t in rows), *_aggregates(rows)) for name, rows in of.items()]
    summaries.sort(key=lambda summary: -float(summary.iqm.value))
    pairs = itertools.combinations([summary.learner for summary in summaries], 2)
    improvements = tuple((a, b, estimate(probability_of_improvement, of[a], of[b])) for a, b in pairs)
    return Overall(tasks, tuple(summaries), improvements, all(len(table) == len(of) for table in tables))
