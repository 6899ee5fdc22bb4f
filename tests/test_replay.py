"""Replay: rows and their names, the ring, schedules, and batches whose size is always exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Make, run_to
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Mixture, ReplayBuffer, RowLayout, Schedule

LAYOUT = RowLayout(4, 2)


def numbered(runs: int, count: int, capacity: int) -> ReplayBuffer:
    """Rows filled with run + row / 1000, so that each says where it is from."""
    buffer = ReplayBuffer(runs, capacity, LAYOUT)
    for row in range(count):
        buffer.add(torch.arange(runs)[:, None].expand(runs, LAYOUT.width) + row / 1000)
    return buffer


def mixture(share: Schedule, size: int = 256, experts: int = 50) -> Mixture:
    """A mixture whose expert rows are negative."""
    return Mixture(-1 - torch.arange(experts)[:, None].expand(experts, LAYOUT.width) / 1000, share, size)


def expert_rows_first(batch: Tensor) -> int:
    """How many rows of each run are the expert's, after checking that they come first."""
    is_expert = batch[..., 0] < 0
    counts = is_expert.sum(1)
    assert (counts == counts[0]).all()
    assert is_expert[:, : int(counts[0])].all()
    return int(counts[0])


def test_rows_keep_every_column() -> None:
    generator = np.random.default_rng(0)
    observations, following = generator.normal(size=(2, 5, 4)).astype(np.float32)
    actions = generator.uniform(-1, 1, (5, 2)).astype(np.float32)
    rewards, terminated = generator.normal(size=5).astype(np.float32), np.array([0, 1, 0, 0, 1], bool)
    rows = LAYOUT.pack(observations, actions, following, rewards, terminated)
    assert rows.shape == (5, LAYOUT.width)
    batch = LAYOUT.batch(rows)
    for ours, given in (
        (batch.observations, observations),
        (batch.actions, actions),
        (batch.next_observations, following),
        (batch.rewards, rewards),
        (batch.terminated, terminated.astype(np.float32)),
    ):
        assert np.array_equal(ours.numpy(), given)
    relabelled = batch.with_rewards(torch.ones(5))
    assert torch.equal(relabelled.rewards, torch.ones(5))
    assert torch.equal(relabelled.observations, batch.observations)


def test_demonstrations_become_rows_without_their_rewards(demonstrations: Demonstrations) -> None:
    layout = RowLayout(demonstrations.observations.shape[1], demonstrations.actions.shape[1])
    batch = layout.batch(layout.demonstrations(demonstrations))
    assert np.array_equal(batch.observations.numpy(), demonstrations.observations)
    assert np.array_equal(batch.next_observations.numpy(), demonstrations.next_observations)
    assert np.array_equal(batch.terminated.numpy(), demonstrations.terminated)
    assert demonstrations.terminated.any()
    assert demonstrations.rewards.any()
    assert not batch.rewards.any()


def test_the_oldest_rows_go_when_the_buffer_is_full() -> None:
    buffer = numbered(2, 3, capacity=5)
    assert len(buffer) == 3
    buffer = numbered(2, 13, capacity=5)
    assert len(buffer) == 5
    kept = (1000 * (buffer.rows[:, :, 0] - torch.arange(2)[:, None])).round().long()
    assert [sorted(row) for row in kept.tolist()] == [list(range(8, 13))] * 2


def test_each_run_gathers_its_own_rows() -> None:
    buffer = numbered(3, 7, capacity=10)
    indices = torch.tensor([[[0, 6], [3, 3]], [[1, 1], [2, 5]], [[6, 0], [4, 4]]])
    rows = buffer.gather(indices)
    assert rows.shape == (3, 2, 2, LAYOUT.width)
    expected = torch.arange(3)[:, None, None] + indices / 1000
    torch.testing.assert_close(rows, expected[..., None].expand_as(rows))


@pytest.mark.parametrize("count", [3, 10, 17])
def test_the_state_brings_the_buffer_back(count: int) -> None:
    buffer, other = numbered(2, count, capacity=10), numbered(2, 6, capacity=10)
    other.set_state({name: value.clone() for name, value in buffer.state().items()})
    row = torch.full((2, LAYOUT.width), 5.0)
    buffer.add(row)
    other.add(row)
    assert len(buffer) == len(other)
    assert torch.equal(buffer.rows, other.rows)


