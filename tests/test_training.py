"""What every learner must keep to: determinism, stacking, resuming, step accounts, checkpoints, policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LEARNERS, Finished, Make, run_to, same_state
from omegaconf import OmegaConf

from understudy.imitation import Policy
from understudy.imitation.acting import ActingTraining
from understudy.imitation.agents import SAC
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.imitation.fit import DivergedError, FitConfig, References, Run
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.replay import Batch
from understudy.imitation.rounds import RoundsTraining
from understudy.imitation.training import Training
from understudy.robots import PURPOSES, InputError, TaskBatch
from understudy.scripts.settings import LEARNERS as PRESETS
from understudy.scripts.settings import compose

Find = Callable[[str], Finished]

# The tests of a learner share a training, so they stay in one process.
every_learner = pytest.mark.parametrize(
    "learner", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in LEARNERS]
)


def actor_parameters(training: Training, run: int) -> torch.Tensor:
    policy = training.policy(run, {})
    return torch.cat([p.flatten() for p in policy.net.parameters()]).detach()


def test_every_preset_is_tested() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(LEARNERS)


@every_learner
def test_same_seed_same_training_and_another_seed_another(make: Make, finished: Find, learner: str) -> None:
    one, two = finished(learner).training, run_to(make(learner), 200)
    assert same_state(one.state(), two.state())
    assert not torch.equal(actor_parameters(one, 0), actor_parameters(one, 1))


@every_learner
def test_run_k_of_a_stack_equals_the_single_run(make: Make, learner: str) -> None:
    stack = run_to(make(learner, "runs=4", "seed=3"), 200)
    single = run_to(make(learner, "runs=1", "seed=5"), 200)
    torch.testing.assert_close(actor_parameters(stack, 2), actor_parameters(single, 0), rtol=1e-3, atol=1e-4)
    assert not torch.equal(actor_parameters(stack, 0), actor_parameters(stack, 2))
    ours, theirs = stack.step_counts(), single.step_counts()
    assert all(ours[purpose][2] == theirs[purpose][0] for purpose in PURPOSES)


@every_learner
def test_resume_is_bit_equal(make: Make, finished: Find, learner: str, tmp_path: Path) -> None:
    half = run_to(make(learner), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = make(learner, "seed=0")
    resumed.set_state(load_checkpoint(tmp_path))
    assert resumed.steps == half.steps
    assert same_state(run_to(resumed, 200).state(), finished(learner).training.state())


@every_learner
def test_step_accounts_are_the_calls_of_step(finished: Find, learner: str) -> None:
    training, calls = finished(learner).training, finished(learner).calls
    assert {purpose: int(counts.sum()) for purpose, counts in training.step_counts().items()} == calls
    if isinstance(training, InteractiveTraining):
        assert calls["policy"] == 200 * 2
    assert (calls["reward"] > 0) == isinstance(training, RoundsTraining)


_LEARNED = [name for name, small in LEARNERS.items() if "reward.hidden=[16,16]" in small]


@pytest.mark.parametrize("learner", [*_LEARNED, "sqil", "sqil_reference", "iq_learn", "iq_learn_reference"])
def test_what_the_expert_does_is_rewarded_more(make: Make, learner: str) -> None:
    """Every reward but the task's, after learning on two sets that can be told apart."""
    training = make(learner, *(["reward.learning_rate=3e-3"] if learner in _LEARNED else []))
    assert isinstance(training, ActingTraining)
    expert = training.layout.batch(training.expert_rows[:16].expand(2, -1, -1))
    other = dataclasses.replace(
        expert,
        observations=expert.observations + 2,
        actions=-expert.actions,
        next_observations=expert.next_observations + 2,
        terminated=torch.zeros_like(expert.terminated),
        expert=torch.zeros_like(expert.expert),
    )
    if training.agent.implies_reward:
        agent: Any = training.agent
        for _ in range(150):
            metrics = agent.update(other, training.generators.normal((agent.noise_rows, 16, 3)), expert)
        assert (metrics["reward_expert"] > metrics["reward_learner"]).all()
        return
    shares = (torch.full((2,), 0.1), torch.full((2,), 0.1))
    for _ in range(60):
        training.reward.update(expert, other, shares, training.generators, training.agent.log_prob)
    # In one batch, as some rewards are relative to the batch's mean.
    rewards = training.reward.relabel(expert.joined(other))
    assert (rewards[:, :16].mean(1) > rewards[:, 16:].mean(1)).all()


@every_learner
def test_the_policy_directory_acts_as_the_training(finished: Find, learner: str, tmp_path: Path) -> None:
    training = finished(learner).training
    training.policy(1, {"learner": learner}).save_pretrained(tmp_path / "policy")
    policy = Policy.from_pretrained(tmp_path / "policy")
    seen = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(policy.act(seen[1]), training.act(seen)[1])
    assert policy.config.training["learner"] == learner
    assert policy.config.control_rate == pytest.approx(125.0)


