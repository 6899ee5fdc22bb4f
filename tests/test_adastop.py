"""AdaStop against the package of its authors, and against what it promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from understudy.imitation.adastop import AdaStop, AdaStopConfig, replay

# From adastop 0.1.3: MultipleAgentsComparator(n=n, K=K, B=10000, alpha=alpha), `partial_compare` after each group until
# `is_finished`; the scores are numpy.random.default_rng(seed).normal(i * shift, 1, n * K) of learner i, to 3 digits.
# (n, K, alpha, shift, seed, learners): upper ends of `boundary`, and the pairs that are not "smaller" but "equal".
ADASTOP = {
    (5, 1, 0.1, 1.2, 0, "ab"): ([0.8394], ()),
    (3, 3, 0.1, 0.8, 1, "abc"): ([0.7596666666666667, 1.0506666666666664, 1.3953333333333333], ()),
    (2, 5, 0.2, 1.0, 2, "abcd"): ([3.652, 1.5585], ()),
    (3, 3, 0.1, 0.6, 3, "abcd"): ([2.8936666666666664, 2.8826666666666663, 1.8399999999999999], (("c", "d"),)),
}


class OneSided(AdaStop):
    """With the thresholds of adastop 0.1.3, which are of signed differences though its test is of absolute ones."""

    @staticmethod
    def _largest(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return sums.max(axis=1)


@pytest.mark.parametrize("case", ADASTOP, ids=str)
def test_values_are_those_of_the_authors_package(case: tuple[int, int, float, float, int, str]) -> None:
    group, stages, level, shift, seed, names = case
    generator = np.random.default_rng(seed)
    scores = {a: np.round(generator.normal(i * shift, 1, group * stages), 3) for i, a in enumerate(names)}
    test = OneSided(AdaStopConfig(group, stages, level), names)
    while not test.finished:
        test.look(scores)
    boundaries, equal = ADASTOP[case]
    assert [stage.reject_above for stage in test.stages] == pytest.approx(boundaries, rel=1e-9)
    assert {pair for pair, decision in test.decisions.items() if decision != "smaller"} == set(equal)


def test_one_pair_at_a_level_is_the_authors_at_half_of_it() -> None:
    # Two-sided thresholds of one pair are signed ones of half the level, as every difference has its mirror image.
    scores = {"a": [0.126, -0.132, 0.64, 0.105, -0.536], "b": [1.562, 2.504, 2.147, 0.496, -0.065]}
    both = [kind(AdaStopConfig(5, 1, level), "ab") for kind, level in ((AdaStop, 0.2), (OneSided, 0.1))]
    for test in both:
        test.look(scores)
    assert both[0].stages == both[1].stages


def test_the_threshold_of_one_group_by_hand() -> None:
    # Two runs against two: six ways, differences ±4, ±2 and ±1 (twice each way); at a level of 1/3 only the largest
    # pair of them is beyond the threshold, which is the next smaller difference.
    test = AdaStop(AdaStopConfig(group=2, stages=1, level=1 / 3), "ab")
    test.look({"a": [6.0, 5.0], "b": [3.0, 0.0]})
    differences = sorted(
        abs(sum(chosen) / 2 - (14 - sum(chosen)) / 2) for chosen in itertools.combinations((6, 5, 3, 0), 2)
    )
    assert differences == [1, 1, 2, 2, 4, 4]
    assert test.stages[0].reject_above == 2
    assert test.decisions == {("a", "b"): "larger"}


def rates(trials: int, learners: str, gap: float, config: AdaStopConfig) -> tuple[float, float]:
    """The share of comparisons with a pair said to differ, and the mean number of runs of each learner."""
    generator = np.random.default_rng(11)
    differs, runs = 0, list[float]()
    for _ in range(trials):
        scores = {
            name: generator.normal(index * gap, 1, config.group * config.stages) for index, name in enumerate(learners)
        }
        test = replay(config, scores)
        differs += bool({"larger", "smaller"} & set(test.decisions.values()))
        runs.append(config.group * len(test.stages))
    return differs / trials, float(np.mean(runs))


def test_identical_learners_are_seldom_told_apart() -> None:
    rate, _ = rates(500, "ab", 0.0, AdaStopConfig(group=3, stages=3, level=0.05))
    assert rate <= 0.05 + 2 * (0.05 * 0.95 / 500) ** 0.5


def test_a_real_gap_is_found_early() -> None:
    rate, runs = rates(40, "ab", 2.0, AdaStopConfig())
    assert rate == 1
    assert runs < 15, "of 25 at most"


@pytest.mark.slow
@pytest.mark.parametrize(("learners", "group", "stages"), [("ab", 5, 1), ("ab", 5, 5), ("abc", 3, 3), ("abcd", 5, 5)])
def test_the_error_of_a_family_stays_under_its_level(learners: str, group: int, stages: int) -> None:
    """Figures in docs/results/README.md."""
    trials = 2000
    rate, _ = rates(trials, learners, 0.0, AdaStopConfig(group, stages))
    print(f"family-wise error {learners} n={group} K={stages}: {rate:.4f}")
    assert rate <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_a_decided_learner_needs_no_more_runs() -> None:
    generator = np.random.default_rng(0)
    scores = {"a": generator.normal(0, 1, 25), "b": generator.normal(0, 1, 25), "far": generator.normal(30, 1, 25)}
    test = AdaStop(AdaStopConfig(), list(scores))
    test.look({name: values[:5] for name, values in scores.items()})
    assert test.wanted() == ["a", "b"]
    test.look({name: scores[name][:10] for name in "ab"})
    assert test.decisions["a", "far"] == test.decisions["b", "far"] == "smaller"


def test_the_same_scores_give_the_same_decisions() -> None:
    scores = {name: np.random.default_rng(i).normal(i / 2, 1, 25) for i, name in enumerate("abc")}
    one, two = (replay(AdaStopConfig(), scores) for _ in range(2))
    assert one.stages == two.stages
    assert one.decisions == two.decisions


def test_missing_runs_are_asked_for() -> None:
    test = AdaStop(AdaStopConfig(), "ab")
    with pytest.raises(ValueError, match="stage 1 needs 5 runs of b"):
        test.look({"a": [1.0] * 5, "b": [1.0] * 4})
    finished = replay(AdaStopConfig(group=3, stages=1), {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="finished"):
        finished.look({})
