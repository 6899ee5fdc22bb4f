"""D4RL-style files: what is written comes back to the bit, and what is wrong is one sentence."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from understudy.datasets import Demonstrations, read_d4rl, write_d4rl
from understudy.datasets.states import StateLayout
from understudy.robots import InputError, TaskBatch, find_task, physics_state, set_physics_state

Damage = Callable[[h5py.File], None]


def record(task_name: str, episodes: int, seed: int = 300) -> Demonstrations:
    """Smooth random actions on the real simulator, with full simulator states."""
    task = find_task(task_name)
    rows: dict[str, list[Any]] = {
        name: []
        for name in (
            "observations", "actions", "next_observations", "rewards", "terminated", "truncated", "states", "times",
        )
    }  # fmt: skip
    starts: list[int] = []
    for episode in range(episodes):
        tasks = TaskBatch(task, [seed + episode])
        generator = np.random.default_rng(seed + episode)
        observation, ended = tasks.reset()[0], False
        drive = np.zeros(tasks.spaces.action_size)
        starts.append(len(rows["rewards"]))
        while not ended:
            drive = 0.9 * drive + 0.4 * generator.standard_normal(len(drive))
            action = np.tanh(drive).astype(np.float32)
            rows["observations"].append(observation)
            rows["actions"].append(action)
            rows["states"].append(physics_state(tasks.environments[0]))
            rows["times"].append(tasks.elapsed[0])
            step = tasks.step(action[None], "policy")
            observation, ended = step.next_observations[0], bool(step.ended[0])
            rows["next_observations"].append(observation)
            for name in ("rewards", "terminated", "truncated"):
                rows[name].append(getattr(step, name)[0])
        tasks.close()
    return Demonstrations(
        **{name: np.array(values) for name, values in rows.items()},
        starts=np.array(starts),
        task_name=task.name,
        environment_id=task.environment_id,
        environment_keywords=task.keywords,
        episode_seeds=seed + np.arange(episodes),
        random_return=-1.5,
        expert_return=12.25,
        metadata={"algorithm": "smooth noise", "licence": "MIT", "deterministic": False},
    )


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Five short episodes that end in falls."""
    return record("hopper", 5)


@pytest.fixture(scope="module")
def reacher() -> Demonstrations:
    """Four episodes of 50 rows, all ended by the time limit."""
    return record("reacher", 4)


@pytest.fixture
def edited(hopper: Demonstrations, tmp_path: Path) -> Iterator[Callable[[Damage], Path]]:
    """Write the hopper's file without any hint at its episodes but terminals and timeouts, then edit it."""

    def edit(damage: Damage) -> Path:
        path = tmp_path / "edited.hdf5"
        write_d4rl(path, hopper, overwrite=True)
        with h5py.File(path, "a") as file:
            del file["metadata"]
            damage(file)
        return path

    yield edit


def change(file: h5py.File, key: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    array = edit(file[key][()])
    del file[key]
    file[key] = array.tolist() if array.dtype.kind == "O" else array


def remove(*keys: str) -> Damage:
    def damage(file: h5py.File) -> None:
        for key in keys:
            del file[key]

    return damage


def spoil(key: str, row: int, value: float) -> Damage:
    def damage(file: h5py.File) -> None:
        file[key][row] = value

    return damage


def cast(key: str, kind: Any) -> Damage:
    return lambda file: change(file, key, lambda array: array.astype(kind))


def assert_same(first: Demonstrations, second: Demonstrations, without: tuple[str, ...] = ()) -> None:
    """Equal to the bit in every array, and in what is said of them."""
    for field in fields(Demonstrations):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name in ("source", "metadata", "qpos", "qvel", *without):
            continue
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b or field.name == "environment_keywords" and dict(a) == dict(b), field.name


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    "task", ["hopper", "reacher", "humanoid", "ant", "inverted-double-pendulum", "HumanoidStandup-v5"]
)
def test_written_and_read_back(task: str, compact: bool, tmp_path: Path, request: pytest.FixtureRequest):
    whole = request.getfixturevalue(task) if task in ("hopper", "reacher") else record_short(task)
    path = tmp_path / "file.hdf5"
    write_d4rl(path, whole, compact=compact, command="a command")
    again = read_d4rl(path)
    assert_same(whole, again)
    assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
    assert ("next_observations" in h5py_keys(path)) is not compact
    layout = StateLayout.of(find_task(task).make().model)
    for name in ("qpos", "qvel"):
        np.testing.assert_array_equal(getattr(again, name), layout.split(whole.states)[name])


