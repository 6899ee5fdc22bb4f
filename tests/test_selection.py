"""Which policy is deployed: its measure against other computations, the race, and that nothing else changes."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Make, run_to, same_state
from scipy import stats
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation import Policy
from understudy.imitation.fit import FitConfig, References, Run
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.networks import StackedMLP
from understudy.imitation.randomness import Generators
from understudy.imitation.selection import Episode, NegativeReturn, OccupancyDistance, Selection
from understudy.imitation.training import State
from understudy.robots import InputError, find_task

HOPPER = find_task("hopper")


def recorded(observations: np.ndarray, demonstrations: Demonstrations, *, ended: bool) -> Demonstrations:
    """One episode with these observations."""
    count = len(observations)
    first = {name: getattr(demonstrations, name)[:count] for name in ("actions", "rewards")}
    terminated = np.arange(count) == count - 1 if ended else np.zeros(count, bool)
    return dataclasses.replace(
        demonstrations, **first, observations=observations, next_observations=observations, terminated=terminated,
        truncated=np.zeros(count, bool), times=np.arange(count), starts=np.array([0]), qpos=None, qvel=None,
        episode_returns=np.empty(0), episode_lengths=np.empty(0), episode_terminated=np.empty(0),
    )  # fmt: skip


def test_the_distance_of_one_number_is_scipys(demonstrations: Demonstrations) -> None:
    random = np.random.default_rng(0)
    expert, learner = (np.zeros((40, 11), np.float32) for _ in range(2))
    expert[:, 3], learner[:, 3] = random.normal(2, 3, 40), random.normal(1, 1, 40)
    measure = OccupancyDistance(recorded(expert, demonstrations, ended=False), 1000)
    standardised = [(x[:, 3] - expert[:, 3].mean()) / expert[:, 3].std() for x in (expert, learner)]
    reference = stats.energy_distance(*standardised)
    assert measure(Episode(learner, np.zeros(40), 0.0)) == pytest.approx(reference, rel=1e-4)


def test_offline_data_say_how_wide_the_world_is(demonstrations: Demonstrations) -> None:
    """By an expert that never leaves a line, a way beside it is farther off than standing still; by both it is not."""
    random = np.random.default_rng(2)
    line, wide = np.zeros((40, 11), np.float32), np.zeros((40, 11), np.float32)
    line[:, 0] = random.uniform(-1, 1, 40)
    wide[:, :2] = random.uniform(-2, 2, (40, 2))
    expert = recorded(line, demonstrations, ended=False)
    alone = OccupancyDistance(expert, 1000)
    both = OccupancyDistance(expert, 1000, recorded(wide, demonstrations, ended=False))
    beside, still = line + np.eye(11, dtype=np.float32)[1], np.full_like(line, 0)
    still[:, 0] = -1

    def worse(measure: OccupancyDistance) -> float:
        return measure(Episode(beside, np.zeros(40), 0.0)) / measure(Episode(still, np.zeros(40), 0.0))

    assert worse(alone) > 5**0.5
    assert worse(both) < 2**0.5


@pytest.mark.parametrize("expert_ends", [False, True])
def test_an_early_end_is_a_far_state_of_its_own(demonstrations: Demonstrations, expert_ends: bool) -> None:
    random = np.random.default_rng(1)
    expert, learner = (random.normal(shift, 1, (count, 11)).astype(np.float32) for shift, count in ((0, 40), (1, 25)))
    measure = OccupancyDistance(recorded(expert, demonstrations, ended=expert_ends), 100)
    # The same from the matrix of all distances, with the last point the one after an end.
    standard = [(x - expert.mean(0)) / expert.std(0) for x in (expert, learner)]
    points = np.concatenate(standard).astype(np.float64)
    between = np.linalg.norm(points[:, None] - points[None], axis=-1)
    matrix = np.zeros((66, 66))
    matrix[:65, :65] = between
    matrix[65, :65] = matrix[:65, 65] = between[:40, :40].max()
    lost = 0.6 if expert_ends else 0.0
    weights = np.zeros(66)
    weights[:40], weights[65] = (1 - lost) / 40, lost
    weights[40:65] -= (1 - 0.75) / 25
    weights[65] -= 0.75
    found = measure(Episode(learner, np.zeros(25), 0.75))
    assert found == pytest.approx(np.sqrt(-weights @ matrix @ weights), rel=1e-4)


def test_like_the_expert_is_near_and_falling_or_standing_is_far(demonstrations: Demonstrations) -> None:
    random = np.random.default_rng(2)
    phase = np.arange(20)
    gait = np.stack([np.sin(phase * (1 + k)) for k in range(11)], 1).astype(np.float32)
    measure = OccupancyDistance(recorded(gait, demonstrations, ended=False), len(gait))
    like = gait + random.normal(0, 0.05, gait.shape).astype(np.float32)
    nothing = np.zeros(len(gait))
    near = measure(Episode(like, nothing, 0.0))
    standing = measure(Episode(np.repeat(gait[:1], len(gait), 0), nothing, 0.0))
    falling = measure(Episode(like[: len(gait) // 3], nothing, 2 / 3))
    assert measure(Episode(gait, nothing, 0.0)) == pytest.approx(0, abs=1e-3)
    assert 0 < near < 0.3 * min(standing, falling)


def test_one_early_fall_in_ten_is_better_than_a_late_one_in_each(demonstrations: Demonstrations) -> None:
    """As by the return: .9 of the horizon against .7."""
    random = np.random.default_rng(3)
    gait = random.normal(0, 1, (40, 11)).astype(np.float32)
    measure = OccupancyDistance(recorded(gait, demonstrations, ended=False), len(gait))

    def until(step: int) -> float:
        return measure(Episode(gait[:step], np.zeros(step), 1 - step / 40))

    assert 0.1 * until(2) + 0.9 * until(40) < 0.7 * until(28)


class Scripted:
    """Measures of a race written down: one after the other, whatever the episode, and what each began with."""

    name = "scripted"
    behind = 1.0

    def __init__(self, *values: float) -> None:
        self.values, self.starts = list(values), list[float]()

    def __call__(self, episode: Episode) -> float:
        self.starts.append(float(episode.observations[0, 0]))
        return self.values.pop(0)


def still(observations: Tensor, net: StackedMLP) -> Tensor:
    return torch.zeros(*observations.shape[:-1], 3)


def networks(runs: int, count: int) -> list[StackedMLP]:
    nets = [StackedMLP((runs,), (11, 4, 3)) for _ in range(count)]
    for index, net in enumerate(nets):
        net.initialise(Generators([index + 10 * run for run in range(runs)]))
    return nets


def test_candidates_drop_out_of_the_race_when_they_are_no_better() -> None:
    nets = networks(2, 3)
    measure = Scripted(
        5, 1, 5, 3,        # the first is chosen, whatever it is worth: means 5 and 2
        4, 9, 8, 4,        # run 0: ahead, the first one defends with 8, and is beaten by 4; run 1: far behind, out
        5, 1, 4, 2.2, 1.4, # run 1: ahead, 2.2 in defence makes 2.07, beaten by a mean of 1.2; run 0: behind again, out
    )  # fmt: skip
    selection, counts = Selection(measure, 2, HOPPER, [0, 1], nets[0]), np.zeros(2, np.int64)
    assert not selection.begun
    first = selection.consider(100, still, nets[0], counts)
    assert first["candidate_scripted"].tolist() == [5, 1]
    assert first["best_scripted"].tolist() == [5, 2]
    once = counts.copy()
    assert (once > 20).all()
    selection.consider(200, still, nets[1], counts)
    assert selection.best.tolist() == [4, 2]
    assert counts[0] - once[0] > once[0]  # two episodes from the same starts, and a defence
    assert counts[1] - once[1] < 0.7 * once[1]  # one
    selection.consider(300, still, nets[2], counts)
    assert selection.best.tolist() == [4, pytest.approx(1.2)]
    assert selection.chosen_at.tolist() == [200, 300]
    for mine, (one, two) in zip(
        selection.net.master(), zip(nets[1].master(), nets[2].master(), strict=True), strict=True
    ):
        assert torch.equal(mine[0], one[0])
        assert torch.equal(mine[1], two[1])
    other = Selection(Scripted(), 2, HOPPER, [0, 1], nets[0])
    other.set_state(selection.state())
    assert same_state(State(other.state(), {}), State(selection.state(), {}))
    with pytest.raises(KeyError, match="best_negative_return"):  # what one measure found says nothing by another
        Selection(NegativeReturn(), 2, HOPPER, [0, 1], nets[0]).set_state(selection.state())
    assert measure.values == []


def test_the_policy_in_place_defends_it_in_episodes_that_are_new_to_it() -> None:
    """A first one that was lucky loses its place to one that none of its lucky episodes was worse than."""
    nets = networks(1, 4)
    measure = Scripted(
        1, 1,        # lucky
        0.9, 7, 2,   # ahead at first; 7 in defence makes (1 + 1 + 7) / 3 = 3, and 1.45 is better
        1.4, 0.4,    # ahead at first; 0.4 in defence makes (1.45 · 2 + 0.4) / 3 = 1.1: out without another episode
        1.0, 1.5, 3, # ahead; 1.5 makes 1.2; a mean of 2 is not
    )  # fmt: skip
    selection, counts = Selection(measure, 2, HOPPER, [0], nets[0]), np.zeros(1, np.int64)
    found: list[tuple[float, int, int]] = []
    for step, net in enumerate(nets, 1):
        selection.consider(step, still, net, counts)
        found.append((round(float(selection.best[0]), 6), int(selection.chosen_at[0]), int(selection.played[0])))
    assert found == [(1, 1, 2), (1.45, 2, 2), (1.1, 2, 3), (1.2, 2, 4)]
    assert measure.values == []
    zero, one, two, three = (measure.starts[index] for index in (0, 1, 3, 8))
    assert len({zero, one, two, three}) == 4
    # Candidates start from the first two; whoever is in place from what comes after those it has played.
    assert measure.starts == [zero, one, zero, two, one, zero, two, zero, three, one]


def test_one_that_is_not_far_behind_is_enough_to_show_that_the_policy_in_place_was_lucky() -> None:
    nets = networks(1, 4)
    measure = Scripted(
        1, 1,          # lucky
        2.5,           # more than twice as far: no challenger
        1.9, 1.2,      # 1.2 in defence makes 1.07: stays
        1.5, 7, 1.6,   # 7 makes 2.55, and a mean of 1.55 is better
    )  # fmt: skip
    selection, counts = Selection(measure, 2, HOPPER, [0], nets[0]), np.zeros(1, np.int64)
    found: list[tuple[float, int, int]] = []
    for step, net in enumerate(nets, 1):
        selection.consider(step, still, net, counts)
        found.append((round(float(selection.best[0]), 2), int(selection.chosen_at[0]), int(selection.played[0])))
    assert found == [(1, 1, 2), (1, 1, 2), (1.07, 1, 3), (1.55, 4, 2)]
    assert measure.values == []


def test_a_return_counts_the_rewards() -> None:
    assert NegativeReturn()(Episode(np.zeros((3, 11)), np.array([1.0, 2.0, 4.0]), 0.0)) == -7


def test_choosing_changes_nothing_but_what_is_deployed(make: Make) -> None:
    chosen, last = run_to(make("hype"), 200), run_to(make("hype", "loop.select_by=none"), 200)
    assert isinstance(chosen, InteractiveTraining)
    assert chosen.selection is not None
    ours, theirs = chosen.state(), last.state()
    apart = {name for name in ours.tensors if name.startswith("selection.")} | {"tasks.counts.selection"}
    kept = {name: value for name, value in ours.tensors.items() if name not in apart}
    del theirs.tensors["tasks.counts.selection"]
    assert same_state(State(kept, ours.values), theirs)
    assert (chosen.step_counts()["selection"] > 0).all()
    assert (last.step_counts()["selection"] == 0).all()


def test_a_worse_policy_is_not_deployed(make: Make) -> None:
    training = run_to(make("hype"), 200)
    assert isinstance(training, InteractiveTraining)
    assert training.selection is not None
    seen = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    before, best = training.act(seen), training.selection.best.copy()
    training.selection.best[:] = -1  # none is better than this
    with torch.no_grad():
        for parameter in training.agent.deployed()[0].master():
            parameter.add_(1)
    training.selection.consider(220, training.agent.best_actions, training.agent.deployed()[0], np.zeros(2, np.int64))
    assert torch.equal(training.act(seen), before)
    assert (best < np.inf).all()
    about = training.policy(1, {}).config.training
    assert about["chosen_at_step"] == training.selection.chosen_at[1] in (100, 160, 200)


def test_the_last_policy_races_too_and_what_it_came_to_is_logged(make: Make, tmp_path: Path) -> None:
    """Steps that are no multiple of `select_every`, and rows of the log that do not fall on the race."""
    training = make("hype", "steps=190", "loop.select_every=100")
    run = Run(training, tmp_path, FitConfig(1000, 1, 1000, 70), References(None, None))
    run.fit(lambda progress, metrics: None, lambda: None)
    assert isinstance(training, InteractiveTraining)
    assert training.selection is not None
    raced = [row for row in csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()) if row["run"] == "0"]
    assert [row["step"] for row in raced if row["candidate_occupancy_distance"]] == ["140"]
    assert set(training.selection.chosen_at) <= {100, 190}
    training.selection.best[:] = np.inf
    training.steps -= 1
    training.advance()
    assert training.selection.chosen_at.tolist() == [190, 190]


def test_the_deployed_run_is_the_one_that_imitates_best_not_the_one_that_returns_most(
    make: Make, tmp_path: Path
) -> None:
    training = make("hype")
    run = Run(training, tmp_path, FitConfig(100, 1, 1000, 100), References(None, None))
    run.fit(lambda progress, metrics: None, lambda: None)
    assert isinstance(training, InteractiveTraining)
    assert training.selection is not None
    for better in (0, 1):
        training.selection.best[:] = np.where(np.arange(2) == better, 1.0, 2.0)
        for point in run.progress.points:
            point.returns[:] = np.where(np.arange(2) == better, 0.0, 9.0)[:, None]
        assert run.best_run()[0] == better
        saved = Policy.from_pretrained(run.save_policies({}))
        assert saved.config.training["run"] == better
    assert run_to(make("bc"), 100).ranking() is None


def test_what_cannot_be_measured_is_not_chosen_and_blocks_nothing() -> None:
    nets = [StackedMLP((1,), (11, 4, 3)) for _ in range(2)]
    selection = Selection(Scripted(np.nan, 1.0, 3.0), 2, HOPPER, [0], nets[0])
    selection.consider(10, still, nets[0], np.zeros(1, np.int64))
    assert selection.best.tolist() == [np.inf]
    selection.consider(20, still, nets[1], np.zeros(1, np.int64))
    assert (selection.best.tolist(), selection.chosen_at.tolist()) == ([2.0], [20])


@pytest.mark.parametrize(
    ("learner", "by", "message"),
    [("hype", "return", "must not see"), ("sac", "occupancy", "give data="), ("hype", "luck", "occupancy")],
)
def test_a_measure_that_cannot_be_used_is_refused(make: Make, learner: str, by: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(learner, f"loop.select_by={by}")
