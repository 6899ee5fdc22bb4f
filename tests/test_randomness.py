"""Random streams: one for each run, whatever the other runs are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from understudy.imitation.randomness import Generators

DRAWS: dict[str, Callable[[Generators], Tensor]] = {
    "normal": lambda g: g.normal((4, 3)),
    "uniform": lambda g: g.uniform((4, 3), -2.0, 5.0),
    "integers": lambda g: g.integers(1000, (4, 3)),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@every_draw
def test_run_k_draws_what_the_single_run_draws(draw: Callable[[Generators], Tensor]) -> None:
    stack, single = Generators([3, 4, 5]), Generators([4])
    for _ in range(3):
        many, one = draw(stack), draw(single)
        assert many.shape == (3, 4, 3)
        assert torch.equal(many[1:2], one)
        assert not torch.equal(many[0], many[2])


@every_draw
def test_the_state_brings_back_the_numbers(draw: Callable[[Generators], Tensor]) -> None:
    generators, other = Generators([0, 1]), Generators([5, 6])
    draw(generators)
    state = generators.state()
    following = draw(generators)
    other.set_state(state)
    assert torch.equal(draw(other), following)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for draw in DRAWS.values():
        draw(Generators([0]))
    assert torch.equal(torch.get_rng_state(), before)


def test_ranges() -> None:
    generators = Generators([0])
    uniform, integers = generators.uniform((20_000,), -2.0, 5.0), generators.integers(7, (20_000,))
    assert -2 <= uniform.min() < -1.99
    assert 4.99 < uniform.max() < 5
    assert integers.unique().tolist() == list(range(7))
    assert integers.dtype == torch.int64
    normal = generators.normal((20_000,))
    assert abs(normal.mean()) < 0.03
    assert normal.std().item() == pytest.approx(1, abs=0.03)


def test_neighbouring_seeds_are_unrelated() -> None:
    rows = Generators(range(20)).normal((5000,))
    correlation = torch.corrcoef(rows) - torch.eye(20)
    assert correlation.abs().max() < 0.07  # 5 / √5000
