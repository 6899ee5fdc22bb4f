"""Minari data sets: what minari's own collector recorded is understood, and what is written minari reads."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pyarrow.dataset
import pyarrow.ipc
import pyarrow.parquet
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text
from minari.data_collector import EpisodeBuffer
from recordings import assert_same, record

from understudy.datasets import minari as ours
from understudy.datasets.doctor import diagnose
from understudy.datasets.minari import claims, open_minari, read_minari, write_minari
from understudy.robots import InputError, TaskBatch, find_task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # minari's, about what nobody said of the data


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's own folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture
def jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """minari's collector wants one function of jax's, which is large: this one does the same for what it is given."""

    def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
        if isinstance(tree, Mapping):
            return {key: tree_map(function, tree[key], *(other[key] for other in rest)) for key in tree}
        return function(tree, *rest)

    package, part = types.ModuleType("jax"), types.ModuleType("jax.tree_util")
    package.tree_util, part.tree_map = part, tree_map  # pyright: ignore
    monkeypatch.setitem(sys.modules, "jax", package)
    monkeypatch.setitem(sys.modules, "jax.tree_util", part)


class WithState(minari.StepDataCallback):
    """As for Minari's PointMaze data sets: positions and velocities among the infos."""

    def __call__(self, env: Any, **step: Any) -> Any:
        data = super().__call__(env, **step)
        robot = getattr(env.unwrapped, "point_env", env.unwrapped)
        data["info"] = {"qpos": robot.data.qpos.copy(), "qvel": robot.data.qvel.copy()}
        return data


def collect(
    environment_id: str,
    name: str,
    data_format: str = "hdf5",
    limit: int | None = None,
    wrap: Any = lambda env: env,
    **keywords: Any,
) -> list[dict[str, Any]]:
    """Record two episodes of random actions by minari's collector; returns its steps, as they were seen here."""
    bare = wrap(gymnasium.make(environment_id, max_episode_steps=limit, **keywords))
    environment = minari.DataCollector(bare, step_data_callback=WithState, record_infos=True, data_format=data_format)
    environment.action_space.seed(7)
    steps: list[dict[str, Any]] = []
    for seed in (300, 301):
        observation, ended = environment.reset(seed=seed)[0], False
        while not ended:
            robot = getattr(environment.unwrapped, "point_env", environment.unwrapped)
            step: dict[str, Any] = {"observations": observation, "qpos": robot.data.qpos.copy(), "seed": seed}
            step["actions"] = environment.action_space.sample()
            observation, step["rewards"], terminated, truncated, _ = environment.step(step["actions"])
            ended = terminated or truncated
            steps.append({**step, "next_observations": observation, "terminated": terminated, "truncated": truncated})
    environment.create_dataset(name, algorithm_name="random", author="nobody")
    environment.close()
    return steps


def change_metadata(folder: Path, **changes: Any) -> None:
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def made(name: str, **changes: Any) -> Path:
    """A data set of two equal episodes of four steps, made by minari from buffers; returns its folder."""
    spaces: dict[str, Any] = {
        "observation_space": changes.pop("observation_space", Box(-np.inf, np.inf, (11,), np.float64)),
        "action_space": changes.pop("action_space", Box(-1, 1, (3,), np.float32)),
    }
    episode: dict[str, Any] = {
        "observations": np.random.default_rng(0).normal(size=(5, 11)),
        "actions": np.full((4, 3), 0.5, np.float32),
        "rewards": np.ones(4),
        "terminations": np.zeros(4, bool),
        "truncations": np.arange(4) == 3,
    }
    kind = {"data_format": changes.pop("data_format")} if "data_format" in changes else {}
    buffers = [EpisodeBuffer(id=index, **{**episode, **changes}) for index in range(2)]
    minari.create_dataset_from_buffers(name, buffers, env=gymnasium.make("Hopper-v5"), **spaces, **kind)
    return minari.storage.get_dataset_path(name)


def seeing(space: Any, observations: Any) -> dict[str, Any]:
    return {"observation_space": space, "observations": observations}


