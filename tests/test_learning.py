"""Does it learn? Compared with random actions and with behaviour cloning, by a permutation test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from understudy.imitation.evaluation import evaluate
from understudy.imitation.statistics import permutation_p_value
from understudy.imitation.training import Training
from understudy.robots import TaskBatch, find_task
from understudy.scripts.build import build, resolve_data
from understudy.scripts.record import main as record
from understudy.scripts.settings import compose


def trained(*options: str) -> Training:
    """A training of the suite's own presets, run to its end."""
    config, _ = compose(["device=cpu", "threads=1", *options])
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    resolve_data(values)
    training = build(values).training
    while training.steps < training.total:
        training.advance()
    return training


def returns(training: Training, episodes: int) -> np.ndarray:
    """Mean return of each run over episodes with common starts (R,)."""
    result = evaluate(training.act, training.task, len(training.seeds), episodes)
    return result.returns.mean(1)


def random_returns(name: str, episodes: int) -> np.ndarray:
    """Returns of uniform random actions."""
    tasks = TaskBatch(find_task(name), range(episodes))
    generator = np.random.default_rng(0)
    tasks.reset()
    total, running = np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        actions = generator.uniform(-1, 1, (episodes, tasks.spaces.action_size))
        result = tasks.step(actions, "evaluation", running)
        total += result.rewards
        running &= ~result.ended
    return total


@pytest.mark.parametrize("learner", ["bc", "bc_gaussian"])
def test_cloning_full_episodes_beats_random_actions(learner: str) -> None:
    training = trained(f"learner={learner}", "task=hopper", "runs=4", "steps=1500")
    assert permutation_p_value(returns(training, 5), random_returns("hopper", 20)) < 0.01


@pytest.mark.slow
def test_sac_swings_a_double_pendulum_up_to_ten_times_random() -> None:
    training = trained(
        "learner=sac", "task=inverted-double-pendulum", "runs=4", "steps=12000", "loop.random_steps=1000"
    )
    random = random_returns("inverted-double-pendulum", 20)
    assert permutation_p_value(returns(training, 10), 10 * random) < 0.01


@pytest.mark.slow
def test_hype_beats_cloning_and_random_actions_on_few_rows() -> None:
    few = ("task=hopper", "runs=4", "data.episodes=4", "data.every=20")
    hype = returns(trained("learner=hype", "steps=60000", *few), 20)
    cloned = returns(trained("learner=bc", *few), 20)
    assert permutation_p_value(hype, cloned) < 0.05
    assert permutation_p_value(hype, random_returns("hopper", 20)) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["mm", "bc_reg", "gail"])
def test_adversarial_learners_beat_random_actions(learner: str) -> None:
    training = trained(f"learner={learner}", "task=hopper", "runs=4", "steps=40000")
    assert permutation_p_value(returns(training, 10), random_returns("hopper", 20)) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("options", [("mixture=hybrid",), ("resets=expert",)], ids=str)
def test_score_matching_beats_random_actions(options: tuple[str, ...]) -> None:
    """From the few rows' states alone in its reward; with resets nothing at all sees an action."""
    few = ("task=hopper", "runs=4", "data.episodes=4", "data.every=20")
    training = trained("learner=smiling", "steps=40000", *options, *few)
    assert permutation_p_value(returns(training, 10), random_returns("hopper", 20)) < 0.01


@pytest.mark.slow
def test_a_diffusion_policy_passes_where_the_mean_of_its_demonstrations_does_not(tmp_path: Path) -> None:
    assert record(["expert", "task=slalom", "episodes=200", f"out={tmp_path / 'slalom.hdf5'}", "quiet=true"]) == 0
    common = ("task=slalom", f"data={tmp_path / 'slalom.hdf5'}", "runs=4", "steps=8000", "loop.chunk=8", "loop.acts=4")
    passed: list[np.ndarray] = []
    for learner in ("diffusion_policy", "bc_chunks"):
        training = trained(f"learner={learner}", *common)
        result = evaluate(training.controller(range(10_000_000, 10_000_050)), training.task, 4, 50)
        assert result.successes is not None
        passed.append(result.successes.mean(1))
    drawn, averaged = passed
    assert permutation_p_value(drawn, averaged) < 0.05
    assert drawn.mean() > 0.5


def test_no_demonstrations_are_hidden_in_the_tests() -> None:
    assert not list(Path(__file__).parent.rglob("*.hdf5"))


@pytest.mark.slow
def test_dagger_learns_from_its_expert_what_cloning_few_rows_does_not(tmp_path: Path) -> None:
    """The expert is a clone of all bundled rows; one episode in fifty rows is not enough to clone."""
    trained("learner=bc", "task=hopper", "runs=1", "steps=20000").policy(0, {}).save_pretrained(tmp_path / "expert")
    few = ("task=hopper", "runs=4", "data.episodes=1", "data.every=20")
    cloned = trained("learner=bc", *few, "steps=20000")
    asked = trained("learner=dagger", *few, "steps=20000", f"expert={tmp_path / 'expert'}")
    assert permutation_p_value(returns(asked, 5), returns(cloned, 5)) < 0.05
