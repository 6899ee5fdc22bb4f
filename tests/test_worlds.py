"""The learned world: that a true model is the simulator, where roll-outs start and end, and what is counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import LEARNERS, SMALL, Make, last_of_each, run_to, same_state
from torch import Tensor

from understudy.datasets import Demonstrations
from understudy.imitation import worlds
from understudy.imitation.dynamics import Dynamics, DynamicsConfig
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.networks import Normaliser
from understudy.imitation.parts import Setting
from understudy.imitation.randomness import Generators
from understudy.imitation.replay import Batch, ReplayBuffer, RowLayout
from understudy.imitation.resets import InitialResets
from understudy.imitation.world_diagnosis import open_loop, open_loop_errors
from understudy.imitation.worlds import ModelConfig, ModelWorld, Numbers, roll_out
from understudy.robots import TASKS, InputError, TaskBatch, find_task
from understudy.scripts.train import main


class TrueDynamics:
    """The simulator as a model: what follows recorded observations in it."""

    def __init__(self, tasks: TaskBatch) -> None:
        self.tasks = tasks

    def __call__(self, observations: Tensor, actions: Tensor, which: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        for environment, observation in zip(self.tasks.environments, observations[0].double().numpy(), strict=True):
            positions = np.concatenate(([0.0], observation[:5]))  # Hopper's place along the way is not observed
            environment.set_state(positions, observation[5:])
        after = self.tasks.step(actions[0].numpy(), "evaluation").next_observations
        return torch.from_numpy(after)[None], torch.zeros(1, len(after))


def test_a_model_that_is_the_truth_gives_the_simulators_returns() -> None:
    """The same starts and actions: equal states, ends and sums of a reward."""
    task, seeds, steps = find_task("hopper"), [1, 2, 3], 30
    real, model = TaskBatch(task, seeds), TaskBatch(task, seeds)
    layout = RowLayout(11, 3)
    first = real.reset()
    model.reset()
    begins = torch.from_numpy(first)[None]
    numbers = Numbers.draw(Generators([5]), steps, len(seeds), layout)

    def act(observations: Tensor, noise: Tensor) -> Tensor:
        return 0.6 * noise + 0.1 * observations[..., 5:8]

    def worth(rows: Batch) -> Tensor:
        return rows.next_observations[..., 0] + rows.next_observations[..., 5] - rows.actions.square().sum(-1)

    rows = roll_out(TrueDynamics(model), act, begins, task.health, numbers).view(steps, len(seeds), -1)
    observations, running, returns = first, np.ones(len(seeds), bool), np.zeros((2, len(seeds)))
    lengths = np.zeros(len(seeds), int)
    for step in range(steps):
        actions = act(torch.from_numpy(observations)[None], numbers.policy[:, step]).clamp(-1, 1)[0].numpy()
        result = real.step(actions, "evaluation", running)
        imagined = layout.batch(rows[step])
        np.testing.assert_array_equal(imagined.terminated.numpy()[running] == 1, result.terminated[running])
        packed = layout.batch(layout.pack(observations, actions, result.next_observations, result.rewards, running))
        returns += np.stack((worth(packed).numpy(), worth(imagined).numpy())) * running
        lengths += running
        running &= ~result.ended
        observations = result.next_observations
    assert 1 < lengths.min() < steps  # somebody fell
    np.testing.assert_allclose(returns[0], returns[1], rtol=2e-3)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.health is not None])
def test_the_rule_of_an_end_is_the_simulators(name: str) -> None:
    task = TASKS[name]
    assert task.health is not None
    tasks, generator = TaskBatch(task, [1]), np.random.default_rng(0)
    tasks.reset()
    ends = 0
    for _ in range(300):
        result = tasks.step(generator.uniform(-1, 1, (1, tasks.spaces.action_size)).astype(np.float32), "policy")
        healthy = task.health.healthy(torch.from_numpy(result.next_observations))
        assert bool(healthy[0]) != bool(result.terminated[0])
        ends += int(result.terminated[0])
        if result.ended.any():
            tasks.reset(result.ended)
    tasks.close()
    assert ends or name == "ant"
    missing = torch.full((1, tasks.spaces.observation_size), torch.nan)
    assert not task.health.healthy(missing).any()


def test_the_words_of_a_rule_are_made_of_its_numbers() -> None:
    assert str(TASKS["hopper"].health) == "torso above 0.7 m and within 0.2 rad of upright"
    assert str(TASKS["walker2d"].health) == "torso between 0.8 and 2 m and within 1 rad of upright"


def test_roll_outs_end_by_the_rule_by_doubt_and_by_the_horizon() -> None:
    """A state that falls by a tenth each step, from 1; what is below 0.75 has ended, and begins again."""
    health = find_task("hopper").health

    def falls(observations: Tensor, actions: Tensor, which: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        after = observations.clone()
        after[..., 0] -= 0.1
        return after, (1 - after[..., 0]).round(decimals=2)

    def rest(observations: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(noise)

    layout, begins = RowLayout(11, 3), torch.zeros(1, 1, 11)
    begins[..., 0] = 1.0
    numbers = Numbers.draw(Generators([0]), 5, 1, layout)

    def heights(limit: Tensor | None) -> tuple[list[float], list[float]]:
        rows = layout.batch(roll_out(falls, rest, begins, health, numbers, limit))
        return rows.observations[0, :, 0].tolist(), rows.terminated[0].tolist()

    seen, ended = heights(None)
    assert seen == pytest.approx([1.0, 0.9, 0.8, 1.0, 0.9], abs=1e-5)
    assert ended == [0, 0, 1, 0, 0]
    seen, ended = heights(torch.tensor([0.15]))
    assert seen == pytest.approx([1.0, 0.9, 1.0, 0.9, 1.0], abs=1e-5)
    assert sum(ended) == 0  # cut, not ended: its value goes on


def world_of(training: Any) -> ModelWorld:
    assert isinstance(training, InteractiveTraining)
    assert isinstance(training.world, ModelWorld)
    return training.world


def test_real_steps_model_steps_and_updates_are_counted_apart(make: Make) -> None:
    training = cast(InteractiveTraining, run_to(make("hyper"), 200))
    world = world_of(training)
    made = training.made()
    assert training.step_counts()["policy"].tolist() == [200, 200]
    assert made["updates"].tolist() == [140, 140]  # after 60 random steps, one a step
    # Four for each step, those that no update came after included; whole roll-outs of one to three steps.
    assert made["model steps"].tolist() == [world.imagined.added] * 2
    assert world.imagined.added == pytest.approx(4 * 200, rel=0.05)
    rows = training.layout.batch(world.imagined.rows[:, : len(world.imagined)])
    assert (rows.expert == 0).all()
    assert (rows.actions.abs() <= 1).all()


def test_starts_are_where_the_resets_say(make: Make, demonstrations: Demonstrations) -> None:
    """The expert's observations, whether or not a simulator could be put there, or where the learner has been."""
    known = {tuple(row) for row in demonstrations.observations.tolist()}

    def share(*options: str) -> float:
        training = cast(InteractiveTraining, run_to(make("hyper", *options), 100))
        begins = world_of(training)._begin(400, training.buffer, training.generators)  # pyright: ignore
        return float(np.mean([tuple(row) in known for row in begins.flatten(0, 1).tolist()]))

    assert share("resets.share=0.3") == pytest.approx(0.3, abs=0.08)
    assert share("resets=initial") == 0
    assert share("resets=mixture", "resets.initial=0", "resets.expert=1", "resets.offline=1") == 1


