"""Files in the layout of each of D4RL's families, made with h5py alone, and what reading makes of them.

The layouts are those of D4RL's scripts/generation and of tensorflow_datasets/d4rl/dataset_builder.py, which reads the
published files (see datasets/d4rl_table.py); the numbers are recorded here, in Gymnasium's physics.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import h5py
import mujoco
import numpy as np
import pytest
from recordings import record

from understudy.datasets import Demonstrations, read_d4rl, stream
from understudy.datasets.d4rl_adapting import adapted
from understudy.datasets.d4rl_table import DATASETS, FAMILIES
from understudy.datasets.doctor import diagnose
from understudy.datasets.hdf5 import Hdf5File
from understudy.datasets.reading import read_table
from understudy.robots import InputError, TaskBatch, find_task

Arrays = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "d4rl.hdf5"


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Five short episodes that end in falls."""
    return record("hopper", 5)


def write(path: Path, arrays: Arrays, family: str | None = None) -> Path:
    """Write a file, and see that it has what the table says that the family has."""
    if family is not None:
        assert set(FAMILIES[family].keys) <= arrays.keys()
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            array = np.asarray(value)
            file.create_dataset(key, data=array, **({"compression": "gzip"} if array.ndim else {}))
    return path


def rows_of(recorded: Demonstrations, count: int | None = None) -> Arrays:
    """What every family has."""
    return {
        "observations": recorded.observations[:count],
        "actions": recorded.actions[:count],
        "rewards": recorded.rewards[:count],
        "terminals": recorded.terminated[:count],
    }


def lengths(made: Demonstrations) -> list[int]:
    return np.diff(np.append(made.starts, len(made))).tolist()


def check_without_successors(made: Demonstrations, recorded: Demonstrations, count: int | None = None) -> None:
    """All rows of the recording but the last of each episode, with their true successors."""
    ends = np.append(recorded.starts[1:], len(recorded)) - 1
    kept = np.setdiff1d(np.arange(len(recorded))[:count], np.append(ends, -1 if count is None else count - 1))
    for name in ("observations", "actions", "next_observations", "rewards", "times"):
        np.testing.assert_array_equal(getattr(made, name), getattr(recorded, name)[kept], err_msg=name)
    assert not made.terminated.any() and not made.truncated.any()


# Locomotion.


def test_locomotion_v0_of_old_with_falls_alone(path: Path, hopper: Demonstrations, caplog: pytest.LogCaptureFixture):
    """Observations, actions, rewards, terminals, and nothing else."""
    write(path, rows_of(hopper), "locomotion-v0")
    with caplog.at_level(logging.WARNING):
        made = read_d4rl(path, find_task("hopper"))
    assert "no next_observations, so the last row of each of its 5 episodes (5 terminal) is left out" in caplog.text
    check_without_successors(made, hopper)
    assert made.episode_lengths.tolist() == hopper.episode_lengths.tolist()
    assert made.episode_terminated.all() and made.qpos is None and made.states is None
    np.testing.assert_allclose(made.episode_returns, hopper.episode_returns, rtol=1e-6)


@pytest.mark.parametrize(("name", "episodes", "count"), [("halfcheetah", 2, None), ("hopper", 5, -4)])
def test_locomotion_v0_of_old_does_not_tell_its_episodes(path: Path, name: str, episodes: int, count: int | None):
    """Without falls, or cut at the end. D4RL's loader cuts every 1000 rows, but not all had that length (D4RL 40)."""
    write(path, rows_of(record(name, episodes), count), "locomotion-v0")
    with pytest.raises(InputError, match=r"no 'timeouts', and 'terminals' do not mark where all episodes end.*add"):
        read_d4rl(path, find_task(name))


def test_locomotion_v0_as_served(path: Path, hopper: Demonstrations):
    """With timeouts; a million rows end within an episode, whose end is not marked."""
    cheetah = record("halfcheetah", 2)
    write(path, {**rows_of(cheetah), "timeouts": cheetah.truncated})
    made = read_d4rl(path, find_task("halfcheetah"))
    check_without_successors(made, cheetah)
    assert lengths(made) == [999, 999] and made.episode_lengths.tolist() == [1000, 1000]
    write(path, {**rows_of(hopper, -4), "timeouts": hopper.truncated[:-4]})
    made = read_d4rl(path, find_task("hopper"))
    check_without_successors(made, hopper, len(hopper) - 4)
    assert made.episode_terminated.tolist() == [True] * 4 + [False]


