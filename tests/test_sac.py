"""Soft actor-critic: stable-baselines3's numbers, runs that do not meet, ends and time limits, precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from layers import HIDDEN, RUNS, A, B, O, Spaces, our_layers, random_batch, random_noise, reference_layers
from stable_baselines3 import SAC as ReferenceSAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, distributions

from understudy.imitation.agents import SAC, SACConfig
from understudy.imitation.networks import GaussianActor, Normaliser, StackedMLP
from understudy.imitation.optimisers import Adam, OptimisticAdam
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch, Mixture, ReplayBuffer, RowLayout, Schedule
from understudy.imitation.rewards import GanConfig, GanReward, Reward, TaskReward


def note_gradients(noted: dict[str, list[Tensor]], name: str, optimiser: Adam | OptimisticAdam) -> None:
    """Keep the gradients that an optimiser of ours is given, under ``name``."""
    original = optimiser.apply

    def apply(gradients: Sequence[Tensor]) -> None:
        noted[name] = [gradient.clone() for gradient in gradients]
        original(gradients)

    optimiser.apply = apply


class Pair:
    """R of stable-baselines3's agents, and ours as a stack of R with their weights. Both note their gradients."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runs: int = RUNS, **options: Any) -> None:
        self.references = [
            ReferenceSAC(
                "MlpPolicy", Spaces(), seed=seed, device="cpu", buffer_size=1, learning_rate=3e-4,
                policy_kwargs={"net_arch": list(HIDDEN)}, **options,
            )
            for seed in range(runs)
        ]  # fmt: skip
        config = SACConfig(hidden=HIDDEN, discount=self.references[0].gamma, target_rate=self.references[0].tau)
        self.ours = SAC(config, runs, O, A, Normaliser.identity(O))
        self.ours.initialise(Generators(range(runs)))
        with torch.no_grad():
            for run, reference in enumerate(self.references):
                reference.set_logger(Logger(None, []))
                self._copy(reference_layers(reference.actor), self.ours.actor.net, (run,))
                for member in range(2):
                    for theirs, mine in (
                        (reference.critic, self.ours.critic),
                        (reference.critic_target, self.ours.target_critic),
                    ):
                        self._copy(reference_layers(theirs.q_networks[member]), mine.net, (run, member))
        self.gradients: dict[str, list[Tensor]] = {}
        for name in ("actor", "critic", "entropy"):
            note_gradients(self.gradients, name, getattr(self.ours, f"{name}_optimiser"))
        self._monkeypatch = monkeypatch

    @staticmethod
    def _copy(layers: list[tuple[Tensor, Tensor]], network: StackedMLP, where: tuple[int, ...]) -> None:
        for (weight, bias), ours, our_bias in zip(layers, network.weights, network.biases, strict=True):
            ours[where] = weight
            our_bias[where] = bias

    def update_reference(self, run: int, batch: Batch, noise: Tensor) -> dict[str, Any]:
        """One step of stable-baselines3's own ``train``; its losses and gradients."""
        reference = self.references[run]
        samples = ReplayBufferSamples(
            batch.observations[run], batch.actions[run], batch.next_observations[run],
            batch.terminated[run, :, None], batch.rewards[run, :, None],
        )  # fmt: skip
        rest = [noise[run, 0], noise[run, 1]]
        noted: dict[str, Any] = {}

        def rsample(self: distributions.Normal, shape: Any = ()) -> Tensor:
            return self.loc + self.scale * rest.pop(0)

        def noting(optimiser: torch.optim.Optimizer, note: Callable[[], None]) -> None:
            original = type(optimiser).step

            def step() -> None:
                note()
                original(optimiser)

            self._monkeypatch.setattr(optimiser, "step", step)

        self._monkeypatch.setattr(distributions.Normal, "rsample", rsample)
        self._monkeypatch.setattr(reference.replay_buffer, "sample", lambda *_, **__: samples)
        critics = reference.critic.q_networks
        noting(reference.actor.optimizer, lambda: noted.update(actor=reference_layers(reference.actor, gradients=True)))
        noting(
            reference.critic.optimizer,
            lambda: noted.update(critic=[reference_layers(c, gradients=True) for c in critics]),
        )
        entropy = reference.log_ent_coef
        noting(reference.ent_coef_optimizer, lambda: noted.update(entropy=entropy.grad.clone()))  # pyright: ignore
        reference.train(gradient_steps=1, batch_size=B)
        assert not rest
        return noted | {k: v for k, v in reference.logger.name_to_value.items() if "loss" in k}


def assert_layers_close(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]], **how: float) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        for a, b in zip(mine, reference, strict=True):
            torch.testing.assert_close(a, b, **how)  # pyright: ignore


