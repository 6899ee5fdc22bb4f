"""Where episodes start: recorded states, replays, roll-ins, mixtures, their clocks and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import LEARNERS, SMALL, Make, make_demonstrations, run_to
from omegaconf import OmegaConf

from understudy.datasets import Demonstrations
from understudy.imitation.agents import SAC, SACConfig
from understudy.imitation.early_ends import EndedShares
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.networks import Normaliser
from understudy.imitation.parts import Setting
from understudy.imitation.replay import RowLayout, Visits
from understudy.imitation.resets import (
    ExpertResets,
    InitialStart,
    MixedResets,
    MixtureConfig,
    MixtureResets,
    OfflineResets,
    RecordedConfig,
    RecordedStart,
    RollInConfig,
    RollInResets,
    Start,
    states_problem,
)
from understudy.robots import InputError, TaskBatch, find_task
from understudy.scripts.build import build
from understudy.scripts.settings import compose

HOPPER = find_task("hopper")


def setting(demonstrations: Demonstrations | None, offline: Demonstrations | None = None, runs: int = 2) -> Setting:
    spaces = HOPPER.spaces
    normaliser = Normaliser.identity(spaces.observation_size)
    return Setting(
        HOPPER, spaces, tuple(range(runs)), normaliser, torch.float32, torch.device("cpu"), demonstrations, offline
    )


def seeded(demonstrations: Demonstrations, **changes: Any) -> Demonstrations:
    """The same without states, recorded anew from seeds so that it can be replayed."""
    tasks = TaskBatch(HOPPER, [0])
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("observations", "next_observations")}
    bounds = np.append(demonstrations.starts, len(demonstrations))
    for episode, begin in enumerate(demonstrations.starts):
        tasks.reset()
        observation = tasks.reset_to_seed(0, 40 + episode)
        for row in range(begin, bounds[episode + 1]):
            after = tasks.step(demonstrations.actions[row : row + 1], "policy").next_observations[0]
            columns["observations"].append(observation)
            columns["next_observations"].append(after)
            observation = after
    tasks.close()
    arrays = {name: np.stack(values) for name, values in columns.items()}
    seeds = 40 + np.arange(len(demonstrations.starts))
    nothing = np.zeros(len(demonstrations), bool)
    return dataclasses.replace(
        demonstrations, **arrays, qpos=None, qvel=None, episode_seeds=seeds, terminated=nothing, **changes
    )


def test_a_start_in_a_recorded_state_observes_it_and_has_the_rest_of_the_horizon(
    demonstrations: Demonstrations,
) -> None:
    recorded = dataclasses.replace(demonstrations, times=demonstrations.times + 980)
    start, tasks = RecordedStart(HOPPER, recorded), TaskBatch(HOPPER, [0, 1])
    tasks.reset()
    assert start.method == "states"
    random, seen = np.random.default_rng(0), set()
    for _ in range(30):
        observation = start.start(tasks, 1, random)
        row = int(np.abs(recorded.observations - observation).max(1).argmin())
        np.testing.assert_allclose(observation, recorded.observations[row], atol=1e-6)
        assert tasks.elapsed[1] == recorded.times[row]
        seen.add(int(np.searchsorted(recorded.starts, row, side="right")))
    assert seen == {1, 2, 3}  # every episode
    only, left = np.array([False, True]), 1000 - int(tasks.elapsed[1])
    for step in range(left):
        result = tasks.step(np.zeros((2, 3), np.float32), "policy", only)
        if result.terminated[1]:
            break
        assert result.truncated[1] == (step == left - 1)
    assert tasks.elapsed[0] == 0
    assert all(tasks.counts["reset"] == 0)
    tasks.close()


def test_full_states_are_restored(demonstrations: Demonstrations) -> None:
    tasks = TaskBatch(HOPPER, [3])
    tasks.reset()
    states, observations = [], []
    for _ in range(5):
        states.append(tasks.capture()[0].physics)
        observations.append(tasks.step(np.full((1, 3), 0.5, np.float32), "policy").next_observations[0])
    states.append(tasks.capture()[0].physics)
    tasks.close()
    changes = {name: getattr(demonstrations, name)[:5] for name in ("actions", "rewards", "terminated", "truncated")}
    recorded = dataclasses.replace(
        demonstrations, **changes, observations=np.stack(observations), next_observations=np.stack(observations),
        states=np.stack(states[1:]), qpos=None, qvel=None, times=np.arange(5), starts=np.array([0]),
        episode_returns=np.empty(0), episode_lengths=np.empty(0), episode_terminated=np.empty(0),
    )  # fmt: skip
    assert RecordedStart(HOPPER, recorded).method == "states"


def test_a_state_that_does_not_give_back_its_observation_is_refused(demonstrations: Demonstrations) -> None:
    observations = demonstrations.observations.copy()
    observations[7, 2] += 0.25
    wrong = dataclasses.replace(demonstrations, observations=observations)
    problem = states_problem(HOPPER, wrong)
    assert problem is not None
    assert "0.25" in problem
    assert "row 7" in problem
    with pytest.raises(InputError, match=r"differs .* up to 0\.25 .*no seeds"):
        ExpertResets.create(RecordedConfig(), setting(wrong))


def test_only_the_parts_that_are_asked_must_be_given_back(demonstrations: Demonstrations) -> None:
    observations = demonstrations.observations.copy()
    observations[:, 8] += 0.25  # a velocity
    wrong = dataclasses.replace(demonstrations, observations=observations)
    start = RecordedStart(HOPPER, wrong, ("positions",))
    assert (start.method, start.about) == ("states", "states set (checked: positions)")
    assert states_problem(HOPPER, wrong, ("positions", "velocities")) is not None
    tasks = TaskBatch(HOPPER, [0])
    tasks.reset()
    observation = start.start(tasks, 0, np.random.default_rng(0))  # the simulator's, not the recorded
    assert np.abs(demonstrations.observations - observation).max(1).min() < 1e-6
    tasks.close()
    with pytest.raises(InputError, match=r"resets\.check=\[positions,velocities\]"):
        ExpertResets.create(RecordedConfig(), setting(wrong))
    ExpertResets.create(RecordedConfig(check=("positions",)), setting(wrong))
    MixtureResets.create(MixtureConfig(offline=0.0, check=("positions",)), setting(wrong))
    with pytest.raises(InputError, match=r"resets\.check.*no part 'forces'"):
        ExpertResets.create(RecordedConfig(check=("forces",)), setting(wrong))


def test_recordings_without_states_are_replayed_and_the_steps_counted(demonstrations: Demonstrations) -> None:
    recorded = seeded(demonstrations)
    start, tasks = RecordedStart(HOPPER, recorded), TaskBatch(HOPPER, [0, 1])
    assert start.method == "replay"
    tasks.reset()
    stream = tasks.environments[1].np_random.bit_generator.state
    observation = start.start(tasks, 1, np.random.default_rng(3))
    row = int(np.abs(recorded.observations - observation).max(1).argmin())
    assert np.array_equal(observation, recorded.observations[row])
    assert tasks.counts["reset"].tolist() == [0, recorded.times[row]]
    assert tasks.elapsed[1] == recorded.times[row] > 0
    assert tasks.environments[1].np_random.bit_generator.state == stream
    tasks.close()


def test_the_check_of_a_replay_is_counted_once_and_for_every_run(
    demonstrations: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, step = [0], TaskBatch.step

    def counted(self: TaskBatch, actions: np.ndarray, purpose: Any, where: np.ndarray | None = None) -> Any:
        calls[0] += len(self) if where is None else int(where.sum())
        return step(self, actions, purpose, where)

    recorded = seeded(demonstrations)
    monkeypatch.setattr(TaskBatch, "step", counted)
    alone = ExpertResets.create(RecordedConfig(share=0.9), setting(recorded, runs=1))
    tasks = TaskBatch(HOPPER, [0])
    for _ in range(10):
        alone.reset(tasks)
    assert tasks.counts["reset"][0] == calls[0] > calls[0] - len(recorded) > 0
    tasks.close()
    pair, tasks = ExpertResets.create(RecordedConfig(), setting(recorded, runs=2)), TaskBatch(HOPPER, [0, 1])
    pair.reset(tasks)
    assert tasks.counts["reset"].tolist() == [len(recorded)] * 2
    tasks.close()


def test_a_replay_that_drifts_is_refused_at_the_start(demonstrations: Demonstrations) -> None:
    recorded = seeded(demonstrations)
    observations = recorded.observations.copy()
    late = int(recorded.starts[1]) + 3
    observations[late] += 0.5
    with pytest.raises(
        InputError, match=r"episode 1 from its seed drifts by 0\.5 after 3 steps; choose resets=initial"
    ):
        RecordedStart(HOPPER, dataclasses.replace(recorded, observations=observations))


def test_what_can_neither_be_set_nor_replayed_is_refused_at_the_start(demonstrations: Demonstrations) -> None:
    with pytest.raises(InputError, match=r"no simulator states; and its episodes have no seeds"):
        RecordedStart(HOPPER, dataclasses.replace(demonstrations, qpos=None, qvel=None))
    with pytest.raises(InputError, match="only some rows"):
        RecordedStart(HOPPER, seeded(demonstrations).every(3))


@pytest.mark.parametrize(
    ("make_resets", "missing"),
    [
        (lambda: ExpertResets.create(RecordedConfig(), setting(None)), "data="),
        (lambda: OfflineResets.create(RecordedConfig(), setting(None)), "offline="),
        (lambda: RollInResets.create(RollInConfig(source="both"), setting(make_demonstrations(1))), "offline="),
        (lambda: MixtureResets.create(MixtureConfig(offline=1.0), setting(make_demonstrations(1))), "offline="),
        (lambda: MixtureResets.create(MixtureConfig(0.0, 0.0, 0.0, 0.0), setting(None)), "every weight is 0"),
    ],
)
def test_missing_data_are_named(make_resets: Any, missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        make_resets()


def test_a_roll_in_takes_steps_and_leaves_the_clock_running(demonstrations: Demonstrations) -> None:
    resets = RollInResets.create(RollInConfig(share=1.0, source="expert", updates=20), setting(demonstrations))
    resets.prepare()
    tasks = TaskBatch(HOPPER, [0, 1])
    resets.reset(tasks)
    assert resets.from_initial is not None
    assert resets.from_initial.all()  # the first episode, so that the reward has rows from the first
    assert all(tasks.counts["reset"] == 0)
    resets.reset(tasks, np.array([True, False]))
    assert resets.from_initial.tolist() == [False, True]
    assert tasks.counts["reset"][0] > 0
    assert tasks.counts["reset"][1] == 0
    assert tasks.elapsed[0] <= tasks.counts["reset"][0]
    tasks.close()


class Named(Start):
    """Counts how often it is chosen."""

    def __init__(self) -> None:
        self.chosen = 0

    def start(self, tasks: TaskBatch, index: int, random: np.random.Generator) -> np.ndarray:
        self.chosen += 1
        return np.zeros(tasks.spaces.observation_size, np.float32)


@pytest.mark.parametrize("view", [(), ("positions",)])
def test_a_cloned_roll_in_stays_on_the_processor_when_the_agent_moves(view: tuple[str, ...]) -> None:
    """The agent takes the normaliser that both were given along to its device."""
    demonstrations = make_demonstrations(1)
    given = setting(demonstrations)
    resets = RollInResets.create(RollInConfig(source="expert", updates=1, view=view), given)
    SAC.create(SACConfig(), given).to("meta")
    given.normaliser.to("meta")
    resets.prepare()
    start = resets.starts["roll_in"]
    acted = start._act(0, demonstrations.observations[0], np.zeros(3, np.float32))  # pyright: ignore
    assert np.isfinite(acted).all()


def test_starts_are_drawn_by_their_weights_and_continue_to_the_bit() -> None:
    def make() -> tuple[MixedResets, Named, Named]:
        one, two = Named(), Named()
        return MixedResets({"initial": InitialStart(), "one": one, "two": two}, [2, 1, 1], [0, 1]), one, two

    (resets, one, two), tasks = make(), TaskBatch(HOPPER, [0, 1])
    resets.reset(tasks)
    fresh = 0
    for _ in range(200):
        resets.reset(tasks)
        assert resets.from_initial is not None
        fresh += int(resets.from_initial.sum())
    assert fresh + one.chosen + two.chosen == 400
    assert fresh == pytest.approx(200, abs=40)  # four standard deviations
    assert one.chosen == pytest.approx(100, abs=36)
    other, _, _ = make()
    other.set_state(resets.state())
    for _ in range(20):
        resets.reset(tasks)
        other.reset(tasks)
        assert np.array_equal(resets.from_initial, other.from_initial)  # pyright: ignore
    tasks.close()


def test_the_reward_sees_only_episodes_from_the_initial_states(make: Make) -> None:
    training = make("filter", "resets.share=0.9", "steps=400", "loop.random_steps=400")
    assert isinstance(training, InteractiveTraining)
    run_to(training, 400)
    assert training.visits is not None
    seen = training.visits.state()
    starts = TaskBatch(HOPPER, training.seeds)
    heights = starts.reset()[:, 0]
    starts.close()
    for run in range(2):
        count = int(seen["added"][run])
        rows = seen["rows"][run, :count]
        assert 0 < count < 400
        assert rows[0, 0] == heights[run]
        replay = training.buffer.rows[run, :400]
        assert all((replay == row).all(1).any() for row in rows)
    training.close()


def test_rows_of_runs_that_fill_apart() -> None:
    layout = RowLayout(2, 1)
    visits = Visits(2, 3, layout)
    for step in range(5):
        visits.add(torch.full((2, layout.width), float(step)), np.array([True, step == 1]))
    uniform = torch.linspace(0, 0.999, 50).expand(2, 50)
    drawn = visits.newest(None, uniform)[..., 0]
    assert set(drawn[0].tolist()) == {2.0, 3.0, 4.0}  # the oldest are forgotten
    assert set(drawn[1].tolist()) == {1.0}
    assert set(visits.newest(2, uniform)[0, :, 0].tolist()) == {3.0, 4.0}
    other = Visits(2, 3, layout)
    other.set_state(visits.state())
    assert torch.equal(other.rows, visits.rows)
    assert torch.equal(other.added, visits.added)


def test_a_mixture_by_options(make: Make) -> None:
    training = make(
        "guitar", "resets.roll_in=1", "resets.updates=10", "resets.source=both", "steps=300", "loop.random_steps=300"
    )
    run_to(training, 300)
    counts = training.step_counts()
    assert all(counts["policy"] == 300)
    assert counts["reset"].sum() > 0
    training.close()


def test_a_learned_reward_without_initial_states_is_refused_where_it_has_no_rows(make: Make) -> None:
    with pytest.raises(InputError, match=r"initial states: .*or choose loop=rounds"):
        make("filter", "resets.share=1")
    make("filter_reference", "resets.share=1").close()


def test_only_episodes_from_the_initial_states_count_as_ended_early(demonstrations: Demonstrations) -> None:
    counted, all_of_them = EndedShares(HOPPER, demonstrations, 2), EndedShares(HOPPER, demonstrations, 2)
    ends = np.array([True, True])
    for shares, mask in ((counted, np.array([True, False])), (all_of_them, None)):
        shares.add(np.array([100, 900]), ends, mask)
    assert counted.lost.tolist() == [900, 0]
    assert counted.lived.tolist() == [1, 0]
    assert all_of_them.lost.tolist() == [900, 100]
    _, learner = counted.shares(torch.device("cpu"))
    assert learner[0] > 0.99
    assert learner[1] < 0.01


def test_where_episodes_start_is_said_before_a_training(demonstrations: Demonstrations) -> None:
    config, _ = compose(["learner=filter", "resets.share=0.25", *SMALL, *LEARNERS["filter"]])
    values = cast("dict[str, Any]", OmegaConf.to_container(config))
    for given, how in (
        (demonstrations, "(states set)"),
        (seeded(demonstrations), "(replayed from its seeds: it has no simulator states)"),
    ):
        assert f"resets: 0.75 initial, 0.25 expert {how}" in build(values, given).notes