def with_infos(recorded: Demonstrations, policy: bool = True) -> Arrays:
    """v1 and v2: log-probabilities, states, and of single policies their weights, all in float32."""
    assert recorded.states is not None
    more: Arrays = {
        "timeouts": recorded.truncated,
        "infos/action_log_probs": np.full(len(recorded), -1.5, np.float32),
        "infos/qpos": recorded.states[:, 1:7].astype(np.float32),
        "infos/qvel": recorded.states[:, 7:13].astype(np.float32),
    }
    if policy:
        more["metadata/algorithm"], more["metadata/iteration"] = np.bytes_("SAC"), np.int32(3000)
        more["metadata/policy/fc0/weight"] = np.zeros((256, 11), np.float32)
        more["metadata/policy/nonlinearity"] = np.bytes_("relu")
    return {**rows_of(recorded), **more}


@pytest.mark.parametrize("policy", [True, False])
def test_locomotion_v1(path: Path, hopper: Demonstrations, policy: bool):
    arrays = with_infos(hopper, policy)
    arrays["infos/qpos"][:] = arrays["infos/qpos"][-1]  # as in the published ones (D4RL 84)
    write(path, arrays, "locomotion-v1")
    made = read_d4rl(path, find_task("hopper"))
    check_without_successors(made, hopper)
    assert made.qpos is not None and made.qpos.shape == (len(made), 6) and made.states is None


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_locomotion_v2(path: Path, hopper: Demonstrations, kind: type[np.floating[Any]]):
    """Whole, next observations included; the replays are float64."""
    arrays = {**with_infos(hopper), "next_observations": hopper.next_observations}
    arrays = {key: value.astype(kind) if value.dtype == np.float32 else value for key, value in arrays.items()}
    write(path, arrays, "locomotion-v2")
    made = read_d4rl(path, find_task("hopper"))
    for field in ("observations", "actions", "next_observations", "rewards", "terminated", "truncated", "starts"):
        np.testing.assert_array_equal(getattr(made, field), getattr(hopper, field), err_msg=field)
    assert made.observations.dtype == np.float32 and made.qpos is not None and made.qpos.dtype == np.float64


def test_locomotion_v2_replay_with_an_iteration_in_an_episode(path: Path, hopper: Demonstrations):
    """Its timeouts stand where an iteration of the training ended, which is within an episode (D4RL 162)."""
    row = int(hopper.starts[2]) + 5
    arrays = {**with_infos(hopper), "next_observations": hopper.next_observations}
    arrays["timeouts"] = timeouts = np.arange(len(hopper)) == row
    made = read_d4rl(write(path, arrays, "locomotion-v2"), find_task("hopper"))
    assert made.starts.tolist() == sorted([*hopper.starts.tolist(), row + 1])
    np.testing.assert_array_equal(made.next_observations, hopper.next_observations)
    np.testing.assert_array_equal(made.truncated, timeouts)


@pytest.mark.filterwarnings("ignore:.*Ant-v4 is out of date")
def test_ant_has_contact_forces(path: Path):
    """111 numbers, the last 84 zero (D4RL 143): refused by the task, read by the environment of old."""
    ant = record("ant", 1, limit=30)
    wide = np.concatenate([ant.observations, np.zeros((30, 84), np.float32)], axis=1)
    write(path, {**rows_of(ant), "timeouts": ant.truncated, "observations": wide})
    with pytest.raises(InputError, match=r"'observations' has shape \(30, 111\) but must have rows of 27 numbers"):
        read_d4rl(path, find_task("ant"))
    made = read_d4rl(path, dataclasses.replace(find_task("Ant-v4"), keywords={"use_contact_forces": True}))
    np.testing.assert_array_equal(made.observations[:, :27], ant.observations[:-1])
    with Hdf5File(path) as file:
        check_without_successors(read_table(adapted(file, DATASETS["ant-expert-v2"])), ant)
    wide[3, 40] = 1.0
    write(path, {**rows_of(ant), "timeouts": ant.truncated, "observations": wide})
    with Hdf5File(path) as file, pytest.raises(InputError, match="contact forces that are not zero"):
        adapted(file, DATASETS["ant-expert-v2"])
    write(path, {**rows_of(ant), "timeouts": ant.truncated, "observations": wide[:, :27]})
    check_without_successors(read_d4rl(path, find_task("ant")), ant)


