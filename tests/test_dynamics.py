"""The ensemble of a learned world: what it finds out, how sure it says it is, and that each run's is its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from understudy.imitation.dynamics import Dynamics, DynamicsConfig
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch

A, B = torch.tensor([[0.9, 0.2], [-0.1, 0.8]]), torch.tensor([[0.5, -0.3]])
NOISE = torch.tensor([0.05, 0.2])


def linear(rows: int, seeds: list[int]) -> Batch:
    """s' = A s + B a + noise of two deviations, for each run its own rows."""
    generators = Generators(seeds)
    states, actions = generators.normal((rows, 2)), generators.uniform((rows, 1), -1, 1)
    after = states @ A.mT + actions @ B + NOISE * generators.normal((rows, 2))
    flags = torch.zeros(len(seeds), rows)
    return Batch(states, actions, after, flags, flags, flags)


@pytest.fixture(scope="module")
def fitted() -> tuple[Dynamics, dict[str, Tensor]]:
    config = DynamicsConfig(members=3, elites=2, hidden=(32, 32), epochs=25, patience=5, learning_rate=3e-3)
    dynamics = Dynamics(config, 2, 2, 1)
    dynamics.initialise(Generators([1, 2]))
    return dynamics, dynamics.fit(None, linear(4_000, [3, 4]), Generators([5, 6]))


def test_a_linear_gaussian_system_is_found(fitted: tuple[Dynamics, dict[str, Tensor]]) -> None:
    """Its mean within a fifth of the noise, its two deviations within a tenth of themselves."""
    new = linear(2_000, [7, 8])
    means, variances = fitted[0].predict(new.observations, new.actions)
    truth = new.observations @ A.mT + new.actions @ B
    assert means.shape == (2, 2, 2_000, 2)
    error = (means.mean(1) - truth).square().mean(1).sqrt()
    assert (error < 0.2 * NOISE).all(), error
    torch.testing.assert_close(variances.mean((1, 2)).sqrt(), NOISE.expand(2, 2), rtol=0.1, atol=0.0)


def test_the_elites_are_the_members_to_which_held_out_rows_are_likeliest() -> None:
    """Every tenth row is held out; by their density in the units of the change."""
    config = DynamicsConfig(members=5, elites=2, hidden=(8,), epochs=2, learning_rate=3e-3)
    dynamics, rows = Dynamics(config, 2, 2, 1), linear(600, [3, 4])
    dynamics.initialise(Generators([1, 2]))
    dynamics.fit(None, rows, Generators([5, 6]))
    means, log_variances = dynamics.standardised(rows.observations[:, 9::10], rows.actions[:, 9::10])
    changes = (rows.next_observations - rows.observations)[:, 9::10]
    scaled = (changes - dynamics.change_mean) / dynamics.change_std
    density = torch.distributions.Normal(means, (log_variances / 2).exp())
    likelihood = density.log_prob(scaled.unsqueeze(1)).mean((2, 3))
    assert dynamics.elites.tolist() == likelihood.argsort(1, descending=True)[:, :2].tolist()


def test_a_variance_stays_within_its_bounds_whatever_the_network_says() -> None:
    dynamics = Dynamics(DynamicsConfig(members=2, elites=1, hidden=(4,)), 1, 2, 1)
    dynamics.std.fill_(1.0)
    for said, bound in ((1e4, 0.5), (-1e4, -10.0)):
        with torch.no_grad():
            dynamics.net.biases[-1].fill_(said)
        _, log_variances = dynamics.standardised(torch.zeros(1, 3, 2), torch.zeros(1, 3, 1))
        torch.testing.assert_close(log_variances, torch.full_like(log_variances, bound), rtol=0, atol=1e-3)


def test_it_says_how_sure_it_is(fitted: tuple[Dynamics, dict[str, Tensor]]) -> None:
    """95 % of held-out changes within the interval, give or take 2.5; errors as large as the variance says."""
    metrics = fitted[1]
    assert ((metrics["model_coverage"] - 0.95).abs() < 0.025).all()
    assert ((metrics["model_variance_ratio"] - 1).abs() < 0.15).all()


