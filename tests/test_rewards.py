"""Learned rewards: the sign, the penalty, relabelling, and early ends that are worth what they should be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from understudy.imitation.acting import relative_change
from understudy.imitation.networks import Normaliser, StackedMLP
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch
from understudy.imitation.rewards import (
    AirlConfig,
    AirlReward,
    DiffusionConfig,
    DiffusionReward,
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
FORMS = ("softplus", "logit", "log-sigmoid", "wasserstein", "airl", "diffusion")
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
    elif form == "diffusion":
        reward = DiffusionReward(DiffusionConfig(**options), *sizes)  # pyright: ignore
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
    if form not in ("wasserstein", "airl", "diffusion"):
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


@every_form
def test_scale_multiplies(form: str) -> None:
    one, ten = make(form), make(form, scale=10.0)
    batch = rows(0.0, 0)
    torch.testing.assert_close(ten.relabel(batch), 10 * one.relabel(batch))


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


@pytest.mark.parametrize("inputs", ["state", "state-action", "state-next-state", "all"])
def test_a_reward_depends_on_what_it_sees_alone(inputs: str) -> None:
    reward, batch = make("softplus", inputs=inputs), rows(0.0, 0)
    before = reward.relabel(batch)
    for column, word in (("actions", "action"), ("next_observations", "next")):
        changed = reward.relabel(dataclasses.replace(batch, **{column: getattr(batch, column) + 0.5}))
        sees = inputs == "all" or word in inputs
        assert torch.equal(changed, before) != sees


@pytest.mark.parametrize("error", [0.0, 1e-3, 50.0, 95.0, 1e4])
def test_a_diffusion_discriminator_is_sure_of_nothing_beyond_numbers(error: float) -> None:
    """exp(−error) is 0 in float32 from 104 on, and its logarithm's slope infinite from 89 on."""
    reward, batch = make("diffusion", times=3, absorbing=False), rows(0.0, 0)
    assert isinstance(reward, DiffusionReward)
    moved = torch.full((2, 1, 64), error, requires_grad=True)
    reward.predictor.squares = lambda inputs, *_, **__: moved[..., None].expand(*inputs.shape)  # pyright: ignore
    scores = reward.scores(reward.inputs(batch), batch)
    scores.sum().backward()
    assert moved.grad is not None
    assert moved.grad.isfinite().all()
    if error:
        wanted = -error - np.log(-np.expm1(-error))
        torch.testing.assert_close(scores, torch.full_like(scores, wanted), rtol=1e-4, atol=1e-4)
    assert scores.max() <= np.log(1e6) + 1e-3
    reward.predictor.squares = lambda inputs, *_, **__: torch.full(inputs.shape, error)  # pyright: ignore
    assert reward.relabel(batch).isfinite().all()


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


def test_diffails_reward_is_of_the_mean_over_times_and_dimensions_of_likeness() -> None:
    """r = −log(1 − D̄), D̄ = mean over t and dimensions of exp(−squared error), not exp of a mean (algorithms.md)."""
    reward, batch = make("diffusion", times=3, absorbing=False), rows(0.0, 0)
    assert isinstance(reward, DiffusionReward)
    dimensions = torch.arange(1.0, O + A + 1)

    def squares(rows: Tensor, noise: Tensor, times: Tensor, **_: object) -> Tensor:
        assert noise.shape == rows.shape
        return (0.2 * (times + 1).unsqueeze(-1) * dimensions).expand_as(rows)

    reward.predictor.squares = squares  # pyright: ignore
    likeness = np.mean([[np.exp(-0.2 * (t + 1) * d) for d in range(1, O + A + 1)] for t in range(3)])
    expected = torch.full((2, 64), -np.log(1 - likeness), dtype=torch.float32)
    torch.testing.assert_close(reward.relabel(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "seen"),
    [("state", [0]), ("state-action", [0, 1]), ("state-next-state", [0, 2]), ("all", [0, 1, 2])],
)
def test_airls_reward_proper_sees_what_it_is_to_see_and_is_shaped(inputs: str, seen: list[int]) -> None:
    """f = g(what is seen) + γ (1 − terminated) h(s') − h(s), by its networks' own parameters."""
    reward, batch = make("airl", inputs=inputs, shaping_discount=0.9, absorbing=False), rows(0.0, 0)
    assert isinstance(reward, AirlReward)
    batch = dataclasses.replace(batch, terminated=(torch.arange(64) % 2).float().expand(2, -1))
    parts = (batch.observations, batch.actions, batch.next_observations)
    own = reward.net(torch.cat([parts[k] for k in seen], -1))[:, 0]
    here, there = (reward.potential(parts[k])[:, 0] for k in (0, 2))
    torch.testing.assert_close(reward.unshaped(batch), own)
    expected = own + 0.9 * (1 - batch.terminated) * there - here
    torch.testing.assert_close(reward.relabel(batch), expected.detach())
    before = reward.unshaped(batch)
    for k, name in enumerate(("observations", "actions", "next_observations")):
        moved = dataclasses.replace(batch, **{name: parts[k] + 1})
        assert torch.equal(reward.unshaped(moved), before) == (k not in seen)


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


def test_how_far_a_reward_moves_is_told_in_units_of_its_own_spread() -> None:
    before = torch.arange(8.0).expand(2, 8)
    after = before + torch.tensor([[1.0], [2.0]])
    expected = torch.tensor([1 / 6, 4 / 6])  # the variance of 0 to 7 is 6
    torch.testing.assert_close(relative_change(before, after), expected)
    torch.testing.assert_close(relative_change(10 * before, 10 * after), expected)
    assert (relative_change(before, before) == 0).all()