def test_losses_and_gradients_are_those_of_stable_baselines3(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    close = {"rtol": 1e-5, "atol": 1e-6}
    batch, noise = random_batch(0), random_noise(0)
    metrics = pair.ours.update(batch, noise)
    for run in range(RUNS):
        noted = pair.update_reference(run, batch, noise)
        assert metrics["critic_loss"][run].item() == pytest.approx(noted["train/critic_loss"], rel=1e-5)
        assert metrics["actor_loss"][run].item() == pytest.approx(noted["train/actor_loss"], rel=1e-5)
        torch.testing.assert_close(pair.gradients["entropy"][0][run], noted["entropy"][0], **close)
        assert_layers_close(our_layers(pair.gradients["actor"], (run,)), noted["actor"], **close)
        for member in range(2):
            ours = our_layers(pair.gradients["critic"], (run, member))
            assert max(float(weight.abs().max()) for weight, _ in ours) > 1e-2
            assert_layers_close(ours, noted["critic"][member], **close)


def test_parameters_after_updates_are_those_of_stable_baselines3(monkeypatch: pytest.MonkeyPatch) -> None:
    # The coefficient's learning can be seen: its first step is lr, so ten of them are far above the tolerance.
    pair = Pair(monkeypatch, gamma=0.9, tau=0.1)
    start = pair.ours.actor.net.weights[0].detach().clone()
    for step in range(10):
        batch, noise = random_batch(step), random_noise(step)
        pair.ours.update(batch, noise)
        for run in range(RUNS):
            pair.update_reference(run, batch, noise)
    assert (pair.ours.actor.net.weights[0] - start).abs().max() > 1e-3
    close = {"rtol": 1e-5, "atol": 2e-5}
    for run, reference in enumerate(pair.references):
        log_coefficient = pair.ours.log_entropy_coefficient[run]
        assert abs(log_coefficient) > 1e-3
        torch.testing.assert_close(log_coefficient, reference.log_ent_coef[0], **close)  # pyright: ignore
        assert_layers_close(
            our_layers(pair.ours.actor.net.master(), (run,)), reference_layers(reference.actor), **close
        )
        for member in range(2):
            for mine, theirs in (
                (pair.ours.critic, reference.critic),
                (pair.ours.target_critic, reference.critic_target),
            ):
                ours = our_layers(mine.net.master(), (run, member))
                assert_layers_close(ours, reference_layers(theirs.q_networks[member]), **close)


def test_defaults_are_those_of_stable_baselines3() -> None:
    reference, config = ReferenceSAC("MlpPolicy", Spaces(), buffer_size=1, device="cpu"), SACConfig()
    assert (config.discount, config.target_rate) == (reference.gamma, reference.tau)
    assert config.learning_rate == reference.learning_rate
    assert tuple(reference.actor.net_arch) == config.hidden
    ours = SAC(config, 1, O, A, Normaliser.identity(O))
    assert ours.target_entropy == reference.target_entropy
    assert ours.log_entropy_coefficient.item() == reference.log_ent_coef.item()  # pyright: ignore


def train(seeds: list[int], reward_kind: str, updates: int = 200) -> tuple[SAC, Reward]:
    """Updates on rows that depend on the run's seed alone."""
    layout, size = RowLayout(O, A), 16
    generators = Generators(seeds)
    normaliser = Normaliser(torch.full((O,), 0.3), torch.full((O,), 1.4))
    agent = SAC(SACConfig(hidden=(32, 32)), len(seeds), O, A, normaliser)
    reward: Reward = TaskReward()
    if reward_kind == "gan":
        config = GanConfig(hidden=(32, 32), batch_size=size, update_every=5)
        reward = GanReward(config, len(seeds), O, A, normaliser)
    agent.initialise(generators)
    reward.initialise(generators)
    buffer = ReplayBuffer(len(seeds), 300, layout)
    fill = Generators([seed + 1000 for seed in seeds])
    rows = fill.normal((300, layout.width))
    rows[..., O : O + A].tanh_()
    rows[..., -2:] = (rows[..., -2:] > 1.5).float()
    for row in rows.unbind(1):
        buffer.add(row)
    expert_rows = torch.randn(100, layout.width, generator=torch.Generator().manual_seed(1))
    expert_rows[:, -2:] = torch.tensor([0.0, 1.0])
    mixture = Mixture(expert_rows, Schedule(((0, 0.25),)), size)
    ended = (torch.full((len(seeds),), 0.1), torch.full((len(seeds),), 0.3))
    done = 0
    while done < updates:
        drawn = mixture.sample(buffer, generators, 20, done)
        noise = generators.normal((20, agent.noise_rows, size, A))
        for index in range(20):
            if reward.learned and done % reward.update_every == 0:
                expert = layout.batch(expert_rows[generators.integers(100, (size,))])
                learner = layout.batch(buffer.gather(generators.integers(len(buffer), (size,))))
                reward.update(expert, learner, ended, generators)
            batch = layout.batch(drawn[index])
            agent.update(batch.with_rewards(reward.relabel(batch)), noise[:, index])
            done += 1
    return agent, reward


@pytest.mark.parametrize("reward_kind", ["task", "gan"])
def test_run_k_of_a_stack_equals_the_single_run(reward_kind: str) -> None:
    stack_agent, stack_reward = train([3, 4, 5, 6], reward_kind)
    agent, reward = train([5], reward_kind)
    for stack, single in ((stack_agent, agent), (stack_reward, reward)):
        whole, one = stack.training_state(), single.training_state()
        assert whole.keys() == one.keys()
        for name, value in one.items():
            if "step" in name or "normaliser" in name or "updates" in name:
                torch.testing.assert_close(whole[name], value)
            else:
                torch.testing.assert_close(whole[name][2:3], value, rtol=1e-4, atol=1e-5)
    weights = stack_agent.actor.net.weights[0]
    assert (weights[0] - weights[2]).abs().max() > 0.05


def test_a_batch_of_one_run_moves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of run 1 stays to the bit whatever run 0 is given."""
    kept: list[Tensor] = []
    for scale in (1.0, 1e3):
        pair = Pair(monkeypatch)
        batch = random_batch(0)
        batch.rewards[0] *= scale
        batch.observations[0] *= scale
        pair.ours.update(batch, random_noise(0))
        kept.append(torch.cat([g[1].flatten() for g in (*pair.gradients["critic"], *pair.gradients["actor"])]))
    assert torch.equal(*kept)


def test_time_limits_bootstrap_and_ends_do_not() -> None:
    """One state, reward 1, γ = 0.9: worth 1 / (1 − γ) = 10 where only time cuts episodes, 1 where the task does."""
    config = SACConfig(
        hidden=(16,), learning_rate=1e-2, discount=0.9, target_rate=0.2, initial_entropy_coefficient=1e-12
    )
    agent = SAC(config, 2, O, A, Normaliser.identity(O))
    generators = Generators([0, 1])
    agent.initialise(generators)
    state = torch.ones(2, 8, O)
    terminated = torch.tensor([0.0, 1.0])[:, None].expand(2, 8)
    noise = generators.normal((400, 2, 8, A))
    for step in range(400):
        actions = noise[:, step, 0].tanh()
        agent.update(Batch(state, actions, state, torch.ones(2, 8), terminated, torch.zeros(2, 8)), noise[:, step])
    actions = agent.best_actions(state)
    values = agent.critic(state, actions)
    torch.testing.assert_close(values[0], torch.full((2, 8), 10.0), rtol=0.03, atol=0)
    torch.testing.assert_close(values[1], torch.full((2, 8), 1.0), rtol=0.03, atol=0)


def test_the_target_has_the_entropy_bonus_and_no_value_after_an_end() -> None:
    agent = SAC(SACConfig(hidden=HIDDEN, discount=0.9), 1, O, A, Normaliser.identity(O))
    agent.initialise(Generators([0]))
    batch, noise = random_batch(3, 1), random_noise(3, 1)
    with torch.no_grad():
        actions, log_probs = agent.actor.sample(batch.next_observations, noise[:, 1])
        values = agent.target_critic(batch.next_observations, actions)
        after = torch.minimum(values[:, 0], values[:, 1]) - 0.3 * log_probs
        target = torch.where(batch.terminated == 1, batch.rewards, batch.rewards + 0.9 * after)
        error = (agent.critic(batch.observations, batch.actions) - target[:, None]).square()
        sampled = (batch.actions, batch.rewards)  # which this loss does not need
        loss = agent.critic_loss(batch, batch.observations, sampled, noise[:, 1], torch.tensor([0.3]))["critic_loss"]
    torch.testing.assert_close(loss, 0.5 * error.mean(-1).sum(-1))
    assert batch.terminated.any()


def test_log_prob_is_that_of_a_transformed_normal() -> None:
    actor = GaussianActor(RUNS, O, A, HIDDEN)
    actor.net.initialise(Generators([0, 1]))
    observations, noise = random_batch(0).observations, random_noise(0)[:, 0]
    mean, log_std = actor(observations)
    squashed = distributions.TransformedDistribution(
        distributions.Normal(mean, log_std.exp()), [distributions.TanhTransform(cache_size=1)]
    )
    actions, log_probs = actor.sample(observations, noise)
    expected = squashed.log_prob(actions).sum(-1)
    torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(actor.log_prob(observations, actions), expected, rtol=1e-4, atol=1e-3)


def test_log_std_is_clamped_and_actions_at_the_edge_are_finite() -> None:
    actor = GaussianActor(1, O, A, ())
    with torch.no_grad():
        actor.net.biases[0][..., A:] = torch.tensor([-50.0, 50.0, 0.0])
    observations = torch.zeros(1, 2, O)
    _, log_std = actor(observations)
    assert log_std[0, 0].tolist() == [-20.0, 2.0, 0.0]
    edge = torch.tensor([[[1.0, -1.0, 1.0], [-1.0, 1.0, 0.0]]])
    with torch.no_grad():
        actor.net.biases[0][..., A:] = 0.0
    assert torch.isfinite(actor.log_prob(observations, edge)).all()


def test_acting_samples_and_the_best_actions_are_modes() -> None:
    agent = SAC(SACConfig(hidden=HIDDEN), RUNS, O, A, Normaliser(torch.full((O,), 2.0), torch.full((O,), 3.0)))
    agent.initialise(Generators([0, 1]))
    observations, noise = random_batch(0).observations, random_noise(0)[:, 0]
    mean, log_std = agent.actor(agent.normaliser(observations))
    torch.testing.assert_close(agent.best_actions(observations), mean.tanh())
    torch.testing.assert_close(agent.act(observations, noise), (mean + log_std.exp() * noise).tanh())
    torch.testing.assert_close(agent.best_actions(observations[:, 0]), mean[:, 0].tanh())
    one = agent.act(observations[:, 0], noise[:, 0])
    torch.testing.assert_close(one, (mean + log_std.exp() * noise).tanh()[:, 0])


@pytest.mark.parametrize("power", [None, 0.0, 3.0])
def test_the_deployed_actor_is_an_average(power: float | None) -> None:
    """The actor after update t weighs t (t + 1) … (t + power − 1); without a power the last one has all the weight."""
    agent = SAC(SACConfig(hidden=HIDDEN, averaging=power), RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators([0, 1]))
    actors: list[list[Tensor]] = []
    for step in range(5):
        agent.update(random_batch(step), random_noise(step))
        actors.append([parameter.detach().clone() for parameter in agent.actor.net.master()])
    weights = {None: [0, 0, 0, 0, 1], 0.0: [1] * 5, 3.0: [t * (t + 1) * (t + 2) for t in range(1, 6)]}[power]
    shares = torch.tensor(weights) / sum(weights)
    expected = [torch.tensordot(shares, torch.stack(column), 1) for column in zip(*actors, strict=True)]
    for average, value in zip(agent.average_actor.net.master(), expected, strict=True):
        torch.testing.assert_close(average.detach(), value, rtol=1e-5, atol=1e-7)
    observations = random_batch(9).observations
    moved = (agent.best_actions(observations) - agent.actor(observations)[0].tanh()).abs().max()
    assert (moved > 1e-6) == (power is not None)


def test_cloning_pulls_the_actor_to_the_expert() -> None:
    config = SACConfig(hidden=HIDDEN, cloning_weight=1000.0, learning_rate=3e-3)
    agent = SAC(config, 1, O, A, Normaliser.identity(O))
    agent.initialise(Generators([0]))
    expert = random_batch(1, 1)
    expert.actions[:] = torch.tensor([0.5, -0.5, 0.0])
    noise = torch.randn(1, 3, B, A, generator=torch.Generator().manual_seed(0))
    before = agent.cloning_error(expert, noise[:, 2]).item()
    for step in range(60):
        agent.update(random_batch(step, 1), noise, expert)
    assert agent.cloning_error(expert, noise[:, 2]).item() < 0.2 * before


def test_bfloat16_gradients_point_the_same_way_and_parameters_stay_float32() -> None:
    gradients: dict[torch.dtype, dict[str, list[Tensor]]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        agent = SAC(SACConfig(hidden=(128, 128)), RUNS, O, A, Normaliser.identity(O), dtype)
        agent.initialise(Generators([0, 1]))
        noted = gradients[dtype] = {}
        note_gradients(noted, "actor", agent.actor_optimiser)
        note_gradients(noted, "critic", agent.critic_optimiser)
        before = agent.critic.net.weights[1].detach().clone()
        agent.update(random_batch(0), random_noise(0))
        assert dtype in {gradient.dtype for gradient in noted["critic"]}
        assert {value.dtype for value in agent.training_state().values()} == {torch.float32}
        # A step of 3e-4 on a weight of 0.08 is about bfloat16's resolution; the parameters must take all of it.
        moved = (agent.critic.net.weights[1] - before).abs()
        assert math.isclose(moved.max().item(), 3e-4, rel_tol=0.02)
        assert (moved > 1e-4).float().mean() > 0.9
    for name in ("actor", "critic"):
        full, fast = (
            torch.cat([gradient.float().flatten(1) for gradient in noted[name]], 1) for noted in gradients.values()
        )
        assert torch.cosine_similarity(full, fast, dim=1).min() > 0.99, name