@pytest.mark.usefixtures("jax")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize(("environment_id", "task"), [("Hopper-v5", "hopper"), ("Reacher-v5", "reacher")])
def test_recorded_by_minari(environment_id: str, task: str, data_format: str):
    assert minari.__file__ != ours.__file__ and ours.__name__ == "understudy.datasets.minari"
    steps = collect(environment_id, "mujoco/random/test-v0", data_format)
    read = read_minari("mujoco/random/test-v0")
    assert (read.task_name, read.environment_id, dict(read.environment_keywords)) == (task, environment_id, {})
    assert read.metadata["algorithm_name"] == "random" and read.metadata["author"] == ["nobody"]
    for name in ("observations", "actions", "next_observations", "rewards", "qpos", "terminated", "truncated"):
        column = getattr(read, name)
        np.testing.assert_array_equal(column, np.array([step[name] for step in steps]).astype(column.dtype))
    seeds = [step["seed"] for step in steps]
    assert read.episode_seeds is not None and read.episode_seeds.tolist() == [300, 301]
    assert read.starts.tolist() == [0, seeds.index(301)] and read.random_return is None
    np.testing.assert_array_equal(read.observations[read.starts[1]], TaskBatch(find_task(task), [301]).reset()[0])


@pytest.mark.usefixtures("jax")
def test_a_maze_recorded_by_minari_is_our_maze():
    """Minari's spaces put the goal before the robot's observation; ours has it last."""
    pytest.importorskip("gymnasium_robotics")
    steps = collect("PointMaze_UMaze-v3", "maze-v0", limit=20)
    read = read_minari("maze-v0")
    assert (read.task_name, dict(read.environment_keywords)) == ("pointmaze", {})
    assert json.loads(read.metadata["observation_parts"]) == {"achieved_goal": 2, "observation": 4, "desired_goal": 2}
    tasks = TaskBatch(find_task("pointmaze"), [300])
    np.testing.assert_array_equal(read.observations[0], tasks.reset()[0])
    np.testing.assert_array_equal(
        read.observations[:, 6:], np.float32([step["observations"]["desired_goal"] for step in steps])
    )
    step = tasks.step(read.actions[:1], "policy")
    np.testing.assert_array_equal(read.next_observations[0], step.next_observations[0])
    tasks.close()


@pytest.mark.usefixtures("jax")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_kitchen_recorded_as_minaris_is_gymnasium_robotics_own(data_format: str):
    """Goals are dictionaries of dictionaries; arguments and limit as of D4RL/kitchen/complete-v2 (Minari's
    scripts/D4RL/kitchen/create_franka_dataset.py)."""
    pytest.importorskip("gymnasium_robotics")
    things = ["microwave", "kettle", "light switch", "slide cabinet"]
    asked = {"tasks_to_complete": things, "remove_task_when_completed": False, "terminate_on_tasks_completed": False}
    find_task("FrankaKitchen-v1")
    steps = collect("FrankaKitchen-v1", "D4RL/kitchen/complete-v2", data_format, limit=12, **asked)
    read = read_minari("D4RL/kitchen/complete-v2")
    assert (read.task_name, dict(read.environment_keywords)) == ("FrankaKitchen-v1", asked)
    seen = [step["observations"] for step in steps]
    for part, columns in {"achieved_goal": slice(11), "desired_goal": slice(70, 81)}.items():
        theirs = np.array([np.concatenate([row[part][thing] for thing in sorted(things)]) for row in seen])
        np.testing.assert_array_equal(read.observations[:, columns], np.float32(theirs))
    np.testing.assert_array_equal(read.observations[:, 11:70], np.float32([row["observation"] for row in seen]))
    task = replace(find_task("FrankaKitchen-v1"), keywords=asked)
    tasks = TaskBatch(task, [300])
    np.testing.assert_array_equal(read.observations[0], tasks.reset()[0])
    for row in range(12):
        step = tasks.step(read.actions[row : row + 1], "policy")
        np.testing.assert_allclose(read.next_observations[row], step.next_observations[0], atol=1e-5)
    tasks.close()
    report = diagnose(open_minari("D4RL/kitchen/complete-v2"))
    assert not report.of("error") and not report.of("warning"), [finding.message for finding in report.findings]


