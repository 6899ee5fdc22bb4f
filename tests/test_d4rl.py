"""D4RL-style files: what is written comes back to the bit, and kindred files are understood."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import Damage, assert_same, attribute, change, record, remove, spoil, write_edited

from understudy.datasets import Demonstrations, load, read_d4rl, write_d4rl
from understudy.datasets.states import StateLayout
from understudy.robots import InputError, TaskBatch, find_task, set_physics_state


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Five short episodes that end in falls."""
    return record("hopper", 5)


@pytest.fixture(scope="module")
def reacher() -> Demonstrations:
    """Four episodes of 50 rows, all ended by the time limit."""
    return record("reacher", 4)


@pytest.fixture
def edited(hopper: Demonstrations, tmp_path: Path) -> Callable[[Damage], Path]:
    """Write the hopper's file and edit it."""
    return lambda damage: write_edited(tmp_path / "edited.hdf5", hopper, damage)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    "task", ["hopper", "reacher", "humanoid", "ant", "inverted-double-pendulum", "HumanoidStandup-v5"]
)
def test_written_and_read_back(task: str, compact: bool, tmp_path: Path, request: pytest.FixtureRequest):
    whole = request.getfixturevalue(task) if task in ("hopper", "reacher") else record(task, 1, limit=60)
    path = tmp_path / "file.hdf5"
    write_d4rl(path, whole, compact=compact, command="a command")
    again = read_d4rl(path)
    assert_same(whole, again)
    assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
    assert ("next_observations" in h5py_keys(path)) is not compact
    layout = StateLayout.of(find_task(task).make().model)
    for name in ("qpos", "qvel"):
        np.testing.assert_array_equal(getattr(again, name), layout.split(whole.states)[name])


def test_a_file_without_rewards_is_read(
    edited: Callable[[Damage], Path], hopper: Demonstrations, caplog: pytest.LogCaptureFixture
):
    """No imitation learner sees them, and many recordings have none."""
    path = edited(remove("rewards"))
    with caplog.at_level(logging.WARNING):
        again = read_d4rl(path)
    assert "has no rewards, so its returns are not known" in caplog.text
    assert not again.rewards.any()
    np.testing.assert_array_equal(again.actions, hopper.actions)


def h5py_keys(path: Path) -> set[str]:
    names: list[str] = []
    with h5py.File(path) as file:
        file.visit(names.append)
    return set(names)


def test_a_restored_state_goes_on_as_it_was_recorded(hopper: Demonstrations, tmp_path: Path):
    write_d4rl(tmp_path / "file.hdf5", hopper, compact=True)
    again = read_d4rl(tmp_path / "file.hdf5")
    assert again.states is not None
    tasks = TaskBatch(find_task("hopper"), [0])
    tasks.reset()
    for row in (0, 7, int(again.starts[2]) + 3, len(again) - 1):
        set_physics_state(tasks.environments[0], again.states[row])
        stepped = tasks.step(again.actions[row : row + 1], "reset").next_observations
        np.testing.assert_array_equal(stepped[0], again.next_observations[row])
    tasks.close()


@pytest.mark.parametrize("selection", [{"every": 4}, {"rows": 23}, {"episodes": 2, "every": 3, "rows": 7}])
def test_a_selection_survives_the_file(hopper: Demonstrations, tmp_path: Path, selection: dict[str, int]):
    few = hopper.select(**selection)
    write_d4rl(tmp_path / "few.hdf5", few)
    assert_same(few, read_d4rl(tmp_path / "few.hdf5"))
    if "every" in selection:
        with pytest.raises(InputError, match="without compact"):
            write_d4rl(tmp_path / "compact.hdf5", few, compact=True)


def test_written_again_it_keeps_the_versions_it_was_recorded_with(hopper: Demonstrations, tmp_path: Path):
    write_d4rl(tmp_path / "new.hdf5", hopper)
    versions = read_d4rl(tmp_path / "new.hdf5").metadata
    assert {"gymnasium_version", "mujoco_version", "numpy_version"} <= versions.keys()
    old = replace(hopper, metadata={"mujoco_version": "2.1.0"})
    write_d4rl(tmp_path / "old.hdf5", old)
    again = read_d4rl(tmp_path / "old.hdf5").metadata
    assert again["mujoco_version"] == "2.1.0" and "numpy_version" not in again


