"""robomimic's files: made by plain h5py as its scripts lay them out, read, written, and refused in one sentence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import Damage, assert_same, change, record, remove

from understudy.datasets import Demonstrations, write_d4rl
from understudy.datasets.robomimic import claims, open_robomimic, read_robomimic, write_robomimic
from understudy.datasets.states import StateLayout
from understudy.robots import InputError, find_task

ENV_ARGS = {"env_name": "Hopper-v5", "type": 2, "env_kwargs": {}}


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Twelve short episodes that end in falls."""
    return record("hopper", 12, limit=200)


def scripted(
    path: Path,
    demonstrations: Demonstrations,
    *,
    dones: str = "ends",
    env_args: Any = ENV_ARGS,
    obs: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda rows: {"flat": rows},
) -> Path:
    """A file as robomimic 0.3.0's dataset_states_to_obs.py lays it out, with dones ``ends`` or ``terminals``."""
    bounds = np.append(demonstrations.starts, len(demonstrations))
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for k, (begin, end) in enumerate(itertools.pairwise(bounds)):
            rows, demo = slice(begin, end), data.create_group(f"demo_{k}")
            demo.create_dataset("actions", data=demonstrations.actions[rows])
            demo.create_dataset("rewards", data=demonstrations.rewards[rows].astype(np.float64))
            marks = demonstrations.terminated[rows].astype(np.int64)
            if dones == "ends":
                marks[-1] = 1
            demo.create_dataset("dones", data=marks)
            for key, array in obs(demonstrations.observations[rows]).items():
                demo.create_dataset(f"obs/{key}", data=array)
            for key, array in obs(demonstrations.next_observations[rows]).items():
                demo.create_dataset(f"next_obs/{key}", data=array)
            demo.attrs["num_samples"] = end - begin
        data.attrs["total"] = len(demonstrations)
        if env_args is not None:
            data.attrs["env_args"] = json.dumps(env_args, indent=4)
        names = [f"demo_{k}" for k in range(len(demonstrations.starts))]
        file["mask/train"], file["mask/valid"] = np.array(names[1:], "S"), np.array(names[:1], "S")
    return path


@pytest.fixture
def edited(hopper: Demonstrations, tmp_path: Path) -> Callable[[Damage], Path]:
    """Write the hopper's first three episodes as robomimic would, and edit the file."""

    def edit(damage: Damage) -> Path:
        path = scripted(tmp_path / "edited.hdf5", hopper.episodes(3))
        with h5py.File(path, "a") as file:
            damage(file)
        return path

    return edit