def reorder(path: Path, order: list[int]) -> None:
    """Write the pieces of a file of Arrow or Parquet in another order, as pyarrow's writer may leave them."""
    arrow = path.suffix == ".arrow"
    if arrow:
        with pyarrow.ipc.open_file(str(path)) as opened:
            pieces = [pyarrow.Table.from_batches([opened.get_batch(i)]) for i in range(opened.num_record_batches)]
    else:
        with pyarrow.parquet.ParquetFile(path) as opened:
            pieces = [opened.read_row_group(i) for i in range(opened.num_row_groups)]
    assert sorted(order) == list(range(len(pieces)))
    write: Any = pyarrow.ipc.new_file if arrow else pyarrow.parquet.ParquetWriter
    with write(str(path), pieces[0].schema) as file:
        for index in order:
            file.write_table(pieces[index])


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_episodes_of_more_rows_than_a_piece(data_format: str, monkeypatch: pytest.MonkeyPatch):
    """pyarrow writes 32 768 rows at a time, by its threads in no order; minari reads every piece for an episode."""
    in_order = functools.partial(pyarrow.dataset.write_dataset, use_threads=False)
    monkeypatch.setattr(pyarrow.dataset, "write_dataset", in_order)
    steps, random = 80_000, np.random.default_rng(3)
    changes: dict[str, Any] = {
        "observations": np.cumsum(random.normal(size=(steps + 1, 11)), 0).astype(np.float32),
        "actions": np.full((steps, 3), 0.5, np.float32), "rewards": np.arange(steps, dtype=float),
        "terminations": np.zeros(steps, bool), "truncations": np.arange(steps) == steps - 1,
        "infos": {"qpos": random.normal(size=(steps + 1, 6)), "told": [{"how": "many"}] * (steps + 1)},
    }  # fmt: skip
    path = made("long-v0", data_format=data_format, observation_space=Box(-np.inf, np.inf, (11,)), **changes)
    theirs = next(iter(minari.load_dataset("long-v0").iterate_episodes()))
    assert len(theirs.rewards) == 32_767, "minari reads them whole: leave them to it"
    files = sorted((path / "data").rglob(f"*.{data_format}"))
    assert len(files) == 2

    def check() -> None:
        table = open_minari(path)
        assert table.raw("metadata/episode_lengths").tolist() == [steps, steps]
        np.testing.assert_array_equal(table.raw("observations")[steps:], changes["observations"][:-1])
        np.testing.assert_array_equal(table.raw("infos/qpos")[:steps], changes["infos"]["qpos"][:-1])
        np.testing.assert_array_equal(table.raw("infos/final_observations")[1], changes["observations"][-1])
        assert table.raw("rewards")[steps - 1] == steps - 1 and table.raw("timeouts").sum() == 2
        assert "infos/told" not in table

    check()
    for file in files:
        reorder(file, [0, 2, 1])
    check()
    reorder(files[1], [2, 0, 1])  # the first two have changed places
    with pytest.raises(InputError, match=r"episode 1 is stored in pieces of 32768 rows, whose order is lost"):
        open_minari(path)


def test_long_episodes_are_not_written_in_pieces():
    whole = record("hopper", 1)
    rows = np.resize(np.arange(len(whole)), 32_768)
    long = replace(
        whole,
        **{name: getattr(whole, name)[rows] for name in ("observations", "actions", "next_observations", "rewards")},
        terminated=np.zeros(32_768, bool), truncated=np.zeros(32_768, bool), times=np.arange(32_768), states=None,
        episode_returns=np.array([1.0]), episode_lengths=np.array([32_768]), episode_terminated=np.array([False]),
    )  # fmt: skip
    with pytest.raises(InputError, match="whose order minari does not keep in arrow: choose hdf5"):
        write_minari("ours/long-v1", long, data_format="arrow")


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("task", ["hopper", "reacher", "ant", "pointmaze"])
def test_written_and_read_back(task: str, data_format: str, folder: Path):
    whole = record(task, 3, limit=25)
    for name, selected in {"whole": whole, "some": whole.every(4), "few": whole.rows(9)}.items():
        write_minari(f"ours/{name}-v1", selected, data_format=data_format, command="a command")
        again = read_minari(f"ours/{name}-v1")
        assert_same(selected, again)
        assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
        assert again.qpos is not None and again.states is not None
        theirs = minari.load_dataset(f"ours/{name}-v1")
        assert (theirs.id, theirs.env_spec.id) == (f"ours/{name}-v1", whole.environment_id)
        assert (theirs.total_steps, theirs.total_episodes) == (len(selected), len(selected.starts))
        episode = theirs[0]
        assert theirs.action_space.contains(episode.actions[0])
        rows, seen = len(episode.rewards), episode.observations
        if task == "pointmaze":
            assert set(seen) == {"achieved_goal", "desired_goal", "observation"}
            seen = np.concatenate([seen[part] for part in ("achieved_goal", "observation", "desired_goal")], axis=1)
        np.testing.assert_array_equal(seen[:-1], selected.observations[:rows])
        np.testing.assert_array_equal(seen[-1], selected.next_observations[rows - 1])
    assert {path.name for path in (folder / "ours").iterdir() if path.is_dir()} == {"whole-v1", "some-v1", "few-v1"}


