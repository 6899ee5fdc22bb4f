"""PPO over runs against stable-baselines3's own, fed with the same rows; rounds, and the policy that is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import Make, run_to
from layers import RUNS, A, O, Spaces
from omegaconf import OmegaConf
from stable_baselines3.common.logger import Logger
from torch import Tensor

from understudy.imitation import Policy
from understudy.imitation.agents import PPO, PPOConfig
from understudy.imitation.fit import DivergedError, FitConfig, References, Run
from understudy.imitation.networks import Normaliser
from understudy.imitation.on_policy import OnPolicyTraining
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.robots import find_task
from understudy.scripts.build import build
from understudy.scripts.settings import compose

T = 40


def made(**settings: Any) -> PPO:
    agent = PPO(PPOConfig(hidden=(16, 16), **settings), RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    return agent


def one_round(seed: int = 0) -> tuple[Batch, Tensor]:
    """A round of rows in the order of time, and where episodes end: one by the task, one by time, the rest goes on."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(RUNS, T + 1, O, generator=generator)
    following = states[:, 1:].clone()
    terminated, ended = torch.zeros(RUNS, T), torch.zeros(RUNS, T)
    terminated[:, 9] = ended[:, 9] = ended[:, 24] = 1
    following[:, [9, 24]] = torch.randn(RUNS, 2, O, generator=generator)  # the true last ones, not those of the reset
    actions, rewards = torch.randn(RUNS, T, A, generator=generator), torch.randn(RUNS, T, generator=generator)
    return Batch(states[:, :-1], actions, following, rewards, terminated, torch.zeros(RUNS, T)), ended