def record_short(task: str) -> Demonstrations:
    whole = record(task, 1)
    return whole.rows(min(60, len(whole)))


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


def test_two_hundred_and_fifty_six_seeds(hopper: Demonstrations, tmp_path: Path):
    """The garage reference stores seeds in eight bits, so the 257th episode is reset as the first."""
    write_d4rl(tmp_path / "file.hdf5", replace(hopper, episode_seeds=np.array([254, 255, 256, 2**31, 2**40])))
    with h5py.File(tmp_path / "file.hdf5") as file:
        assert file["metadata/episode_seeds"].dtype == np.int64
    seeds = read_d4rl(tmp_path / "file.hdf5").episode_seeds
    assert seeds is not None and seeds.tolist() == [254, 255, 256, 2**31, 2**40]
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        change(file, "metadata/episode_seeds", lambda array: array.astype(np.uint8))
    with pytest.raises(InputError, match="'episode_seeds' holds uint8.*int64"):
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
    assert not (made.terminated | made.truncated).any()
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


# Where episodes end.


def test_a_single_episode_needs_no_marks(tmp_path: Path, reacher: Demonstrations):
    write_d4rl(tmp_path / "file.hdf5", reacher.episodes(1))
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        remove("timeouts", "metadata")(file)
    assert_same(reacher.episodes(1), read_d4rl(tmp_path / "file.hdf5"), ("episode_seeds", "episode_returns"))


def test_terminals_alone_mark_falls(edited: Callable[[Damage], Path], hopper: Demonstrations):
    made = read_d4rl(edited(remove("timeouts")))
    assert_same(hopper, made, ("episode_seeds", "episode_returns"))


def test_lengths_mark_ends_without_timeouts(tmp_path: Path, reacher: Demonstrations):
    write_d4rl(tmp_path / "file.hdf5", reacher)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        remove("timeouts", "metadata/episode_starts")(file)
    assert_same(reacher, read_d4rl(tmp_path / "file.hdf5"))


@pytest.mark.parametrize("others", [(), ("next_observations",)])
def test_no_terminals_and_no_timeouts(tmp_path: Path, reacher: Demonstrations, others: tuple[str, ...]):
    """D4RL issue 22, and with it the reason why issue 40 asks where its episodes are."""
    write_d4rl(tmp_path / "file.hdf5", reacher)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        remove("timeouts", "metadata", *others)(file)
    with pytest.raises(InputError, match="do not mark where all episodes end.*200 rows, but the horizon is 50"):
        read_d4rl(tmp_path / "file.hdf5")


def test_unmarked_falls_show_in_the_next_observations(edited: Callable[[Damage], Path], hopper: Demonstrations):
    def damage(file: h5py.File) -> None:
        del file["timeouts"]
        file["terminals"][...] = False

    with pytest.raises(InputError, match=rf"next observation of row {hopper.starts[1] - 1} is not"):
        read_d4rl(edited(damage))


def test_a_few_missing_timeouts_are_reported(
    tmp_path: Path, reacher: Demonstrations, caplog: pytest.LogCaptureFixture
):
    """D4RL issue 162: with recorded next observations no row is wrong, without them the file is refused."""
    write_d4rl(tmp_path / "file.hdf5", reacher)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        del file["metadata"]
        file["timeouts"][99] = False
    with caplog.at_level(logging.WARNING):
        made = read_d4rl(tmp_path / "file.hdf5")
    assert "row 50 begins an episode of 100 rows" in caplog.text
    np.testing.assert_array_equal(made.next_observations, reacher.next_observations)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        del file["next_observations"]
    with pytest.raises(InputError, match="row 50 begins an episode of 100 rows"):
        read_d4rl(tmp_path / "file.hdf5")


