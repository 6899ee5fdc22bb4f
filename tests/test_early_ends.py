"""Early ends that are worth what they should be, by hand, by learning and on tabular tasks solved exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_rewards import FORMS, A, O, make, rows, shares, standard_log_prob
from torch import Tensor

from understudy.imitation.agents import SAC, SACConfig
from understudy.imitation.networks import Normaliser
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.imitation.rewards import AirlConfig, AirlReward, DiscriminatorReward
from understudy.imitation.rewards.base import steady

# The diffusion reward is a classifier's with other logits, which no parameters make the same everywhere.
PLAIN = tuple(form for form in FORMS if form != "diffusion")


def make_constant(reward: DiscriminatorReward, score: float) -> None:
    """Give every pair and the absorbing state the same score."""
    with torch.no_grad():
        for parameter in (p for stack in reward.stacks() for p in stack.master()):
            parameter.zero_()
        reward.net.net.biases[-1].fill_(score)
        reward.absorbing.fill_(score)


def test_the_score_after_an_end_follows_the_shares_of_time() -> None:
    scores = torch.tensor([[-3.0, 0.0, 1.0]])  # the log ratio of the shares goes no further
    gan, wasserstein = make("logit", 1), make("wasserstein", 1)
    for expert, learner, logit, moment in (
        (0.1, 0.1, 0.0, -1.0),
        (0.1, 0.4, -np.log(4), -1.0 - 0.6 * 2),
        (0.2, 0.1, np.log(2), -1.0 + 2 / 3),
        (0.4, 0.1, 1.0, -1.0 + 0.6 * 2),
        (1e-4, 0.9, -3.0, -1.0 - 0.8999 / 0.9001 * 2),
    ):
        pair = shares(expert, learner, 1)
        assert gan.absorbing_score(scores, *pair).item() == pytest.approx(logit, abs=1e-5)
        assert wasserstein.absorbing_score(scores, *pair).item() == pytest.approx(moment, abs=1e-5)
    # A discriminator step applies it, and the rewards are then relative to it.
    reward = make("logit")
    with torch.no_grad():
        reward.net.net.weights[-1] *= 1_000  # scores further apart than the logarithm
    sides, generators = (rows(0.6, 1), rows(-0.6, 2)), Generators([0, 1])
    reward.update(*sides, shares(0.1, 0.4), generators, standard_log_prob)
    torch.testing.assert_close(reward.absorbing, torch.full((2,), -np.log(4), dtype=torch.float32))
    batch = rows(0.0, 3)
    torch.testing.assert_close(reward.relabel(batch), reward.net(reward.inputs(batch)).squeeze(1) + np.log(4))
    reward.update(*sides, shares(0.1, 0.1), generators, standard_log_prob)
    torch.testing.assert_close(reward.absorbing, torch.zeros(2))
    # A positive reward has a bound below, at 0, and none above: there it goes no further than the scores.
    softplus = make("softplus", 1)
    assert softplus.absorbing_score(scores, *shares(1e-4, 0.9, 1)).item() == pytest.approx(np.log(1e-4 / 0.9), abs=1e-4)
    assert softplus.absorbing_score(scores, *shares(0.9, 1e-4, 1)).item() == pytest.approx(1.0, abs=1e-5)


def test_extremes_are_steadied_by_how_many_deviations_off_the_mean_they_lie() -> None:
    reach, scores = torch.zeros(1, 2), torch.tensor([[-2.0, 0.0, 2.0]])
    first = steady(reach, *scores.aminmax(dim=-1), scores, 1.0)
    assert [round(value.item(), 5) for value in first] == [-2, 2]
    # Grown and shifted as a whole, they lie where they lie now; half of another reach counts half.
    grown = 10 * scores + 7
    assert [round(v.item(), 4) for v in steady(reach, *grown.aminmax(dim=-1), grown, 0.5)] == [-13, 27]
    low, high = steady(reach, torch.tensor([-6.0]), torch.tensor([2.0]), scores, 0.5)
    assert (round(low.item(), 5), round(high.item(), 5)) == (-4, 2)


@pytest.mark.parametrize("form", PLAIN)
def test_a_reward_of_before_the_reach_was_kept_goes_on(form: str) -> None:
    reward, generators = make(form), Generators([0, 1])
    reward.update(rows(0.6, 1), rows(-0.6, 2), shares(0.1, 0.4), generators, standard_log_prob)
    state = {name: value for name, value in reward.training_state().items() if name[8:] not in ("updates", "reach")}
    other = make(form)
    other.set_training_state(state)
    torch.testing.assert_close(other.relabel(rows(0.0, 3)), reward.relabel(rows(0.0, 3)))


def learn_to_end_or_stay(rewards: list[DiscriminatorReward]) -> Tensor:
    """Values (R, 2) of ending and of staying, learned under each reward by soft actor-critic without entropy.

    One state; an action whose first number is negative ends the episode, any other stays. γ = 0.5.
    """
    runs, size = len(rewards), 32
    config = SACConfig(
        hidden=(32,), learning_rate=5e-3, discount=0.5, target_rate=0.2, initial_entropy_coefficient=1e-12
    )
    agent, generators = SAC(config, runs, O, A, Normaliser.identity(O)), Generators(range(runs))
    agent.initialise(generators)
    state = torch.ones(runs, size, O)
    for _ in range(40):
        noise, drawn = generators.normal((10, 2, size, A)), generators.uniform((10, size, A), -1, 1)
        for actions, step_noise in zip(drawn.unbind(1), noise.unbind(1), strict=True):
            nothing = torch.zeros(runs, size)
            batch = Batch(state, actions, state, nothing, (actions[..., 0] < 0).float(), nothing)
            columns = dataclasses.astuple(batch)
            alone = [Batch(*(column[run : run + 1] for column in columns)) for run in range(runs)]
            labelled = torch.cat([reward.relabel(one) for reward, one in zip(rewards, alone, strict=True)])
            agent.update(batch.with_rewards(labelled), step_noise)
    actions = torch.tensor([[-0.6, 0.0], [0.6, 0.0]]).expand(runs, 2, A)
    return agent.critic(state[:, :2], actions).mean(1).detach()


def test_an_indifferent_reward_is_indifferent_to_ending() -> None:
    """The same score everywhere says nothing: ending and staying must be worth the same, for every form.

    Without the absorbing state a positive constant keeps the learner alive and a negative one kills it.
    """
    cases = [(form, score) for form in PLAIN for score in (1.5, -1.5)]
    values: dict[bool, Tensor] = {}
    for absorbing in (True, False):
        rewards = [make(form, 1, absorbing=absorbing) for form, _ in cases]
        for reward, (_, score) in zip(rewards, cases, strict=True):
            make_constant(reward, score)
        values[absorbing] = learn_to_end_or_stay(rewards)
    gaps = values[True][:, 1] - values[True][:, 0]
    assert gaps.abs().max() < 0.02
    for (form, score), gap in zip(cases, (values[False][:, 1] - values[False][:, 0]).tolist(), strict=True):
        constant = make(form, 1).form(torch.tensor(score)).item()
        # Ending is worth c. Staying is worth c / (1 − γ) of a positive constant, and c + γ c of a negative one.
        expected = constant if constant > 0 else 0.5 * constant
        # A small network overshoots at the step between the two actions, and the bootstrap repeats it.
        assert gap == pytest.approx(expected, rel=0.4), (form, score)


def optimal_values(rewards: np.ndarray, transitions: np.ndarray, discount: float) -> np.ndarray:
    """Q* (S, A) for rewards (S, A) and transition probabilities (S, A, S), whose rows may sum to less than 1."""
    values = np.zeros_like(rewards)
    for _ in range(2000):
        values = rewards + discount * transitions @ values.max(1)
    return values


@pytest.mark.parametrize("form", PLAIN)
def test_relabelled_rewards_are_an_explicit_absorbing_state_up_to_a_constant(form: str) -> None:
    """A random task of 5 states and 3 actions, solved exactly with and without the state after an early end."""
    states, actions, discount = 5, 3, 0.9
    generator = np.random.default_rng(PLAIN.index(form))
    ending = np.where(generator.random((states, actions)) < 0.5, generator.random((states, actions)), 0.0)
    transitions = generator.dirichlet(np.ones(states), (states, actions)) * (1 - ending)[..., None]
    sizes = {"observation_size": states, "action_size": actions}
    reward, plain = (make(form, 1, **sizes, absorbing=absorbing) for absorbing in (True, False))
    plain.load_state_dict(reward.state_dict())
    for model in (reward, plain):
        with torch.no_grad():
            model.net.net.weights[-1] *= 10  # scores further apart
            model.absorbing.fill_(0.3)
    pairs = torch.eye(states * actions).view(states, actions, -1)
    which = pairs.view(states, actions, states, actions)
    nothing = torch.zeros(1, states * actions)
    batch = Batch(
        which.sum(-1).view(1, -1, states), which.sum(-2).view(1, -1, actions),
        torch.zeros(1, states * actions, states), nothing, nothing, nothing,
    )  # fmt: skip

    def table(model: DiscriminatorReward) -> np.ndarray:
        return model.relabel(batch).view(states, actions).double().numpy()

    after_end = reward.form(torch.tensor(0.3)).item()
    explicit_rewards = np.vstack([table(plain), np.full((1, actions), after_end)])
    explicit_transitions = np.zeros((states + 1, actions, states + 1))
    explicit_transitions[:states, :, :states] = transitions
    explicit_transitions[:states, :, states] = ending
    explicit_transitions[states, :, states] = 1
    explicit = optimal_values(explicit_rewards, explicit_transitions, discount)[:states]
    ours = optimal_values(table(reward), transitions, discount)
    np.testing.assert_allclose(explicit - after_end / (1 - discount), ours, atol=1e-5)
    assert np.array_equal(explicit.argmax(1), ours.argmax(1))
    # Without it the constant counts: the values are others, and not by one constant.
    naive = optimal_values(table(plain), transitions, discount)
    assert np.ptp(explicit - naive) > 0.05


def test_airls_shaping_changes_values_by_the_potential_and_no_preference() -> None:
    """On a random tabular task with ends, the optimal values under f are those under g less h(s)."""
    states, actions, discount = 6, 3, 0.9
    random = np.random.default_rng(0)
    transitions = random.dirichlet(np.ones(states + 1), (states, actions))  # the last is an early end
    config = AirlConfig(hidden=(32,), shaping_discount=discount, absorbing=False)
    reward = AirlReward(config, 1, states, actions, Normaliser.identity(states))
    reward.initialise(Generators([3]))
    with torch.no_grad():
        for stack in reward.stacks():
            stack.biases[-1].add_(0.7)  # a potential of mean 0 would hide a sign
    one_hot, shape = torch.eye(states), (states, actions, states + 1)
    here = one_hot[:, None, None].expand(*shape, states).reshape(1, -1, states)
    there = torch.cat((one_hot, one_hot[:1]))[None, None].expand(*shape, states).reshape(1, -1, states)
    acted = torch.eye(actions)[None, :, None].expand(*shape, actions).reshape(1, -1, actions)
    ends = torch.zeros(shape)
    ends[..., -1] = 1
    nothing = torch.zeros(1, here.shape[1])
    batch = Batch(here, acted, there, nothing, ends.view(1, -1), nothing)
    shaped = reward.relabel(batch).view(shape).double().numpy()
    plain = reward.unshaped(batch).view(shape)[..., 0].double().numpy()
    potential = reward.potential(one_hot[None])[0, 0].detach().double().numpy()
    living = transitions[..., :states]
    under_f = optimal_values((shaped * transitions).sum(-1), living, discount)
    under_g = optimal_values(plain, living, discount)
    np.testing.assert_allclose(under_f, under_g - potential[:, None], atol=1e-5)
    assert np.array_equal(under_f.argmax(1), under_g.argmax(1))
    assert np.ptp(potential) > 0.05
