"""Mazes: what fits through, ways and scripts, goals that come back with a state, success, and what is refused."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from conftest import same_state
from omegaconf import OmegaConf
from policies import make_policy

from understudy.datasets import load
from understudy.imitation.checkpoint import load_checkpoint
from understudy.imitation.evaluation import evaluate
from understudy.imitation.fit import FitConfig, References, Run
from understudy.imitation.networks import Normaliser
from understudy.imitation.recording import record
from understudy.imitation.resets.recorded import RecordedStart, states_problem, wedged_share
from understudy.imitation.statistics import mean_summary
from understudy.robots import Disturbances, InputError, Task, TaskBatch, find_task, observation_parts, place
from understudy.robots.navigation import Map
from understudy.robots.slalom import CUPS
from understudy.scripts.build import build
from understudy.scripts.evaluate import main as evaluate_main
from understudy.scripts.record import main as record_main
from understudy.scripts.settings import compose

WIDE = Disturbances(bodies={"disc": {"length": 2.5}})


def gap_maze(disturbances: Disturbances = Disturbances()) -> Task:  # noqa: B008
    return dataclasses.replace(find_task("gap-maze"), disturbances=disturbances)


def followed(task: Task, script: str, episodes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Observations (T, N, O) and successes (T, N) of a script at work."""
    controller, tasks = task.scripts[script](task), TaskBatch(task, range(episodes))
    observations, seen, succeeded = tasks.reset(), [], []
    controller.begin(range(episodes))
    for _ in range(task.horizon):
        result = tasks.step(controller.act(observations), "policy")
        seen.append(observations)
        succeeded.append(result.succeeded)
        observations = result.next_observations
    assert result.truncated.all()
    tasks.close()
    return np.stack(seen), np.stack(succeeded)


def test_the_expert_takes_the_gap_and_a_wider_body_goes_round() -> None:
    narrow, reached = followed(gap_maze(), "expert")
    wide, reached_wide = followed(gap_maze(WIDE), "expert")
    assert narrow[..., 1].max() < -0.7
    assert wide[..., 1].max() > 1.2
    assert (reached.argmax(0) < 60).all()
    assert (reached_wide.argmax(0) > 70).all()
    assert reached[-1].all()
    assert reached_wide[-1].all()


def test_a_wide_body_cannot_be_forced_through_the_gap() -> None:
    tasks = TaskBatch(gap_maze(WIDE), range(5))
    observations = tasks.reset()
    for _ in range(200):  # along the middle of the gap, with all force
        action = np.stack((np.ones(5), np.clip(10 * (-1 - observations[:, 1]), -1, 1)), 1)
        observations = tasks.step(action, "policy").next_observations
    assert (observations[:, 0] < -0.3).all()
    tasks.close()


def test_rewards_are_steps_at_the_goal() -> None:
    environment = gap_maze().make()
    environment.reset(seed=0)
    for place_there, there in (([1.4, -1.0], True), ([1.4, -0.72], True), ([1.4, -0.6], False)):
        environment.set_state(np.array(place_there), np.zeros(2))
        _, reward, terminated, _, about = environment.step(np.zeros(2))
        assert (reward, terminated, about["success"]) == (float(there), False, there)
    environment.close()


def test_the_slalom_is_past_every_cup_on_either_side_and_straight_ahead_ends_in_one() -> None:
    task = find_task("slalom")
    seen, succeeded = followed(task, "expert", episodes=40)
    assert succeeded[-1].all()
    assert not succeeded[:20].any()
    sides = np.stack([np.where(np.abs(seen[..., 0] - cup) < 0.2, seen[..., 1], 0).sum(0) for cup in CUPS], -1)
    assert (sides != 0).all()
    shares = (sides > 0).mean(0)
    assert ((shares > 0.25) & (shares < 0.75)).all()
    # Neither what was done before nor where the disc is says what comes next: all eight ways are there.
    assert len(np.unique(np.sign(sides), axis=0)) == 8
    tasks = TaskBatch(task, range(5))
    observations = tasks.reset()
    for _ in range(task.horizon):
        push = np.clip(-3 * observations[:, 1:2], -1, 1)  # back to the middle, which is the mean of both sides
        result = tasks.step(push, "policy")
        observations = result.next_observations
        assert not result.succeeded.any()
    assert (np.abs(observations[:, 0] - 1.2) < 0.1).all()
    tasks.close()