def test_sampling_reaches_every_row_and_nothing_else() -> None:
    buffer = numbered(2, 6, capacity=10)
    (batch,) = mixture(Schedule(((0, 0.0),)), size=400).sample(buffer, Generators([0, 1]), 1, 0)
    for run in range(2):
        drawn = (1000 * (batch[run, :, 0] - run)).round()
        assert drawn.unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_schedules_are_linear_between_points_and_constant_outside() -> None:
    schedule = Schedule(((100, 0.2), (300, 0.1), (1000, 0.01)))
    values = [schedule(n) for n in (0, 100, 200, 300, 650, 1000, 5000)]
    assert values == pytest.approx([0.2, 0.2, 0.15, 0.1, 0.055, 0.01, 0.01])
    assert Schedule(((0, 0.3),))(123) == 0.3


@pytest.mark.parametrize("size", [1, 16, 255, 256])
def test_a_batch_has_its_size_at_every_share(size: int) -> None:
    # The released code draws int(0.2·256) + int(0.8·256) = 255 of 256 rows.
    buffer, generators = numbered(2, 20, capacity=20), Generators([0, 1])
    for share in np.linspace(0, 1, 21):
        mixed = mixture(Schedule(((0, float(share)),)), size)
        (batch,) = mixed.sample(buffer, generators, 1, 0)
        assert batch.shape == (2, size, LAYOUT.width)
        count = expert_rows_first(batch)
        assert count == mixed.expert_count(0)
        assert abs(count - share * size) <= 0.5
    assert mixture(Schedule(((0, 0.2),))).expert_count(0) == 51


def test_the_schedules_clock_counts_batches() -> None:
    schedule = Schedule(((0, 1.0), (10, 0.0)))
    buffer, generators = numbered(2, 20, capacity=20), Generators([0, 1])
    mixed = mixture(schedule, 100)
    counts = [expert_rows_first(batch) for batch in mixed.sample(buffer, generators, 4, 0)]
    counts += [expert_rows_first(batch) for batch in mixed.sample(buffer, generators, 8, 4)]
    assert counts == [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0, 0]


def test_the_loop_counts_gradient_batches_not_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    original = Mixture.sample

    def noted(self: Mixture, buffer: ReplayBuffer, generators: Generators, count: int, drawn: int) -> object:
        asked.append((drawn, count))
        return original(self, buffer, generators, count, drawn)

    monkeypatch.setattr(Mixture, "sample", noted)
    training = run_to(make("hype", "loop.updates_per_step=0.5"), 200)
    assert isinstance(training, InteractiveTraining)
    # Steps 60 to 200 in chunks of 20, half an update for each.
    assert asked == [(10 * chunk, 10) for chunk in range(len(asked))]
    assert training.updates == 10 * len(asked) == 70


def test_runs_draw_as_if_they_were_alone() -> None:
    stack, single = numbered(3, 20, capacity=20), numbered(1, 20, capacity=20)
    many = mixture(Schedule(((0, 0.3),)), 64).sample(stack, Generators([4, 5, 6]), 2, 0)
    one = mixture(Schedule(((0, 0.3),)), 64).sample(single, Generators([5]), 2, 0)
    for stacked, alone in zip(many, one, strict=True):
        place = torch.where(alone[0] < 0, alone[0], alone[0] + 1)
        torch.testing.assert_close(stacked[1], place)


def test_no_expert_rows_is_a_mixture_of_the_learners() -> None:
    mixed = Mixture(torch.zeros(0, LAYOUT.width), Schedule(((0, 0.5),)), 32)
    (batch,) = mixed.sample(numbered(2, 20, capacity=20), Generators([0, 1]), 1, 0)
    assert batch.shape == (2, 32, LAYOUT.width)


@pytest.mark.parametrize("added", [2, 4, 7])
def test_the_newest_rows_are_drawn_evenly(added: int) -> None:
    buffer = ReplayBuffer(1, 5, LAYOUT)
    for row in range(added):
        buffer.add(torch.full((1, LAYOUT.width), float(row)))
    uniform = (torch.arange(60) / 60)[None]
    for count in (None, 3, 100):
        kept = min(added, 5 if count is None else min(count, 5))
        drawn = buffer.newest(count, uniform)[0, :, 0]
        values, counts = drawn.unique(return_counts=True)
        assert values.tolist() == [float(row) for row in range(added - kept, added)]
        assert counts.tolist() == [60 // kept] * kept