# Adroit and the kitchen.


def hand(bounds: list[int], **more: Any) -> Arrays:
    """Demonstrations of these lengths, all from one recording, with what v1 files have."""
    door = record("adroit-door", 1)
    rows = np.concatenate([np.arange(length) % len(door) for length in bounds])
    ends = np.isin(np.arange(len(rows)), np.cumsum(bounds) - 1)
    arrays = {key: value[rows] for key, value in rows_of(door).items()}
    states = {"infos/qpos": (len(rows), 30), "infos/qvel": (len(rows), 30), "infos/door_body_pos": (len(rows), 3)}
    zeros = {key: np.zeros(shape, np.float32) for key, shape in states.items()}
    return {**arrays, "timeouts": ends, **zeros, **more}


def test_adroit_human(path: Path):
    """Demonstrations of different lengths, none of which is terminal; the end of each is a timeout."""
    write(path, hand([120, 200, 80]), "adroit-v1")
    made = read_d4rl(path, find_task("adroit-door"))
    assert lengths(made) == [119, 199, 79] and made.episode_lengths.tolist() == [120, 200, 80]
    rows = np.concatenate([np.arange(length) for length in (119, 199, 79)])
    for name in ("observations", "next_observations", "actions", "times"):
        np.testing.assert_array_equal(getattr(made, name), getattr(record("adroit-door", 1), name)[rows], err_msg=name)
    assert not made.episode_terminated.any() and made.qpos is not None


def test_adroit_human_beyond_the_horizon(path: Path):
    """They took up to 300 steps (D4RL's door-human-longhorizon), though the environment cuts at 200: by name."""
    assert DATASETS["door-human-longhorizon-v1"].horizon == 300
    write(path, hand([120, 290]), "adroit-v1")
    with pytest.raises(InputError, match=r"row 120 begins an episode of 290 rows, but the horizon is 200"):
        read_d4rl(path, find_task("adroit-door"))
    with Hdf5File(path) as file:
        made = read_table(adapted(file, DATASETS["door-human-longhorizon-v1"]))
    assert made.episode_lengths.tolist() == [120, 290]
    assert (made.task_name, made.random_return) == ("adroit-door", -56.512833)
    write(path, hand([120, 290], **{"metadata/episode_lengths": np.array([120, 290])}))
    assert read_d4rl(path, find_task("adroit-door")).episode_lengths.tolist() == [120, 290]


def test_adroit_cloned_and_expert(path: Path):
    """Cloned v0 is float64 but for its actions; experts come with the mean and deviation of their policy."""
    arrays = hand([200, 200])
    wide = {key: value.astype(np.float64) if value.dtype == np.float32 else value for key, value in arrays.items()}
    wide["actions"] = arrays["actions"]
    made = read_d4rl(write(path, wide, "adroit-v0"), find_task("adroit-door"))
    assert lengths(made) == [199, 199] and made.actions.dtype == np.float32
    arrays["infos/action_mean"] = arrays["infos/action_log_std"] = arrays["actions"]
    arrays["metadata/algorithm"] = np.bytes_("DAPG")
    made = read_d4rl(write(path, arrays, "adroit-v1"), find_task("adroit-door"))
    assert lengths(made) == [199, 199]


def test_kitchen(path: Path, hopper: Demonstrations):
    """Its 60 numbers are no other task's (test_kitchen.py); that ``infos`` is an array there is no obstacle."""
    arrays: Arrays = {
        "observations": np.zeros((30, 60), np.float32),
        "actions": np.zeros((30, 9), np.float32),
        "rewards": np.zeros(30, np.float32),
        "terminals": (np.arange(30) % 10 == 9).astype(np.float32),
        "infos": np.arange(30) // 10,
    }
    write(path, arrays, "kitchen")
    with pytest.raises(InputError, match=r"'observations' has shape \(30, 60\) but must have rows of 11 numbers"):
        read_d4rl(path, find_task("hopper"))
    write(path, {**rows_of(hopper), "infos": np.arange(len(hopper))})
    check_without_successors(read_d4rl(path, find_task("hopper")), hopper)


# Mazes.