def split(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The hopper's observation in two keys, whose names are in the other order than its columns."""
    return {"joints": rows[:, :5], "and_speeds": rows[:, 5:]}


def camera(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"flat": rows, "agentview_image": np.zeros((len(rows), 8, 8, 3), np.uint8)}


# Written by us.


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("task", ["hopper", "reacher", "humanoid", "ant", "inverted-double-pendulum"])
def test_written_and_read_back(task: str, parts: bool, tmp_path: Path, hopper: Demonstrations):
    whole = hopper if task == "hopper" else record(task, 2, limit=60)
    path = tmp_path / "file.hdf5"
    write_robomimic(path, whole, parts=parts, command="a command")
    again = read_robomimic(path)
    assert_same(whole, again)
    assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
    layout = StateLayout.of(find_task(task).make().model)
    for name in ("qpos", "qvel"):
        np.testing.assert_array_equal(getattr(again, name), layout.split(whole.states)[name])


def test_what_is_written_is_laid_out_as_robomimic_reads_it(hopper: Demonstrations, tmp_path: Path):
    """The accesses of robomimic 0.3.0's SequenceDataset and get_dataset_info.py, by plain h5py."""
    write_robomimic(tmp_path / "file.hdf5", hopper)
    layout = StateLayout.of(find_task("hopper").make().model)
    parts = layout.split(hopper.states)
    with h5py.File(tmp_path / "file.hdf5") as file:
        assert set(file) == {"data", "mask"}
        demos = [name.decode("utf-8") for name in np.array(file["mask/train"][:])]
        assert set(demos) == set(file["data"]) and file["data"].attrs["total"] == len(hopper)
        described = json.loads(file["data"].attrs["env_args"])
        assert described == {"env_name": "Hopper-v5", "type": 2, "env_kwargs": {}}
        demos.sort(key=lambda name: int(name[5:]))
        groups = [file["data"][name] for name in demos]
        assert [group.attrs["num_samples"] for group in groups] == hopper.episode_lengths.tolist()

        def whole(name: str) -> np.ndarray:
            return np.concatenate([group[name][()] for group in groups])

        np.testing.assert_array_equal(whole("obs/flat"), hopper.observations)
        np.testing.assert_array_equal(whole("next_obs/flat"), hopper.next_observations)
        np.testing.assert_array_equal(whole("actions"), hopper.actions)
        np.testing.assert_array_equal(whole("rewards"), hopper.rewards)
        np.testing.assert_array_equal(whole("dones"), hopper.terminated)
        states = np.concatenate([parts["time"], parts["qpos"], parts["qvel"]], axis=1)
        np.testing.assert_array_equal(whole("states"), states)


def test_keys_of_our_own_parts_go_by_the_observation(tmp_path: Path):
    """Their alphabetical order would be another one."""
    ant = record("humanoid", 1, limit=20)
    write_robomimic(tmp_path / "file.hdf5", ant, parts=True)
    with h5py.File(tmp_path / "file.hdf5") as file:
        keys = list(file["data/demo_0/obs"])
        widths = json.loads(file["data"].attrs["observation_parts"])
        assert sorted(widths) == sorted(keys) and list(widths) != sorted(keys) and sum(widths.values()) == 348
    table = open_robomimic(tmp_path / "file.hdf5")
    assert json.loads(table.attributes()["observation_parts"]) == widths
    np.testing.assert_array_equal(table.raw("observations"), ant.observations)


@pytest.mark.parametrize("selection", [{"every": 4}, {"rows": 23}, {"episodes": 2, "every": 3, "rows": 7}])
def test_a_selection_survives_the_file(hopper: Demonstrations, tmp_path: Path, selection: dict[str, int]):
    few = hopper.select(**selection)
    write_robomimic(tmp_path / "few.hdf5", few)
    assert_same(few, read_robomimic(tmp_path / "few.hdf5"))


def test_without_full_states_or_references(hopper: Demonstrations, tmp_path: Path):
    parts = StateLayout.of(find_task("hopper").make().model).split(hopper.states)
    known = replace(hopper, states=None, qpos=parts["qpos"], qvel=parts["qvel"], random_return=None, expert_return=None)
    write_robomimic(tmp_path / "file.hdf5", known)
    again = read_robomimic(tmp_path / "file.hdf5")
    assert_same(known, again)
    assert again.qpos is not None and again.qvel is not None
    np.testing.assert_array_equal(again.qvel, parts["qvel"])
    with h5py.File(tmp_path / "file.hdf5") as file:
        np.testing.assert_allclose(file["data/demo_0/states"][:, :1], parts["time"][: hopper.starts[1]], atol=1e-9)
    half = replace(hopper, states=None, qpos=parts["qpos"], episode_seeds=None)
    write_robomimic(tmp_path / "half.hdf5", half)
    again = read_robomimic(tmp_path / "half.hdf5")
    assert_same(half, again)
    np.testing.assert_array_equal(again.qpos, parts["qpos"])


def test_states_alone_and_actions_beyond_one_are_remarked_on(
    hopper: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    silent = replace(hopper, acted=False, actions=np.zeros_like(hopper.actions))
    write_robomimic(tmp_path / "silent.hdf5", silent)
    assert "has no actions, without which robomimic" in caplog.text
    assert_same(silent, read_robomimic(tmp_path / "silent.hdf5"))
    pusher = record("pusher", 1, limit=5)
    write_robomimic(tmp_path / "pusher.hdf5", pusher)
    assert "actions beyond [-1, 1]" in caplog.text
    assert_same(pusher, read_robomimic(tmp_path / "pusher.hdf5"))


def test_nothing_is_half_written_or_overwritten(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.hdf5"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        write_robomimic(path, hopper)
    with pytest.raises(InputError, match="attribute 'strange' cannot be stored"):
        write_robomimic(path, replace(hopper, metadata={"strange": {"a": 1}}), overwrite=True)
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]
    write_robomimic(path, hopper, overwrite=True)
    assert claims(path)


# Written by robomimic's scripts.


def test_demos_go_by_their_numbers(hopper: Demonstrations, tmp_path: Path):
    """h5py lists demo_10 before demo_2."""
    made = read_robomimic(scripted(tmp_path / "file.hdf5", hopper, dones="terminals"), find_task("hopper"))
    for name in ("observations", "actions", "next_observations", "rewards", "starts", "episode_lengths"):
        np.testing.assert_array_equal(getattr(made, name), getattr(hopper, name))
    assert made.environment_id == "Hopper-v5" and made.task_name == "hopper"


def test_keys_are_put_side_by_side_in_order(hopper: Demonstrations, tmp_path: Path):
    path = scripted(tmp_path / "file.hdf5", hopper, obs=split)
    table = open_robomimic(path)
    assert json.loads(table.attributes()["observation_parts"]) == {"and_speeds": 6, "joints": 5}
    np.testing.assert_array_equal(table.raw("observations")[:, :6], hopper.observations[:, 5:])
    made = read_robomimic(path, keys=["joints", "and_speeds"])
    np.testing.assert_array_equal(made.observations, hopper.observations)
    np.testing.assert_array_equal(made.next_observations, hopper.next_observations)
    with pytest.raises(InputError, match=r"'obs \(joints\)' has shape \(\d+, 5\) but must have rows of 11.*Hopper-v5"):
        read_robomimic(path, keys=["joints"])
    with pytest.raises(InputError, match=r"'data/demo_0/obs/joint' is missing; .* and_speeds, joints"):
        read_robomimic(path, keys=["joint"])


def test_numbers_of_other_kinds_are_vectors_too(hopper: Demonstrations, tmp_path: Path):
    def obs(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"one": rows[:, 0], "pairs": rows[:, 1:7].reshape(-1, 3, 2), "rest": rows[:, 7:].astype(np.int64)}

    table = open_robomimic(scripted(tmp_path / "file.hdf5", hopper, obs=obs))
    observations = table.raw("observations")
    assert json.loads(table.attributes()["observation_parts"]) == {"one": 1, "pairs": 6, "rest": 4}
    np.testing.assert_array_equal(observations[:, :7], hopper.observations[:, :7])
    np.testing.assert_array_equal(observations[:, 7:], np.trunc(hopper.observations[:, 7:]))


def test_images_are_left_out(hopper: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = scripted(tmp_path / "file.hdf5", hopper.episodes(2), obs=camera)
    np.testing.assert_array_equal(read_robomimic(path).observations, hopper.episodes(2).observations)
    assert caplog.text.count("leaves out agentview_image, which are images or texts") == 1
    with pytest.raises(InputError, match=r"obs/agentview_image' holds images or texts; the keys .* are: flat"):
        read_robomimic(path, keys=["agentview_image"])
    with h5py.File(path, "a") as file:
        remove("data/demo_0/obs/flat", "data/demo_1/obs/flat")(file)
        file["data/demo_0/obs/depth"] = np.zeros((len(file["data/demo_0/actions"]), 4, 4, 1), np.float32)
    with pytest.raises(InputError, match=r"has only images or texts \(agentview_image, depth\); give a file with stat"):
        read_robomimic(path)


def test_masks(hopper: Demonstrations, tmp_path: Path):
    path = scripted(tmp_path / "file.hdf5", hopper)
    first = read_robomimic(path, mask="valid")
    np.testing.assert_array_equal(first.observations, hopper.episodes(1).observations)
    others = read_robomimic(path, mask="train")
    assert len(others.starts) == 11
    np.testing.assert_array_equal(others.observations, hopper.observations[hopper.starts[1] :])
    for names, message in ((["demo_99"], "lists 'demo_99', which 'data' does not have"), ([], "lists no demos")):
        with h5py.File(path, "a") as file:
            change(file, "mask/train", lambda _, names=names: np.array(names, "S8"))
        with pytest.raises(InputError, match=message):
            read_robomimic(path, mask="train")
    with pytest.raises(InputError, match=r"has no 'mask/vlid': did you mean valid\?"):
        read_robomimic(path, mask="vlid")


def test_a_mask_of_our_own_file_keeps_what_belongs_to_each_episode(hopper: Demonstrations, tmp_path: Path):
    write_robomimic(tmp_path / "file.hdf5", hopper)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        file["mask/few"] = np.array(["demo_10", "demo_2"], "S")
    few = read_robomimic(tmp_path / "file.hdf5", mask="few")
    assert few.episode_seeds is not None and few.episode_seeds.tolist() == [302, 310]
    np.testing.assert_array_equal(few.episode_returns, hopper.episode_returns[[2, 10]])
    assert few.states is not None and hopper.states is not None
    np.testing.assert_array_equal(few.states[0], hopper.states[hopper.starts[2]])


# What dones mean.


def with_dones(path: Path, last: list[int], inner: list[int] | None = None) -> Path:
    with h5py.File(path, "a") as file:
        for k, done in enumerate(last):
            dones = file[f"data/demo_{k}/dones"]
            dones[-1], dones[-2] = done, (inner or [0] * len(last))[k]
    return path


@pytest.mark.parametrize(
    ("last", "inner", "done_mode", "terminated", "remarked"),
    [
        ([1, 1, 1], None, None, [0, 0, 0], True),
        ([1, 1, 1], None, 0, [1, 1, 1], False),
        ([1, 1, 1], None, 1, [0, 0, 0], False),
        ([1, 1, 1], None, 2, [0, 0, 0], False),
        ([1, 0, 1], None, None, [1, 0, 1], False),
        ([0, 0, 0], None, None, [0, 0, 0], False),
        ([1, 1, 0], [0, 1, 0], None, [0, 0, 0], True),
        ([1, 1, 0], [0, 1, 0], 0, [1, 1, 0], False),
    ],
)
def test_dones_that_may_mark_nothing_but_ends_are_no_terminations(
    hopper: Demonstrations,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    last: list[int],
    inner: list[int] | None,
    done_mode: int | None,
    terminated: list[int],
    remarked: bool,
):
    three = hopper.episodes(3)
    path = with_dones(scripted(tmp_path / "file.hdf5", three), last, inner)
    made = read_robomimic(path, done_mode=done_mode)
    assert made.episode_terminated.tolist() == [bool(flag) for flag in terminated]
    ends = np.append(three.starts[1:], len(three)) - 1
    np.testing.assert_array_equal(made.terminated[ends] | made.truncated[ends], True)
    assert made.terminated.sum() + made.truncated.sum() == 3
    assert ("none counts as a termination; give done_mode=0" in caplog.text) is remarked


def test_a_done_at_the_time_limit_is_none(hopper: Demonstrations, tmp_path: Path):
    three = hopper.episodes(3)
    lengths = three.episode_lengths
    shorter = replace(find_task("hopper"), horizon=int(lengths.max()))
    made = read_robomimic(scripted(tmp_path / "file.hdf5", three), shorter, done_mode=0)
    np.testing.assert_array_equal(made.episode_terminated, lengths < lengths.max())
    reacher = record("reacher", 2)
    path = scripted(tmp_path / "reacher.hdf5", reacher, env_args={**ENV_ARGS, "env_name": "Reacher-v5"})
    assert not read_robomimic(path, done_mode=0).episode_terminated.any()


def test_without_dones_demos_just_stop(edited: Callable[[Damage], Path]):
    made = read_robomimic(edited(lambda file: [file[f"data/demo_{k}"].pop("dones") for k in range(3)]))
    assert not made.terminated.any() and made.truncated.sum() == 3


def test_a_conversion_of_d4rl(hopper: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """convert_d4rl.py names the data set, marks every end and repeats the last observation for what followed it."""
    name = {"env_name": "hopper-medium-expert-v2", "type": 2, "env_kwargs": {}}
    path = scripted(tmp_path / "file.hdf5", hopper, env_args=name)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["next_obs/flat"][-1] = demo["obs/flat"][-1]
    made = read_robomimic(path)
    assert "obs once more, so what followed is not known" in caplog.text and "recorded on Hopper-v2" in caplog.text
    last = np.append(hopper.starts[1:], len(hopper)) - 1
    kept = np.setdiff1d(np.arange(len(hopper)), last)
    for column in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_array_equal(getattr(made, column), getattr(hopper, column)[kept])
    assert made.episode_terminated.all() and not made.terminated.any()
    assert (made.task_name, made.environment_id) == ("hopper", "Hopper-v2")
    assert made.metadata["d4rl"] == "hopper-medium-expert-v2" and made.random_return == pytest.approx(-20.272305)


def test_without_next_observations_the_last_rows_are_left_out(
    edited: Callable[[Damage], Path], hopper: Demonstrations, caplog: pytest.LogCaptureFixture
):
    made = read_robomimic(edited(lambda file: [file[f"data/demo_{k}"].pop("next_obs") for k in range(3)]))
    assert len(made) == len(hopper.episodes(3)) - 3 and "has no next_observations" in caplog.text


# Refused.


def test_other_simulators_are_named(hopper: Demonstrations, tmp_path: Path):
    robosuite = {"env_name": "Lift", "type": 1, "env_version": "1.4.1", "env_kwargs": {"robots": ["Panda"]}}
    path = scripted(tmp_path / "file.hdf5", hopper, env_args=robosuite)
    with pytest.raises(InputError, match="recorded on Lift, which is no task here; give the task"):
        read_robomimic(path)
    with pytest.raises(InputError, match="recorded on Lift, but task hopper is Hopper-v5"):
        read_robomimic(path, find_task("hopper"))
    assert open_robomimic(path).attributes()["env_id"] == "Lift"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kitchen-mixed-v0", "must have rows of 60 numbers for D4RL's kitchen"),
        ("flow-ring-random-v0", "does not say on which environment it was recorded; give the task"),
        ("maze2d-umaze-v1", "'infos/goal' is missing, without which a maze says nothing"),
        ("walker2d-medium-v2", "must have rows of 17 numbers for task walker2d .*; it was recorded on Walker2d-v2"),
    ],
)
def test_other_data_of_d4rl(name: str, message: str, hopper: Demonstrations, tmp_path: Path):
    path = scripted(tmp_path / "file.hdf5", hopper, env_args={"env_name": name, "type": 2, "env_kwargs": {}})
    with pytest.raises(InputError, match=message):
        read_robomimic(path)


def test_an_environment_with_arguments(hopper: Demonstrations, tmp_path: Path):
    described = {"env_name": "Hopper-v5", "type": 2, "env_kwargs": {"frame_skip": 8}}
    path = scripted(tmp_path / "file.hdf5", hopper, env_args=described)
    with pytest.raises(InputError, match=r"recorded on Hopper-v5\(frame_skip=8\), but task hopper is Hopper-v5"):
        read_robomimic(path, find_task("hopper"))
    path = scripted(tmp_path / "none.hdf5", hopper, env_args=None)
    with pytest.raises(InputError, match="does not say on which environment it was recorded; give the task"):
        read_robomimic(path)
    np.testing.assert_array_equal(read_robomimic(path, find_task("hopper")).actions, hopper.actions)


def cut(key: str, edit: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda file: change(file, key, edit)


def set_attribute(place: str, name: str, value: Any) -> Damage:
    return lambda file: file[place].attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("data"), "has no 'data/demo_0' where robomimic has demos called demo_<number>"),
        (lambda file: file.move("data/demo_1", "data/episode_1"), "has 'data/episode_1' where robomimic has demos"),
        (
            lambda file: [file[f"data/demo_{k}"].pop("obs") for k in range(3)],
            "'data/demo_0/obs' is missing; make it by",
        ),
        (remove("data/demo_1/obs/flat"), "'data/demo_1/obs/flat' cannot be read"),
        (remove("data/demo_1/next_obs"), "'data/demo_1' has no 'next_obs/flat' as others have; choose demos by a mask"),
        (remove("data/demo_2/rewards"), "'data/demo_2' has no 'rewards' as others have"),
        (cut("data/demo_1/actions", lambda a: a[:-1]), r"'data/demo_1/actions' has shape \(\d+, 3\) but must have"),
        (cut("data/demo_1/obs/flat", lambda a: a[:, :-1]), r"'data/demo_1/obs/flat' has shape \(\d+, 10\) but must ha"),
        (cut("data/demo_0/dones", lambda a: a * 3), "'dones' holds other values than 0 and 1"),
        (cut("data/demo_0/obs/flat", lambda a: a * np.nan), r"'obs \(flat\)' holds NaN"),
        (
            set_attribute("data/demo_1", "num_samples", 5),
            r"'data/demo_1/.*' has shape .* but must have \(5,",
        ),
        (cut("data/demo_1/rewards", lambda a: a.sum()), r"'data/demo_1/rewards' has shape \(\) but must have \(\d+,\)"),
        (set_attribute("data/demo_1", "num_samples", "many"), "'data/demo_1' has 'many' for num_samples"),
        (set_attribute("data/demo_1", "num_samples", 0), "'data/demo_1' has 0 for num_samples"),
        (set_attribute("data", "env_args", "{"), "'env_args' of 'data' is no JSON with env_name, type"),
        (set_attribute("data", "env_args", "[1]"), "'env_args' of 'data' is no JSON with env_name, type"),
        (set_attribute("data", "env_args", '{"type": 2}'), "'env_args' of 'data' is no JSON with env_name, type"),
    ],
)
def test_damage_is_one_sentence(edited: Callable[[Damage], Path], damage: Damage, message: str):
    path = edited(damage)
    with pytest.raises(InputError, match=message) as raised:
        read_robomimic(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_states_of_another_model_and_damaged_descriptions(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.hdf5"
    write_robomimic(path, hopper.episodes(1))
    with h5py.File(path, "a") as file:
        del file["data"].attrs["understudy_states"]
    made = read_robomimic(path)
    assert made.states is None and made.qpos is not None
    with h5py.File(path, "a") as file:
        change(file, "data/demo_0/states", lambda array: array[:, :-1])
    with pytest.raises(InputError, match=r"'states' has shape \(\d+, 12\) but must have rows of 13 numbers"):
        read_robomimic(path)
    with h5py.File(path, "a") as file:
        file["data"].attrs["understudy_states"] = "{"
    with pytest.raises(InputError, match="'understudy_states' is damaged"):
        read_robomimic(path)


def test_a_mode_that_robomimic_does_not_have(edited: Callable[[Damage], Path]):
    with pytest.raises(InputError, match="done_mode is 3 but must be 0, 1 or 2"):
        read_robomimic(edited(lambda _: None), done_mode=3)


def test_claims(edited: Callable[[Damage], Path], hopper: Demonstrations, tmp_path: Path):
    assert claims(edited(lambda _: None))
    write_d4rl(tmp_path / "d4rl.hdf5", hopper)
    (tmp_path / "text").write_text("no")
    for other in ("d4rl.hdf5", "text", "missing", "."):
        assert not claims(tmp_path / other)
    with pytest.raises(InputError, match="is not an HDF5 file"):
        read_robomimic(tmp_path / "text")
    with pytest.raises(InputError, match="there is no such file"):
        read_robomimic(tmp_path / "missing")
