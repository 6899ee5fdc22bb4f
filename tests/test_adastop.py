"""AdaStop against the package of its authors, and against what it promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from understudy.imitation import adastop
from understudy.imitation.adastop import AdaStop, AdaStopConfig, can_decide, replay

# From adastop 0.1.3: MultipleAgentsComparator(n=n, K=K, B=10000, alpha=alpha), `partial_compare` after each group until
# `is_finished`; the scores are numpy.random.default_rng(seed).normal(i * shift, 1, n * K) of learner i, to 3 digits.
# Its thresholds are of signed differences: ours at twice its alpha are the same, as each has its mirror image.
# (n, K, alpha, shift, seed): upper ends of `boundary`, and the decision.
ADASTOP: dict[tuple[int, int, float, float, int], tuple[list[float], str]] = {
    (5, 1, 0.1, 1.2, 0): ([0.8394], "smaller"),
    (3, 3, 0.05, 0.9, 1): ([0.6903333333333332, 1.2313333333333334, 1.71], "smaller"),
    (2, 5, 0.2, 0.8, 2): ([1.3005, 2.546], "smaller"),
    (3, 3, 0.1, 0.3, 3): ([2.7936666666666663, 2.681333333333333, 2.839], "undecided"),
}


@pytest.mark.parametrize("case", ADASTOP, ids=str)
def test_values_of_a_pair_are_those_of_the_authors_package(case: tuple[int, int, float, float, int]) -> None:
    group, stages, alpha, shift, seed = case
    generator = np.random.default_rng(seed)
    scores = {a: np.round(generator.normal(i * shift, 1, group * stages), 3) for i, a in enumerate("ab")}
    test = AdaStop(AdaStopConfig(group, stages, 2 * alpha), "ab")
    ((family,),) = [block.families for block in test._blocks]  # pyright: ignore[reportPrivateUsage]
    while not test.finished:
        test.look(scores)
    boundaries, decision = ADASTOP[case]
    assert family.thresholds == pytest.approx(boundaries, rel=1e-9)
    assert test.decisions == {("a", "b"): decision}


def test_the_threshold_of_one_group_by_hand() -> None:
    # Two runs against two: six ways, differences ±4, ±2 and ±1 (twice each way); at a level of 1/3 only the largest
    # pair of them is beyond the threshold, which is the next smaller difference.
    test = AdaStop(AdaStopConfig(group=2, stages=1, level=1 / 3), "ab")
    ((family,),) = [block.families for block in test._blocks]  # pyright: ignore[reportPrivateUsage]
    test.look({"a": [6.0, 5.0], "b": [3.0, 0.0]})
    differences = sorted(
        abs(sum(chosen) / 2 - (14 - sum(chosen)) / 2) for chosen in itertools.combinations((6, 5, 3, 0), 2)
    )
    assert differences == [1, 1, 2, 2, 4, 4]
    assert family.thresholds == [2]
    assert test.decisions == {("a", "b"): "larger"}


def rates(trials: int, learners: str, gap: float, config: AdaStopConfig) -> tuple[float, float]:
    """The share of comparisons with a pair said to differ, and the mean number of stages' runs."""
    generator = np.random.default_rng(11)
    differs, runs = 0, list[float]()
    for _ in range(trials):
        scores = {
            name: generator.normal(index * gap, 1, config.group * config.stages) for index, name in enumerate(learners)
        }
        test = replay(config, scores)
        differs += bool({"larger", "smaller"} & set(test.decisions.values()))
        runs.append(config.group * test.stages)
    return differs / trials, float(np.mean(runs))


def test_identical_learners_are_seldom_told_apart() -> None:
    rate, _ = rates(500, "ab", 0.0, AdaStopConfig(group=3, stages=3, level=0.05))
    assert rate <= 0.05 + 2 * (0.05 * 0.95 / 500) ** 0.5


def test_a_real_gap_is_found_early() -> None:
    rate, runs = rates(40, "ab", 2.0, AdaStopConfig())
    assert rate == 1
    assert runs < 15, "of 25 at most"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learners", "group", "stages", "trials"),
    [
        ("ab", 5, 1, 4000),
        ("ab", 5, 5, 2000),
        ("abc", 3, 3, 1000),
        ("abcd", 5, 5, 500),
        ("abcdef", 5, 1, 500),
        ("abcdefghijklmn", 7, 1, 500),
    ],
)
def test_the_error_of_a_family_stays_under_its_level(learners: str, group: int, stages: int, trials: int) -> None:
    """Figures in docs/results/README.md."""
    rate, _ = rates(trials, learners, 0.0, AdaStopConfig(group, stages, permutations=2000))
    print(f"family-wise error {learners} n={group} K={stages}: {rate:.4f}")
    assert rate <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_equal_learners_beside_far_ones_are_seldom_told_apart() -> None:
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(150):
        scores = {name: generator.normal(gap, 1, 5) for name, gap in zip("abcd", (0, 0, 8, 8), strict=True)}
        decisions = replay(AdaStopConfig(5, 1, permutations=1000), scores).decisions
        assert all(decisions[a, b] == "smaller" for a in "ab" for b in "cd"), "the far ones always are"
        wrong += not decisions["a", "b"] == decisions["c", "d"] == "undecided"
    assert wrong <= 150 * (0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5)


def test_many_learners_are_told_apart_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adastop, "TOGETHER", 4)
    generator = np.random.default_rng(4)
    names = list("abcdef")
    far = {name: generator.normal(8 * k, 1, 8) for k, name in enumerate(names)}
    test = replay(AdaStopConfig(8, 1), far)
    assert set(test.decisions) == set(itertools.combinations(names, 2))
    assert set(test.decisions.values()) == {"smaller"}
    # Two of them are alike: in stages, only they are asked for more, and those that are tested together with them.
    near = {name: generator.normal(50 * max(k, 1), 1, 18) for k, name in enumerate(names)}
    test = AdaStop(AdaStopConfig(6, 3), names)
    test.look(near)
    assert [pair for pair, found in test.decisions.items() if found == "undecided"] == [("a", "b")]
    assert test.wanted() == ["a", "b"]
    test.look({name: near[name][:12] for name in "ab"})
    assert test.decisions["a", "b"] == "undecided"


def test_few_runs_of_many_learners_decide_nothing() -> None:
    """Five runs against five differ at best with p = 2/252, and a pair's part of the level shrinks with learners."""
    assert can_decide(AdaStopConfig(5, 1), 12)
    assert not can_decide(AdaStopConfig(5, 1), 13)
    assert can_decide(AdaStopConfig(5, 2), 13) and can_decide(AdaStopConfig(7, 1), 13)
    assert not can_decide(AdaStopConfig(3, 1), 2) and can_decide(AdaStopConfig(4, 1), 2)


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