def test_a_dodge_is_of_its_own_seed_whatever_is_recorded_with_it() -> None:
    task = find_task("slalom")
    several = record(task, task.scripts["expert"](task), seed=5, episodes=3)
    one = record(task, task.scripts["expert"](task), seed=7, episodes=1)
    assert np.array_equal(one.actions, several.actions[2 * task.horizon :])


WALLED = """<mujoco><worldbody>
<geom type="box" pos="-2 0 0" size="0.1 2 1"/><geom type="box" pos="2 0 0" size="0.1 2 1"/>
<geom type="box" pos="0 -2 0" size="2 0.1 1"/><geom type="box" pos="0 2 0" size="2 0.1 1"/>
<geom type="box" pos="0 -0.5 0" size="0.1 1.5 1"/>
<body><freejoint/><geom type="sphere" size="0.2"/></body></worldbody></mujoco>"""


def test_ways_are_as_long_as_they_are() -> None:
    walls = Map(mujoco.MjModel.from_xml_string(WALLED), 0.2, 0.0)
    goal = np.array([1.0, -1.0])
    distances = walls.distances(goal)

    def far(x: float, y: float) -> float:
        index = np.unravel_index(int(np.linalg.norm(walls._points - [x, y], axis=-1).argmin()), distances.shape)
        return float(distances[index])

    assert far(1.0, 0.5) == pytest.approx(1.5, abs=0.1)
    assert far(1.0, -1.0) == pytest.approx(0.0, abs=0.1)
    # Around the wall's end by two corners, 0.22 m clear of it: on a grid that goes in eight directions.
    corner = np.array([0.32, 1.22])
    up, across = np.linalg.norm(corner - goal), 2 * corner[0]
    assert far(-1.0, -1.0) == pytest.approx(2 * up + across, rel=0.1)
    assert np.isinf(far(0.0, -1.0))  # inside the wall
    assert not walls.free[0].any()


def test_play_is_everywhere_and_its_own_whatever_is_recorded_with_it() -> None:
    task = gap_maze(WIDE)
    play = record(task, task.scripts["play"](task), seed=5, episodes=20)
    other = record(task, task.scripts["play"](task), seed=7, episodes=1)
    xy = play.observations[:, :2]
    for area in (xy[:, 0] < -0.5, xy[:, 0] > 0.5, xy[:, 1] > 1.2):
        assert area.mean() > 0.1
    assert np.array_equal(other.observations, play.observations[400:600])
    assert np.abs(play.actions).max() <= 1


@pytest.mark.parametrize("name", ["PointMaze_Open_Diverse_G-v3", "fetch-push"])
def test_goals_come_back_with_recorded_states(name: str) -> None:
    task = dataclasses.replace(find_task(name), horizon=30)
    recorded = record(task, None, seed=0, episodes=3)
    assert len(np.unique(recorded.observations[:, -2:], axis=0)) == 3  # goals
    assert states_problem(task, recorded) is None
    environment = task.make()
    environment.reset(seed=9)
    for row in (0, 40, 75):
        snapshot = recorded.snapshot(row)
        assert snapshot is not None
        np.testing.assert_allclose(place(environment, snapshot), recorded.observations[row], atol=1e-6)
        action = recorded.actions[row].astype(np.float64)
        np.testing.assert_allclose(environment.step(action)[0], recorded.next_observations[row], atol=1e-6)
    environment.close()


