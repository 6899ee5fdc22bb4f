"""How many steps a learner needs to reach a score, when some of its runs never do within their steps.

A run that has not reached the score by its last evaluation is censored: it needs more steps than it took, nobody knows
how many. Medians are Kaplan and Meier's (1958), which use such runs for what they say.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statistics import Estimate


@dataclasses.dataclass(frozen=True)
class Reached:
    """For R runs: the ``steps`` (R,) after which they reached a score, or those that they took in vain; ``yes`` (R,)
    says which it is."""

    steps: NDArray[np.float64]
    yes: NDArray[np.bool_]

    @classmethod
    def of(cls, steps: ArrayLike, scores: ArrayLike, threshold: float) -> Reached:
        """From evaluations (points, R): the steps until each, and its scores. The first that is high enough counts."""
        taken, above = np.asarray(steps, np.float64), np.asarray(scores, np.float64) >= threshold
        yes = np.asarray(above.any(0), np.bool_)
        first = np.take_along_axis(taken, above.argmax(0)[None], 0)[0]
        return cls(np.where(yes, first, taken[-1]), yes)

    @classmethod
    def joined(cls, parts: list[Reached]) -> Reached:
        """Several sets of runs as one."""
        return cls(np.concatenate([p.steps for p in parts]), np.concatenate([p.yes for p in parts]))


def median_steps(steps: NDArray[np.float64], reached: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest number of steps by which at least half the runs are there (Kaplan-Meier), of runs (…, R).

    It is ``inf`` where half of them are never observed to be.
    """
    # Where a run reached it at the step at which another gave up, the second was still at risk: the first comes first.
    order = np.lexsort((~reached, steps), axis=-1)
    steps, reached = np.take_along_axis(steps, order, -1), np.take_along_axis(reached, order, -1)
    at_risk = steps.shape[-1] - np.arange(steps.shape[-1])
    remaining = np.cumprod(1 - reached / at_risk, axis=-1)
    half = (remaining <= 0.5 + 1e-12) & reached
    found = np.take_along_axis(steps, half.argmax(-1)[..., None], -1)[..., 0]
    return np.where(half.any(-1), found, np.inf)


def steps_needed(reached: Reached, *, level: float = 0.95, repetitions: int = 2000, seed: int = 0) -> Estimate:
    """The median of the steps needed with its bootstrap interval, whose ends may be ``inf``."""
    drawn = _drawn_medians(reached, repetitions, np.random.default_rng(seed))
    return Estimate(float(median_steps(reached.steps, reached.yes)), *_ends(drawn, level))


def steps_ratio(
    first: Reached, second: Reached, *, level: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> Estimate | None:
    """How many times as many steps ``second`` needs as ``first`` in the median, with its bootstrap interval.

    An end is ``inf`` where the second was not observed to get there, and 0 where the first was not. None when neither
    median was observed: then there is nothing to compare.
    """
    one, two = (median_steps(reached.steps, reached.yes) for reached in (first, second))
    if np.isinf(one) and np.isinf(two):
        return None
    generator = np.random.default_rng(seed)
    below, above = (_drawn_medians(reached, repetitions, generator) for reached in (first, second))
    known = ~(np.isinf(below) & np.isinf(above))
    return Estimate(float(two / one), *_ends(above[known] / below[known], level))


def _drawn_medians(reached: Reached, repetitions: int, generator: np.random.Generator) -> NDArray[np.float64]:
    indices = generator.integers(len(reached.steps), size=(repetitions, len(reached.steps)))
    return median_steps(reached.steps[indices], reached.yes[indices])


def _ends(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Percentiles at the nearest ranks: between a number and ``inf`` nothing can be interpolated."""
    ranks = np.array([(1 - level) / 2, (1 + level) / 2]) * (len(values) - 1)
    low, high = np.sort(values)[np.rint(ranks).astype(int)]
    return float(low), float(high)