def test_references_are_minaris():
    whole = record("hopper", 2)
    write_minari("ours/both-v0", whole)
    theirs = minari.load_dataset("ours/both-v0")
    assert minari.get_normalized_score(theirs, np.array([12.25])) == 1
    write_minari("ours/none-v0", replace(whole, random_return=None, expert_return=None))
    assert "ref_min_score" not in minari.load_dataset("ours/none-v0").storage.metadata
    path = made("foreign-v0")
    change_metadata(path, ref_min_score=-3.5, ref_max_score=3234.5)
    read = read_minari(path)
    assert (read.random_return, read.expert_return) == (-3.5, 3234.5)


def test_an_old_version_that_cannot_be_made_is_written():
    old = replace(record("hopper", 2), environment_id="Hopper-v3", states=None)
    write_minari("ours/old-v0", old, find_task("hopper"))
    assert read_minari("ours/old-v0", find_task("hopper")).environment_id == "Hopper-v3"


def test_it_is_found_by_its_path(tmp_path: Path, folder: Path):
    path = made("space/name-v3")
    assert path == folder / "space" / "name-v3"
    expected = open_minari("space/name-v3")
    for place in (path, path / "data", path / "data" / "main_data.hdf5"):
        assert claims(place)
        np.testing.assert_array_equal(open_minari(place).raw("observations"), expected.raw("observations"))
    assert claims(Path("space/name-v3")) and claims(Path("not/there-v0"))
    (tmp_path / "other.hdf5").write_bytes(b"something")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text("[]")
    for place in (tmp_path, tmp_path / "other.hdf5", tmp_path / "none", Path("there-is-none-v0"), path / "data" / "x"):
        assert not claims(place)
    with pytest.raises(InputError, match=r"there is no Minari data set \(a folder data with metadata.json\); give"):
        open_minari(tmp_path)


def test_one_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"no such Minari data set in .*; get it with 'minari download aa/b-v0' or"):
        open_minari("aa/b-v0")

    def fail(name: str) -> None:
        raise ConnectionError("Name or service\nnot known")

    monkeypatch.setattr(minari, "download_dataset", fail)
    with pytest.raises(InputError) as caught:
        open_minari("aa/b-v0", download=True)
    where = folder / "aa" / "b-v0"
    assert "aa/b-v0: could not be downloaded (Name or service not known); download it where" in str(caught.value)
    assert str(caught.value).endswith(f"and put its files at {where}")

    def fetch(name: str) -> None:
        print("what minari says")
        shutil.copytree(path, folder / name)
        change_metadata(folder / name, dataset_id=name)

    path = made("kept-v0")
    monkeypatch.setattr(minari, "download_dataset", fetch)
    assert open_minari("aa/b-v0", download=True).attributes()["dataset_id"] == "aa/b-v0"
    (where / "data" / "metadata.json").unlink()
    with pytest.raises(InputError, match=r"is no whole Minari data set; remove the folder, then 'minari download"):
        open_minari("aa/b-v0")


@pytest.mark.parametrize("missing", ["minari", "pyarrow"])
def test_what_is_not_installed(missing: str, monkeypatch: pytest.MonkeyPatch):
    write_minari("ours/arrow-v0", record("reacher", 1), data_format="arrow")
    for name in [name for name in sys.modules if name.split(".")[0] == missing or name.endswith("arrow_storage")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"not installed .*pip install 'understudy\[minari\]'"):
        open_minari("ours/arrow-v0")


