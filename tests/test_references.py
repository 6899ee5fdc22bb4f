"""The reference presets do what released code does: its rounds, its values, and not its bugs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import Make, run_to
from omegaconf import OmegaConf

from understudy.imitation.agents import SAC
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.replay import Batch
from understudy.imitation.rounds import RoundsTraining
from understudy.scripts.settings import compose


def test_the_released_rounds_skip_one_chunk_and_end_at_rate_zero(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("hype_reference", "loop.random_steps=10")
    rates: list[float] = []
    updates: list[int] = []
    monkeypatch.setattr(training.agent, "set_learning_rate", rates.append)  # pyright: ignore
    while training.steps < 200:
        training.advance()
        updates.append(training.updates)  # pyright: ignore
    assert np.diff([0, *updates]).tolist() == [0, 20, 20, 20, 20] * 2
    rate = training.agent.config.learning_rate  # pyright: ignore
    assert rates == pytest.approx([rate * left for left in (0.6, 0.4, 0.2, 0.0)] * 2)


def test_a_released_round_ends_with_one_step_on_fresh_rollouts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh optimiser at the falling rate, four new episodes a run, one step on these alone (algorithms.md 2)."""
    training = make("mm_reference")
    assert isinstance(training, RoundsTraining)
    events: list[tuple[str, Any]] = []
    start, update, roll = training.reward.start_round, training.reward.update, training._roll_out  # pyright: ignore

    def rolled(finished: int) -> list[torch.Tensor]:
        events.append(("rolled", roll(finished)))
        return events[-1][1]

    def started(finished: int) -> None:
        events.append(("started", finished))
        start(finished)

    def updated(expert: Batch, learner: Batch, *others: Any) -> Any:
        events.append(("updated", learner))
        return update(expert, learner, *others)

    for owner, name, spy in ((training, "_roll_out", rolled), (training.reward, "start_round", started)):
        monkeypatch.setattr(owner, name, spy)
    monkeypatch.setattr(training.reward, "update", updated)
    run_to(training, 200)
    assert [name for name, _ in events] == ["started", "rolled", "updated"] * 2
    assert [value for name, value in events if name == "started"] == [0, 1]
    batches = [value for name, value in events if name == "updated"]
    rollouts = [value for name, value in events if name == "rolled"]
    for batch, rows in zip(batches, rollouts, strict=True):
        for run in range(2):
            episodes = training.layout.batch(rows[run])
            assert int(episodes.terminated.sum()) == training.config.rollouts == 4
            known = {tuple(row) for row in episodes.observations.tolist()}
            assert all(tuple(row) in known for row in batch.observations[run].tolist())
    assert sum(len(rows[0]) for rows in rollouts) == training.step_counts()["reward"][0]


@pytest.mark.parametrize(("learner", "share"), [("hype_reference", True), ("mm_reference", False)])
def test_the_reference_presets_have_the_released_values(learner: str, share: bool) -> None:
    """Of reference/algorithms.md section 2: a changed default or a slip in a file would change them unseen."""
    config, _ = compose([f"learner={learner}", "task=hopper"])
    found = {name: OmegaConf.select(config, name) for name in _RELEASED}
    assert found == _RELEASED
    assert (config.mixture.kind == "hybrid") == share


_RELEASED = {
    "precision": "float32",
    "normalise": False,
    "steps": 1_000_000,
    "loop.kind": "rounds",
    "loop.bootstrap_timeouts": False,
    "loop.round_steps": 5_000,
    "loop.rollouts": 4,
    "loop.update_every": 64,
    "loop.random_steps": 100,
    "loop.updates_per_step": 1.0,
    "loop.batch_size": 256,
    "loop.select_by": "none",
    "agent.kind": "sac",
    "agent.learning_rate": 7.3e-4,
    "agent.discount": 0.98,
    "agent.target_rate": 0.02,
    "agent.optimiser": "oadam",
    "agent.layer_norm": False,
    "reward.kind": "wasserstein",
    "reward.learning_rate": 8.0e-4,
    "reward.optimiser": "oadam",
    "reward.initialisation": "orthogonal",
    "reward.penalty_weight": 10.0,
    "reward.penalty_target": 0.4,
    "reward.batch_size": 4096,
    "reward.absorbing": False,
}


