"""TD3 against stable-baselines3's, its cloning term, IQ-Learn's objective by hand, and what agents refuse."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import Make
from layers import HIDDEN, RUNS, A, B, O, Spaces, our_layers, random_batch, random_noise, reference_layers
from stable_baselines3 import TD3 as ReferenceTD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from understudy.imitation.agents import SAC, TD3, TD3BC, IQLearn, IQLearnConfig, SACConfig, TD3BCConfig, TD3Config
from understudy.imitation.networks import Normaliser
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.robots import InputError


class OneBatch:
    """A replay buffer that always gives the same rows."""

    def __init__(self, samples: ReplayBufferSamples) -> None:
        self._samples = samples

    def sample(self, *arguments: Any, **options: Any) -> ReplayBufferSamples:
        return self._samples


def test_td3_updates_equal_stable_baselines3s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six updates (three of the actor) from equal weights, on equal batches and with equal noise."""
    references = [
        ReferenceTD3(
            "MlpPolicy", Spaces(), seed=seed, device="cpu", buffer_size=1, learning_rate=3e-4,
            policy_kwargs={"net_arch": list(HIDDEN)},
        )
        for seed in range(RUNS)
    ]  # fmt: skip
    ours = TD3(TD3Config(hidden=HIDDEN), RUNS, O, A, Normaliser.identity(O))
    ours.initialise(Generators(range(RUNS)))
    pairs: list[tuple[Any, Any, tuple[int, ...]]] = []
    for run, reference in enumerate(references):
        reference.set_logger(Logger(None, []))
        pairs += [(reference.actor, ours.actor.net, (run,)), (reference.actor_target, ours.target_actor.net, (run,))]
        for member in range(2):
            nets = ((reference.critic, ours.critic), (reference.critic_target, ours.target_critic))
            pairs += [(theirs.q_networks[member], mine.net, (run, member)) for theirs, mine in nets]
    with torch.no_grad():
        for theirs, mine, where in pairs:
            layers = zip(reference_layers(theirs), our_layers(mine.master(), where), strict=True)
            for (weight, bias), (our_weight, our_bias) in layers:
                our_weight.copy_(weight)
                our_bias.copy_(bias)
    for step in range(6):
        batch, noise = random_batch(step), random_noise(step)[:, :1]
        for run, reference in enumerate(references):
            columns = (batch.observations, batch.actions, batch.next_observations)
            samples = ReplayBufferSamples(
                *(column[run] for column in columns), batch.terminated[run, :, None], batch.rewards[run, :, None]
            )
            reference.replay_buffer = OneBatch(samples)  # pyright: ignore
            scaled = noise[run, 0] * 0.2
            monkeypatch.setattr(Tensor, "normal_", lambda self, mean, std, scaled=scaled: self.copy_(scaled))  # pyright: ignore
            reference.train(gradient_steps=1, batch_size=B)
            monkeypatch.undo()
        metrics = ours.update(batch, noise, phase=ours.phase(step))
        assert ("actor_loss" in metrics) == (step % 2 == 1)
    for theirs, mine, where in pairs:
        layers = zip(reference_layers(theirs), our_layers(mine.master(), where), strict=True)
        for (weight, bias), (our_weight, our_bias) in layers:
            torch.testing.assert_close(our_weight, weight, rtol=1e-4, atol=2e-6)
            torch.testing.assert_close(our_bias, bias, rtol=1e-4, atol=2e-6)


def test_the_cloning_term_pulls_towards_expert_actions_on_expert_rows() -> None:
    losses: dict[float, Tensor] = {}
    for weight in (0.5, 2.0):
        config = TD3BCConfig(hidden=HIDDEN, cloning_weight=weight, value_scale=2.5)
        agent = TD3BC(config, RUNS, O, A, Normaliser.identity(O))
        agent.initialise(Generators(range(RUNS)))
        batch, expert = random_batch(1), random_batch(2)
        found = agent.actor_loss(batch.observations, batch.observations, expert)
        actions = agent.actor(batch.observations)
        values = agent.critic(batch.observations, actions)[:, 0]
        error = (agent.actor(expert.observations) - expert.actions).square().mean((1, 2))
        expected = weight * error - 2.5 / values.abs().mean(-1) * values.mean(-1)
        torch.testing.assert_close(found["actor_loss"], expected)
        losses[weight] = found["cloning_error"]
    assert torch.equal(losses[0.5], losses[2.0])