def test_members_disagree_where_nothing_was_seen(fitted: tuple[Dynamics, dict[str, Tensor]]) -> None:
    dynamics, seen = fitted[0], linear(500, [7, 8])
    draws = (torch.zeros(2, 500), torch.zeros(2, 500, 2))
    _, near = dynamics.step(seen.observations, seen.actions, *draws)
    _, far = dynamics.step(seen.observations * 20, seen.actions, *draws)
    assert (far.mean(1) > 5 * near.mean(1)).all()
    assert (near < dynamics.typical[:, None]).float().mean() == pytest.approx(0.95, abs=0.03)


def test_what_is_drawn_has_the_spread_of_an_elite(fitted: tuple[Dynamics, dict[str, Tensor]]) -> None:
    dynamics = fitted[0]
    observations, actions = torch.zeros(2, 20_000, 2), torch.zeros(2, 20_000, 1)
    generators = Generators([1, 2])
    drawn, _ = dynamics.step(observations, actions, generators.uniform((20_000,)), generators.normal((20_000, 2)))
    torch.testing.assert_close(drawn.std(1), NOISE.expand(2, 2), rtol=0.15, atol=0.0)
    far, _ = dynamics.step(observations + 50, actions, generators.uniform((20_000,)), generators.normal((20_000, 2)))
    assert (far <= dynamics.high).all()  # the box of states seen


def test_a_world_without_noise_is_the_mean_of_the_elites(fitted: tuple[Dynamics, dict[str, Tensor]]) -> None:
    calm = Dynamics(dataclasses.replace(fitted[0].config, draw="mean"), 2, 2, 1)
    calm.load_state_dict(fitted[0].state_dict())
    seen, generators = linear(500, [7, 8]), Generators([1, 2])
    draws = generators.uniform((500,)), generators.normal((500, 2))
    drawn, doubt = calm.step(seen.observations, seen.actions, *draws)
    means = calm.predict(seen.observations, seen.actions)[0].mean(1)
    torch.testing.assert_close(drawn, means.maximum(calm.low).minimum(calm.high))
    assert torch.equal(doubt, fitted[0].step(seen.observations, seen.actions, *draws)[1])
    again, _ = calm.step(seen.observations, seen.actions, *(draw.flip(1) for draw in draws))
    assert torch.equal(again, drawn)


def test_fits_of_other_runs_change_nothing() -> None:
    """One that stops at once and one that goes on, together and apart; and the stream that they leave behind."""
    config = DynamicsConfig(members=2, elites=1, hidden=(8,), epochs=30, patience=1, learning_rate=2e-2)
    noisy, clear = linear(300, [3]), linear(300, [4])
    noisy = dataclasses.replace(noisy, next_observations=Generators([9]).normal((300, 2)))

    def fit(rows: Batch, seeds: list[int]) -> tuple[Dynamics, Tensor, Tensor]:
        dynamics, generators = Dynamics(config, len(seeds), 2, 1), Generators(seeds)
        dynamics.initialise(generators)
        epochs = dynamics.fit(None, rows, generators)["model_epochs"]
        return dynamics, epochs, generators.uniform(())

    names = [field.name for field in dataclasses.fields(Batch)]
    both = Batch(**{name: torch.cat((getattr(noisy, name), getattr(clear, name))) for name in names})
    together, epochs, after = fit(both, [1, 2])
    assert epochs[0] < epochs[1]
    for run, rows in enumerate((noisy, clear)):
        alone, own, stream = fit(rows, [run + 1])
        assert own[0] == epochs[run]
        assert stream[0] == after[run]
        for mine, theirs in zip(together.net.master(), alone.net.master(), strict=True):
            torch.testing.assert_close(mine[run], theirs[0], rtol=1e-4, atol=1e-5)
