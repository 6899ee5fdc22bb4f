"""Statistics of few runs: interquartile means with bootstrap intervals (Agarwal et al. 2021, arXiv 2108.13264).

Scores are (R,) of R runs of one task, or (R, tasks). Aggregates over tasks, at the end of this file, take a list of
tables (…, R), one for each task, because tasks may have different numbers of runs; what comes before the last axis are
repetitions, of a bootstrap for example.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Scores = NDArray[np.float64]
Statistic = Callable[..., Any]
"""Like ``numpy.mean``: takes an array and ``axis``, and gives one number for each row along it."""


def interquartile_mean(scores: ArrayLike, axis: int | None = None) -> Any:
    """The mean of the middle half, over all scores or along ``axis``.

    A quarter of the scores, rounded down, is left out at either end: less sensitive to one lucky or broken run
    than the mean, and less wasteful than the median.
    """
    return stats.trim_mean(scores, 0.25, axis=axis)  # pyright: ignore[reportArgumentType]


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic = interquartile_mean,
    *,
    level: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of a statistic over runs: percentiles of its values on stratified bootstrap samples.

    Runs are drawn with replacement for each task on its own, so every sample holds every task R times.
    Errors: :class:`ValueError` for no scores, other shapes, and scores that are not finite.
    """
    table = _table(scores)
    runs, tasks = table.shape
    indices = np.random.default_rng(seed).integers(runs, size=(repetitions, runs, tasks))
    samples = np.take_along_axis(table[None], indices, axis=1).reshape(repetitions, -1)
    low, high = np.quantile(statistic(samples, axis=-1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_p_value(
    first: ArrayLike,
    second: ArrayLike,
    *,
    paired: bool = False,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
    repetitions: int = 9999,
    seed: int = 0,
) -> float:
    """How often chance alone makes the mean of ``first`` (R,) exceed that of ``second`` by as much as it does.

    Unpaired, the scores change places between the two groups in all ways, or in ``repetitions`` random ones if
    there are more; ``paired``, each pair (the same seed under two learners) swaps or not. No distribution is
    assumed, so with four runs against four the smallest possible value is 1/70.
    Errors: :class:`ValueError` as :func:`bootstrap_interval`, and for pairs of unequal length.
    """
    groups = [_table(scores)[:, 0] for scores in (first, second)]
    if paired and len(groups[0]) != len(groups[1]):
        raise ValueError(f"pairs need as many scores on either side, not {len(groups[0])} and {len(groups[1])}")

    def difference(a: Scores, b: Scores, axis: int) -> Scores:
        return a.mean(axis=axis) - b.mean(axis=axis)

    result = stats.permutation_test(
        groups,
        difference,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=repetitions,
        alternative=alternative,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The interquartile mean over runs, its 95% bootstrap interval, and each run's score (its mean over tasks)."""

    iqm: float
    low: float
    high: float
    runs: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """``{"iqm", "low", "high", "runs"}`` to five significant digits."""
        iqm, low, high, *runs = (float(f"{value:.5g}") for value in (self.iqm, self.low, self.high, *self.runs))
        return {"iqm": iqm, "low": low, "high": high, "runs": runs}


def summary(scores: ArrayLike) -> Summary:
    """The summary of scores (R,) or (R, tasks). Errors: :class:`ValueError` as :func:`bootstrap_interval`."""
    table = _table(scores)
    low, high = bootstrap_interval(table)
    return Summary(float(interquartile_mean(table)), low, high, tuple(table.mean(axis=1).tolist()))


def mean_summary(shares: ArrayLike) -> dict[str, Any]:
    """``{"mean", "low", "high"}`` of shares or of zeros and ones (N,), to five significant digits.

    The mean and not that of the middle half, which would make 0 of a success in one episode of five.
    """
    values = np.asarray(shares, np.float64)
    low, high = bootstrap_interval(values, np.mean)
    named = {"mean": values.mean(), "low": low, "high": high}
    return {name: float(f"{value:.5g}") for name, value in named.items()}


def _table(scores: ArrayLike) -> Scores:
    """Scores as (R, tasks)."""
    array = np.asarray(scores, dtype=np.float64)
    table = array[:, None] if array.ndim == 1 else array
    if table.ndim != 2 or not table.size:
        raise ValueError(f"scores are (runs,) or (runs, tasks) and at least one, not of shape {array.shape}")
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite")
    return table


Tables = Sequence[Scores]
"""Scores (…, R) for each task."""
Aggregate = Callable[..., Scores]
"""From tables, of one learner or of several in turn, to values (…)."""


def normalise(returns: ArrayLike, random: float, expert: float) -> Scores:
    """(return − random) / (expert − random). Errors: :class:`ValueError` when both references are the same."""
    if random == expert:
        raise ValueError("the random and the expert return are the same, so there is no score")
    return (np.asarray(returns, np.float64) - random) / (expert - random)


def iqm(tables: Tables) -> Scores:
    """The interquartile mean of all scores of all tasks together."""
    return np.asarray(interquartile_mean(np.concatenate(tables, -1), axis=-1))


def median(tables: Tables) -> Scores:
    """The median over tasks of the mean over runs, as Atari scores are aggregated; of one task, its mean."""
    return np.asarray(np.median(np.stack([table.mean(-1) for table in tables]), axis=0))


def optimality_gap(tables: Tables, target: float = 1.0) -> Scores:
    """By how much the scores miss ``target``, those above it counted as it: lower is better."""
    return target - np.minimum(np.concatenate(tables, -1), target).mean(-1)


def profile(tables: Tables, thresholds: Scores) -> Scores:
    """The share of all runs whose score is above each threshold (…, thresholds), which is a performance profile."""
    return (np.concatenate(tables, -1)[..., None, :] > thresholds[:, None]).mean(-1)


def probability_of_improvement(first: Tables, second: Tables) -> Scores:
    """How often a run of the first beats a run of the second on the same task, ties counted half, the mean over tasks.

    It is the Mann-Whitney statistic over the number of pairs.
    """
    per_task = [
        (a[..., :, None] > b[..., None, :]).mean((-1, -2)) + (a[..., :, None] == b[..., None, :]).mean((-1, -2)) / 2
        for a, b in zip(first, second, strict=True)
    ]
    return np.mean(per_task, axis=0)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and its interval: numbers, or arrays of the same shape. ``inf`` is a value beyond what was observed."""

    value: Any
    low: Any
    high: Any

    def excludes(self, value: float) -> bool:
        """Whether the interval lies on one side of ``value``."""
        return bool(self.low > value or self.high < value)


def estimate(
    aggregate: Aggregate,
    *learners: Tables,
    level: float = 0.95,
    repetitions: int = 2000,
    widen: bool = True,
    seed: int = 0,
) -> Estimate:
    """An aggregate of learners' scores with its stratified bootstrap interval: each task's runs are drawn apart.

    Percentile intervals of few runs are too narrow: of five normal scores those of the mean hold the truth in 84 %
    of cases instead of 95. So the percentiles are taken further out, where Student's quantile with R − 1 degrees of
    freedom and the factor √(R / (R − 1)) put them (Hesterberg 2015, arXiv 1411.5279, section 5.3: the expanded
    percentile interval), R being the smallest number of runs of any task; degrees of freedom add up over tasks.
    ``widen=False`` gives the plain percentiles, which are rliable's.
    Errors: :class:`ValueError` for a task without runs.
    """
    if any(not table.size for tables in learners for table in tables):
        raise ValueError("every task needs a run of every learner")
    generator = np.random.default_rng(seed)
    drawn = [[_resampled(table, repetitions, generator) for table in tables] for tables in learners]
    values = aggregate(*drawn)
    tail = (1 - level) / 2
    smallest = min(len(table) for tables in learners for table in tables)
    if widen and smallest > 1:
        freedom = min(sum(len(table) - 1 for table in tables) for tables in learners)
        further = math.sqrt(smallest / (smallest - 1)) * stats.t.ppf(tail, freedom)
        tail = float(stats.norm.cdf(further))
    low, high = np.quantile(values, [tail, 1 - tail], axis=0, method="linear")
    return Estimate(aggregate(*learners), low, high)


def _resampled(table: Scores, repetitions: int, generator: np.random.Generator) -> Scores:
    """Runs (R, …) drawn with replacement (repetitions, R, …)."""
    return table[generator.integers(len(table), size=(repetitions, len(table)))]


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> Estimate:
    """The mean difference of pairs (R,), the same seed under two learners, with its widened bootstrap interval.

    Errors: :class:`ValueError` for pairs of unequal length.
    """
    pairs = [_table(scores)[:, 0] for scores in (first, second)]
    if len(pairs[0]) != len(pairs[1]):
        raise ValueError(f"pairs need as many scores on either side, not {len(pairs[0])} and {len(pairs[1])}")

    def mean(tables: Tables) -> Scores:
        return tables[0].mean(-1)

    return estimate(mean, [pairs[0] - pairs[1]], level=level, repetitions=repetitions, seed=seed)