@pytest.mark.parametrize("name", ["antmaze", "pointmaze", "gap-maze"])
def test_filter_sets_a_mazes_recorded_states_and_takes_no_steps_for_it(name: str) -> None:
    task = find_task(name)
    given = record(dataclasses.replace(task, horizon=25), None, seed=0, episodes=2)
    given = dataclasses.replace(given, expert_return=1.0)
    small = ("agent.hidden=[8]", "reward.hidden=[8]", "runs=8", "seed=100", "device=cpu", "threads=1")
    config, _ = compose([f"task={name}", "learner=filter", "resets.share=0.6", *small, "data=given"])
    values: Any = OmegaConf.to_container(config, resolve=True)
    training: Any = build(values, given).training
    training.begin()  # a first episode is the task's own
    begins = training.resets.reset(training.tasks)
    gaps = np.abs(begins[:, None] - given.observations).max(-1).min(-1)
    assert training.resets.about == "0.4 initial, 0.6 expert (states set)"
    assert (gaps < 1e-4).tolist() == (~training.resets.from_initial).tolist()
    assert 0 < training.resets.from_initial.sum() < 8
    assert training.step_counts()["reset"].sum() == 0
    training.close()


@pytest.mark.parametrize("name", ["pointmaze", "antmaze", "fetch-reach", "FetchPickAndPlace-v4"])
def test_what_is_told_a_goal_is_gymnasium_robotics_own(name: str) -> None:
    task = find_task(name)
    ours = task.make()
    theirs = gymnasium.make(task.environment_id, **dict(task.keywords), disable_env_checker=True)
    mine, _ = ours.reset(seed=4)
    other, _ = theirs.reset(seed=4)
    generator, parts = np.random.default_rng(0), observation_parts(task)
    for _ in range(50):
        for part, columns in parts.items():
            assert np.array_equal(mine[columns], other[part])
        action = generator.uniform(-1, 1, task.spaces.action_size)
        mine, reward, *_, about = ours.step(action)
        other, their_reward, *_, their_about = theirs.step(action)
        theirs_succeeded = their_about["success" if "success" in their_about else "is_success"]
        assert (reward, about["success"]) == (their_reward, bool(theirs_succeeded))
    path = Path(ours.fullpath)
    assert path.exists()
    ours.close()
    theirs.close()
    assert path.exists() == name.startswith(("fetch", "Fetch"))  # a maze's file is made for it


def test_the_script_solves_pointmaze_for_every_goal() -> None:
    _, reached = followed(
        dataclasses.replace(find_task("PointMaze_UMaze-v3"), scripts=find_task("pointmaze").scripts), "expert", 4
    )
    assert reached[-1].all()


@pytest.mark.parametrize(("name", "count"), [("fetch-reach", 3), ("fetch-push", 2)])
def test_scripts_solve_fetch(name: str, count: int) -> None:
    _, reached = followed(find_task(name), "expert", count)
    assert reached[-1].all()


def test_fetch_is_pulled_by_its_hand_and_what_would_change_nothing_is_refused() -> None:
    task = find_task("fetch-push")
    heavy = dataclasses.replace(task, disturbances=Disturbances(bodies={"object0": {"mass": 2.0}})).make()
    light = task.make()
    assert heavy.model.body("object0").mass[0] == 2 * light.model.body("object0").mass[0]
    for changed in (Disturbances(frozen=("robot0:elbow_flex_joint",)), Disturbances(removed=("object0",))):
        with pytest.raises(InputError, match="pulled"):
            dataclasses.replace(task, disturbances=changed).make()


def test_an_ant_in_a_maze_can_lose_a_leg() -> None:
    task = find_task("antmaze")
    legless = dataclasses.replace(task, disturbances=Disturbances(removed=("front_left_leg",)))
    assert legless.spaces.action_size == task.spaces.action_size - 2
    tasks = TaskBatch(legless, [0])
    assert tasks.reset().shape == (1, legless.spaces.observation_size)
    assert np.isfinite(tasks.step(np.zeros((1, 6)), "policy").next_observations).all()
    tasks.close()