def test_roll_ins_are_made_once_in_the_simulator_and_counted(make: Make) -> None:
    options = ("hyper", "resets=roll_in", "resets.source=expert", "resets.updates=5", "resets.share=0.4")
    training = cast(InteractiveTraining, run_to(make(*options), 100))
    horizon = training.task.horizon
    assert training.step_counts()["reset"].tolist() == [2 * (horizon - 1)] * 2
    visited = training.state().tensors["world.starts.roll_in.visited"]
    assert visited.shape == (2, 2 * horizon, 11)
    assert not torch.equal(visited[0], visited[1])
    begins = world_of(training)._begin(400, training.buffer, training.generators)  # pyright: ignore
    for run, rows in enumerate(begins):
        known = {tuple(row) for row in visited[run].tolist()}
        assert float(np.mean([tuple(row) in known for row in rows.tolist()])) == pytest.approx(0.4, abs=0.08)


def test_the_learners_own_episodes_may_start_where_roll_outs_do(make: Make, demonstrations: Demonstrations) -> None:
    """As FILTER has it; the reward compares those from initial states alone, and everything resumes to the bit."""
    known = {tuple(row) for row in demonstrations.observations.tolist()}

    def started(*options: str) -> tuple[float, InteractiveTraining]:
        training = cast(InteractiveTraining, run_to(make("hyper", "resets.share=0.5", *options), 160))
        rows = training.layout.batch(training.buffer.rows[:, : len(training.buffer)]).observations.flatten(0, 1)
        return sum(tuple(row) in known for row in rows.tolist()), training

    few, training = started()
    assert training.visits is None
    many, training = started("world.episodes=resets")
    assert few == 0
    assert many >= 2
    assert training.visits is not None
    assert int(training.visits.added.max()) < 160
    make("hyper", "world.episodes=resets", "resets.check=[positions]").close()
    resumed = make("hyper", "resets.share=0.5", "world.episodes=resets")
    resumed.set_state(training.state())
    assert same_state(run_to(resumed, 200).state(), run_to(training, 200).state())


