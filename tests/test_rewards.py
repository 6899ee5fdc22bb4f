"""Learned rewards: the sign, the penalty, relabelling, and early ends that are worth what they should be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from understudy.imitation.agents import SAC, SACConfig
from understudy.imitation.networks import Normaliser, StackedMLP
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.imitation.rewards import (
    AirlConfig,
    AirlReward,
    DiscriminatorConfig,
    DiscriminatorReward,
    GanConfig,
    GanReward,
    TaskReward,
    WassersteinReward,
    gradient_penalty,
    slopes,
)

O, A = 3, 2  # noqa: E741
FORMS = ("softplus", "logit", "log-sigmoid", "wasserstein", "airl")
every_form = pytest.mark.parametrize("form", FORMS)


def make(
    form: str, runs: int = 2, *, observation_size: int = O, action_size: int = A, **settings: object
) -> DiscriminatorReward:
    """A reward model of a form, initialised."""
    options = {"hidden": (32, 32), "batch_size": 64, **settings}
    sizes = (runs, observation_size, action_size, Normaliser.identity(observation_size))
    reward: DiscriminatorReward
    if form == "airl":
        reward = AirlReward(AirlConfig(**options), *sizes)  # pyright: ignore
    elif form == "wasserstein":
        reward = WassersteinReward(DiscriminatorConfig(**options), *sizes)  # pyright: ignore
    else:
        reward = GanReward(GanConfig(form=form, **options), *sizes)  # pyright: ignore
    reward.initialise(Generators(range(runs)))
    return reward


def rows(centre: float, seed: int, runs: int = 2, size: int = 64) -> Batch:
    """State-action pairs around ``centre``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(runs, size, *shape, generator=generator)

    nothing = torch.zeros(runs, size)
    return Batch(centre + normal(O), centre + 0.1 * normal(A), normal(O), nothing, nothing, nothing)


def shares(expert: float, learner: float, runs: int = 2) -> tuple[Tensor, Tensor]:
    return torch.full((runs,), expert), torch.full((runs,), learner)


def standard_log_prob(batch: Batch) -> Tensor:
    """A policy that draws from a standard normal distribution in every state."""
    return torch.distributions.Normal(0.0, 1.0).log_prob(batch.actions).sum(-1)  # pyright: ignore


def make_constant(reward: DiscriminatorReward, score: float) -> None:
    """Give every pair and the absorbing state the same score."""
    with torch.no_grad():
        for parameter in (p for network in reward.networks() for p in network.net.master()):
            parameter.zero_()
        reward.net.net.biases[-1].fill_(score)
        reward.absorbing.fill_(score)


@pytest.mark.parametrize("target", [0.4, 1.0, 3.0])
def test_the_penalty_of_a_linear_function_is_exact(target: float) -> None:
    network = StackedMLP((2,), (4, 1))
    with torch.no_grad():
        network.weights[0][0, :, 0] = torch.tensor([3.0, 0.0, 4.0, 0.0])
        network.weights[0][1, :, 0] = torch.tensor([0.0, 0.6, 0.0, 0.8])
    inputs = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty = gradient_penalty(slopes(network(inputs).squeeze(-1), inputs), target)
    torch.testing.assert_close(penalty, torch.tensor([(5 - target) ** 2, (1 - target) ** 2]), rtol=1e-5, atol=1e-6)
    # d/dw (‖w‖ − t)² = 2 (‖w‖ − t) w / ‖w‖
    (slope,) = torch.autograd.grad(penalty.sum(), [network.weights[0]])
    norms = torch.tensor([5.0, 1.0])[:, None, None]
    torch.testing.assert_close(slope, 2 * (norms - target) * network.weights[0] / norms, rtol=1e-5, atol=1e-5)