def test_without_the_extra_a_maze_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("gymnasium_robotics"):
            raise ImportError("No module named 'gymnasium_robotics'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr("importlib.import_module", missing)
    monkeypatch.setattr(gymnasium, "registry", {})
    with pytest.raises(InputError, match=r"pip install 'understudy\[robots\]'"):
        find_task("pointmaze").make()


def test_news_of_gymnasium_robotics_are_for_whom_they_are_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It prints them when it is imported, whatever one wants of it."""
    original = importlib.import_module

    def telling(name: str, package: str | None = None) -> Any:
        if name == "gymnasium_robotics":
            print("understudy/D4rlAntMaze-v0 was mended", file=sys.stderr)
        return original(name, package)

    monkeypatch.setattr("importlib.import_module", telling)
    with caplog.at_level("WARNING"):
        find_task("AntMaze_UMaze-v5").make().close()
        find_task("kitchen").make().close()
        assert caplog.text == ""
        find_task("d4rl-antmaze-umaze").make().close()
    assert "gymnasium-robotics: understudy/D4rlAntMaze-v0 was mended" in caplog.text
    assert capsys.readouterr().err == ""


def test_evaluations_count_successes() -> None:
    task = gap_maze()
    expert = task.scripts["expert"](task)

    def act(observations: torch.Tensor) -> torch.Tensor:
        """The first run's expert, a second run that does nothing."""
        actions = torch.zeros(*observations.shape[:2], 2)
        actions[0] = torch.from_numpy(expert.act(observations[0].numpy()))
        return actions

    result = evaluate(act, task, 2, 3)
    assert result.successes is not None
    assert result.successes.tolist() == [[True] * 3, [False] * 3]
    assert evaluate(lambda seen: torch.zeros(*seen.shape[:2], 3), find_task("hopper"), 1, 1).successes is None


def test_commands_record_scripts_and_report_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wide.yaml").write_text("bodies: {disc: {length: 2.5}}")
    out = tmp_path / "expert.hdf5"
    assert record_main(["expert", "task=gap-maze", "episodes=2", f"out={out}", "quiet=true"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["return"]["min"] > 140
    assert load(out).metadata["policy"] == "the task's script 'expert'"
    make_policy("gap-maze").save_pretrained(tmp_path / "policy")
    assert evaluate_main([str(tmp_path / "policy"), "episodes=2", "quiet=true"]) == 0
    assert json.loads(capsys.readouterr().out)["success"]["mean"] == 0.0
    assert record_main(["expert", "task=hopper", "episodes=2", f"out={tmp_path / 'x.hdf5'}"]) == 2
    assert "expert" in capsys.readouterr().err


def test_offline_rows_count_as_much_as_the_experts_for_standardising() -> None:
    expert, offline = np.array([[0.0, 1.0], [0.0, 3.0]], np.float32), np.array([[2.0, 1.0]] * 50, np.float32)
    both = Normaliser.of(expert, offline)
    assert both.mean.tolist() == [1.0, 1.5]
    np.testing.assert_allclose(both.std.numpy(), [1.0, np.sqrt(0.5 + 0.25)], rtol=1e-6)
    alone = Normaliser.of(expert)
    assert alone.mean.tolist() == [0.0, 2.0]
    assert alone.std.tolist() == pytest.approx([0.01, 1.0])


def test_a_share_of_successes_is_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one episode of five: the interquartile mean would make nothing of it."""
    assert mean_summary([0, 0, 0, 0, 1])["mean"] == 0.2
    make_policy("pointmaze").save_pretrained(tmp_path / "policy")
    assert evaluate_main([str(tmp_path / "policy"), "episodes=8", "quiet=true"]) == 0
    said = json.loads(capsys.readouterr().out)["success"]
    assert 0 < said["mean"] < 0.5
    assert said["runs"] == [said["mean"]]


@pytest.mark.parametrize(
    ("disturbances", "script", "words"),
    [
        ("bodies: {disc: {length: 20}}", "expert", "wide enough"),
        ("bodies: {disc: {length: 5}}", "expert", "wide enough"),
        ("removed: [disc]", "play", "whole robot"),
    ],
)
def test_bodies_that_scripts_cannot_steer_are_refused(
    disturbances: str, script: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "body.yaml").write_text(disturbances)
    options = ["task=gap-maze", f"disturbances={tmp_path / 'body.yaml'}", "episodes=1", f"out={tmp_path / 'x.hdf5'}"]
    assert record_main([script, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.hdf5").exists()


def test_mazes_by_their_ids_are_as_those_of_the_table() -> None:
    task = find_task("PointMaze_Large-v3")
    assert (task.terminates, task.horizon, sorted(task.scripts)) == (False, 800, ["expert", "play"])
    assert task.succeeds == find_task("pointmaze").succeeds
    assert find_task("AntMaze_Medium-v5").succeeds
    assert find_task("AntMaze_Medium-v5").random_return is None


@pytest.mark.parametrize("task", ["pointmaze", "gap-maze"])
def test_a_training_in_a_maze_resumes_bit_equal_and_keeps_its_successes(task: str, tmp_path: Path) -> None:
    small = ("loop.round_steps=100", "agent.hidden=[8]", "reward.hidden=[8]", "agent.epochs=1", "loop.select_every=200")
    options = [f"task={task}", "learner=gail", *small, "runs=2", "device=cpu", "threads=1", "data=given"]
    config, _ = compose(options)
    values: Any = OmegaConf.to_container(config, resolve=True)
    expert = find_task(task)
    demonstrations = record(expert, expert.scripts["expert"](expert), seed=0, episodes=2)
    trainings = [build({**values, "steps": steps}, demonstrations).training for steps in (400, 200, 400)]
    runs = [
        Run(training, tmp_path / str(k), FitConfig(evaluate_every=200, evaluation_episodes=2), References(None, None))
        for k, training in enumerate(trainings)
    ]
    for run in runs:
        run.directory.mkdir()
    whole = runs[0].fit(lambda *_: None, lambda: None)
    runs[1].fit(lambda *_: None, lambda: None)
    runs[2].resume(load_checkpoint(runs[1].directory))
    again = runs[2].fit(lambda *_: None, lambda: None)
    assert same_state(trainings[0].state(), trainings[2].state())
    shares = whole.final_successes()
    assert shares is not None
    assert [point.successes for point in whole.points] == [point.successes for point in again.points]
    rows = (tmp_path / "0" / "evaluations.csv").read_text().splitlines()
    assert rows[0].endswith(",success")
    assert {row[-1] for row in rows[1:]} <= {"0", "1"}
    np.testing.assert_array_equal(again.final_successes(), shares)  # pyright: ignore


@pytest.mark.parametrize(("task", "joint"), [("pointmaze", "ball_x"), ("gap-maze", "x")])
def test_the_joint_by_which_a_maze_places_its_robot_cannot_be_frozen(task: str, joint: str) -> None:
    held = dataclasses.replace(find_task(task), disturbances=Disturbances(frozen=(joint,)))
    if task == "pointmaze":
        with pytest.raises(InputError, match="the maze puts its robot in place"):
            held.make()
    else:
        tasks = TaskBatch(held, [0])  # this maze starts where its model does
        tasks.reset()
        tasks.step(np.ones((1, 2), np.float32), "policy")
        tasks.close()


def test_it_is_said_how_many_starts_leave_a_wider_body_in_the_walls(tmp_path: Path) -> None:
    assert record_main(["expert", "task=gap-maze", "episodes=2", f"out={tmp_path / 'x.hdf5'}", "quiet=true"]) == 0
    recorded = load(tmp_path / "x.hdf5")
    wide = gap_maze(WIDE)
    share = wedged_share(wide, recorded)
    gap = np.abs(recorded.observations[:, 0]) < 0.05  # in the middle of it on the way from left to right
    assert gap.mean() / 2 < share < 0.2
    assert wedged_share(gap_maze(), recorded) == 0
    assert f"in {share:.0%} of which this robot's other body" in RecordedStart(wide, recorded).about
    assert RecordedStart(gap_maze(), recorded).about == "states set"