U_MAZE = ("#####", "#...#", "###.#", "#...#", "#####")
MEDIUM = ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########")
LARGE = (
    "############", "#....#.....#", "#.##.#.#.#.#", "#......#...#", "#.####.###.#", "#..#.#.....#", "##.#.#.#.###",
    "#..#...#...#", "############",
)  # fmt: skip
# D4RL's point maze (d4rl 1.1, d4rl/pointmaze/maze_model.py), in numbers: walls at (row + 1, column + 1), the ball's
# joints measured from (1.2, 1.2).
BALL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0" iterations="20"/> <compiler inertiafromgeom="true"/>
  <default>
    <joint type="slide" damping="1"/>
    <geom friction="0.5 0.1 0.1" density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"/>
    <motor gear="100" ctrllimited="true" ctrlrange="-1 1"/>
  </default>
  <worldbody>
    {walls}
    <body pos="1.2 1.2 0">
      <geom type="sphere" size="0.1" contype="1"/> <joint name="x" axis="1 0 0"/> <joint name="y" axis="0 1 0"/>
    </body>
  </worldbody>
  <actuator><motor joint="x"/><motor joint="y"/></actuator>
</mujoco>
"""


def walls(maze: tuple[str, ...]) -> np.ndarray:
    """Rows and columns of a maze's walls (N, 2)."""
    return np.argwhere([[cell == "#" for cell in line] for line in maze]).astype(float)


def turned(values: np.ndarray, maze: tuple[str, ...] | None = None) -> np.ndarray:
    """D4RL's directions, or with a maze places (N, 2), as gymnasium-robotics' PointMaze has them."""
    if maze is None:
        return np.stack([values[:, 1], -values[:, 0]], axis=1)
    height, width = len(maze), len(maze[0])
    return np.stack([values[:, 1] + 0.7 - width / 2, height / 2 - 0.7 - values[:, 0]], axis=1)


