"""The Franka kitchen: D4RL's rules and noise, gymnasium-robotics' own, files of D4RL's and learning from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from conftest import CLONING, last_of_each
from recordings import record

from understudy.datasets import load, normalised_score, stream, write_d4rl
from understudy.datasets.names import open_data
from understudy.robots import Disturbances, InputError, Snapshot, Task, TaskBatch, find_task, place
from understudy.scripts.deploy import main as deploy_main
from understudy.scripts.evaluate import main as evaluate_main
from understudy.scripts.inspect_data import main as inspect_main
from understudy.scripts.train import main as train_main

pytest.importorskip("gymnasium_robotics")

COMPLETE = "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"
MIXED = "kitchen_microwave_kettle_bottomburner_light-v0.hdf5"
# Columns and goals, by d4rl 1.1, d4rl/kitchen/kitchen_envs.py.
GOALS: dict[str, dict[int, float]] = {
    "microwave": {22: -0.75},
    "kettle": {23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99, 29: -0.06},
    "light switch": {17: -0.69, 18: -0.05},
    "slide cabinet": {19: 0.37},
    "bottom burner": {11: -0.88, 12: -0.01},
}


def put(places: np.ndarray, *things: str) -> np.ndarray:
    """Positions with these things done."""
    places = places.copy()
    for thing in things:
        places[list(GOALS[thing])] = list(GOALS[thing].values())
    return places


def write(path: Path, lengths: list[int], name: str = "kitchen", **changes: Any) -> np.ndarray:
    """A file in D4RL's layout, of smooth random actions; returns its observations."""
    recorded = record(name, 1, limit=60)
    rows = np.concatenate([np.arange(length) % 60 for length in lengths])
    arrays: dict[str, Any] = {
        "observations": recorded.observations[rows],
        "actions": recorded.actions[rows],
        "rewards": np.zeros(len(rows), np.float32),
        "terminals": np.isin(np.arange(len(rows)), np.cumsum(lengths) - 1).astype(np.float32),
        "infos": np.repeat(np.arange(len(lengths)), lengths),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip")
    return np.array(arrays["observations"])


@pytest.mark.parametrize("name", ["kitchen", "kitchen-mixed"])
def test_each_thing_is_paid_once_and_all_of_them_end_the_episode(name: str) -> None:
    environment: Any = find_task(name).make()
    first = environment.reset(seed=0)[0]
    assert first.shape == (60,) and environment.observation_space.shape == (60,)
    things = {*GOALS} - ({"slide cabinet"} if name == "kitchen-mixed" else {"bottom burner"})
    goal = np.zeros(30)
    for thing in things:
        goal[list(GOALS[thing])] = list(GOALS[thing].values())
    np.testing.assert_array_equal(first[30:], goal)
    start, paid = environment.data.qpos.copy(), list[tuple[float, bool, bool]]()
    steps = (("microwave",), (), ("microwave", "kettle"), tuple(things), tuple(things))
    for done in steps:
        environment.set_state(put(start, *done), np.zeros(29))
        _, reward, terminated, _, about = environment.step(np.zeros(9))
        paid.append((reward, terminated, about["success"]))
    assert paid == [(1, False, False), (0, False, False), (1, False, False), (2, True, True), (0, True, True)]
    environment.reset()
    assert not environment.finished.any()
    environment.close()


def test_the_arm_goes_from_where_it_was_seen_and_is_seen_with_d4rls_noise() -> None:
    """A tenth of 0.1 rad, and for things of what the configuration has for each; the pedestal is touched by nothing."""
    environment: Any = find_task("kitchen").make()
    seen, generator = environment.reset(seed=1)[0], np.random.default_rng(2)
    off = list[np.ndarray]()
    for _ in range(30):
        action = generator.uniform(-1.2, 1.2, 9)
        wanted = seen[:9] + np.clip(action, -1, 1) * 2 * 0.08
        seen = environment.step(action)[0]
        low = [-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0]
        high = [2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04]
        np.testing.assert_allclose(environment.data.ctrl, np.clip(wanted, low, high))
        off.append(np.abs(seen[:30] - environment.data.qpos))
    largest = np.max(off, 0)
    allowed = np.array(
        [0.01] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [0.01] * 3 + [5e-4] * 3 + [0.01] * 3 + [5e-4]
    )
    assert (largest <= allowed + 1e-12).all() and (largest > 0.7 * allowed).all()
    model = environment.model
    pedestal = model.geom_bodyid == model.body("panda0_link0").parentid[0]
    assert pedestal.sum() == 1 and not model.geom_contype[pedestal].any()
    environment.close()


def test_a_restored_kitchen_goes_on_to_the_bit_and_a_recorded_one_is_seen_as_it_was() -> None:
    task = find_task("kitchen")
    tasks, generator = TaskBatch(task, [3]), np.random.default_rng(0)
    tasks.reset()
    actions = generator.uniform(-1, 1, (12, 1, 9)).astype(np.float32)
    for action in actions[:6]:
        last = tasks.step(action, "policy").next_observations[0]
    captured, inside = tasks.capture(), tasks.environments[0]
    qpos, qvel = inside.data.qpos.copy(), inside.data.qvel.copy()
    went = [tasks.step(action, "policy").next_observations for action in actions[6:]]
    tasks.restore(captured)
    assert np.array_equal(went, [tasks.step(action, "policy").next_observations for action in actions[6:]])
    environment = task.make()
    environment.reset(seed=9)
    np.testing.assert_array_equal(place(environment, Snapshot(6, last, qpos=qpos, qvel=qvel)), last)
    other = np.float32(last + np.where(np.arange(60) == 4, 0.05, 0))  # of another state
    np.testing.assert_allclose(place(environment, Snapshot(6, other, qpos=qpos, qvel=qvel))[:30], qpos, atol=1e-6)
    tasks.close()
    environment.close()


@pytest.mark.parametrize("removed", [True, False])
def test_franka_kitchen_is_gymnasium_robotics_own(removed: bool) -> None:
    asked = {"tasks_to_complete": ["kettle", "microwave"], "remove_task_when_completed": removed}
    task = dataclasses.replace(find_task("FrankaKitchen-v1"), keywords=asked)
    ours: Any = task.make()
    theirs: Any = gymnasium.make("FrankaKitchen-v1", disable_env_checker=True, **asked).unwrapped
    mine, other = ours.reset(seed=4)[0], theirs.reset(seed=4)[0]
    generator, paid = np.random.default_rng(0), 0.0
    for step in range(12):
        for part, things in (("achieved_goal", mine[:8]), ("desired_goal", mine[67:])):
            np.testing.assert_array_equal(things, np.concatenate([other[part]["kettle"], other[part]["microwave"]]))
        np.testing.assert_array_equal(mine[8:67], other["observation"])
        for environment in (ours, theirs):
            if step in (5, 9):
                robot = getattr(environment, "robot_env", environment)
                robot.set_state(
                    put(robot.data.qpos, *(["kettle"] if step == 5 else ["kettle", "microwave"])), robot.data.qvel
                )
        action = generator.uniform(-1, 1, 9)
        mine, reward, ended, _, about = ours.step(action)
        other, their_reward, they_ended, *_ = theirs.step(action)
        paid += reward
        assert (reward, ended) == (their_reward, they_ended)
        assert about["success"] == they_ended == (step >= 9)
    assert paid == 2 if removed else paid > 4
    for environment in (ours, theirs):
        environment.close()


def test_returns_of_a_file_are_how_many_things_were_done(tmp_path: Path) -> None:
    """Each counts in the step before it is first seen done; that it is undone again, or done from the start on, changes
    nothing; all four are the task's end, and any other end the recording's."""
    path = tmp_path / COMPLETE
    seen = write(path, [20, 12, 300])
    for begin, stop, things in (
        (5, 8, ["microwave"]),
        (10, 20, ["kettle"]),
        (15, 20, ["light switch", "slide cabinet"]),
    ):
        seen[begin:stop, :30] = [put(row, *things) for row in seen[begin:stop, :30]]
    seen[20:32, :30] = [put(row, "slide cabinet") for row in seen[20:32, :30]]
    write(path, [20, 12, 300], observations=seen)
    with open_data(path) as table:
        assert np.flatnonzero(table.raw("rewards")).tolist() == [4, 9, 14, 20]
        assert table.raw("rewards")[14] == 2
        assert np.flatnonzero(table.raw("terminals")).tolist() == [19]
        assert np.flatnonzero(table.raw("timeouts")).tolist() == [31, 331]
    made = load(path)
    assert (made.task_name, made.episode_returns.tolist()) == ("kitchen", [4, 1, 0])
    assert made.episode_lengths.tolist() == [20, 12, 300] and made.episode_terminated.tolist() == [True, False, False]
    assert [normalised_score("kitchen-complete-v0", value) for value in made.episode_returns] == [1, 0.25, 0]
    np.testing.assert_array_equal(made.observations[:19], seen[:19])
    assert [part.episode_returns.tolist() for part in stream(path, rows=40)] == [[4, 1], [0]]


def test_what_is_done_is_by_the_name_of_the_data_set(tmp_path: Path) -> None:
    seen = write(tmp_path / MIXED, [30], "kitchen-mixed")
    seen[10:, :30] = [put(row, "bottom burner") for row in seen[10:, :30]]
    write(tmp_path / MIXED, [30], "kitchen-mixed", observations=seen)
    made = load(tmp_path / MIXED)
    assert (made.task_name, made.episode_returns.tolist()) == ("kitchen-mixed", [1])
    (tmp_path / MIXED).rename(tmp_path / COMPLETE)
    with pytest.raises(InputError, match="goal in its observations is not that of kitchen, so it is another data set"):
        load(tmp_path / COMPLETE)


def test_inspected_learned_from_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run = tmp_path / COMPLETE, tmp_path / "run"
    write(path, [40, 60, 50])
    assert inspect_main([str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    told = told[0] if isinstance(told, list) else told
    assert (told["task"], told["rows"], told["errors"], told["warnings"]) == ("kitchen", 150, 0, 0)
    assert any("on MuJoCo 2.0" in finding["message"] for finding in told["findings"])
    small = ("device=cpu", "threads=1", "runs=1", "evaluation.every=200", "evaluation.episodes=1", "quiet=true")
    given = [f"data={path}", "task=kitchen", "learner=bc", *CLONING, "steps=200", f"directory={run}"]
    assert train_main(last_of_each(*small, *given)) == 0
    capsys.readouterr()
    assert evaluate_main([str(run), "episodes=1"]) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["task"] == "kitchen" and result["score"]["iqm"] == result["return"]["iqm"] / 4
    assert result["success"]["mean"] == 0
    assert deploy_main([str(run), "seconds=1"]) == 2
    assert "actions are for whole control periods: give lockstep=true" in capsys.readouterr().err


def test_files_that_are_not_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / COMPLETE
    seen = write(path, [60, 60])

    def told(rows: np.ndarray) -> str:
        write(path, [60, 60], observations=rows)
        inspect_main([str(path)])
        return " ".join(capsys.readouterr().out.split())

    shuffled = np.random.default_rng(0).permutation(120)
    assert "WARNING order: positions are as far from what follows them as from any other row" in told(seen[shuffled])
    degrees = seen.copy()
    degrees[:, :9] = np.rad2deg(degrees[:, :9])
    assert "columns 0 (robot:panda0_joint1), 1 (robot:panda0_joint2)" in told(degrees)
    write(path, [0])
    assert inspect_main([str(path)]) == 1
    with pytest.raises(InputError, match="'observations' has no rows"):
        load(path)


def test_its_own_recordings_are_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_d4rl(tmp_path / "own.hdf5", record("kitchen", 2, limit=40))
    assert inspect_main([str(tmp_path / "own.hdf5"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told[0] if isinstance(told, list) else told)["findings"] == []


def test_what_a_kitchen_cannot_have_is_refused() -> None:
    task = find_task("kitchen")
    assert task.needs_robotics and find_task("kitchen-mixed").keywords["tasks_to_complete"][2] == "bottom burner"
    with pytest.raises(InputError, match="joints cannot be held"):
        dataclasses.replace(task, disturbances=Disturbances(frozen=("microwave",))).make()
    weak = dataclasses.replace(task, disturbances=Disturbances(actuators={"robot:panda0_joint1": 0.5})).make()
    assert weak.model.actuator_gainprm[0, 0] == 435
    weak.close()
    unknown: Task = dataclasses.replace(task, keywords={"tasks_to_complete": ["sink"]})
    with pytest.raises(InputError, match="sink"):
        unknown.make()
