"""TD3 against stable-baselines3's, its cloning term, and what agents refuse."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import Make
from layers import HIDDEN, RUNS, A, B, O, Spaces, our_layers, random_batch, random_noise, reference_layers
from omegaconf import OmegaConf
from stable_baselines3 import TD3 as ReferenceTD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation.agents import SAC, TD3, TD3BC, SACConfig, TD3BCConfig, TD3Config
from understudy.imitation.networks import Normaliser
from understudy.imitation.randomness import Generators
from understudy.robots import InputError
from understudy.scripts.build import build
from understudy.scripts.settings import compose


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
        ("gail", "mixture=hybrid", "expert rows cannot be mixed in"),
        ("gail", "agent=td3", "learns from rows of any age"),
        ("gail", "reward=constant", "mixture=hybrid"),
        ("mm", "agent=ppo", "loop=on_policy"),
        ("mm_reference", "agent=ppo", "loop=on_policy"),
        ("gail", "agent.batch_size=1", "at least 2"),
        ("gail", "agent.policy_view=[wings]", "agent.policy_view"),
        ("iq_learn_offline", "resets=initial", "never acts in the task"),
        ("iq_learn_offline", "mixture=hybrid", "never acts in the task"),
        ("iq_learn_offline", "agent=none", "agent=none"),
        ("iq_learn_offline", "agent=sac", "agent=iq_learn"),
        ("iq_learn_offline", "reward=gan", "reward=implicit"),
    ],
)
def test_choices_that_cannot_work_together_are_refused(
    demonstrations: Demonstrations, learner: str, option: str, message: str
) -> None:
    config, _ = compose([f"learner={learner}", option, "task=hopper", "device=cpu", "threads=1"])
    values: Any = OmegaConf.to_container(config, resolve=True)
    with pytest.raises(InputError, match=message):
        build(values, demonstrations)