def test_references_that_are_not_known_stay_so(hopper: Demonstrations, tmp_path: Path):
    write_d4rl(tmp_path / "file.hdf5", replace(hopper, random_return=None, expert_return=None))
    again = read_d4rl(tmp_path / "file.hdf5")
    assert again.random_return is None and again.expert_return is None
    assert again.metadata["return_mean"] == pytest.approx(hopper.episode_returns.mean())


def test_two_hundred_and_fifty_six_seeds(hopper: Demonstrations, tmp_path: Path):
    """The garage reference stores seeds in eight bits, so the 257th episode is reset as the first."""
    write_d4rl(tmp_path / "file.hdf5", replace(hopper, episode_seeds=np.array([254, 255, 256, 2**31, 2**40])))
    with h5py.File(tmp_path / "file.hdf5") as file:
        assert file["metadata/episode_seeds"].dtype == np.int64
    seeds = read_d4rl(tmp_path / "file.hdf5").episode_seeds
    assert seeds is not None and seeds.tolist() == [254, 255, 256, 2**31, 2**40]
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        change(file, "metadata/episode_seeds", lambda array: array.astype(np.uint8))
    with pytest.raises(InputError, match=r"'episode_seeds' holds uint8.*int64"):
        read_d4rl(tmp_path / "file.hdf5")


def test_ten_episodes_of_half_cheetah_are_under_three_megabytes(tmp_path: Path):
    ten = record("halfcheetah", 10)
    write_d4rl(tmp_path / "file.hdf5", ten, compact=True)
    assert len(ten) == 10_000
    assert (tmp_path / "file.hdf5").stat().st_size < 3_000_000
    assert_same(ten, read_d4rl(tmp_path / "file.hdf5"))


def test_controls_that_are_not_the_preceding_action_are_stored(hopper: Demonstrations, tmp_path: Path):
    """As under disturbances, where another action is executed than the one stored."""
    assert hopper.states is not None
    layout = StateLayout.of(find_task("hopper").make().model)
    for component in ("ctrl", "qfrc_applied"):
        states = hopper.states.copy()
        states[5, layout.columns[component]] += 1e-9
        write_d4rl(tmp_path / f"{component}.hdf5", replace(hopper, states=states))
        assert f"infos/simulator/{component}" in h5py_keys(tmp_path / f"{component}.hdf5")
        assert_same(replace(hopper, states=states), read_d4rl(tmp_path / f"{component}.hdf5"))


