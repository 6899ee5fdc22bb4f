"""A discriminator that teaches nothing is said to, once, and one that does is left alone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from conftest import HYBRID, SMALL, Make

from understudy.imitation.health import PATIENCE, DiscriminatorHealth
from understudy.imitation.rewards import ScoreConfig
from understudy.scripts.train import main


def row(entropy: float, accuracy: float, runs: int = 2) -> dict[str, list[float]]:
    return {
        "discriminator_entropy": [0.4] * (runs - 1) + [entropy],
        "accuracy_expert": [0.8] * (runs - 1) + [accuracy],
        "accuracy_learner": [0.8] * (runs - 1) + [accuracy],
    }


@pytest.mark.parametrize(
    ("entropy", "accuracy", "word"), [(0.001, 1.0, "certain"), (0.69, 0.5, "cannot tell"), (0.3, 0.95, "")]
)
def test_saturation_and_collapse_are_said_once(entropy: float, accuracy: float, word: str) -> None:
    health = DiscriminatorHealth(2)
    said = [health.check(row(entropy, accuracy)) for _ in range(4 * PATIENCE)]
    warnings = [sentence for step in said for sentence in step]
    assert len(warnings) == (1 if word else 0)
    if word:
        assert not any(said[: PATIENCE - 1])
        assert word in warnings[0]
        assert "run 1 " in warnings[0]
        assert "try" in warnings[0]


def unbounded(accuracy: float, slope: float) -> dict[str, list[float]]:
    return {"accuracy_expert": [accuracy], "accuracy_learner": [accuracy], "discriminator_slope": [slope]}


@pytest.mark.parametrize(
    ("accuracy", "slope", "word"), [(1.0, 0.001, "certain"), (0.5, 1.0, "cannot tell"), (1.0, 1.0, ""), (0.8, 0.3, "")]
)
def test_a_score_without_probabilities_has_a_health_too(accuracy: float, slope: float, word: str) -> None:
    health = DiscriminatorHealth(1)
    warnings = [sentence for _ in range(4 * PATIENCE) for sentence in health.check(unbounded(accuracy, slope))]
    assert len(warnings) == (1 if word else 0)
    assert all(word in sentence for sentence in warnings)


def test_score_matching_is_told_of_options_that_it_has() -> None:
    health, metrics = DiscriminatorHealth(1), {"accuracy_expert": [0.5], "accuracy_learner": [0.5]}
    (warning,) = (sentence for _ in range(4 * PATIENCE) for sentence in health.check(metrics))
    named = re.findall(r"reward\.(\w+)", warning)
    assert named
    assert set(named) <= {field.name for field in dataclasses.fields(ScoreConfig)}
    assert "penalty" not in warning


def test_each_run_is_named_when_its_turn_comes() -> None:
    health = DiscriminatorHealth(2)
    first = [w for _ in range(2 * PATIENCE) for w in health.check(row(0.001, 1.0))]
    both = {name: [values[1]] * 2 for name, values in row(0.001, 1.0).items()}
    second = [w for _ in range(2 * PATIENCE) for w in health.check(both)]
    assert ["run 1 " in w for w in first] == [True]
    assert ["run 0 " in w for w in second] == [True]
    together = [w for _ in range(2 * PATIENCE) for w in DiscriminatorHealth(2).check(both)]
    assert not together  # a watch of its own each time
    fresh = DiscriminatorHealth(2)
    assert ["runs 0 and 1 " in w for _ in range(2 * PATIENCE) for w in fresh.check(both)] == [True]


def test_a_bad_moment_is_no_diagnosis() -> None:
    health = DiscriminatorHealth(2)
    for _ in range(5):
        assert not any(health.check(row(0.001, 1.0)) for _ in range(PATIENCE - 1))
        assert not health.check(row(0.4, 0.8))


def test_learners_without_a_discriminator_have_no_opinion() -> None:
    assert DiscriminatorHealth(1).check({"critic_loss": [1.0]}) == []


def test_a_run_says_once_that_its_reward_learns_nothing(
    data_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = [option for option in (*SMALL, *HYBRID) if not option.startswith(("log_every=", "loop.update_every="))]
    dull = ["reward.learning_rate=1e-9", "loop.update_every=5", "log_every=5"]
    assert main(["learner=hype", *small, *dull, f"data={data_file}", f"directory={tmp_path / 'run'}"]) == 0
    (said,) = (record.getMessage() for record in caplog.records if "learned reward" in record.message)
    assert "the learned reward of runs 0 and 1 cannot tell expert from learner" in said
    assert "try a larger reward.learning_rate" in said


@pytest.mark.parametrize("learner", ["hype", "mm", "airl", "smiling"])
def test_learned_rewards_log_what_the_watch_needs(make: Make, learner: str) -> None:
    training = make(learner)
    metrics: dict[str, list[float]] = {}
    while training.steps < 200:
        metrics = {name: value.tolist() for name, value in training.advance().items()}
    assert {"accuracy_expert", "accuracy_learner", "reward_low", "reward_high"} <= metrics.keys()
    assert learner == "smiling" or "discriminator_slope" in metrics  # it has none, and no classifier
    assert DiscriminatorHealth(2).check(metrics) == []
    training.close()