def test_marks_and_lengths_that_disagree(tmp_path: Path, reacher: Demonstrations):
    write_d4rl(tmp_path / "file.hdf5", reacher)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        file["timeouts"][20] = True
    with pytest.raises(InputError, match="row 20 is marked as an episode's end"):
        read_d4rl(tmp_path / "file.hdf5")


# Actions.


def test_actions_stand_in_the_environments_own_units(tmp_path: Path):
    whole = record("humanoid", 1)
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


# Which environment.


def attribute(name: str, value: Any) -> Damage:
    def damage(file: h5py.File) -> None:
        file.attrs[name] = value

    return damage


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
    with pytest.raises(InputError, match=r"11.*task ant \(Ant-v5.*27.*recorded on Ant-v3"):
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
    with pytest.raises(InputError, match="'observations'.*task walker2d.*17"):
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


# Bad input.


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("actions"), ("'actions' is missing", "infos/qpos", "observations", "rename")),
        (lambda file: file.move("actions", "action"), ("'actions' is missing", "did you mean action")),
        (remove("terminals"), ("'terminals' is missing",)),
        (cast("observations", np.uint8), ("'observations' holds uint8", "float")),
        (cast("actions", np.int64), ("'actions' holds int64",)),
        (cast("rewards", "S8"), ("'rewards' holds strings",)),
        (lambda file: change(file, "observations", lambda array: array.astype(str).astype(object)), ("'observations' holds objects or strings",)),
        (cast("terminals", "S5"), ("'terminals' holds strings", "booleans")),
        (lambda file: change(file, "terminals", lambda array: array * 2), ("'terminals' holds other values",)),
        (lambda file: change(file, "actions", lambda array: array[:-1]), ("'actions' has", "rows where")),
        (lambda file: change(file, "actions", lambda array: array[:, :2]), ("'actions'", "task hopper", "3 numbers")),
        (lambda file: change(file, "observations", lambda array: array[:, 0]), ("'observations' has shape",)),
        (lambda file: change(file, "rewards", lambda array: np.stack([array, array], 1)), ("'rewards' has shape",)),
        (lambda file: change(file, "infos/qpos", lambda array: array[:, 1:]), ("'infos/qpos'", "6 numbers")),
        (lambda file: change(file, "observations", lambda array: array[:0]), ("'observations' has no rows",)),
        (spoil("observations", 6, np.nan), ("'observations' holds NaN", "11 of", "row 6")),
        (spoil("next_observations", 2, np.inf), ("'next_observations' holds NaN", "row 2")),
        (spoil("rewards", 1, -np.inf), ("'rewards' holds NaN", "1 of", "row 1")),
        (spoil("actions", 3, np.nan), ("'actions' holds NaN", "3 of", "row 3")),
        (spoil("actions", 3, 1.01), ("'actions' leaves the bounds [-1, 1]", "in 1 of", "row 3")),
        (lambda file: change(file, "infos/qvel", lambda array: array * np.nan), ("'infos/qvel'", "row 0")),
        (lambda file: file.move("infos", "observations/infos"), ("'observations' is a group",)),
    ],
)  # fmt: skip
def test_bad_arrays(edited: Callable[[Damage], Path], damage: Damage, words: tuple[str, ...]):
    def grouped(file: h5py.File) -> None:
        if "observations' is a group" in words[0]:
            del file["observations"]
        damage(file)

    path = edited(grouped)
    with pytest.raises(InputError) as error:
        read_d4rl(path, find_task("hopper"))
    message = str(error.value)
    assert all(word in message for word in (path.name, *words)), message
    assert "\n" not in message