@every_form
@pytest.mark.parametrize("settings", [{}, {"optimiser": "oadam"}, {"input_noise": 0.1}, {"absorbing": False}])
def test_the_expert_is_rewarded_more_than_the_learner(form: str, settings: dict[str, object]) -> None:
    reward, generators = make(form, learning_rate=3e-3, **settings), Generators([0, 1])
    for step in range(200):
        metrics = reward.update(
            rows(0.6, step), rows(-0.6, 1000 + step), shares(0.01, 0.2), generators, standard_log_prob
        )
    expert, learner = reward.relabel(rows(0.6, 5000)), reward.relabel(rows(-0.6, 6000))
    assert expert.shape == (2, 64)
    assert (expert.mean(-1) > learner.mean(-1) + 0.3).all()
    assert (metrics["score_expert"] > metrics["score_learner"]).all()
    assert all(value.shape == (2,) and torch.isfinite(value).all() for value in metrics.values())
    if form not in ("wasserstein", "airl"):
        assert (metrics["accuracy_expert"] > 0.7).all()
        assert (metrics["accuracy_learner"] > 0.7).all()


@every_form
def test_rewards_follow_the_discriminator(form: str) -> None:
    reward, batch = make(form, learning_rate=1e-2), rows(0.0, 0)
    before = reward.relabel(batch)
    assert torch.equal(before, reward.relabel(batch))
    reward.update(rows(0.6, 1), rows(-0.6, 2), shares(0.1, 0.1), Generators([0, 1]), standard_log_prob)
    assert not torch.allclose(before, reward.relabel(batch), atol=1e-3)
    assert not before.requires_grad


def test_the_penalty_holds_the_slope_at_its_target() -> None:
    """Of two far groups the critic's slope between them is the target's, not what separates them best."""
    reward, generators = make("wasserstein", learning_rate=3e-3, penalty_target=0.4), Generators([0, 1])
    for step in range(300):
        metrics = reward.update(
            rows(3.0, step), rows(-3.0, 1000 + step), shares(0.1, 0.1), generators, standard_log_prob
        )
    distance = 6 * (O + A) ** 0.5
    slope = (metrics["score_expert"] - metrics["score_learner"]) / distance
    # The penalty's weight of 10 leaves the slope above the target by 1 / (2·10) of the distance at most.
    assert ((slope > 0.4) & (slope < 0.4 + distance / 20 + 0.1)).all()
    free = make("wasserstein", learning_rate=3e-3, penalty_weight=0.0)
    for step in range(300):
        loose = free.update(rows(3.0, step), rows(-3.0, 1000 + step), shares(0.1, 0.1), generators, standard_log_prob)
    assert ((loose["score_expert"] - loose["score_learner"]) / distance > 5 * slope).all()


@pytest.mark.parametrize("form", FORMS[:3])
def test_extreme_logits_are_finite(form: str) -> None:
    reward = make(form)
    logits = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4]])
    rewards = reward.form(logits)
    expected = {
        "softplus": [0.0, 0.0, np.log(2), 100.0, 1e4],
        "logit": [-1e4, -100.0, 0.0, 100.0, 1e4],
        "log-sigmoid": [-1e4, -100.0, -np.log(2), 0.0, 0.0],
    }
    assert rewards[0].tolist() == pytest.approx(expected[form], abs=1e-5)
    logits.requires_grad_()
    expert, learner = reward.objective(logits, logits)
    (slope,) = torch.autograd.grad((expert + learner).sum(), logits)
    for value in (expert, learner, slope):
        assert torch.isfinite(value).all()


def test_the_score_after_an_end_follows_the_shares_of_time() -> None:
    scores = torch.tensor([[-3.0, 0.0, 1.0]])
    gan, wasserstein = make("logit", 1), make("wasserstein", 1)
    for expert, learner, logit, moment in (
        (0.1, 0.1, 0.0, -1.0),
        (0.1, 0.4, -np.log(4), -1.0 - 0.6 * 2),
        (0.4, 0.1, np.log(4), -1.0 + 0.6 * 2),
    ):
        pair = shares(expert, learner, 1)
        assert gan.absorbing_score(scores, *pair).item() == pytest.approx(logit, abs=1e-5)
        assert wasserstein.absorbing_score(scores, *pair).item() == pytest.approx(moment, abs=1e-5)
    # A discriminator step applies it, and the rewards are then relative to it.
    reward = make("logit")
    reward.update(rows(0.6, 1), rows(-0.6, 2), shares(0.1, 0.4), Generators([0, 1]), standard_log_prob)
    torch.testing.assert_close(reward.absorbing, torch.full((2,), -np.log(4), dtype=torch.float32))
    batch = rows(0.0, 3)
    torch.testing.assert_close(reward.relabel(batch), reward.net(reward.inputs(batch)).squeeze(1) + np.log(4))


