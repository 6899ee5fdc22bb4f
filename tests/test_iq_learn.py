"""IQ-Learn: its objective by hand, online and offline, what it finds, and its reward on tasks solved exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Make, run_to, same_state
from layers import HIDDEN, RUNS, A, O, random_batch, random_noise
from scipy.stats import spearmanr
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation.agents import IQLearn, IQLearnConfig
from understudy.imitation.networks import Normaliser
from understudy.imitation.parts import Setting
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.robots import InputError, find_task

INITIAL = torch.randn(3, O, generator=torch.Generator().manual_seed(8))


def initial_value(agent: IQLearn, noise: Tensor, run: int) -> Tensor:
    """The mean of V over the initial states, drawn uniformly by the last set of noise."""
    uniform = torch.distributions.Normal(0, 1).cdf(noise[:, 1, :, 0])
    states = INITIAL[(3 * uniform).long()]
    assert (states[0] == INITIAL[2]).all(-1).any()
    actions, log_probs = agent.actor.sample(states, noise[:, 0])
    entropy = agent.config.initial_entropy_coefficient
    return (agent.critic(states, actions.detach())[run, 0] - entropy * log_probs[run].detach()).mean()


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
            "initial": 0.01 * initial_value(agent, noise[:, -2:], run),
        }[config.value_term]
        held = torch.cat((q_e - y_e, q_l - y_l)) if config.regularised == "both" else q_e - y_e
        losses.append(-(q_e - y_e).mean() + term + held.square().mean() / (4 * config.regularisation))
    return torch.stack(losses)


@pytest.mark.parametrize("value_term", ["value", "value_expert", "initial", "v0"])
@pytest.mark.parametrize(("expert", "learner"), [(1e-4, 0.9), (0.2, 0.6), (0.3, 0.3), (0.5, 0.1)])
def test_the_absorbing_states_reward_minimises_the_objective(value_term: Any, expert: float, learner: float) -> None:
    """Among many values by the objective of one state, in which both sides spend shares of their time."""
    agent = IQLearn(IQLearnConfig(value_term=value_term, regularisation=0.3), RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    agent.follow_ends(torch.full((RUNS,), expert), torch.full((RUNS,), learner))
    r = torch.linspace(-2, 2, 40_001)
    term = {"value": (expert + learner) / 2, "value_expert": expert}.get(value_term, learner) * r
    objective = -expert * r + term + (expert + learner) / 2 * r.square() / (4 * 0.3)
    assert agent._absorbing[0].item() == pytest.approx(r[objective.argmin()].item(), abs=1e-3)


@pytest.mark.parametrize("value_term", ["value", "v0"])
def test_an_absorbing_state_taken_off_all_values_changes_no_gradient(value_term: Any) -> None:
    """The same as a critic with r_absorbing / (1 − γ) added everywhere, to which an end leads for ever."""
    config = IQLearnConfig(hidden=HIDDEN, value_term=value_term)
    agent = IQLearn(config, RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    agent.follow_ends(torch.full((RUNS,), 0.1), torch.full((RUNS,), 0.4))
    batch, expert, noise = random_batch(1), random_batch(2), torch.cat((random_noise(1), random_noise(2)), 1)
    assert batch.terminated.any()
    both, constant = expert.joined(batch), float(agent._absorbing[0]) / (1 - config.discount)
    drawn = noise.unflatten(1, (2, 2)).flatten(2, 3)
    coefficient, entropy = torch.full((RUNS,), config.initial_entropy_coefficient), config.initial_entropy_coefficient
    actions, log_probs = agent.actor.sample(both.observations, drawn[:, 0])
    size = agent._expert_count = expert.expert.shape[1]
    sampled = (actions.detach(), log_probs.detach())
    ours = agent.critic_loss(both, both.observations, sampled, drawn[:, 1], coefficient)["critic_loss"]

    following = agent.discounted_next_values(both, drawn[:, 1], coefficient) + config.discount * constant
    rewards = agent.critic(both.observations, both.actions)[:, 0] + constant - following
    values = agent.critic(both.observations, actions.detach())[:, 0] - entropy * log_probs.detach() + constant
    term = (values - following).mean(-1) if value_term == "value" else 0.01 * values[:, :size].mean(-1)
    explicit = -rewards[:, :size].mean(-1) + term + rewards.square().mean(-1) / (4 * config.regularisation)
    parameters = agent.critic.net.master()
    gradients = [torch.autograd.grad(loss.sum(), parameters, retain_graph=True) for loss in (ours, explicit)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_iq_learn_says_what_an_early_end_is_worth(make: Make) -> None:
    training: Any = run_to(make("iq_learn"), 200)
    assert (training.agent._absorbing != 0).all()
    training.close()
    released: Any = run_to(make("iq_learn", "agent.absorbing=false"), 200)
    assert (released.agent._absorbing == 0).all()
    released.close()


def test_the_actor_moves_at_its_own_rate() -> None:
    """Adam's first step is the rate, whatever the gradient."""
    agent = IQLearn(IQLearnConfig(hidden=HIDDEN), RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    before = [[p.detach().clone() for p in net.net.master()] for net in (agent.actor, agent.critic)]
    noise = torch.cat((random_noise(1), random_noise(2)), 1)
    agent.update(random_batch(1), noise, random_batch(2))
    for network, start, rate in zip((agent.actor, agent.critic), before, (3e-5, 3e-4), strict=True):
        moved = max(float((p - b).detach().abs().max()) for p, b in zip(network.net.master(), start, strict=True))
        assert moved == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("value_term", ["value", "value_expert", "initial", "v0"])
@pytest.mark.parametrize("regularised", ["both", "expert"])
def test_iq_learns_loss_and_its_gradient_are_the_inverse_objectives(value_term: Any, regularised: Any) -> None:
    config = IQLearnConfig(hidden=HIDDEN, value_term=value_term, regularised=regularised, regularisation=0.3)
    agent = IQLearn(config, RUNS, O, A, Normaliser.identity(O))
    agent.set_initial_states(INITIAL)
    agent.initialise(Generators(range(RUNS)))
    noted: list[list[Tensor]] = []
    original = agent.critic_optimiser.apply
    agent.critic_optimiser.apply = lambda gradients: noted.append(list(gradients)) or original(gradients)  # pyright: ignore
    batch, expert = random_batch(1), random_batch(2)
    noise = torch.cat((random_noise(1), random_noise(2), random_noise(3)), 1)[:, : agent.noise_rows]
    expected = inverse_objective(agent, batch, expert, noise, config)
    slopes = torch.autograd.grad(expected.sum(), agent.critic.net.master())
    metrics = agent.update(batch, noise, expert)
    torch.testing.assert_close(metrics["critic_loss"], expected.detach(), rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(noted[0], slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_iq_learn_finds_the_experts_actions_and_rewards_them_until_it_has() -> None:
    agent = IQLearn(
        IQLearnConfig(hidden=(64, 64), learning_rate=1e-3, actor_learning_rate=1e-3), 1, O, A, Normaliser.identity(O)
    )
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


@pytest.mark.parametrize("value_term", ["value", "value_expert"])
def test_offline_all_rows_are_the_experts(value_term: Any) -> None:
    """The same loss as online when the learner's rows are left out of every term."""
    config = IQLearnConfig(hidden=HIDDEN, value_term=value_term, regularised="expert")
    agent = IQLearn(config, RUNS, O, A, Normaliser.identity(O))
    agent.initialise(Generators(range(RUNS)))
    expert, noise = random_batch(2), torch.cat((random_noise(1), random_noise(2)), 1)
    alone = torch.stack((noise[:, 0], noise[:, 0], noise[:, 1], noise[:, 1]), 1)
    settings = IQLearnConfig(hidden=HIDDEN, value_term="value_expert", regularised="expert")
    expected = inverse_objective(agent, expert, expert, alone, settings)
    metrics = agent.update(expert, noise)
    torch.testing.assert_close(metrics["critic_loss"], expected.detach(), rtol=1e-5, atol=1e-6)
    assert "reward_learner" not in metrics


def test_initial_states_are_the_first_rows_of_episodes(make: Make, demonstrations: Demonstrations) -> None:
    training: Any = make("iq_learn", "agent.value_term=initial")
    assert training.agent._initial.numpy() == pytest.approx(demonstrations.observations[demonstrations.starts])
    while training.steps < 200:
        training.advance()
    task = find_task("hopper")
    later = dataclasses.replace(demonstrations, times=demonstrations.times + 1)
    setting = Setting(
        task, task.spaces, (0,), Normaliser.identity(11), torch.float32, torch.device("cpu"), demonstrations=later
    )
    with pytest.raises(InputError, match=r"agent\.value_term=initial needs the first rows"):
        IQLearn.create(IQLearnConfig(value_term="initial"), setting)


STATES, DISCOUNT, ENTROPY = 4, 0.8, 0.1
GRID = np.linspace(-0.98, 0.98, 25)  # actions at which the task is solved exactly


def soft_optimal(rewards: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """π(a|s) (S, G) of soft value iteration on the grid."""
    values = np.zeros(STATES)
    for _ in range(200):
        action_values = (rewards + DISCOUNT * transitions @ values) / ENTROPY
        highest = action_values.max(1, keepdims=True)
        weights = np.exp(action_values - highest)
        values = ENTROPY * (highest[:, 0] + np.log(weights.mean(1)))
    return weights / weights.sum(1, keepdims=True)


def worth(policy: np.ndarray, rewards: np.ndarray, transitions: np.ndarray) -> float:
    """The exact discounted return of a policy (S, G) from the uniform start."""
    moves = np.einsum("sg,sgt->st", policy, transitions)
    values = np.linalg.solve(np.eye(STATES) - DISCOUNT * moves, (policy * rewards).sum(1))
    return float(values.mean())


@pytest.mark.parametrize(
    ("value_term", "least"), [("value", -1.0), ("value_expert", -1.0), ("initial", 0.9), ("v0", 0.9)]
)
def test_the_recovered_reward_ranks_policies_as_the_true_one(value_term: Any, least: float) -> None:
    """Among policies of all kinds, on a task with four states, one action and known transitions.

    Rewards that differ by potential shaping cannot be told apart, so policies are ranked instead of pairs. Of five runs
    the median ranks well; with the values of initial states known every run does, where the others estimate them from a
    batch's rows, V(s) − γ V(s'), and a run in five may go astray.
    """
    runs = 5
    random = np.random.default_rng(3)
    left, right = random.dirichlet(np.full(STATES, 0.5), (2, STATES))
    up = (1 + GRID) / 2
    transitions = left[:, None] * (1 - up)[:, None] + right[:, None] * up[:, None]
    best, height = random.uniform(-0.7, 0.7, (STATES, 1)), random.uniform(0, 1, (STATES, 1))
    truth = height - (GRID - best) ** 2
    expert = soft_optimal(truth, transitions)

    def drawn(shares: np.ndarray) -> np.ndarray:
        return (shares.cumsum(1) < random.uniform(size=(len(shares), 1))).sum(1).clip(max=shares.shape[1] - 1)

    def rows(policy: np.ndarray) -> Batch:
        """256 steps of a policy, from uniform states."""
        states = random.integers(0, STATES, runs * 256)
        actions = drawn(policy[states])
        following = drawn(transitions[states, actions])
        before, after = (torch.eye(STATES)[each].view(runs, 256, STATES) for each in (states, following))
        taken, nothing = torch.from_numpy(GRID[actions]).float().view(runs, 256, 1), torch.zeros(runs, 256)
        return Batch(before, taken, after, nothing, nothing, nothing)

    config = IQLearnConfig(
        hidden=(64, 64), learning_rate=2e-3, actor_learning_rate=2e-3, discount=DISCOUNT, target_rate=0.05,
        value_term=value_term, initial_entropy_coefficient=ENTROPY,
    )  # fmt: skip
    agent, generators = IQLearn(config, runs, STATES, 1, Normaliser.identity(STATES)), Generators(list(range(runs)))
    agent.set_initial_states(torch.eye(STATES))
    agent.initialise(generators)
    wide = np.full((STATES, len(GRID)), 1 / len(GRID))
    for _ in range(600):
        agent.update(rows(wide), generators.normal((agent.noise_rows, 256, 1)), rows(expert))

    with torch.no_grad():
        grid = torch.from_numpy(GRID).float()[None, :, None].expand(runs, -1, -1)
        here = torch.eye(STATES)[:, None, None].expand(-1, runs, len(GRID), -1)
        found = torch.stack([agent.critic(s, grid)[:, 0] for s in here], 1).double().numpy()
        many = torch.eye(STATES).repeat_interleave(500, 0).expand(runs, -1, -1)
        actions, log_probs = agent.actor.sample(many, generators.normal((500 * STATES, 1)))
        values = agent.critic(many, actions)[:, 0] - ENTROPY * log_probs
    soft_values = values.view(runs, STATES, 500).mean(2).double().numpy()
    policies = [soft_optimal(random.normal(0, 1, truth.shape), transitions) for _ in range(20)]
    policies += [soft_optimal(share * truth, transitions) for share in np.linspace(-1, 1, 20)]
    true_worths = [worth(policy, truth, transitions) for policy in policies]
    ranks: list[float] = []
    for run in range(runs):
        recovered = found[run] - DISCOUNT * transitions @ soft_values[run]
        ranks.append(spearmanr(true_worths, [worth(policy, recovered, transitions) for policy in policies]).statistic)
    assert np.median(ranks) > 0.7, ranks  # untrained it is below 0
    assert min(ranks) > least, ranks


def test_a_pause_anywhere_changes_nothing_offline(make: Make) -> None:
    whole, paused = make("iq_learn_offline", "steps=140"), make("iq_learn_offline", "steps=70")
    while whole.steps < 140:
        whole.advance()
    while paused.steps < 70:
        paused.advance()
    longer = make("iq_learn_offline", "steps=140")
    longer.set_state(paused.state())
    while longer.steps < 140:
        longer.advance()
    assert same_state(whole.state(), longer.state())


def test_an_unbounded_absorbing_state_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"add agent\.absorbing=false"):
        make("iq_learn", "agent.regularised=expert")
    make("iq_learn", "agent.regularised=expert", "agent.absorbing=false").close()