def test_files_that_are_none(tmp_path: Path):
    (tmp_path / "empty.hdf5").touch()
    (tmp_path / "text.hdf5").write_text("observations")
    with h5py.File(tmp_path / "bare.hdf5", "w"):
        pass
    for path, message in (
        (tmp_path / "none.hdf5", "no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "empty.hdf5", "is empty"),
        (tmp_path / "text.hdf5", "not an HDF5 file"),
        (tmp_path / "bare.hdf5", "'observations' is missing; the file has no arrays at all"),
        (tmp_path / ("n" * 300), "cannot be opened"),
    ):
        with pytest.raises(InputError, match=message):
            read_d4rl(path, find_task("hopper"))


def test_truncated_at_any_place(hopper: Demonstrations, tmp_path: Path):
    write_d4rl(tmp_path / "file.hdf5", hopper)
    whole = (tmp_path / "file.hdf5").read_bytes()
    for share in np.linspace(0, 0.999, 40):
        (tmp_path / "cut.hdf5").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut.hdf5: (.*again|is not an HDF5 file)"):
            read_d4rl(tmp_path / "cut.hdf5")


def test_damaged_within_an_array(hopper: Demonstrations, tmp_path: Path):
    write_d4rl(tmp_path / "file.hdf5", hopper)
    with h5py.File(tmp_path / "file.hdf5") as file:
        chunk = file["rewards"].id.get_chunk_info(0)
    whole = bytearray((tmp_path / "file.hdf5").read_bytes())
    whole[chunk.byte_offset + 10 : chunk.byte_offset + 40] = bytes(30)
    (tmp_path / "file.hdf5").write_bytes(whole)
    with pytest.raises(InputError, match="'rewards' cannot be read, so the file is incomplete or damaged"):
        read_d4rl(tmp_path / "file.hdf5")


# Writing.


def test_nothing_is_overwritten_unasked(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.hdf5"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        write_d4rl(path, hopper)
    assert path.read_text() == "precious"
    write_d4rl(path, hopper, overwrite=True)
    assert_same(hopper, read_d4rl(path))
    assert [file.name for file in tmp_path.iterdir()] == ["file.hdf5"]


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(
    hopper: Demonstrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, error: BaseException
):
    path = tmp_path / "file.hdf5"
    path.write_text("precious")

    def fail(*_: object) -> None:
        raise error

    if at == "write":  # a full disk is noticed by the first write, when a file has no room for a byte
        real = Path.open

        def full(self: Path, mode: str = "r", **options: Any) -> Any:
            file = real(self, mode, **options)
            if "x" in mode:
                file.close()
                fail()
            return file

        monkeypatch.setattr(Path, "open", full)
    else:
        monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[at], fail)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt, match="No space|"):
        write_d4rl(path, hopper, overwrite=True)
    assert path.read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["file.hdf5"]


def test_targets_that_cannot_be(hopper: Demonstrations, tmp_path: Path):
    with pytest.raises(InputError, match="is a directory"):
        write_d4rl(tmp_path, hopper)
    with pytest.raises(InputError, match="does not exist; make it first"):
        write_d4rl(tmp_path / "nowhere" / "file.hdf5", hopper)
    with pytest.raises(InputError, match="cannot be written"):
        write_d4rl(tmp_path / ("n" * 300), hopper)


def test_demonstrations_that_cannot_be_written(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.hdf5"
    assert hopper.states is not None
    for wrong, message in (
        (replace(hopper, task_name="walker2d"), "11 observations and 3 actions.*17 and 6"),
        (replace(hopper, task_name="hoper"), "did you mean hopper"),
        (replace(hopper, states=hopper.states[:, :-1]), "'states' has 57 numbers.*58"),
        (replace(hopper, qpos=np.zeros((len(hopper), 6))), "'qpos' is not the qpos within 'states'"),
        (replace(hopper, environment_keywords={"a": object()}), "no JSON"),
        (replace(hopper, metadata={"a": {"b": 1}}), "attribute 'a' cannot be stored"),
    ):
        with pytest.raises(InputError, match=message):
            write_d4rl(path, wrong)
        assert not path.exists()


def test_the_same_demonstrations_make_the_same_bytes(hopper: Demonstrations, tmp_path: Path):
    for name in ("first", "second"):
        write_d4rl(tmp_path / name, hopper)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