def maze2d(rows: int, goal_changes: int) -> Arrays:
    """A ball that a random drive pushes about D4RL's U-maze: 4 numbers to a row, goals that change, no terminals."""
    boxes = "".join(f'<geom type="box" size="0.5 0.5 0.2" pos="{x} {y} 0"/>' for x, y in walls(U_MAZE) + 1)
    model: Any = mujoco.MjModel.from_xml_string(BALL.format(walls=boxes))
    data: Any = mujoco.MjData(model)
    data.qpos[:] = 0.85, 0.7
    generator, drive = np.random.default_rng(4), np.zeros(2)
    seen, done, touched = [], [], 0
    for _ in range(rows):
        drive = np.clip(0.95 * drive + 0.3 * generator.standard_normal(2), -1, 1)
        seen.append(np.concatenate([data.qpos, data.qvel]))
        data.qvel[:] = np.clip(data.qvel, -5, 5)
        done.append(drive.astype(np.float32))
        data.ctrl[:] = done[-1]
        mujoco.mj_step(model, data)
        touched += data.ncon > 0
    assert touched > rows / 10
    numbers = np.arange(rows)
    observations = np.array(seen, np.float32)
    return {
        "observations": observations,
        "actions": np.array(done),
        "rewards": np.zeros(rows, np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": numbers % goal_changes == goal_changes - 1,
        "infos/goal": np.float32([[1, 1], [3, 2]])[numbers // goal_changes % 2],
        "infos/qpos": observations[:, :2],
        "infos/qvel": observations[:, 2:],
    }


def test_maze2d_turned_is_pointmaze(path: Path):
    """What the table says can be used: turned, with goals, every step is the task's own, contacts included."""
    arrays = maze2d(600, 150)
    places, goals = (turned(arrays[key], U_MAZE) for key in ("infos/qpos", "infos/goal"))
    velocities = turned(arrays["infos/qvel"])
    seen = np.concatenate([places, places, velocities, goals], axis=1).astype(np.float32)
    more = {"observations": seen, "actions": turned(arrays["actions"]), "infos/qpos": places, "infos/qvel": velocities}
    made = read_d4rl(write(path, {**arrays, **more}, "maze2d"), find_task("pointmaze"))
    assert lengths(made) == [149] * 4 and not made.episode_terminated.any()
    assert len(np.unique(made.observations[:, 6:], axis=0)) == 2
    write(path, arrays, "maze2d")
    with Hdf5File(path) as file:
        by_name = read_table(adapted(file, DATASETS["maze2d-umaze-v1"]))
    for name in ("observations", "actions", "next_observations", "starts"):
        np.testing.assert_allclose(getattr(by_name, name), getattr(made, name), atol=1e-6)
    tasks = TaskBatch(find_task("pointmaze"), [0])
    for row in range(0, len(made), 7):
        observed = tasks.place(0, made.snapshot(row))
        np.testing.assert_allclose(observed, made.observations[row], atol=1e-5)
        stepped = tasks.step(made.actions[row : row + 1], "reset").next_observations[0]
        np.testing.assert_allclose(stepped[:6], made.next_observations[row, :6], atol=1e-4)
    tasks.close()


def check_walls(places: np.ndarray, task: str) -> None:
    """These (N, 2), and no others, are where the task's maze has its walls."""
    environment = find_task(task).make()
    model: Any = environment.model
    there = [model.geom_pos[index, :2] for index in range(model.ngeom) if model.geom(index).name.startswith("block")]
    environment.close()
    np.testing.assert_allclose(sorted(places.round(6).tolist()), sorted(np.round(there, 6).tolist()), atol=1e-6)


@pytest.mark.parametrize(
    ("maze", "task"), [(U_MAZE, "pointmaze"), (MEDIUM, "PointMaze_Medium-v3"), (LARGE, "PointMaze_Large-v3")]
)
def test_the_walls_of_maze2d(maze: tuple[str, ...], task: str):
    """The cell (row, column) is at (row - 0.2, column - 0.2) of the ball's joints."""
    check_walls(turned(walls(maze) - 0.2, maze), task)


@pytest.mark.parametrize(
    ("maze", "name", "moved"),
    [
        (U_MAZE, "antmaze-umaze-v2", (-4, -4)),
        (MEDIUM, "antmaze-medium-play-v2", (-10, -10)),
        (LARGE, "antmaze-large-diverse-v2", (-18, -12)),
    ],
)
def test_the_walls_of_antmaze(maze: tuple[str, ...], name: str, moved: tuple[int, int]):
    """Cells of 4 m, the one at (1, 1) around the origin (d4rl 1.1, d4rl/locomotion/maze_env.py)."""
    fit = DATASETS[name].fit
    assert str(moved) in fit.remark and fit.task is not None
    places = 4 * walls(maze)[:, ::-1] - 4 + moved
    check_walls(places, fit.task)


def test_d4rls_ant_steps_as_its_model():
    """Where d4rl/locomotion/assets/ant.xml is not Gymnasium's: 30 N m, five steps of 0.02 s, softer contacts, which
    begin in 1 cm of air. In the air it falls as far as that takes, and its starts are noisy by 0.1."""
    environment: Any = find_task("d4rl-antmaze-umaze").make()
    model: Any = environment.model
    assert environment.dt == pytest.approx(0.1) and set(model.actuator_gear[:, 0]) == {30}
    assert (model.geom_solimp[:, :3] == [0.8, 0.8, 0.01]).all()
    contact = model.geom_margin[model.geom_bodyid > 0]
    assert (contact == 0.01).all() and not model.geom_margin[model.geom_bodyid == 0].any()
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    environment.reset(seed=0)
    start = environment.data.qpos.copy()
    np.testing.assert_allclose(start[:3], [-4, -4, 0.75], atol=0.1)
    assert 0.01 < np.abs(environment.data.qvel).mean() < 0.2
    start[2] = 5.0
    environment.set_state(start, np.zeros(14))
    high = environment.data.subtree_com[0, 2]
    environment.step(np.zeros(8))
    mujoco.mj_forward(model, environment.data)
    assert high - environment.data.subtree_com[0, 2] == pytest.approx(9.81 * 0.1**2 / 2, rel=2e-3)
    environment.close()


def test_d4rls_ant_gets_to_the_goal_and_that_is_the_end():
    """Goals: the cell (3, 1), and up to 1.5 m beyond (maze_env.py, goal_sampler)."""
    environment: Any = find_task("d4rl-antmaze-umaze").make()
    goals = np.array([environment.reset(seed=seed)[0][-2:] for seed in range(40)]) - environment.origin - (0, 8)
    assert (goals >= 0).all() and (goals <= 1.5).all() and goals.max() > 1
    for away, there in ((0.6, False), (0.4, True)):
        observation = environment.reset(seed=3)[0]
        state = environment.data.qpos.copy()
        state[:2] = observation[-2:] - (0, away)
        environment.set_state(state, np.zeros(14))
        _, reward, terminated, _, about = environment.step(np.zeros(8))
        assert (reward, terminated, about["success"]) == (float(there), there, there)
    environment.close()


def antmaze(terminals: list[int]) -> tuple[Arrays, Demonstrations]:
    """29 numbers to a row, goals apart, terminals as floats, wherever the ant is near the goal of the evaluation."""
    ant = record("d4rl-antmaze-umaze", 2, limit=30)
    seen = ant.observations.copy()
    seen[:, :2] += 4
    after = ant.next_observations[:, :29]
    arrays = {
        **rows_of(ant),
        "observations": seen[:, :29],
        "terminals": np.isin(np.arange(60), terminals).astype(np.float64),
        "timeouts": np.isin(np.arange(60), [29, 59]),
        "infos/goal": seen[:, 29:] + 4,
        "infos/qpos": after[:, :15],
        "infos/qvel": after[:, 15:],
    }
    return arrays, ant


@pytest.mark.parametrize(
    ("family", "task", "sizes"), [("maze2d", "pointmaze", (4, 8)), ("antmaze", "antmaze", (29, 31))]
)
def test_mazes_are_refused_as_they_are(path: Path, family: str, task: str, sizes: tuple[int, int]):
    """Their observations are without goals, which stand apart."""
    write(path, maze2d(60, 20) if family == "maze2d" else antmaze([])[0], family)
    words = rf"'observations' has shape \(60, {sizes[0]}\) but must have rows of {sizes[1]} numbers for task {task}"
    with pytest.raises(InputError, match=words):
        read_d4rl(path, find_task(task))


def test_antmaze_by_its_name_is_the_task(path: Path):
    """Terminals that mark the evaluation's goal are none of its ends; states are those of the observations."""
    arrays, ant = antmaze([20, 21, 22, 45])
    near = arrays["infos/goal"].copy()
    near[30:] = arrays["observations"][40, :2]  # where the second episode gets to
    write(path, {**arrays, "infos/goal": near}, "antmaze")
    with Hdf5File(path) as file:
        table = adapted(file, DATASETS["antmaze-umaze-v2"])
    made = read_table(table)
    assert (made.task_name, lengths(made), made.terminated.any()) == ("d4rl-antmaze-umaze", [29, 29], False)
    arrived = bool(np.linalg.norm(arrays["observations"][59, :2] - near[59]) <= 0.5)
    assert made.episode_terminated.tolist() == [False, arrived]
    assert (made.random_return, made.expert_return) == (0, 1)
    kept = np.setdiff1d(np.arange(60), [29, 59])
    np.testing.assert_allclose(made.observations[:, :29], ant.observations[kept, :29], atol=1e-6)
    np.testing.assert_allclose(made.observations[30, 29:], near[31] - 4, atol=1e-6)
    away = np.linalg.norm(arrays["observations"][:, :2] - near, axis=1)
    first = 31 + int((away[31:60] <= 0.5).argmax())
    assert np.flatnonzero(table.raw("rewards")).tolist() == [first - 1] and made.episode_returns.tolist() == [0, 1]
    tasks = TaskBatch(find_task("d4rl-antmaze-umaze"), [0])
    for row in (0, 12, 33, 50):
        snapshot = made.snapshot(row)
        assert snapshot is not None
        np.testing.assert_allclose(tasks.place(0, snapshot), made.observations[row], atol=1e-5)
        stepped = tasks.step(made.actions[row : row + 1], "reset").next_observations[0]
        np.testing.assert_allclose(stepped, made.next_observations[row], atol=2e-3)
    tasks.close()
    report = diagnose(table)
    assert not report.of("error") and not report.of("warning"), report.findings
    named = path.rename(path.with_name(DATASETS["antmaze-umaze-v2"].file))
    parts = list(stream(named, rows=30))
    assert [lengths(part) for part in parts] == [[29], [29]]
    np.testing.assert_array_equal(np.concatenate([part.observations for part in parts]), made.observations)


def test_antmaze_whose_ends_are_not_marked(path: Path):
    """D4RL #77."""
    arrays, _ = antmaze([])
    arrays["observations"][30:, :2] += 3
    write(path, {**arrays, "timeouts": np.isin(np.arange(60), [20])}, "antmaze")
    with Hdf5File(path) as file, pytest.raises(InputError, match=r"leaps after 1 rows \(first 29\).*take .* version 2"):
        adapted(file, DATASETS["antmaze-umaze-v0"])