def test_a_share_of_the_rows_may_be_the_simulators(make: Make) -> None:
    training = cast(InteractiveTraining, run_to(make("hyper", "world.real_share=0.25", "world.buffer_size=2000"), 200))
    world = world_of(training)
    kept = world.imagined.rows[:, : len(world.imagined)]
    real = {tuple(row) for row in _of_transitions(training.buffer.rows[:, : len(training.buffer)])}
    same = [tuple(row) in real for row in _of_transitions(kept)]
    assert float(np.mean(same)) == pytest.approx(0.25, abs=0.01)
    assert world.model_steps == pytest.approx(4 * 200, rel=0.05)  # the others are not steps of it
    # Nobody may see the task's rewards, whose place has how unsure the model was.
    unsure = world.layout.batch(kept).rewards.flatten()[torch.tensor(same)]
    assert unsure.abs().sum() == 0
    assert training.layout.batch(training.buffer.rows).rewards.abs().sum() > 0


def test_roll_outs_grow_longer_by_the_schedule(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, original = list[int](), worlds.roll_out

    def noted(*arguments: Any) -> Tensor:
        lengths.append(arguments[4].which.shape[1])
        return original(*arguments)

    monkeypatch.setattr(worlds, "roll_out", noted)
    training = make("hyper", "world.horizon=[[80,1],[180,5]]")
    run_to(training, 200)
    assert lengths[0] == 1
    assert lengths[-1] == 5
    assert lengths == sorted(lengths)
    assert set(lengths) > {1, 3, 5}


def test_the_return_in_the_model_is_the_models(make: Make) -> None:
    """In one that stands still what the first state is worth is had twenty-five times; in the simulator it falls."""
    training = run_to(make("hyper"), 200)
    world = world_of(training)

    def still(observations: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return observations, observations[..., 0]

    world.dynamics.step = still  # pyright: ignore
    counts, acting = np.zeros(2, np.int64), cast(Any, training).agent.act
    found = world._diagnosis(7, world.dynamics, acting, lambda b: b.observations[..., 0], torch.device("cpu"), counts)
    torch.testing.assert_close(found["return_model_initial"], torch.full((2,), 25 * 1.25), rtol=5e-3, atol=0.0)
    assert (found["return_real_initial"] < found["return_model_initial"] - 0.2).all()
    assert (counts > 0).all()


def _of_transitions(rows: Tensor) -> list[list[float]]:
    """Packed rows (R, N, width) without what is not of the transition, one after the other."""
    return rows.flatten(0, 1)[:, :-3].tolist()


def test_doubt_changes_rewards_as_told(make: Make) -> None:
    def gap(uncertainty: str) -> Tensor:
        options = () if uncertainty == "none" else ("world.uncertainty_weight=0.5",)
        world = world_of(make("hyper", f"world.uncertainty={uncertainty}", *options))
        world.dynamics.typical.fill_(2.0)
        rows = torch.zeros(2, 2, world.layout.width)
        rows[..., -3], rows[:, 1, -1] = 4.0, 1.0  # as unsure as twice the typical; the second is the expert's
        return world.adjusted(torch.zeros(2, 2), world.layout.batch(rows))

    assert gap("none").abs().sum() == 0
    assert gap("penalise").tolist() == [[-1.0, 0.0]] * 2
    assert gap("explore").tolist() == [[1.0, 0.0]] * 2


@pytest.mark.parametrize(
    "options",
    [
        ("smiling", "world=model"),
        ("mm", "world=model", "world.uncertainty=truncate"),
        ("airl", "world=model"),
        ("diffail", "world=model"),
        ("sqil", "world=model", "resets=expert"),
        ("hype_guitar", "world=model"),
        ("hyper", "agent=td3"),
        ("hyper", "resets=roll_in", "resets.source=expert", "resets.updates=1"),
    ],
)
def test_other_learners_learn_in_it_too(make: Make, options: tuple[str, ...]) -> None:
    model = ("world.members=2", "world.elites=2", "world.hidden=[8]", "world.epochs=1", "world.model_steps=2")
    whole, half, resumed = (make(*options, *model) for _ in range(3))
    run_to(half, 100)
    resumed.set_state(half.state())
    assert same_state(run_to(resumed, 140).state(), run_to(whole, 140).state())
    assert world_of(whole).model_steps > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("hyper", "world.elites=3"), "there are world.members=2"),
        (("hyper", "world.horizon=[[5,1],[5,2]]"), "ascending points"),
        (("hyper", "world.horizon=[[5]]"), "ascending points"),
        (("hyper", "world.real_share=1"), "to less than 1 is expected"),
        (("hyper", "world.episodes=expert"), "world.episodes"),
        (("sac", "world=model"), "does not learn the task's reward"),
        (("gail", "world=model"), "loop=on_policy"),
        (("bc", "world=model"), "has no world"),
        (("hyper", "world.uncertainty=none", "world.uncertainty_weight=1"), "makes nothing of it"),
        (("hyper", "resets.check=[positions]"), r"no state of the simulator is set: add world\.episodes=resets"),
        (("hyper", "world.uncertainty=truncate", "world.uncertainty_weight=1"), "weighs nothing"),
        (("hyper", "world.uncertainty=explore", "world.uncertainty_limit=1"), "only world.uncertainty=truncate has"),
        (("hyper", "world.demonstrated=2"), "at most 1"),
        (("hyper", "world.horizon=5"), r"a list like \[\[20,1\],\[100,5\]\]"),
    ],
)
def test_what_cannot_be_learned_in_it_is_refused(
    make: Make, options: tuple[str, ...], sentence: str, demonstrations: Demonstrations
) -> None:
    with pytest.raises(InputError, match=sentence):
        make(*options)