@every_form
def test_scale_multiplies(form: str) -> None:
    one, ten = make(form), make(form, scale=10.0)
    batch = rows(0.0, 0)
    torch.testing.assert_close(ten.relabel(batch), 10 * one.relabel(batch))


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
    cases = [(form, score) for form in FORMS for score in (1.5, -1.5)]
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


@every_form
def test_relabelled_rewards_are_an_explicit_absorbing_state_up_to_a_constant(form: str) -> None:
    """A random task of 5 states and 3 actions, solved exactly with and without the state after an early end."""
    states, actions, discount = 5, 3, 0.9
    generator = np.random.default_rng(FORMS.index(form))
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


@every_form
def test_run_k_of_a_stack_equals_the_single_run(form: str) -> None:
    stack, single = make(form, 3), make(form, 1)
    stack.initialise(Generators([4, 5, 6]))
    single.initialise(Generators([5]))
    many, one = Generators([4, 5, 6]), Generators([5])
    for step in range(30):
        expert, learner = rows(0.6, step, 3), rows(-0.6, 1000 + step, 3)
        stack.update(expert, learner, shares(0.1, 0.3, 3), many, standard_log_prob)
        middle = [
            Batch(*(getattr(side, field.name)[1:2] for field in dataclasses.fields(Batch)))
            for side in (expert, learner)
        ]
        single.update(middle[0], middle[1], shares(0.1, 0.3, 1), one, standard_log_prob)
    batch = rows(0.0, 1)
    ours = stack.relabel(Batch(*(v[:1].expand(3, *v.shape[1:]) for v in dataclasses.astuple(batch))))
    theirs = single.relabel(Batch(*(v[:1] for v in dataclasses.astuple(batch))))
    torch.testing.assert_close(ours[1], theirs[0], rtol=1e-4, atol=1e-5)


@every_form
def test_the_state_continues_to_the_bit(form: str) -> None:
    reward, other = make(form), make(form)
    generators = Generators([0, 1])
    for step in range(3):
        reward.update(rows(0.6, step), rows(-0.6, 1000 + step), shares(0.1, 0.3), generators, standard_log_prob)
    other.initialise(Generators([7, 8]))
    other.set_training_state({name: value.clone() for name, value in reward.training_state().items()})
    assert torch.equal(reward.relabel(rows(0.0, 0)), other.relabel(rows(0.0, 0)))
    for model in (reward, other):
        model.update(rows(0.6, 9), rows(-0.6, 99), shares(0.2, 0.1), Generators([3, 4]), standard_log_prob)
    assert torch.equal(reward.relabel(rows(0.0, 0)), other.relabel(rows(0.0, 0)))


def test_a_round_starts_with_a_signed_step_of_the_falling_rate() -> None:
    """As the released code: the optimiser is made anew with rate lr₀/k each round and makes one step."""
    reward = make("wasserstein", optimiser="oadam", learning_rate=8e-4, initialisation="orthogonal", hidden=(8,))
    for finished, rate in ((0, 8e-4), (1, 8e-4), (2, 4e-4), (5, 1.6e-4)):
        before = [p.detach().clone() for p in reward.net.net.master()]
        reward.start_round(finished)
        reward.update(
            rows(0.6, finished), rows(-0.6, 50 + finished), shares(0.1, 0.3), Generators([0, 1]), standard_log_prob
        )
        steps = [(p - b).detach().abs() for p, b in zip(reward.net.net.master(), before, strict=True)]
        assert max(step.max().item() for step in steps) == pytest.approx(2 * rate, rel=2e-3)
        assert (steps[0] > 1.9 * rate).float().mean() > 0.8


