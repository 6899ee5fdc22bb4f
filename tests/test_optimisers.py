"""Optimisers over stacked parameters: torch's Adam for each run, and optimistic Adam by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from understudy.imitation.networks import StackedMLP
from understudy.imitation.optimisers import Adam, OptimisticAdam
from understudy.imitation.randomness import Generators

Optimiser = Adam | OptimisticAdam
ADAMS = {"adam": Adam, "oadam": OptimisticAdam}


def make(runs: int = 3, seed: int = 0) -> StackedMLP:
    network = StackedMLP((runs,), (4, 8, 2))
    network.initialise(Generators(range(seed, seed + runs)))
    return network


def one_number(learning_rate: float, epsilon: float) -> tuple[StackedMLP, OptimisticAdam]:
    """A network of one weight and one bias, both 0."""
    network = StackedMLP((1,), (1, 1))
    return network, OptimisticAdam([network], learning_rate, epsilon=epsilon)


def gradients_like(network: StackedMLP, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator) for p in network.master()]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_torchs_for_each_run(weight_decay: float) -> None:
    network = make()
    optimiser = Adam([network], 1e-2, betas=(0.8, 0.99), weight_decay=weight_decay)
    alone = [[p[run].detach().clone().requires_grad_() for p in network.master()] for run in range(3)]
    theirs = [torch.optim.AdamW(p, lr=1e-2, betas=(0.8, 0.99), weight_decay=weight_decay) for p in alone]
    for step in range(20):
        if step == 10:
            optimiser.set_learning_rate(1e-3)
            for reference in theirs:
                reference.param_groups[0]["lr"] = 1e-3
        gradients = gradients_like(network, step)
        optimiser.apply(gradients)
        for run, reference in enumerate(theirs):
            for parameter, gradient in zip(alone[run], gradients, strict=True):
                parameter.grad = gradient[run]
            reference.step()
    for run in range(3):
        for ours, reference in zip(network.master(), alone[run], strict=True):
            torch.testing.assert_close(ours[run], reference, rtol=1e-5, atol=1e-6)


def test_adam_takes_gradients_of_any_layout() -> None:
    one, two = make(), make()
    first, second = Adam([one], 1e-2), Adam([two], 1e-2)
    for step in range(3):
        gradients = gradients_like(one, step)
        first.apply(gradients)
        second.apply([gradient.mT.contiguous().mT for gradient in gradients])
    assert all(torch.equal(a, b) for a, b in zip(one.master(), two.master(), strict=True))


def test_adam_moves_extra_parameters_too() -> None:
    extra = torch.zeros(2, requires_grad=True)
    optimiser = Adam([], 0.1, extra=[extra])
    optimiser.step((extra * torch.tensor([3.0, -5.0])).sum())
    torch.testing.assert_close(extra.detach(), torch.tensor([-0.1, 0.1]))


@pytest.mark.parametrize("kind", ADAMS)
def test_a_run_moves_by_its_own_gradient_alone(kind: str) -> None:
    results: list[Tensor] = []
    for scale in (1.0, 100.0):
        network = make()
        optimiser = ADAMS[kind]([network], 1e-2)
        for step in range(3):
            gradients = gradients_like(network, step)
            for gradient in gradients:
                gradient[0] *= scale
            optimiser.apply(gradients)
        results.append(torch.cat([p[1:].flatten() for p in network.master()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ADAMS)
def test_step_descends_the_sum_of_losses(kind: str) -> None:
    network = make()
    optimiser = ADAMS[kind]([network], 1e-2)
    inputs = torch.randn(3, 16, 4, generator=torch.Generator().manual_seed(0))
    start = network(inputs).square().mean((1, 2)).detach()
    for _ in range(30):
        optimiser.step(network(inputs).square().mean((1, 2)).sum())
    assert (network(inputs).square().mean((1, 2)) < 0.5 * start).all()


@pytest.mark.parametrize("kind", ADAMS)
def test_the_state_continues_to_the_bit(kind: str) -> None:
    network = make()
    optimiser = ADAMS[kind]([network], 1e-2)
    for step in range(3):
        optimiser.apply(gradients_like(network, step))
    other = make(seed=9)
    other.load_state_dict(network.state_dict())
    continued = ADAMS[kind]([other], 1e-2)
    continued.set_state({name: value.clone() for name, value in optimiser.state().items()})
    for step in range(3, 6):
        optimiser.apply(gradients_like(network, step))
        continued.apply(gradients_like(network, step))
    assert all(torch.equal(a, b) for a, b in zip(network.master(), other.master(), strict=True))


@pytest.mark.parametrize("kind", ADAMS)
def test_the_state_is_complete_before_the_first_step(kind: str) -> None:
    network = make()
    optimiser = ADAMS[kind]([network], 1e-2)
    before = optimiser.state().keys()
    optimiser.apply(gradients_like(network, 0))
    assert before == optimiser.state().keys()


@pytest.mark.parametrize("kind", ADAMS)
def test_bfloat16_gradients_move_float32_parameters(kind: str) -> None:
    network = StackedMLP((3,), (4, 8, 8, 2))
    network.initialise(Generators(range(3)))
    network.set_precision(torch.bfloat16)
    optimiser = ADAMS[kind]([network], 1e-4)
    before = [p.detach().clone() for p in network.master()]
    inputs = torch.randn(3, 16, 4, generator=torch.Generator().manual_seed(0))
    optimiser.step(network(inputs).square().sum())
    assert torch.bfloat16 in {leaf.dtype for leaf in network.leaves()}
    for old, new, leaf in zip(before, network.master(), network.leaves(), strict=True):
        # A step of 1e-4 on a weight of 0.3 is below bfloat16's resolution of 1e-3.
        moved = (new.detach() - old).abs()
        assert moved.max().item() == pytest.approx({"adam": 1e-4, "oadam": 2e-4}[kind], rel=0.01)
        assert torch.equal(leaf, new.to(leaf.dtype))


@pytest.mark.parametrize("gradient", [1e-4, -1e-4, 3e-3, -0.7, 1.0, 50.0, -50.0])
def test_the_first_optimistic_step_is_twice_the_signed_rate(gradient: float) -> None:
    network, optimiser = one_number(8e-4, epsilon=1e-13)
    optimiser.apply([torch.full((1, 1, 1), gradient), torch.full((1, 1, 1), gradient)])
    sign = 1 if gradient > 0 else -1
    assert network.weights[0].item() == pytest.approx(-2 * 8e-4 * sign, rel=1e-6)
    # ε is added to √v = √0.001 |g| as in the released code, which shortens steps of tiny gradients.
    network, optimiser = one_number(8e-4, epsilon=1e-8)
    optimiser.apply([torch.full((1, 1, 1), gradient), torch.full((1, 1, 1), gradient)])
    shorter = 1 / (1 + 1e-8 / (0.001**0.5 * abs(gradient)))
    assert network.weights[0].item() == pytest.approx(-2 * 8e-4 * sign * shorter, rel=1e-6)


def test_two_optimistic_steps_by_hand() -> None:
    # g = 1 then 1/2 with rate 0.1: m = 0.1, 0.14; v = 0.001, 0.001249; s = 0.1·√(1−β₂ᵗ)/(1−β₁ᵗ);
    # p₁ = −2 s₁ m₁/√v₁ and p₂ = p₁ + s₂ m₁/√v₁ − 2 s₂ m₂/√v₂.
    network, optimiser = one_number(0.1, epsilon=1e-13)
    seen: list[float] = []
    for gradient in (1.0, 0.5):
        optimiser.apply([torch.full((1, 1, 1), gradient), torch.zeros(1, 1, 1)])
        seen.append(network.weights[0].item())
    assert seen == pytest.approx([-0.2, -0.31202231], rel=1e-6)
    assert network.biases[0].item() == 0.0


def test_restart_forgets_the_moments() -> None:
    network, optimiser = one_number(0.1, epsilon=1e-13)
    for gradient in (1.0, 0.5, -3.0):
        optimiser.apply([torch.full((1, 1, 1), gradient)] * 2)
    before = network.weights[0].item()
    optimiser.restart(0.02)
    optimiser.apply([torch.full((1, 1, 1), 7.0)] * 2)
    assert network.weights[0].item() - before == pytest.approx(-2 * 0.02, rel=1e-5)
