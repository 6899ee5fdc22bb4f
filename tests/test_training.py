"""What every learner must keep to: determinism, stacking, resuming, step accounts, checkpoints, policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LEARNERS, Finished, Make, run_to, same_state

from understudy.imitation import Policy, interactive
from understudy.imitation.acting import ActingTraining
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.imitation.fit import DivergedError, FitConfig, References, Run
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.replay import Mixture
from understudy.imitation.rounds import RoundsTraining
from understudy.imitation.training import Training
from understudy.robots import PURPOSES, InputError, TaskBatch
from understudy.scripts.settings import LEARNERS as PRESETS

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


def test_rows_of_updates_to_come_are_drawn_in_parts_of_a_size(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of updates at once, as the reference presets make, would fill the memory with their batches."""
    drawn: list[int] = []
    sample = Mixture.sample

    def noted(self: Mixture, *given: Any) -> Any:
        drawn.append(given[2])
        return sample(self, *given)

    monkeypatch.setattr(Mixture, "sample", noted)
    ends: list[Any] = []
    for parts, runs in ((None, 2), (7, 2), (7, 1)):
        drawn.clear()
        training: Any = make("hype", "loop.update_every=20", "loop.updates_per_step=1", f"runs={runs}")
        if parts is not None:
            monkeypatch.setattr(interactive, "_AT_ONCE", 4 * parts * training.config.batch_size * training.layout.width)
        run_to(training, 200)
        assert set(drawn) == ({20} if parts is None else {7, 6})
        assert training.updates == sum(drawn)
        ends.append(actor_parameters(training, 0))
        training.close()
    torch.testing.assert_close(ends[2], ends[1], rtol=1e-4, atol=1e-5)
