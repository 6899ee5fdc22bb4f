"""Statistics against numbers computed by hand, by SciPy and by rliable."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from understudy.imitation.reaching import Reached, median_steps, steps_needed, steps_ratio
from understudy.imitation.statistics import (
    Aggregate,
    Tables,
    bootstrap_interval,
    estimate,
    interquartile_mean,
    iqm,
    median,
    normalise,
    optimality_gap,
    paired_difference,
    permutation_p_value,
    probability_of_improvement,
    profile,
    summary,
)

SCORES = np.array(
    [
        [0.13, 0.6, 6.28], [0.1, -0.61, 5.72], [1.3, 3.84, 3.59], [-1.27, -0.87, 5.08], [-2.33, 0.34, 2.51],
        [-0.73, -0.63, 4.37], [0.41, 4.13, 4.74], [1.37, -1.0, 5.7], [0.9, 1.28, 3.51], [-0.92, -0.37, 5.44],
    ]
)  # fmt: skip

# From rliable 1.2.0 with arch 7.2.0, where s is SCORES or its first column:
#   np.random.seed(0); rliable.metrics.aggregate_iqm(s)
#   rliable.library.get_interval_estimates({"x": s}, rliable.metrics.aggregate_iqm, reps=100_000)
RLIABLE = {
    "three tasks": (SCORES, 1.439375, (0.7475, 2.20625)),
    "one task": (SCORES[:, 0], -0.01833333333333333, (-0.89666667, 0.79166667)),
}


@pytest.mark.parametrize("case", RLIABLE)
def test_iqm_and_interval_are_those_of_rliable(case: str) -> None:
    scores, iqm, interval = RLIABLE[case]
    assert interquartile_mean(scores) == pytest.approx(iqm, rel=1e-12)
    assert bootstrap_interval(scores, repetitions=50_000) == pytest.approx(interval, abs=0.02)


def test_the_interval_takes_another_statistic_and_level() -> None:
    # rliable as above with aggregate_mean: [1.26733, 2.264].
    assert bootstrap_interval(SCORES, np.mean, repetitions=50_000) == pytest.approx((1.26733, 2.264), abs=0.02)
    wide, narrow = bootstrap_interval(SCORES), bootstrap_interval(SCORES, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_iqm_by_hand() -> None:
    assert interquartile_mean([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert interquartile_mean([7.0, 1.0, 4.0]) == 4.0  # a quarter of three is rounded down to none
    assert interquartile_mean([9.0, 1.0, 2.0, 3.0, 4.0]) == 3.0
    assert interquartile_mean([[0.0, 2.0], [1.0, 3.0], [-9.0, 9.0]], axis=1).tolist() == [1.0, 2.0, 0.0]


def test_tasks_are_strata() -> None:
    # Equal runs within each task: whatever runs are drawn, the mean stays.
    low, high = bootstrap_interval(np.array([[0.0, 10.0], [0.0, 10.0], [0.0, 10.0]]), np.mean)
    assert low == high == 5.0


def test_the_interval_is_reproducible_and_covers() -> None:
    assert bootstrap_interval(SCORES, seed=1) == bootstrap_interval(SCORES, seed=1)
    assert bootstrap_interval(SCORES, seed=1) != bootstrap_interval(SCORES, seed=2)
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.normal(size=20), np.mean, repetitions=500, seed=trial)
        covered += low <= 0 <= high
    assert 0.87 < covered / 200 <= 0.99


def test_permutations_by_hand() -> None:
    # All of the first above all of the second: 1 of the C(6, 3) = 20 ways, twice that counting both tails.
    assert permutation_p_value([4, 5, 6], [1, 2, 3]) == pytest.approx(1 / 20)
    assert permutation_p_value([4, 5, 6], [1, 2, 3], alternative="two-sided") == pytest.approx(2 / 20)
    assert permutation_p_value([1, 2, 3], [4, 5, 6]) == pytest.approx(1.0)
    # Every pair agrees: 1 of the 2^5 ways to swap.
    assert permutation_p_value([2, 4, 6, 8, 9], [1, 3, 5, 7, 0], paired=True) == pytest.approx(1 / 32)
    # Three of four pairs with a difference of 1, one with -1: 5 of 16 ways are as large.
    assert permutation_p_value([1, 1, 1, 0], [0, 0, 0, 1], paired=True) == pytest.approx(5 / 16)


def test_random_permutations_agree_with_the_t_test() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.6, 1, 30), generator.normal(0, 1, 30)
    expected = stats.ttest_ind(first, second, alternative="greater").pvalue
    assert permutation_p_value(first, second) == pytest.approx(expected, abs=0.01)
    assert permutation_p_value(first, second, seed=4) == permutation_p_value(first, second, seed=4)


def test_summary_is_json() -> None:
    result = summary([0.123456789, 0.5, 1234.56789, 0.4])
    assert result.iqm == pytest.approx(0.45)
    assert result.low <= result.iqm <= result.high
    assert json.loads(json.dumps(result.to_json()))["runs"] == [0.12346, 0.5, 1234.6, 0.4]
    assert set(result.to_json()) == {"iqm", "low", "high", "runs"}


def test_summary_of_one_run_and_of_several_tasks() -> None:
    one = summary([3.0])
    assert (one.low, one.iqm, one.high, one.runs) == (3.0, 3.0, 3.0, (3.0,))
    assert summary(SCORES).runs == pytest.approx(SCORES.mean(1).tolist())


@pytest.mark.parametrize("scores", [[], [np.nan, 1.0], [np.inf], np.zeros((2, 2, 2)), 1.0])
def test_bad_scores_are_refused(scores: object) -> None:
    with pytest.raises(ValueError, match="scores"):
        summary(scores)  # pyright: ignore[reportArgumentType]


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        permutation_p_value([1, 2, 3], [1, 2], paired=True)


# From rliable 1.2.0 as above, with s as SCORES and o = s[::-1, [1, 0, 2]][:7]; intervals by 20 000 (the last 5000)
# repetitions: aggregate_iqm, aggregate_median, aggregate_optimality_gap, probability_of_improvement(s, o).
TABLES = list(SCORES.T)
OTHER = list(SCORES[::-1, [1, 0, 2]][:7].T)
AGGREGATES: dict[str, tuple[Aggregate, float, tuple[float, float]]] = {
    "iqm": (iqm, 1.439375, (0.7475, 2.20625)),
    "median": (median, 0.671, (-0.164, 1.854075)),
    "optimality gap": (optimality_gap, 0.7083333333333333, (0.445325, 0.98466667)),
    "probability of improvement": (probability_of_improvement, 0.5690476190476191, (0.40714286, 0.73095238)),
}


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_over_tasks_are_those_of_rliable(name: str) -> None:
    aggregate, value, interval = AGGREGATES[name]
    learners = (TABLES, OTHER) if name.startswith("probability") else (TABLES,)
    found = estimate(aggregate, *learners, repetitions=20_000, widen=False)
    assert found.value == pytest.approx(value, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(interval, abs=0.03)


def test_profiles_are_those_of_rliable() -> None:
    # rliable.library.score_distributions(SCORES, [-1, 0, 0.6, 4])
    assert profile(TABLES, np.array([-1.0, 0.0, 0.6, 4.0])) == pytest.approx([0.9, 0.7, 8 / 15, 4 / 15])


def test_scores_are_between_random_and_expert() -> None:
    assert normalise([10.0, 55.0, 100.0, 118.0], 10, 100).tolist() == [0.0, 0.5, 1.0, 1.2]
    with pytest.raises(ValueError, match="the same"):
        normalise([1.0], 5, 5)


def test_tasks_may_have_different_numbers_of_runs() -> None:
    tables = [np.array([1.0, 2.0, 3.0]), np.array([10.0])]
    assert float(median(tables)) == 6.0
    assert estimate(median, tables).low >= 5.5, "the one run of the second task is in every sample"


def test_ties_are_half_an_improvement() -> None:
    assert probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 3.0])]) == pytest.approx(0.375)


def test_pairs_by_seed_are_narrower_than_groups() -> None:
    luck = np.array([0.0, 5.0, -4.0, 2.0, 9.0])
    better = luck + np.array([1.0, 1.2, 0.8, 1.1, 0.9])
    found = paired_difference(better, luck)
    assert found.value == pytest.approx(1.0)
    assert 0.5 < found.low < found.high < 1.5


def coverage(aggregate: Aggregate, runs: int, tasks: int, trials: int) -> float:
    """How often the 95 % interval of standard normal scores, of mean and median 0, holds 0."""
    generator = np.random.default_rng(5)
    held = 0
    for trial in range(trials):
        found = estimate(aggregate, [generator.normal(size=runs) for _ in range(tasks)], repetitions=500, seed=trial)
        held += found.low <= 0 <= found.high
    return held / trials


def test_intervals_of_few_runs_cover() -> None:
    assert coverage(iqm, 5, 1, 150) > 0.88


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "tasks"), [(5, 1), (10, 1), (5, 4)])
@pytest.mark.parametrize("aggregate", [iqm, median])
def test_intervals_cover_at_their_rate(aggregate: Aggregate, runs: int, tasks: int) -> None:
    """Figures in docs/results/README.md."""
    found = coverage(aggregate, runs, tasks, 2000)
    print(f"coverage {aggregate.__name__} runs={runs} tasks={tasks}: {found:.3f}")
    assert 0.9 < found < 0.99


STEPS, SEEN = np.array([30.0, 10.0, 20.0, 20.0, 50.0, 40.0]), np.array([True, True, False, True, False, True])


def test_the_median_of_censored_steps_is_kaplan_and_meiers() -> None:
    survival = stats.ecdf(stats.CensoredData(STEPS[SEEN], right=STEPS[~SEEN])).sf
    expected = survival.quantiles[np.argmax(survival.probabilities <= 0.5)]
    assert median_steps(STEPS, SEEN) == expected == 30
    assert median_steps(np.stack([STEPS, STEPS * 2]), np.stack([SEEN, SEEN])).tolist() == [30, 60]
    assert median_steps(STEPS, np.zeros(6, bool)) == np.inf


def test_steps_are_those_of_the_first_evaluation_that_gets_there() -> None:
    taken = [[100, 110], [200, 220], [300, 330]]
    reached = Reached.of(taken, [[0.2, 0.1], [0.95, 0.3], [0.7, 0.4]], 0.9)
    assert reached.steps.tolist() == [200, 330]
    assert reached.yes.tolist() == [True, False]


def test_the_ratio_of_steps_knows_what_was_not_seen() -> None:
    fast = Reached(np.array([10.0, 11.0, 12.0, 10.5, 11.5]), np.ones(5, bool))
    slow = Reached(fast.steps * 3, np.ones(5, bool))
    never = Reached(np.full(5, 100.0), np.zeros(5, bool))
    found = steps_ratio(fast, slow)
    assert found is not None
    assert found.value == pytest.approx(3.0)
    assert 2.4 < found.low < 3 < found.high < 3.7
    beyond = steps_ratio(fast, never)
    assert beyond is not None
    assert beyond.value == beyond.low == np.inf
    assert steps_ratio(never, never) is None
    assert steps_needed(never).value == np.inf
    assert steps_needed(fast).low >= 10


def test_an_estimate_needs_runs() -> None:
    empty: Tables = [np.array([])]
    with pytest.raises(ValueError, match="needs a run"):
        estimate(iqm, empty)