def test_a_task_that_ends_nobody_knows_when_is_refused(demonstrations: Demonstrations) -> None:
    task = find_task("InvertedPendulum-v5")
    setting = Setting(
        task, task.spaces, (0,), Normaliser.identity(4), torch.float32, torch.device("cpu"), demonstrations
    )
    with pytest.raises(InputError, match="by what rule is not known"):
        ModelWorld.create(ModelConfig(), setting, InitialResets())


def test_the_open_loop_error_is_that_of_the_states() -> None:
    """A model that is off by a tenth of a deviation a step is off by k tenths after k, or after what was lived."""
    dynamics = Dynamics(DynamicsConfig(members=1, elites=1, hidden=(4,)), 1, 2, 1)
    dynamics.std.fill_(2.0)
    for name, value in (("low", -math.inf), ("high", math.inf), ("change_std", 1.0), ("change_mean", 0.2)):
        getattr(dynamics, name).fill_(value)
    first, actions = torch.zeros(1, 2, 2), torch.zeros(1, 2, 25, 1)
    predicted = open_loop(dynamics, first, actions)
    lived = torch.ones(1, 2, 25, dtype=torch.bool)
    lived[:, 1, 2:] = False
    errors = open_loop_errors(dynamics, predicted, torch.zeros_like(predicted), lived, "initial")
    assert errors["open_loop_1_initial"].item() == pytest.approx(0.1)
    assert errors["open_loop_5_initial"].item() == pytest.approx(math.sqrt((0.5**2 + 0.2**2) / 2), rel=1e-4)


def test_more_rows_at_once_are_as_one_by_one() -> None:
    layout, rows = RowLayout(2, 1), torch.randn(2, 7, 8)
    one, many = ReplayBuffer(2, 5, layout), ReplayBuffer(2, 5, layout)
    for row in rows.unbind(1):
        one.add(row)
    many.extend(rows[:, :4])
    many.extend(rows[:, 4:])
    assert torch.equal(one.rows, many.rows)
    assert one.added == many.added == 7


def test_the_table_the_result_and_the_picture_of_a_run(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    small = [option for option in last_of_each(*SMALL, *LEARNERS["hyper"]) if not option.startswith("quiet=")]
    assert main(["learner=hyper", *small, f"data={data_file}", f"directory={tmp_path / 'run'}"]) == 0
    printed = capsys.readouterr().out
    (header,) = (line for line in printed.splitlines() if "evaluation" in line and "┃" in line)
    assert all(name in header for name in ("policy", "model steps", "updates"))
    result = json.loads(printed.strip().splitlines()[-1])
    assert result["updates"] == 140
    assert result["model_steps"] > result["steps"]["policy"] == 200
    assert (tmp_path / "run" / "world.png").stat().st_size > 10_000
    logged = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    diagnosed = {"model_coverage", "open_loop_5_visited", "open_loop_25_expert", "return_model_initial"}
    assert diagnosed <= set(logged)