def test_a_round_equals_stable_baselines3s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own buffer and order of minibatches, filled as its own collection does; parameters after two rounds."""
    agent = made(epochs=2, batch_size=16, learning_rate=1e-2, entropy_weight=0.01)
    orders = np.random.default_rng
    references: list[stable_baselines3.PPO] = []
    for run in range(RUNS):
        reference = stable_baselines3.PPO(
            "MlpPolicy", Spaces(), n_steps=T, batch_size=8, n_epochs=2, learning_rate=1e-2, ent_coef=0.01,
            policy_kwargs={"net_arch": [16, 16]}, device="cpu",
        )  # fmt: skip
        reference.batch_size = 16
        reference.set_logger(Logger(None, []))
        reference.policy.load_state_dict(agent._runs[run].policy.state_dict())
        references.append(reference)
    for number in range(2):
        rows, ended = one_round(number)
        seeds = Generators([5, 6]).integers(2**31 - 1, (1,)).flatten().tolist()
        agent.learn(rows, ended, Generators([5, 6]))
        for run, reference in enumerate(references):
            policy, buffer = reference.policy, reference.rollout_buffer
            buffer.reset()
            with torch.no_grad():
                for t in range(T):
                    row = rows.observations[run, t : t + 1]
                    value, log_prob, _ = policy.evaluate_actions(row, rows.actions[run, t : t + 1])
                    reward = rows.rewards[run, t].item()
                    if ended[run, t] and not rows.terminated[run, t]:
                        reward += 0.99 * policy.predict_values(rows.next_observations[run, t : t + 1]).item()
                    start = t == 0 or bool(ended[run, t - 1])
                    action = rows.actions[run, t].numpy()
                    buffer.add(row.numpy(), action, np.array([reward]), np.array([start]), value, log_prob)
                last = policy.predict_values(rows.next_observations[run, -1:])
                buffer.compute_returns_and_advantage(last, ended[run, -1:].numpy())
            order = orders(seeds[run])
            monkeypatch.setattr(np.random, "permutation", order.permutation)
            reference.train()
            for name, mine in agent._runs[run].policy.state_dict().items():
                torch.testing.assert_close(mine, policy.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_the_stack_acts_and_weighs_as_the_runs() -> None:
    agent = made()
    agent.learn(*one_round(), Generators([0, 1]))
    generator = torch.Generator().manual_seed(3)
    rows, _ = one_round(4)
    noise = torch.randn(RUNS, T, A, generator=generator)
    acted, best, weighed = (
        agent.act(rows.observations, noise),
        agent.best_actions(rows.observations),
        agent.log_prob(rows),
    )
    for run in range(RUNS):
        density = agent._runs[run].policy.get_distribution(rows.observations[run]).distribution
        torch.testing.assert_close(acted[run], density.mean + density.stddev * noise[run])  # pyright: ignore
        torch.testing.assert_close(best[run], density.mean.clamp(-1, 1))  # pyright: ignore
        torch.testing.assert_close(weighed[run], density.log_prob(rows.actions[run]).sum(-1))  # pyright: ignore
    assert acted.abs().max() > 1


def test_first_parameters_are_as_large_as_stable_baselines3s() -> None:
    agent, reference = made(), stable_baselines3.PPO("MlpPolicy", Spaces(), policy_kwargs={"net_arch": [16, 16]})
    for run in agent._runs:
        for name, theirs in reference.policy.state_dict().items():
            mine = run.policy.state_dict()[name]
            # The singular values of an orthogonal matrix are all its gain.
            found, expected = (t if t.dim() < 2 else torch.linalg.svdvals(t) for t in (mine, theirs))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(agent.net.weights[0][0], agent.net.weights[0][1])


def test_global_streams_are_left_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  # pyright: ignore
    agent = made()
    agent.learn(*one_round(), Generators([0, 1]))
    after = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002  # pyright: ignore
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])


def test_a_round_is_learned_from_once_and_ends_are_where_they_were(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[tuple[Batch, Tensor]] = []
    original = PPO.learn

    def noted(self: PPO, rows: Batch, ended: Tensor, generators: Generators) -> Any:
        learned.append((rows.with_rewards(rows.rewards.clone()), ended))
        return original(self, rows, ended, generators)

    monkeypatch.setattr(PPO, "learn", noted)
    training = make("gail", "steps=180", "loop.round_steps=60")
    assert isinstance(training, OnPolicyTraining)
    while training.steps < training.total:
        training.advance()
        rows, ended = learned[-1]
        follows = (rows.next_observations[:, :-1] == rows.observations[:, 1:]).all(-1)
        assert torch.equal(follows, ended[:, :-1] == 0)
        assert rows.actions.abs().max() > 1  # as sampled, not as cut
    assert len(learned) == 3
    assert training.steps == 180


def test_the_reward_learns_from_actions_as_they_were_done_once_per_some_minibatches(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make("gail", "loop.round_steps=60", "steps=60", "reward.update_every=3", "agent.epochs=2")
    assert isinstance(training, OnPolicyTraining)
    largest: list[float] = []
    original = training.reward.update

    def noted(expert: Batch, learner: Batch, *rest: Any) -> Any:
        largest.append(learner.actions.abs().max().item())
        return original(expert, learner, *rest)

    monkeypatch.setattr(training.reward, "update", noted)
    training.advance()
    assert len(largest) == 2 * 4 // 3  # two epochs of four minibatches
    assert max(largest) == 1.0
    assert training.buffer.rows[..., 11:14].abs().max() > 1


def test_time_limits_end_episodes_of_a_round_but_terminate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[tuple[Batch, Tensor]] = []
    monkeypatch.setattr(PPO, "learn", lambda self, rows, ended, generators: learned.append((rows, ended)) or {})
    config, _ = compose(
        ["learner=sac", "agent=ppo", "loop=on_policy", "task=reacher", "loop.round_steps=120", "runs=1"]
    )
    values: Any = OmegaConf.to_container(config, resolve=True)
    build({**values, "device": "cpu", "threads": 1}).training.advance()
    ((rows, ended),) = learned
    assert ended[0].nonzero().flatten().tolist() == [49, 99]
    assert not rows.terminated.any()


def test_airls_policy_is_rewarded_for_entropy_as_published(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Tensor] = []
    training = make("gail", "reward=airl")
    assert isinstance(training, OnPolicyTraining)
    expected: list[Tensor] = []

    def noted(rows: Batch, ended: Tensor, generators: Generators) -> Any:
        done = training._as_done(rows)
        learned.append(rows.rewards)
        expected.append(training.reward.relabel(done) - training.agent.log_prob(done))
        return {}

    monkeypatch.setattr(training.agent, "learn", noted)
    training.advance()
    torch.testing.assert_close(learned[0], expected[0])


def test_a_policy_that_diverges_stops_with_a_sentence(make: Make, tmp_path: Path) -> None:
    training = make("gail", "agent.learning_rate=1e12", "steps=200")
    run = Run(training, tmp_path, FitConfig(log_every=20), References(None, None))
    with pytest.raises(DivergedError, match="diverged at step"):
        run.fit(lambda *_: None, lambda: None)


def test_steps_are_rounded_up_to_rounds(make: Make) -> None:
    training = run_to(make("gail", "steps=110", "loop.round_steps=50"), 110)
    assert training.steps == training.total == 150
    assert training.step_counts()["policy"].tolist() == [150, 150]


@pytest.mark.parametrize("choice", ["reward=airl", "reward=wasserstein", "resets=expert", "disturbances.tremble=0.1"])
def test_the_other_axes_are_free_on_policy(make: Make, choice: str) -> None:
    training = make("gail", choice)
    metrics: dict[str, Tensor] = {}
    while training.steps < training.total:
        metrics.update(training.advance())
    assert metrics
    assert all(torch.isfinite(value).all() for value in metrics.values())


def test_the_deployed_policy_is_in_the_tasks_units(tmp_path: Path) -> None:
    """Humanoid's actions are within ±0.4."""
    agent = PPO(PPOConfig(hidden=(8,)), 1, 348, 17, Normaliser.identity(348))
    agent.initialise(Generators([0]))
    task = find_task("humanoid")
    net, head = agent.deployed()
    with torch.no_grad():
        net.weights[-1].mul_(200.0)  # far from 0, so that some are cut
    policy = Policy.of_network(net, 0, agent.policy_normaliser, head, task, task.spaces, {})
    policy.save_pretrained(tmp_path / "policy")
    observations = torch.randn(1, 9, 348, generator=torch.Generator().manual_seed(0))
    best = agent.best_actions(observations)[0]
    acted, _ = Policy.from_pretrained(tmp_path / "policy").predict(observations[0].numpy())
    np.testing.assert_allclose(acted, 0.4 * best.numpy(), atol=1e-5)
    assert (best.abs() == 1).any()
    assert (best.abs() < 1).any()