_OTHERS_RELEASED: dict[str, dict[str, Any]] = {  # reference/algorithms.md 3.8 and 3.10 to 3.15
    "hyper_reference": {
        "world.members": 7, "world.elites": 5, "world.hidden": [400] * 4, "world.weight_decay": 5e-5,
        "world.learning_rate": 3e-4, "world.patience": 10, "world.fit_every": 125, "world.batch_size": 256,
        "agent.hidden": [512, 512], "agent.learning_rate": 3e-4, "agent.discount": 0.99, "agent.target_entropy": 1.0,
        "loop.updates_per_step": 30, "loop.batch_size": 256, "reward.members": 7, "reward.optimiser": "oadam",
        "reward.penalty_target": 0.4, "steps": 150_000,
    },
    "dac_reference": {
        "agent.kind": "td3", "agent.hidden": [400, 300], "agent.learning_rate": 1e-3, "agent.policy_delay": 2,
        "agent.target_noise": 0.2, "agent.target_clip": 0.5, "agent.exploration_noise": 0.1, "agent.discount": 0.99,
        "agent.target_rate": 0.005, "loop.batch_size": 100, "loop.random_steps": 1000, "loop.updates_per_step": 1,
        "reward.form": "logit", "reward.inputs": "state-action", "reward.hidden": [256, 256],
        "reward.activation": "tanh", "reward.learning_rate": 1e-3, "reward.penalty_weight": 10.0,
        "reward.penalty_target": 1.0, "reward.absorbing": True, "reward.update_every": 1, "steps": 1_000_000,
    },
    "smiling_reference": {
        "agent.hidden": [1024, 1024], "agent.learning_rate": 1e-4, "agent.initial_entropy_coefficient": 0.1,
        "agent.target_rate": 0.0025, "agent.discount": 0.99, "loop.random_steps": 5000, "loop.batch_size": 1024,
        "loop.updates_per_step": 1, "reward.times": 5000, "reward.last_time": 5000, "reward.levels": 500,
        "reward.grid": True, "reward.tiled": True, "reward.hidden": [256], "reward.activation": "leaky_relu",
        "reward.learning_rate": 5e-3, "reward.expert_anneal": False, "reward.expert_updates": 20_000,
        "reward.weight_decay": 1e-2, "reward.batch_size": 1024, "reward.recent_rows": 200_000,
        "reward.standardise": "batch", "reward.scale": 0.1, "reward.normalise": False, "reward.absorbing": False,
        "normalise": False,
    },
    "diffail_reference": {
        "reward.kind": "diffusion", "reward.inputs": "state-action", "reward.times": 10, "reward.learning_rate": 3e-5,
        "reward.hidden": [256] * 3, "reward.batch_size": 256, "reward.update_every": 1, "reward.penalty_weight": 0,
        "reward.form": "softplus", "reward.scale": 2.0, "reward.absorbing": False, "agent.hidden": [256, 256],
        "agent.learning_rate": 3e-4, "agent.target_rate": 0.005, "agent.discount": 0.99, "agent.target_entropy": -1.5,
        "loop.random_steps": 5000, "loop.update_every": 1000, "loop.updates_per_step": 1, "loop.batch_size": 256,
        "normalise": True, "steps": 750_000,
    },
    "gail_reference": {
        "agent.kind": "ppo", "agent.learning_rate": 4.4e-5, "agent.discount": 0.995, "agent.gae_lambda": 0.98,
        "agent.clip_range": 0.1, "agent.epochs": 20, "agent.batch_size": 512, "loop.round_steps": 4096,
        "agent.value_weight": 0.203, "agent.gradient_limit": 0.9, "agent.entropy_weight": 1.26e-3,
        "reward.form": "softplus", "reward.hidden": [32, 32], "reward.learning_rate": 1e-3, "reward.batch_size": 128,
        "reward.penalty_weight": 0, "reward.absorbing": False, "steps": 10_000_000,
    },
    "airl_reference": {
        "agent.kind": "ppo", "agent.learning_rate": 5.8e-4, "agent.discount": 0.995, "loop.round_steps": 8192,
        "agent.gae_lambda": 0.98, "agent.clip_range": 0.1, "agent.epochs": 20, "agent.batch_size": 512,
        "agent.value_weight": 0.203, "agent.gradient_limit": 0.9, "agent.entropy_weight": 0,
        "reward.kind": "airl", "reward.shaping_discount": 0.995, "reward.batch_size": 2048,
        "reward.penalty_weight": 0, "reward.absorbing": False, "steps": 10_000_000,
    },
    "sqil_reference": {
        "agent.kind": "sac", "agent.critics": 1, "agent.tune_entropy": False, "agent.learning_rate": 3e-4,
        "agent.initial_entropy_coefficient": 0.01, "loop.batch_size": 512, "loop.updates_per_step": 1,
        "mixture.expert_share": 0.5, "reward.kind": "constant", "steps": 500_000,
    },
    "iq_learn_reference": {
        "agent.critics": 1, "agent.learning_rate": 3e-4, "agent.actor_learning_rate": 3e-5, "agent.hidden": [256, 256],
        "agent.value_term": "v0", "agent.regularisation": 0.5, "agent.regularised": "both",
        "agent.tune_entropy": False, "agent.initial_entropy_coefficient": 0.01, "agent.target_rate": 0.005,
        "loop.batch_size": 256, "loop.updates_per_step": 1, "loop.random_steps": 1280, "steps": 500_000,
    },
}  # fmt: skip


@pytest.mark.parametrize("learner", _OTHERS_RELEASED)
def test_the_other_reference_presets_have_the_released_values(learner: str) -> None:
    config, _ = compose([f"learner={learner}", "task=hopper"])
    released = _OTHERS_RELEASED[learner]
    assert {name: OmegaConf.select(config, name) for name in released} == released
    assert config.loop.select_by == "none"
    if learner in ("gail_reference", "airl_reference"):
        minibatches = config.agent.epochs * config.loop.round_steps // config.agent.batch_size
        assert minibatches / config.reward.update_every == {"gail_reference": 8, "airl_reference": 16}[learner]


@pytest.mark.parametrize(("learner", "whose"), [("bc_reg", 1), ("bc_reg_reference", 0)])
def test_the_pull_of_bc_reg_is_towards_the_experts_rows(
    make: Make, monkeypatch: pytest.MonkeyPatch, learner: str, whose: int
) -> None:
    """The released code pulls towards the actions of the learner's own rows (reference/field.md 6.4, item 2)."""
    training = make(learner)
    assert isinstance(training, InteractiveTraining)
    agent = training.agent
    assert isinstance(agent, SAC)
    pulls: list[Batch] = []
    original = agent.cloning_error

    def noted(rows: Batch, noise: torch.Tensor) -> torch.Tensor:
        pulls.append(rows)
        return original(rows, noise)

    monkeypatch.setattr(agent, "cloning_error", noted)
    run_to(training, 200)
    known = {tuple(row) for row in training.layout.batch(training.expert_rows).actions.tolist()}
    assert len(pulls) > 100
    for pull in pulls:
        assert (pull.expert == whose).all()
        assert all((tuple(row) in known) == whose for row in pull.actions.flatten(0, 1).tolist())