@every_learner
def test_metrics_are_finite_and_per_run(finished: Find, learner: str) -> None:
    seen = [item for metrics in finished(learner).metrics for item in metrics.items()]
    assert seen
    for name, value in seen:
        assert value.shape == (2,), name
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize("learner", ["bc", "sac", "hype"])
def test_bfloat16_keeps_parameters_in_float32_and_resumes_bit_equal(make: Make, learner: str, tmp_path: Path) -> None:
    whole = run_to(make(learner, "precision=bfloat16"), 200)
    half = run_to(make(learner, "precision=bfloat16"), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = make(learner, "precision=bfloat16")
    resumed.set_state(load_checkpoint(tmp_path))
    assert same_state(run_to(resumed, 200).state(), whole.state())
    assert all(value.dtype != torch.bfloat16 for value in whole.state().tensors.values())


def test_no_imitation_learner_sees_the_tasks_reward(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = run_to(make("hype"), 200)
    original = TaskBatch.step

    def lying(self: TaskBatch, *arguments: object) -> object:
        result = original(self, *arguments)  # pyright: ignore[reportArgumentType]
        result.rewards[:] = 1e6
        return result

    monkeypatch.setattr(TaskBatch, "step", lying)
    deceived = run_to(make("hype"), 200)
    assert torch.equal(actor_parameters(honest, 0), actor_parameters(deceived, 0))


def test_true_last_observations_and_ends_are_stored(make: Make) -> None:
    training = run_to(make("hype", "runs=1"), 200)
    assert isinstance(training, InteractiveTraining)
    rows = training.layout.batch(training.buffer.rows[:, :200])
    ended = rows.terminated[0, :-1] == 1
    assert ended.any()
    follows = (rows.next_observations[0, :-1] == rows.observations[0, 1:]).all(-1)
    assert torch.equal(follows, ~ended)


def test_a_time_limit_is_not_an_end(make: Make) -> None:
    training = run_to(make("sac", "task=reacher", "steps=120", "runs=1"), 120)
    reference = make("hype_reference", "runs=1")
    assert isinstance(training, InteractiveTraining)
    assert isinstance(reference, InteractiveTraining)
    rows = training.layout.batch(training.buffer.rows[:, :120])
    assert rows.terminated.sum() == 0
    broken = (rows.next_observations[0, :-1] != rows.observations[0, 1:]).any(-1)
    assert broken.nonzero().flatten().tolist() == [49, 99]
    assert training.config.bootstrap_timeouts
    assert not reference.config.bootstrap_timeouts


@pytest.mark.parametrize("damage", ["truncate", "remove", "change"])
def test_a_damaged_checkpoint_is_refused(make: Make, tmp_path: Path, damage: str) -> None:
    training = run_to(make("bc"), 100)
    save_checkpoint(tmp_path, 50, training.state())
    path = save_checkpoint(tmp_path, 100, training.state())
    file = path / "training.safetensors"
    content = file.read_bytes()
    file.unlink()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    if damage == "change":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"damaged.*resume from .*000000050"):
        load_checkpoint(tmp_path)
    load_checkpoint(tmp_path / "checkpoints" / "000000050")


def test_only_the_newest_checkpoints_stay(make: Make, tmp_path: Path) -> None:
    training = make("bc")
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, training.state(), keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000000020", "000000030", "last"]
    assert (tmp_path / "checkpoints" / "last").resolve().name == "000000030"


def test_checkpoints_of_an_abandoned_branch_go(make: Make, tmp_path: Path) -> None:
    training = make("bc")
    for step in (50, 75, 60):
        save_checkpoint(tmp_path, step, training.state(), keep=1)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000000060", "last"]
    (tmp_path / "checkpoints" / "last").unlink()
    load_checkpoint(tmp_path)


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


def test_a_full_disk_leaves_the_earlier_checkpoint(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = make("bc")
    save_checkpoint(tmp_path, 10, training.state())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("understudy.imitation.checkpoint.write_tensors", full)
    with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
        save_checkpoint(tmp_path, 20, training.state())
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000000010", "last"]
    load_checkpoint(tmp_path)


def test_a_training_that_diverges_stops_with_a_sentence(make: Make, tmp_path: Path) -> None:
    training = make("sac")

    def nothing(*_: object) -> None: ...

    with torch.no_grad():
        training.agent.critic.net.weights[0].fill_(torch.nan)  # pyright: ignore
    run = Run(training, tmp_path, FitConfig(log_every=20), References(None, None))
    with pytest.raises(DivergedError, match="diverged at step"):
        run.fit(nothing, lambda: None)
    assert (tmp_path / "diverged.json").exists()