def test_exploration_noise_is_added_and_cut_and_the_deployed_policy_has_none() -> None:
    agent = TD3(TD3Config(hidden=HIDDEN, exploration_noise=0.5), RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    observations, noise = torch.zeros(RUNS, O), torch.full((RUNS, A), 4.0)
    best = agent.best_actions(observations)
    torch.testing.assert_close(agent.act(observations, noise), (best + 2.0).clamp(-1, 1))
    assert torch.equal(agent.act(observations, 0 * noise), best)


def inverse_objective(agent: IQLearn, batch: Batch, expert: Batch, noise: Tensor, config: IQLearnConfig) -> Tensor:
    """IQ-Learn's loss written out run by run, expert and learner apart (reference/algorithms.md 3.13)."""
    losses: list[Tensor] = []
    entropy = config.initial_entropy_coefficient

    def side(rows: Batch, here: Tensor, there: Tensor, run: int) -> tuple[Tensor, Tensor, Tensor]:
        actions, log_probs = agent.actor.sample(rows.observations, here)
        value = agent.critic(rows.observations, actions.detach())[run, 0] - entropy * log_probs[run].detach()
        next_actions, next_log_probs = agent.actor.sample(rows.next_observations, there)
        after = agent.target_critic(rows.next_observations, next_actions)[run, 0] - entropy * next_log_probs[run]
        following = (0.99 * (1 - rows.terminated[run]) * after).detach()
        return agent.critic(rows.observations, rows.actions)[run, 0], value, following

    for run in range(RUNS):
        q_e, v_e, y_e = side(expert, noise[:, 0], noise[:, 2], run)
        q_l, v_l, y_l = side(batch, noise[:, 1], noise[:, 3], run)
        term = {
            "value": torch.cat((v_e - y_e, v_l - y_l)).mean(),
            "value_expert": (v_e - y_e).mean(),
            "v0": 0.01 * v_e.mean(),
        }[config.value_term]
        held = torch.cat((q_e - y_e, q_l - y_l)) if config.regularised == "both" else q_e - y_e
        losses.append(-(q_e - y_e).mean() + term + held.square().mean() / (4 * config.regularisation))
    return torch.stack(losses)


@pytest.mark.parametrize("value_term", ["value", "value_expert", "v0"])
@pytest.mark.parametrize("regularised", ["both", "expert"])
def test_iq_learns_loss_and_its_gradient_are_the_inverse_objectives(value_term: Any, regularised: Any) -> None:
    config = IQLearnConfig(hidden=HIDDEN, value_term=value_term, regularised=regularised, regularisation=0.3)
    agent = IQLearn(config, RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    noted: list[list[Tensor]] = []
    original = agent.critic_optimiser.apply
    agent.critic_optimiser.apply = lambda gradients: noted.append(list(gradients)) or original(gradients)  # pyright: ignore
    batch, expert = random_batch(1), random_batch(2)
    noise = torch.cat((random_noise(1), random_noise(2)), 1)
    expected = inverse_objective(agent, batch, expert, noise, config)
    slopes = torch.autograd.grad(expected.sum(), agent.critic.net.master())
    metrics = agent.update(batch, noise, expert)
    torch.testing.assert_close(metrics["critic_loss"], expected.detach(), rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(noted[0], slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_iq_learn_finds_the_experts_actions_and_rewards_them_until_it_has() -> None:
    agent = IQLearn(IQLearnConfig(hidden=(64, 64), learning_rate=1e-3), 1, O, A, Normaliser.identity(O))
    generators = Generators([0])
    agent.initialise(generators)

    def rows(centre: float, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        normal = [torch.randn(1, 64, size, generator=generator) for size in (O, A, O)]
        nothing = torch.zeros(1, 64)
        return Batch(normal[0], (centre + 0.1 * normal[1]).clamp(-1, 1), normal[2], nothing, nothing, nothing)

    gaps: list[float] = []
    for step in range(800):
        metrics = agent.update(rows(-0.6, 2 * step), generators.normal((4, 64, A)), rows(0.6, 2 * step + 1))
        gaps.append((metrics["reward_expert"] - metrics["reward_learner"]).item())
    assert max(gaps) > 0.3
    best = agent.best_actions(torch.zeros(1, 1, O))
    assert (best > 0.2).all()


def test_a_fixed_entropy_coefficient_stays() -> None:
    for tune in (True, False):
        config = SACConfig(hidden=HIDDEN, initial_entropy_coefficient=0.2, tune_entropy=tune)
        agent = SAC(config, RUNS, O, A, Normaliser.identity(O))
        agent.initialise(Generators(range(RUNS)))
        before = agent.log_entropy_coefficient.detach().clone()
        agent.update(random_batch(0), random_noise(0))
        assert torch.equal(agent.log_entropy_coefficient.detach(), before) != tune


def test_deterministic_policies_have_no_density(make: Make) -> None:
    with pytest.raises(InputError, match="agent=sac"):
        make("airl", "agent=td3")


@pytest.mark.parametrize("learner", ["hype", "filter"])
@pytest.mark.parametrize("agent", ["td3", "td3_bc"])
def test_agents_are_an_axis(make: Make, learner: str, agent: str) -> None:
    training = make(learner, f"agent={agent}")
    while training.steps < 200:
        metrics = training.advance()
    assert all(np.isfinite(value.numpy()).all() for value in metrics.values())
    policy = training.policy(1, {})
    observation = np.zeros(11, np.float32)
    expected = training.act(torch.zeros(2, 1, 11))[1, 0].numpy()
    np.testing.assert_allclose(policy.predict(observation)[0], expected, atol=1e-6)
    training.close()


def test_the_environment_of_these_tests_is_never_stepped() -> None:
    assert isinstance(Spaces(), gymnasium.Env)


@pytest.mark.parametrize(
    ("learner", "option", "message"),
    [
        ("hype", "agent=iq_learn", "reward=implicit"),
        ("sqil", "reward=implicit", "agent=sac does not have"),
        ("sqil", "mixture=learner", "every reward would be 0"),
        ("sqil", "reward=task", "mixture=learner"),
    ],
)
def test_choices_that_cannot_work_together_are_refused(make: Make, learner: str, option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(learner, option)