def test_parts_stand_in_the_order_of_the_space():
    below = Dict({"y": Box(-9, 9, (1,)), "x": Box(0, 9, (2, 2), np.int64)})
    space = Dict({"b": Box(-9, 9, (2,), np.float32), "a": below})
    seen = {
        "b": np.arange(10, dtype=np.float32).reshape(5, 2),
        "a": {"y": np.zeros((5, 1), np.float32), "x": np.arange(20).reshape(5, 2, 2)},
    }
    table = open_minari(made("parts-v0", **seeing(space, seen)))
    assert list(json.loads(table.attributes()["observation_parts"]).items()) == [("a/x", 4), ("a/y", 1), ("b", 2)]
    np.testing.assert_array_equal(table.raw("observations")[1], [4, 5, 6, 7, 0, 2, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            seeing(Box(0, 255, (64, 64, 3), np.uint8), np.zeros((5, 64, 64, 3), np.uint8)),
            r"its observation is an image \(uint8, \(64, 64, 3\)\), but observations must be numbers",
        ),
        (
            seeing(Dict(eye=Box(0, 1, (8, 8, 3), np.float32)), {"eye": np.zeros((5, 8, 8, 3), np.float32)}),
            r"its observation 'eye' is an image \(float32",
        ),
        (seeing(Dict(said=Text(3)), {"said": ["abc"] * 5}), "its observation 'said' is Text.*, but observations"),
        (
            {"action_space": Discrete(3), "actions": np.zeros(4, np.int64)},
            r"its actions are Discrete\(3\), but only continuous ones can be used",
        ),
        (
            {"truncations": np.array([False, True, False, True])},
            "'terminations' or 'truncations' end episode 0 in step 1, but it goes on to step 3; divide it there",
        ),
        (
            {"observations": np.zeros((4, 10))},
            r"'observation' of episode 0 has shape \(4, 10\) but must have 5 rows of 11 numbers",
        ),
        ({"rewards": np.ones(3)}, r"has shape \(5, 11\) but must have 4 rows of 11 numbers"),
        ({"terminations": np.zeros(3, bool)}, "'terminations' of episode 0 has 3 rows but must have 4"),
    ],
)
def test_what_cannot_be_learned_from(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        open_minari(made("refused-v0", **changes))


def test_episodes_without_their_last_observation(caplog: pytest.LogCaptureFixture):
    """Minari's issue 199: as many observations as actions."""
    seen = np.random.default_rng(1).normal(size=(4, 11))
    path = made("short-v0", observations=seen, terminations=np.arange(4) == 3, truncations=np.zeros(4, bool))
    with caplog.at_level(logging.WARNING):
        read = read_minari(path)
    assert "2 of its 2 episodes lack their last observation, so their last row is left out" in caplog.text
    assert len(read) == 6 and not (read.terminated | read.truncated).any() and read.episode_terminated.all()
    np.testing.assert_array_equal(read.next_observations[:3], np.float32(seen[1:]))
    assert read.episode_returns.tolist() == [4, 4] and read.episode_lengths.tolist() == [4, 4]


def test_infos_of_as_many_rows_as_steps_and_of_other_names():
    infos = {"qpos": np.ones((4, 6)), "qvel": np.ones((4, 6)), "times": np.ones(5, int), "deep": {"er": np.ones(5)}}
    read = read_minari(made("infos-v0", infos=infos))
    assert read.qpos is not None and read.qpos.shape == (8, 6)
    assert read.times.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_seeds_of_64_bits(caplog: pytest.LogCaptureFixture):
    """minari draws such seeds where nobody gives any."""
    assert read_minari(made("small-v0", seed=2**63 - 1)).episode_seeds is not None
    with caplog.at_level(logging.WARNING):
        assert read_minari(made("large-v0", seed=2**64 - 1)).episode_seeds is None
    assert "left out is what not every episode has, or not as a number of 63 bits: episode_seeds" in caplog.text


@pytest.mark.usefixtures("jax")
def test_a_wrapper_that_may_change_actions_is_named(caplog: pytest.LogCaptureFixture):
    collect("Reacher-v5", "wrapped-v0", wrap=lambda env: gymnasium.wrappers.RescaleAction(env, -0.5, 0.5))
    with caplog.at_level(logging.WARNING):
        open_minari("wrapped-v0")
    assert "wrapped-v0/data: was recorded through RescaleAction, which may change what it holds" in caplog.text


def test_the_environment():
    path = made("there-v0")
    spec: dict[str, Any] = json.loads(json.loads((path / "data" / "metadata.json").read_text())["env_spec"])
    change_metadata(path, env_spec=json.dumps({**spec, "kwargs": {"frame_skip": 8, "render_mode": "rgb_array"}}))
    assert read_minari(path).environment_keywords == {"frame_skip": 8}
    change_metadata(path, env_spec=None)
    with pytest.raises(InputError, match="does not say on which environment it was recorded; give the task"):
        read_minari(path)
    assert read_minari(path, find_task("hopper")).task_name == "hopper"
    change_metadata(path, env_spec=json.dumps({**spec, "id": "Elsewhere-v0"}))
    with pytest.raises(InputError, match="recorded on Elsewhere-v0, which is no task here; give the task"):
        read_minari(path)
    for damaged in ("{", "[]", '{"id": 1, "additional_wrappers": [1]}'):
        change_metadata(path, env_spec=damaged)
        with pytest.raises(InputError, match=r"'env_spec' in metadata.json is damaged"):
            read_minari(path)


def test_damage():
    path = made("damaged-v0")
    main = path / "data" / "main_data.hdf5"
    change_metadata(path, understudy=3)
    with pytest.raises(InputError, match=r"'understudy' in metadata.json is damaged"):
        open_minari(path)
    change_metadata(path, total_episodes=3)
    with pytest.raises(InputError, match=r"damaged-v0/data: cannot be read, so the data set is incomplete or damaged"):
        open_minari(path)
    change_metadata(path, total_episodes=2, understudy={})
    with h5py.File(main, "a") as file:
        file["episode_1"].attrs["total_steps"] = 9
    with pytest.raises(InputError, match=r"of episode 1 has shape \(5, 11\) but must have 10 rows"):
        open_minari(path)
    main.write_bytes(main.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"incomplete or damaged .*; copy or record it again"):
        open_minari(path)
    main.unlink()
    with pytest.raises(InputError, match=r"incomplete or damaged \(No data found"):
        open_minari(path)
    change_metadata(path, data_format="tape")
    with pytest.raises(InputError, match=r"incomplete or damaged \('tape'\)"):
        open_minari(path)


def test_writing_that_is_refused(folder: Path):
    whole = record("hopper", 2)
    for _ in range(2):
        write_minari("ours/kept-v0", whole.episodes(1), overwrite=True)
    with pytest.raises(InputError, match=r"kept-v0: exists already; choose another name, or allow overwriting"):
        write_minari("ours/kept-v0", whole)
    for name in ("no-version", "../out-v0", "/abs-v0", "x/y-v0"):
        with pytest.raises(InputError, match="is no id of a Minari data set; call it namespace/name-v0"):
            write_minari(name, whole)
    with pytest.raises(InputError, match="has no 'actions', from which whoever reads a Minari data set would learn"):
        write_minari("ours/states-v0", replace(whole, acted=False))
    with pytest.raises(InputError, match=r"the metadata cannot be stored as JSON .*; give numbers, texts, or lists"):
        write_minari("ours/kept-v0", replace(whole, metadata={"odd": {1, 2}}), overwrite=True)
    with pytest.raises(InputError, match=r"cannot be written \(No storage implemented for tape"):
        write_minari("ours/tape-v0", whole, data_format="tape")
    assert len(read_minari("ours/kept-v0").starts) == 1
    assert [path.name for path in (folder / "ours").iterdir() if path.is_dir()] == ["kept-v0"]


def test_a_full_disk_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch):
    whole = record("hopper", 2)
    write_minari("ours/kept-v0", whole)
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match=r"cannot be written \(.*No space left.*; choose a folder that has room"):
        write_minari("ours/kept-v0", whole.episodes(1), overwrite=True)
    assert_same(whole, read_minari("ours/kept-v0"))
    assert [path.name for path in (folder / "ours").iterdir() if path.is_dir()] == ["kept-v0"]