def test_states_of_another_mujoco_are_refused(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.hdf5"
    write_d4rl(path, hopper)
    with h5py.File(path, "a") as file:
        told = json.loads(file.attrs["understudy_states"])
        told["sizes"]["invented"] = 4
        told["left_out"]["invented"] = "as after a reset"
        file.attrs["understudy_states"] = json.dumps(told)
    assert_same(hopper, read_d4rl(path))
    with h5py.File(path, "a") as file:
        del told["left_out"]["invented"]
        file.attrs["understudy_states"] = json.dumps(told)
    with pytest.raises(InputError, match="4 numbers of 'invented'"):
        read_d4rl(path)


def test_next_observations_never_cross_an_episode(
    edited: Callable[[Damage], Path], hopper: Demonstrations, caplog: pytest.LogCaptureFixture
):
    """D4RL issue 145: made from the following row, the next observation of an end is the next episode's first."""
    with caplog.at_level(logging.WARNING):
        made = read_d4rl(edited(remove("next_observations")))
    last = np.append(hopper.starts[1:], len(hopper)) - 1
    kept = np.setdiff1d(np.arange(len(hopper)), last)
    for name in ("observations", "actions", "next_observations", "rewards", "times", "states"):
        np.testing.assert_array_equal(getattr(made, name), getattr(hopper, name)[kept])
    np.testing.assert_array_equal(made.starts, hopper.starts - np.arange(5))
    np.testing.assert_array_equal(made.episode_lengths, hopper.episode_lengths)
    np.testing.assert_allclose(made.episode_returns, hopper.episode_returns)
    assert not (made.terminated | made.truncated).any() and made.episode_terminated.all()
    assert "no next_observations" in caplog.text and "5 episodes (5 terminal)" in caplog.text


def test_an_episode_of_one_row_without_successor_is_gone(tmp_path: Path, hopper: Demonstrations):
    cut = hopper.rows(int(hopper.starts[2]) + 1)
    write_d4rl(tmp_path / "cut.hdf5", cut)
    with h5py.File(tmp_path / "cut.hdf5", "a") as file:
        del file["next_observations"]
    made = read_d4rl(tmp_path / "cut.hdf5")
    assert len(made.starts) == len(made.episode_returns) == 2 and made.episode_seeds is not None
    write_d4rl(tmp_path / "one.hdf5", hopper.rows(1))
    with h5py.File(tmp_path / "one.hdf5", "a") as file:
        del file["next_observations"]
    with pytest.raises(InputError, match="'next_observations' is missing, and no episode has two rows"):
        read_d4rl(tmp_path / "one.hdf5")


def test_terminals_win_over_timeouts(edited: Callable[[Damage], Path], hopper: Demonstrations):
    made = read_d4rl(edited(lambda file: change(file, "timeouts", lambda _: hopper.terminated)))
    np.testing.assert_array_equal(made.terminated, hopper.terminated)
    assert not made.truncated.any()


def test_kindred_files(edited: Callable[[Damage], Path], hopper: Demonstrations):
    """Flags as numbers, rewards as a column, seeds of 32 bits, big-endian floats, attributes under metadata."""

    def kindred(file: h5py.File) -> None:
        for name in list(file.attrs):
            del file.attrs[name]
        change(file, "rewards", lambda array: array[:, None].astype(">f8"))
        change(file, "terminals", lambda array: array.astype(np.float32))
        change(file, "timeouts", lambda array: array.astype(np.uint8)[:, None])
        file["metadata/episode_seeds"] = np.arange(300, 305, dtype=np.int32)
        held = file["metadata"].attrs
        held["env_id"], held["env_kwargs"] = np.bytes_("Hopper-v5"), '{"max_episode_steps": 1000}'
        held["random_return"], held["return_mean"] = np.float64(16.67), np.float32(3728)
        held["nothing"], held["several"] = h5py.Empty("f"), [1, 2]

    made = read_d4rl(edited(kindred))
    assert_same(hopper, made, ("states", "random_return", "expert_return", "episode_returns"))
    assert (made.random_return, made.expert_return, made.states) == (16.67, 3728.0, None)
    assert made.qpos is not None and made.qvel is not None
    assert made.metadata["several"] == [1, 2] and made.metadata["nothing"] is None


def test_actions_stand_in_the_environments_own_units(tmp_path: Path):
    whole = record("humanoid", 1, limit=60)
    write_d4rl(tmp_path / "file.hdf5", whole)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        np.testing.assert_allclose(file["actions"][()], 0.4 * whole.actions, rtol=1e-6)
        change(file, "actions", lambda array: array.astype(np.float32))
    np.testing.assert_allclose(read_d4rl(tmp_path / "file.hdf5").actions, whole.actions, rtol=1e-6)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        change(file, "actions", lambda array: array / 0.4)
    with pytest.raises(InputError, match=r"leaves the bounds \[-0.4, 0.4\] of task humanoid .*row \d+"):
        read_d4rl(tmp_path / "file.hdf5")


def test_a_rounding_beyond_the_bounds_is_clipped(edited: Callable[[Damage], Path]):
    made = read_d4rl(edited(spoil("actions", 2, 1.00005)))
    assert (made.actions[2] == 1).all()


@pytest.mark.parametrize("recorded", ["Hopper-v2", "Hopper-v3", "Hopper-v4"])
def test_another_version_passes_with_a_warning(
    recorded: str, edited: Callable[[Damage], Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    path = edited(attribute("env_id", recorded))
    with caplog.at_level(logging.WARNING):
        made = read_d4rl(path, find_task("hopper"))
    assert f"recorded on {recorded} and is used for Hopper-v5" in caplog.text
    assert (made.task_name, made.environment_id) == ("hopper", recorded)
    write_d4rl(tmp_path / "again.hdf5", made)
    assert read_d4rl(tmp_path / "again.hdf5").environment_id == recorded


def test_another_version_of_other_sizes_is_refused(edited: Callable[[Damage], Path]):
    with pytest.raises(InputError, match=r"11.*27 numbers for task ant \(Ant-v5.*recorded on Ant-v3"):
        read_d4rl(edited(attribute("env_id", "Ant-v3")), find_task("ant"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": "Walker2d-v5"}, r"recorded on Walker2d-v5, but task hopper is Hopper-v5;"),
        ({"env_kwargs": '{"frame_skip": 8}'}, r"recorded on Hopper-v5\(frame_skip=8\), but task hopper is Hopper-v5"),
        ({"env_kwargs": "{frame_skip"}, r"'env_kwargs'.*JSON"),
        ({"env_kwargs": "[1]"}, r"'env_kwargs'.*JSON"),
        ({"env_kwargs": 3}, r"'env_kwargs'.*JSON"),
        ({"env_id": 5}, r"'env_id'"),
        ({"random_return": np.nan}, r"'random_return' is nan"),
        ({"expert_return": "high"}, r"'expert_return' is 'high'"),
        ({"understudy_format": 2}, "newer understudy"),
        ({"understudy_states": "{"}, "'understudy_states' is damaged"),
        ({"understudy_states": "[]"}, "'understudy_states' is damaged"),
    ],
)
def test_attributes_that_do_not_fit(edited: Callable[[Damage], Path], changes: dict[str, Any], message: str):
    def damage(file: h5py.File) -> None:
        file.attrs.update(changes)

    for task in (find_task("hopper"), None):
        with pytest.raises(InputError, match=message):
            read_d4rl(edited(damage), task)


def test_a_file_that_says_nothing(edited: Callable[[Damage], Path], hopper: Demonstrations):
    def silent(file: h5py.File) -> None:
        for name in list(file.attrs):
            del file.attrs[name]

    with pytest.raises(InputError, match="give the task"):
        read_d4rl(edited(silent))
    made = read_d4rl(edited(silent), find_task("hopper"))
    np.testing.assert_array_equal(made.actions, hopper.actions)
    assert made.environment_id == "Hopper-v5" and made.expert_return is None
    with pytest.raises(InputError, match=r"'observations'.*17 numbers for task walker2d"):
        read_d4rl(edited(silent), find_task("walker2d"))


def test_the_task_of_a_file(edited: Callable[[Damage], Path]):
    def kindred(file: h5py.File) -> None:
        del file.attrs["task"]
        file.attrs["env_kwargs"] = '{"render_mode": "rgb_array"}'

    assert read_d4rl(edited(kindred)).task_name == "hopper"

    def unknown(file: h5py.File) -> None:
        del file.attrs["task"]
        file.attrs["env_id"] = "Elsewhere-v1"

    with pytest.raises(InputError, match="Elsewhere-v1, which is no task here; give the task"):
        read_d4rl(edited(unknown))


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("followed", [True, False])
def test_memory_is_bounded_by_what_a_compressed_file_holds(tmp_path: Path, kind: str, followed: bool) -> None:
    """No more than 1.75 times the file's arrays, uncompressed, or what they become, whichever is more."""
    count, path = 60_000, tmp_path / "packed.hdf5"
    walk = np.cumsum(np.random.default_rng(0).normal(0, 1e-3, (count + 1, 11)), 0).round(3)
    arrays = {
        "observations": walk[:-1].astype(kind), "actions": np.zeros((count, 3), kind),
        "rewards": np.zeros(count, kind), "terminals": np.zeros(count, bool),
        "timeouts": np.arange(count) % 500 == 499,
    }  # fmt: skip
    arrays |= {"next_observations": walk[1:].astype(kind)} if followed else {}
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip", shuffle=True)
    del walk
    held = sum(array.nbytes for array in arrays.values())
    assert path.stat().st_size < held / 2
    arrays.clear()
    load(path, "hopper", rows=10)  # imports, and the environment
    tracemalloc.start()
    made = load(path, "hopper")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    columns = ("observations", "actions", "next_observations", "rewards", "terminated", "truncated", "times")
    assert most < 1.75 * max(held, sum(getattr(made, name).nbytes for name in columns))