def test_bfloat16_relabels_alike_and_trains_in_float32() -> None:
    config = GanConfig(hidden=(64, 64), learning_rate=3e-3)
    results: list[Tensor] = []
    for dtype in (torch.float32, torch.bfloat16):
        reward = GanReward(config, 2, O, A, Normaliser.identity(O), dtype)
        reward.initialise(Generators([0, 1]))
        generators = Generators([0, 1])
        for step in range(20):
            reward.update(rows(0.6, step), rows(-0.6, 1000 + step), shares(0.1, 0.3), generators, standard_log_prob)
        results.append(reward.relabel(rows(0.0, 0)))
        results.append(torch.cat([p.flatten() for p in reward.net.net.master()]))
    assert not torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0], results[2], rtol=0.02, atol=0.02)
    assert torch.equal(results[1], results[3])


def test_the_tasks_reward_is_the_stored_one() -> None:
    batch = rows(0.0, 0).with_rewards(torch.arange(128.0).view(2, 64))
    assert torch.equal(TaskReward().relabel(batch), batch.rewards)
    assert not TaskReward().learned


def test_airls_shaping_changes_values_by_the_potential_and_no_preference() -> None:
    """On a random tabular task with ends, the optimal values under f are those under g less h(s)."""
    states, actions, discount = 6, 3, 0.9
    random = np.random.default_rng(0)
    transitions = random.dirichlet(np.ones(states + 1), (states, actions))  # the last is an early end
    config = AirlConfig(hidden=(32,), shaping_discount=discount, absorbing=False)
    reward = AirlReward(config, 1, states, actions, Normaliser.identity(states))
    reward.initialise(Generators([3]))
    with torch.no_grad():
        for network in reward.networks():
            network.net.biases[-1].add_(0.7)  # a potential of mean 0 would hide a sign
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


@pytest.mark.parametrize("inputs", ["state", "state-action", "state-next-state", "all"])
def test_a_reward_depends_on_what_it_sees_alone(inputs: str) -> None:
    reward, batch = make("softplus", inputs=inputs), rows(0.0, 0)
    before = reward.relabel(batch)
    for column, word in (("actions", "action"), ("next_observations", "next")):
        changed = reward.relabel(dataclasses.replace(batch, **{column: getattr(batch, column) + 0.5}))
        sees = inputs == "all" or word in inputs
        assert torch.equal(changed, before) != sees


@pytest.mark.parametrize("combine", ["mean", "min", "max"])
def test_members_are_trained_apart_and_combined(combine: str) -> None:
    reward = make("logit", members=3, combine=combine, absorbing=False)
    generators = Generators([0, 1])
    for step in range(20):
        reward.update(rows(0.6, step), rows(-0.6, 1000 + step), shares(0.1, 0.1), generators)
    batch = rows(0.0, 0)
    scores = reward.net(reward.inputs(batch))
    assert scores.shape == (2, 3, 64)
    assert (scores[:, 0] - scores[:, 1]).abs().max() > 0.01
    expected = {"mean": scores.mean(1), "min": scores.amin(1), "max": scores.amax(1)}[combine]
    torch.testing.assert_close(reward.relabel(batch), expected.detach())


def test_airl_recomputes_the_log_probability_of_both_sides() -> None:
    """Another policy makes other logits of the same rows, so another step."""
    after: list[Tensor] = []
    for shift in (0.0, 0.0, 2.0):
        reward = make("airl", learning_rate=1e-2)
        asked: list[Batch] = []

        def log_prob(batch: Batch, shift: float = shift, asked: list[Batch] = asked) -> Tensor:
            asked.append(batch)
            return standard_log_prob(batch) + shift

        reward.update(rows(0.6, 1), rows(-0.6, 2), shares(0.1, 0.1), Generators([0, 1]), log_prob)
        assert asked[0].actions.shape[1] == 128  # expert and learner
        after.append(reward.relabel(rows(0.0, 3)))
    assert torch.equal(after[0], after[1])
    assert not torch.allclose(after[0], after[2], atol=1e-3)
