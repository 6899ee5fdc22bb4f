"""Statistics of few runs: interquartile means with bootstrap intervals (Agarwal et al. 2021, arXiv 2108.13264).

Scores are (R,) of R runs of one task, or (R, tasks).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
