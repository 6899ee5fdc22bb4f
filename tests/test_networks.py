"""Stacked networks: each member of a stack is the ordinary network with its parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from understudy.imitation.networks import (
    DeterministicActor,
    GaussianActor,
    Normaliser,
    StackedMLP,
    TwinCritic,
)
from understudy.imitation.randomness import Generators

BATCH = 7


def make(leading: tuple[int, ...], sizes: tuple[int, ...], **options: object) -> StackedMLP:
    network = StackedMLP(leading, sizes, **options)  # pyright: ignore[reportArgumentType]
    network.initialise(Generators(range(leading[0])))
    return network


def ordinary(network: StackedMLP, where: tuple[int, ...], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """One member of a stack as torch would have it."""
    modules: list[nn.Module] = []
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        linear = nn.Linear(*weight.shape[-2:])
        linear.weight.data = weight[where].T.detach().clone()
        linear.bias.data = bias[where].squeeze(0).detach().clone()
        modules.append(linear)
        if layer < len(network.weights) - 1:
            if network.layer_norm:
                modules.append(nn.LayerNorm(weight.shape[-1], elementwise_affine=False))
            modules.append(activation())
    return nn.Sequential(*modules)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("leading", [(1,), (3,), (3, 2)])
@pytest.mark.parametrize("columns", [1, 6, 40])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_stack_is_so_many_ordinary_networks(leading: tuple[int, ...], columns: int, layer_norm: bool) -> None:
    network = make(leading, (5, 16, 8, columns), layer_norm=layer_norm)
    inputs = normal(*leading, BATCH, 5).requires_grad_()
    target = normal(*leading, BATCH, columns, seed=1)
    outputs = network(inputs)
    assert outputs.shape == (*leading, BATCH, columns)
    gradients = torch.autograd.grad((outputs - target).square().sum(), [inputs, *network.leaves()])
    for where in np.ndindex(*leading):
        alone = ordinary(network, where)
        rows = inputs[where].detach().clone().requires_grad_()
        expected = alone(rows)
        torch.testing.assert_close(outputs[where], expected, rtol=1e-5, atol=1e-6)
        (expected - target[where]).square().sum().backward()
        torch.testing.assert_close(gradients[0][where], rows.grad, rtol=1e-4, atol=1e-5)
        linear = [module for module in alone if isinstance(module, nn.Linear)]
        for layer, module in enumerate(linear):
            weight, bias = gradients[1 + layer][where], gradients[1 + len(linear) + layer][where]
            torch.testing.assert_close(weight, module.weight.grad.T, rtol=1e-4, atol=1e-5)  # pyright: ignore
            torch.testing.assert_close(bias[0], module.bias.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "module"),
    [("relu", nn.ReLU), ("tanh", nn.Tanh), ("elu", nn.ELU), ("leaky_relu", nn.LeakyReLU), ("silu", nn.SiLU)],
)
def test_activations(name: str, module: type[nn.Module]) -> None:
    network = make((2,), (5, 16, 3), activation=name)
    inputs = normal(2, BATCH, 5)
    torch.testing.assert_close(network(inputs)[1], ordinary(network, (1,), module)(inputs[1]))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_second_derivatives_are_those_of_ordinary_networks(activation: str) -> None:
    network = make((2,), (5, 16, 16, 1), activation=activation)
    inputs = normal(2, BATCH, 5).requires_grad_()
    (slope,) = torch.autograd.grad(network(inputs, exact=True).sum(), inputs, create_graph=True)
    ours = torch.autograd.grad(slope.square().sum(), list(network.weights))
    for run in range(2):
        alone = ordinary(network, (run,), {"relu": nn.ReLU, "tanh": nn.Tanh}[activation])
        rows = inputs[run].detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(alone(rows).sum(), rows, create_graph=True)
        theirs = torch.autograd.grad(slope.square().sum(), [m.weight for m in alone if isinstance(m, nn.Linear)])
        for a, b in zip(ours, theirs, strict=True):
            assert b.abs().max() > 1e-3
            torch.testing.assert_close(a[run], b.T, rtol=1e-4, atol=1e-6)


def test_members_of_an_ensemble_share_the_rows() -> None:
    network = make((3, 2), (5, 8, 1))
    rows = normal(3, 1, BATCH, 5)
    torch.testing.assert_close(network(rows), network(rows.expand(3, 2, BATCH, 5)))


@pytest.mark.parametrize("sizes", [(5, 3), (5, 16, 3)])
def test_the_inputs_stay_as_they_are(sizes: tuple[int, ...]) -> None:
    network, inputs = make((2,), sizes), normal(2, BATCH, 5)
    before = inputs.clone()
    network(inputs)
    assert torch.equal(inputs, before)


def test_a_runs_parameters_do_not_depend_on_how_many_there_are() -> None:
    stack, single = StackedMLP((3, 2), (5, 16, 3)), StackedMLP((1, 2), (5, 16, 3))
    stack.initialise(Generators([7, 8, 9]))
    single.initialise(Generators([8]))
    for many, one in zip(stack.master(), single.master(), strict=True):
        assert torch.equal(many[1:2], one)
        assert not torch.equal(many[0], many[1])
        assert not torch.equal(many[:, 0], many[:, 1])


def test_linear_initialisation_is_that_of_torch() -> None:
    network = make((2,), (400, 100))
    bound = 1 / math.sqrt(400)
    assert network.weights[0].abs().max() <= bound
    assert network.weights[0].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert 0.8 * bound < network.biases[0].abs().max() <= bound


@pytest.mark.parametrize("sizes", [(16, 16), (24, 8), (8, 24)])
def test_orthogonal_initialisation_is_orthogonal(sizes: tuple[int, int]) -> None:
    network = StackedMLP((2, 2), sizes)
    network.initialise(Generators([0, 1]), "orthogonal")
    weight = network.weights[0]
    short = weight if sizes[0] <= sizes[1] else weight.mT
    identity = torch.eye(min(sizes)).expand(2, 2, -1, -1)
    torch.testing.assert_close(short @ short.mT, identity, rtol=0, atol=1e-5)
    # The sign of each direction is random, too: the diagonal is not always positive.
    assert (weight.diagonal(dim1=-2, dim2=-1) < 0).any()


def test_bfloat16_computes_on_copies_that_follow_the_parameters() -> None:
    network = make((2,), (5, 32, 32, 1))
    inputs = normal(2, BATCH, 5)
    full = network(inputs)
    network.set_precision(torch.bfloat16)
    fast = network(inputs)
    assert fast.dtype == torch.float32
    assert not torch.equal(fast, full)
    torch.testing.assert_close(fast, full, rtol=0.05, atol=0.02)
    assert torch.equal(network(inputs, exact=True), full)
    assert {parameter.dtype for parameter in network.master()} == {torch.float32}
    with torch.no_grad():
        network.weights[1] *= 2
    assert torch.equal(network(inputs), fast)
    network.refresh()
    torch.testing.assert_close(network(inputs), network(inputs, exact=True), rtol=0.05, atol=0.02)


def test_large_values_keep_float32s_resolution_at_both_ends() -> None:
    """The first and the last layer are float32: bfloat16 has steps of 1 at 200 and would not tell these apart."""
    network = make((1,), (2, 32, 32, 1))
    network.set_precision(torch.bfloat16)
    assert [leaf.dtype for leaf in network.leaves()[:3]] == [torch.float32, torch.bfloat16, torch.float32]
    with torch.no_grad():
        network.biases[-1].fill_(200.0)
    difference = network(torch.tensor([[[1.0, 1.0], [1.0, 1.2]]])).diff(dim=1)
    assert 1e-4 < difference.abs().item() < 0.5
    exact = network(torch.tensor([[[1.0, 1.0], [1.0, 1.2]]]), exact=True).diff(dim=1)
    assert difference.item() == pytest.approx(exact.item(), rel=0.2, abs=2e-3)


def test_a_network_trained_exactly_is_differentiated_by_its_parameters() -> None:
    network = make((2,), (5, 8, 8, 1))
    network.set_precision(torch.bfloat16, train=False)
    assert all(a is b for a, b in zip(network.leaves(), network.master(), strict=True))
    gradients = torch.autograd.grad(network(normal(2, BATCH, 5), exact=True).sum(), network.leaves())
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert not torch.equal(network(normal(2, BATCH, 5)), network(normal(2, BATCH, 5), exact=True))


def test_normaliser_standardises_clips_and_bounds_the_deviation() -> None:
    observations = np.random.default_rng(0).normal([5.0, -2.0, 3.0], [2.0, 0.5, 0.0], (4000, 3))
    normaliser = Normaliser.of(observations)
    scaled = normaliser(torch.as_tensor(observations, dtype=torch.float32))
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(scaled.std(0), torch.tensor([1.0, 1.0, 0.0]), rtol=0, atol=1e-3)
    assert normaliser.std[2] == pytest.approx(1e-2)
    far = normaliser(torch.tensor([1e6, -1e6, 3.0]))
    torch.testing.assert_close(far, torch.tensor([10.0, -10.0, 0.0]))
    assert set(normaliser.state_dict()) == {"mean", "std"}


def test_the_identity_changes_nothing() -> None:
    values = torch.tensor([1e7, -3.0, 0.0])
    assert torch.equal(Normaliser.identity(3)(values), values)


def test_twin_critics_are_two_functions_of_state_and_action() -> None:
    critic = TwinCritic(2, 4, 3, (16,))
    critic.net.initialise(Generators([0, 1]))
    observations, actions = normal(2, BATCH, 4), normal(2, BATCH, 3, seed=1)
    values = critic(observations, actions)
    assert values.shape == (2, 2, BATCH)
    for member in range(2):
        alone = ordinary(critic.net, (1, member))(torch.cat((observations[1], actions[1]), -1))
        torch.testing.assert_close(values[1, member], alone.squeeze(-1))
    assert not torch.allclose(values[:, 0], values[:, 1])


def test_actors_give_actions_inside_the_bounds() -> None:
    gaussian, deterministic = GaussianActor(2, 4, 3, (16,)), DeterministicActor(2, 4, 3, (16,))
    observations = 1000 * normal(2, BATCH, 4)
    for actor in (gaussian, deterministic):
        actor.net.initialise(Generators([0, 1]))
    actions, log_probs = gaussian.sample(normal(2, BATCH, 4), normal(2, BATCH, 3))
    assert actions.shape == (2, BATCH, 3)
    assert log_probs.shape == (2, BATCH)
    assert actions.abs().max() < 1
    assert deterministic(observations).abs().max() <= 1
    alone = ordinary(deterministic.net, (1,))(observations[1]).tanh()
    torch.testing.assert_close(deterministic(observations)[1], alone)
