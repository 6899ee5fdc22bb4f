"""Arrays and .npz archives: laid out by plain NumPy as other libraries do, read, written, and refused by a sentence."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import assert_same, record

from understudy.datasets import Demonstrations, write_d4rl
from understudy.datasets.npz import claims, from_arrays, open_arrays, open_npz, read_npz, write_npz
from understudy.datasets.reading import read_table
from understudy.robots import InputError, find_task

HOPPER, REACHER = find_task("hopper"), find_task("reacher")
ROWS = ("observations", "actions", "next_observations", "rewards", "terminated", "truncated")


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Five short episodes that end in falls, but for those cut at 15 rows as if by a time limit."""
    cut = record("hopper", 5, limit=15)
    truncated = np.zeros(len(cut), bool)
    truncated[ends(cut)] = ~cut.terminated[ends(cut)]
    return replace(cut, truncated=truncated)


@pytest.fixture(scope="module")
def reacher() -> Demonstrations:
    """Four episodes of 50 rows, all ended by the time limit."""
    return record("reacher", 4)


def ends(demonstrations: Demonstrations) -> np.ndarray:
    return np.append(demonstrations.starts[1:], len(demonstrations)) - 1


def by_episode(demonstrations: Demonstrations, name: str) -> list[np.ndarray]:
    return np.split(getattr(demonstrations, name), demonstrations.starts[1:])


def with_final(demonstrations: Demonstrations) -> list[np.ndarray]:
    """Observations (n + 1, O) of each episode."""
    pairs = zip(
        by_episode(demonstrations, "observations"), by_episode(demonstrations, "next_observations"), strict=True
    )
    return [np.concatenate([rows, following[-1:]]) for rows, following in pairs]


def stable_baselines(demonstrations: Demonstrations) -> dict[str, np.ndarray]:
    """What stable-baselines 2.10.2's generate_expert_traj saves."""
    starts = np.zeros(len(demonstrations), bool)
    starts[demonstrations.starts] = True
    return {
        "actions": demonstrations.actions,
        "obs": demonstrations.observations.astype(np.float64),
        "rewards": demonstrations.rewards.astype(np.float64),
        "episode_returns": demonstrations.episode_returns,
        "episode_starts": starts,
    }


def imitation(demonstrations: Demonstrations, terminal: list[bool]) -> dict[str, np.ndarray]:
    """What imitation 0.3.2's types.save saves: infos are an array of dictionaries, which needs unpickling."""
    return {
        "obs": np.concatenate(with_final(demonstrations)),
        "acts": demonstrations.actions,
        "infos": np.full(len(demonstrations), {}),
        "terminal": np.array(terminal),
        "indices": np.cumsum(demonstrations.episode_lengths[:-1]),
        "rews": demonstrations.rewards,
    }


def plain(demonstrations: Demonstrations) -> dict[str, np.ndarray]:
    return {
        "obs": demonstrations.observations,
        "acts": demonstrations.actions,
        "next_obs": demonstrations.next_observations,
        "rews": demonstrations.rewards,
        "terminals": demonstrations.terminated,
        "timeouts": demonstrations.truncated,
    }


def save(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def without(arrays: Mapping[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    return {**{name: array for name, array in arrays.items() if name not in names}, **changes}


def assert_rows(made: Demonstrations, wanted: Demonstrations, names: tuple[str, ...] = ROWS) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(made, name), getattr(wanted, name), name)
    np.testing.assert_array_equal(made.starts, wanted.starts)


# Written by us.


@pytest.mark.parametrize("task", ["hopper", "reacher", "humanoid", "ant"])
def test_written_and_read_back(task: str, tmp_path: Path, request: pytest.FixtureRequest):
    whole = request.getfixturevalue(task) if task in ("hopper", "reacher") else record(task, 1, limit=60)
    write_npz(tmp_path / "file.npz", whole, command="a command")
    again = read_npz(tmp_path / "file.npz")
    assert_same(whole, again)
    assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
    assert again.metadata["deterministic"] is False


def test_what_is_written_is_plain_numpy(hopper: Demonstrations, tmp_path: Path):
    write_npz(tmp_path / "file.npz", hopper)
    with np.load(tmp_path / "file.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["observations"], hopper.observations)
        np.testing.assert_array_equal(archive["metadata/episode_starts"], hopper.starts)
        assert json.loads(str(archive["attributes"]))["env_id"] == "Hopper-v5"
        assert not any(archive[name].dtype.hasobject for name in archive.files)


@pytest.mark.parametrize("selection", [{"every": 4}, {"rows": 23}, {"episodes": 2, "every": 3, "rows": 7}])
def test_a_selection_survives(hopper: Demonstrations, tmp_path: Path, selection: dict[str, int]):
    few = replace(hopper.select(**selection), random_return=None, expert_return=None)
    write_npz(tmp_path / "few.npz", few)
    assert_same(few, read_npz(tmp_path / "few.npz"))


def test_nothing_is_half_written_or_overwritten(hopper: Demonstrations, tmp_path: Path):
    path = tmp_path / "file.npz"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        write_npz(path, hopper)
    with pytest.raises(InputError, match="metadata cannot be stored"):
        write_npz(path, replace(hopper, metadata={"strange": object()}), overwrite=True)
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]
    numbers = {"float": np.float32(0.1), "several": np.arange(3), "none": None}
    write_npz(path, replace(hopper, metadata=numbers), overwrite=True)
    again = read_npz(path).metadata
    assert again["float"] == float(np.float32(0.1)) and again["several"] == [0, 1, 2] and "none" not in again


# Stable-baselines.


def test_stable_baselines_expert_data(
    hopper: Demonstrations, reacher: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = save(tmp_path / "expert.npz", stable_baselines(hopper))
    made = read_npz(path, replace(HOPPER, horizon=15))
    kept = np.setdiff1d(np.arange(len(hopper)), ends(hopper))
    for name in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_array_equal(getattr(made, name), getattr(hopper, name)[kept])
    np.testing.assert_array_equal(made.episode_terminated, hopper.episode_terminated)
    np.testing.assert_array_equal(made.episode_returns, hopper.episode_returns)
    np.testing.assert_array_equal(made.episode_lengths, hopper.episode_lengths)
    assert made.episode_terminated.any() and not made.episode_terminated.all()
    assert "has no next_observations" in caplog.text
    made = read_npz(save(tmp_path / "reacher.npz", stable_baselines(reacher)), REACHER)
    assert not made.episode_terminated.any() and len(made) == 4 * 49


def test_of_a_vectorised_environment(hopper: Demonstrations, tmp_path: Path):
    """Rewards are a column then; starts, in old NumPy, an array of objects, which is not unpickled."""
    arrays = stable_baselines(hopper)
    column = without(arrays, rewards=arrays["rewards"][:, None])
    np.testing.assert_array_equal(
        read_npz(save(tmp_path / "a.npz", column), HOPPER).rewards,
        read_npz(save(tmp_path / "b.npz", arrays), HOPPER).rewards,
    )
    objects = without(arrays, episode_starts=arrays["episode_starts"].astype(object))
    with pytest.raises(InputError, match="'episode_starts' holds Python objects, which would have to be unpickled"):
        read_npz(save(tmp_path / "c.npz", objects), HOPPER)


# imitation.


def test_trajectories_of_imitation(hopper: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    path = save(tmp_path / "rollouts.npz", imitation(hopper, [True] * 5))
    made = read_npz(path, replace(HOPPER, horizon=15))
    assert_rows(made, hopper)
    assert "leaves infos alone; infos are pickled objects, whose loading could run code" in caplog.text
    whole = imitation(hopper, [True] * 5)
    documented = without(whole, "infos", indices=np.cumsum(hopper.episode_lengths))  # one too many by its code
    assert_rows(read_npz(save(tmp_path / "two.npz", documented), replace(HOPPER, horizon=15)), made)


def test_a_fragment_does_not_terminate(hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "rollouts.npz", without(imitation(hopper, [True, False, True, True, False]), "rews"))
    made = read_npz(path, HOPPER)
    assert made.episode_terminated.tolist() == [True, False, True, True, False] and not made.rewards.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": lambda a: a[::-1]}, "'indices' must rise from above 0 to below the"),
        ({"indices": lambda a: a[1:]}, "'indices' must rise from above 0 to below the .* one less than the 5 of"),
        ({"indices": lambda a: a.astype(float)}, "'indices' holds float64 but must hold integers"),
        ({"obs": lambda a: a[:-1]}, r"'obs' has \d+ rows where there must be \d+, one more for each of the 5 episodes"),
        ({"terminal": lambda a: a * 2}, "'terminal' holds other values than 0 and 1"),
        ({"rews": lambda a: a[1:]}, r"'rews' has \d+ rows where there must be"),
        ({"acts": lambda a: a.astype(object)}, "'acts' holds Python objects, which would have to be unpickled"),
        ({"obs": lambda a: a[:, None]}, r"'obs' has shape \(\d+, 1, 11\), but only rows of numbers can be learned"),
        ({"acts": lambda _: np.array(1.0)}, r"'acts' has shape \(\), but only rows of numbers can be learned"),
    ],
)
def test_trajectories_that_do_not_fit(
    changes: dict[str, Callable[[np.ndarray], np.ndarray]], message: str, hopper: Demonstrations, tmp_path: Path
):
    arrays = imitation(hopper, [True] * 5)
    path = save(tmp_path / "file.npz", {**arrays, **{name: edit(arrays[name]) for name, edit in changes.items()}})
    with pytest.raises(InputError, match=message) as raised:
        read_npz(path, HOPPER)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


# Plain arrays.


def test_an_archive_by_d4rl_names_or_short_ones(
    hopper: Demonstrations, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    path = save(tmp_path / "file.npz", {**plain(hopper), "note": np.array("mine")})
    assert_rows(read_npz(path, HOPPER), hopper)
    assert "leaves note alone" in caplog.text and "unpickled" not in caplog.text
    write_d4rl(tmp_path / "file.hdf5", hopper)
    long = {"observations": hopper.observations, "actions": hopper.actions, "infos/times": hopper.times}
    marks = {"terminals": hopper.terminated, "timeouts": hopper.truncated}
    others = {"next_observations": hopper.next_observations, "rewards": hopper.rewards, **marks}
    assert_rows(read_npz(save(path, {**long, **others}), HOPPER), hopper)
    assert_rows(read_table(open_arrays({**long, **others}, HOPPER), HOPPER), hopper)


def test_the_task_must_be_given(hopper: Demonstrations, tmp_path: Path):
    for arrays in (plain(hopper), stable_baselines(hopper), imitation(hopper, [True] * 5)):
        with pytest.raises(InputError, match="does not say on which environment it was recorded; give the task"):
            read_npz(save(tmp_path / "file.npz", arrays))


@pytest.mark.parametrize(
    "marks",
    [
        lambda h: {"dones": h.terminated | h.truncated},
        lambda h: {"dones": h.terminated | h.truncated, "timeouts": h.truncated},
        lambda h: {"dones": h.terminated | h.truncated, "terminals": h.terminated},
        lambda h: {"dones": (h.terminated | h.truncated).astype(np.float32), "episode_starts": h.starts},
        lambda h: {"terminated": h.terminated, "truncated": h.truncated},
        lambda h: {"terminals": h.terminated, "episode_lengths": h.episode_lengths},
        lambda h: {"terminals": h.terminated, "episode_starts": np.isin(np.arange(len(h)), h.starts)},
        lambda h: {"terminals": h.terminated, "episode_starts": np.isin(np.arange(len(h)), h.starts).astype(np.int8)},
    ],
)
def test_what_may_say_where_episodes_are(
    marks: Callable[[Demonstrations], dict[str, np.ndarray]], hopper: Demonstrations
):
    arrays = {**without(plain(hopper), "terminals", "timeouts", "obs", "acts"), **marks(hopper)}
    made = from_arrays(hopper.observations, hopper.actions, task=replace(HOPPER, horizon=15), **arrays)
    assert_rows(made, hopper)


def test_ends_of_which_nothing_is_known_are_no_terminations(hopper: Demonstrations):
    for marks in ({"episode_starts": hopper.starts}, {"timeouts": np.isin(np.arange(len(hopper)), ends(hopper))}):
        made = from_arrays(
            hopper.observations, hopper.actions, next_obs=hopper.next_observations, task="hopper", **marks
        )
        assert not made.terminated.any() and made.truncated.sum() == 5
        np.testing.assert_array_equal(made.starts, hopper.starts)


def test_from_lists_of_episodes(hopper: Demonstrations):
    lists = {name: by_episode(hopper, name) for name in ROWS}
    flags = [bool(flag) for flag in hopper.episode_terminated]
    seeds = [int(seed) for seed in hopper.episode_seeds] if hopper.episode_seeds is not None else []
    made = from_arrays(
        with_final(hopper),
        lists["actions"],
        rewards=lists["rewards"],
        terminals=flags,
        episode_seeds=seeds,
        task="hopper",
    )
    assert_rows(made, hopper)
    np.testing.assert_array_equal(made.episode_seeds, hopper.episode_seeds)
    made = from_arrays(
        lists["observations"], lists["actions"], next_obs=lists["next_observations"], rews=lists["rewards"],
        terminated=lists["terminated"], truncated=lists["truncated"], task=HOPPER,
    )  # fmt: skip
    assert_rows(made, hopper)
    final = [rows[-1] for rows in lists["next_observations"]]
    made = from_arrays(lists["observations"], lists["actions"], final_observations=final, task=HOPPER)
    assert_rows(made, hopper, ("observations", "actions", "next_observations"))
    assert not made.terminated.any()


def test_from_a_block_of_equally_long_episodes(reacher: Demonstrations):
    made = from_arrays(
        np.stack(with_final(reacher)), np.stack(by_episode(reacher, "actions")).tolist(), task="reacher",
        rewards=reacher.rewards.reshape(4, 50),
    )  # fmt: skip
    assert_rows(made, reacher)


def test_states_alone(hopper: Demonstrations):
    made = from_arrays(by_episode(hopper, "observations"), task="hopper")
    assert not made.acted and len(made) == len(hopper) - 5


def test_physics_and_times(hopper: Demonstrations, tmp_path: Path):
    write_npz(tmp_path / "file.npz", few := hopper.every(2))
    with np.load(tmp_path / "file.npz") as archive:
        physics = {"qpos": archive["infos/qpos"], "qvel": archive["infos/qvel"]}
    arrays = {**plain(few), **physics, "times": few.times, "episode_starts": few.starts}
    made = read_table(open_arrays(arrays, HOPPER), HOPPER)
    np.testing.assert_array_equal(made.times, few.times)
    np.testing.assert_array_equal(made.qpos, physics["qpos"])
    np.testing.assert_array_equal(made.qvel, physics["qvel"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acts": lambda a: a[:-1]}, r"'acts' has \d+ rows where there must be"),
        ({"acts": lambda a: a.astype(np.int64)}, "'acts' holds int64 but must hold floats"),
        ({"acts": lambda a: a * 3}, r"'actions' leaves the bounds \[-1, 1\]"),
        (
            {"obs": lambda a: np.zeros((len(a), 8, 8, 3), np.uint8)},
            r"'obs' has uint8 of shape .* no images, texts or counts; give state obs",
        ),
        ({"obs": lambda a: np.array(["images/1.jpg"] * len(a))}, r"'obs' has <U12 of shape .* and no images, texts"),
        ({"obs": lambda a: a[:, None, :]}, r"'obs' has float32 of shape \(\d+, 1, 11\), but only rows"),
        ({"next_obs": lambda a: a[:, :, None]}, "'next_obs' has float32 of shape"),
        ({"obs": lambda _: np.array(5.0)}, r"'obs' has float64 of shape \(\), but only rows of floats"),
        ({"dones": lambda _: np.array(True)}, r"'dones' has shape \(\) but must have one dimension"),
        ({"obs": lambda a: a * np.nan}, "'obs' holds NaN or infinity"),
        ({"obs": lambda a: a[:0], "next_obs": lambda a: a[:0]}, "'observations' has no rows"),
        ({"terminals": lambda a: a * 2}, "'terminals' holds other values than 0 and 1"),
        ({"observations": None}, "has both 'obs' and 'observations', which are the same; give one"),
        ({"episode_starts": lambda _: np.array([0, 9, 4])}, "'episode_starts' must rise from 0 and stay below the"),
        ({"episode_starts": lambda _: np.zeros(0, int)}, "'episode_starts' must rise from 0"),
        ({"episode_starts": lambda a: np.zeros(len(a), bool)}, "'episode_starts' must be true in row 0"),
        ({"attributes": lambda _: np.array("[1]")}, "'attributes' is no JSON object"),
        ({"attributes": lambda _: np.array("{")}, "'attributes' is no JSON object"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], message: str, hopper: Demonstrations, tmp_path: Path):
    arrays = plain(hopper)
    edited = {name: edit(arrays.get(name, arrays["obs"])) if edit else arrays["obs"] for name, edit in changes.items()}
    path = save(tmp_path / "file.npz", {**arrays, **edited})
    with pytest.raises(InputError, match=message) as raised:
        read_npz(path, HOPPER)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_arrays_without_marks_or_under_unknown_names(hopper: Demonstrations):
    rows, acts = hopper.observations, hopper.actions
    for marks, message in (
        ({}, "mine: nothing says where episodes begin; give 'episode_starts', 'episode_lengths'"),
        (
            {"episode_lengths": [3, 4]},
            r"mine: 'episode_lengths' must be positive and sum to the \d+ rows, but sum to 7",
        ),
        ({"done": hopper.terminated}, r"mine: unknown array 'done': did you mean dones\?"),
    ):
        with pytest.raises(InputError, match=message):
            from_arrays(rows, acts, task="hopper", source="mine", **marks)
    with pytest.raises(InputError, match="'acts' is no array"):
        from_arrays(rows, acts=[[1.0, 2.0], [3.0]], task="hopper")
    with pytest.raises(InputError, match="unknown task 'hoper'"):
        from_arrays(rows, acts, task="hoper")
    with pytest.raises(InputError, match=r"'observations' has float64 of shape \(0,\), but only rows of floats"):
        from_arrays([], task="hopper")


def test_lists_that_disagree(hopper: Demonstrations):
    observations, actions = by_episode(hopper, "observations"), by_episode(hopper, "actions")
    with pytest.raises(InputError, match="arrays: 'actions' has 4 episodes where 'observations' has 5"):
        from_arrays(observations, actions[:-1], task="hopper")
    with pytest.raises(InputError, match=r"arrays: episode 2 has \d+ rows of 'observations' for \d+ of 'actions'"):
        from_arrays([*observations[:2], observations[2][:-1], *observations[3:]], actions, task="hopper")
    with pytest.raises(InputError, match="episode 0 has 0 rows of 'observations' for 0 of 'actions'"):
        from_arrays([rows[:0] for rows in observations], [rows[:0] for rows in actions], task="hopper")


# Archives.


def rewritten(path: Path, arrays: Mapping[str, np.ndarray], name: str, edit: Callable[[bytes], bytes]) -> Path:
    """Save an archive of which one member's bytes are edited, with the checksum of the edited ones."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{key}.npy", edit(content.getvalue()) if key == name else content.getvalue())
    return path


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda b: b[:-8],
            r"'obs' promises \d+ bytes for its shape \(\d+, 11\) but holds \d+, so the archive is damaged",
        ),
        (lambda b: b + b"more", r"'obs' promises \d+ bytes"),
        (lambda b: b.replace(b", 11), }", b", 11000000000000000), }")[:-15], r"'obs' cannot be read|'obs' promises"),
        (lambda b: b[:6] + b"\x03" + b[7:], r"'obs' cannot be read.*header of version \(3, 0\)"),
        (lambda b: b[:20], "'obs' cannot be read"),
        (lambda b: b.replace(b"{", b"("), "'obs' cannot be read"),
        (lambda b: b.replace(b"<f4", b"<q9"), "'obs' cannot be read"),
        (lambda b: b"no array at all", "'obs' cannot be read"),
    ],
)
def test_members_that_promise_what_they_do_not_hold(
    edit: Callable[[bytes], bytes], message: str, hopper: Demonstrations, tmp_path: Path
):
    path = rewritten(tmp_path / "file.npz", plain(hopper), "obs", edit)
    with pytest.raises(InputError, match=message) as raised:
        open_npz(path, HOPPER)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_shape_of_terabytes_is_refused_before_memory_is_taken(tmp_path: Path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000, 11), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(88)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("obs.npy", content)
    with pytest.raises(InputError, match=r"'obs' promises 8800000000000 bytes .* but holds 88"):
        open_npz(tmp_path / "bomb.npz", HOPPER)


def test_archives_that_are_none(hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "file.npz", plain(hopper))
    whole = path.read_bytes()
    for content, message in (
        (b"", "is no .npz archive"),
        (b"\x80\x04K\x01.", "is no .npz archive, or not all of one; copy it again"),
        (whole[:-30], "is no .npz archive, or not all of one"),
        (whole[:200] + b"\x00\x01" + whole[202:], "cannot be read, so the archive is incomplete or damaged"),
        (whole[200:], "cannot be read, so the archive is incomplete or damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as raised:
            read_npz(path, HOPPER)
        assert "\n" not in str(raised.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(InputError, match="holds no arrays, so there is nothing to learn from"):
        read_npz(path, HOPPER)
    with pytest.raises(InputError, match="'observations' is missing; the file has actions"):
        read_npz(save(path, {"acts": hopper.actions}), HOPPER)
    with pytest.raises(InputError, match="there is no such file"):
        read_npz(tmp_path / "missing.npz", HOPPER)
    with pytest.raises(InputError, match="cannot be opened"):
        read_npz(tmp_path, HOPPER)


def test_columns_first_and_big_endian(hopper: Demonstrations, tmp_path: Path):
    arrays = without(plain(hopper), obs=np.asfortranarray(hopper.observations), rews=hopper.rewards.astype(">f8"))
    assert_rows(read_npz(save(tmp_path / "file.npz", arrays), HOPPER), hopper)


def test_claims(hopper: Demonstrations, tmp_path: Path):
    save(tmp_path / "a.npz", plain(hopper)).rename(tmp_path / "without_suffix")
    (tmp_path / "damaged.npz").write_bytes(b"no")
    write_d4rl(tmp_path / "file.hdf5", hopper)
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", "{}")
    assert claims(tmp_path / "without_suffix") and claims(tmp_path / "damaged.npz")
    for other in ("file.hdf5", "model.zip", "missing", "missing.npz", "."):
        assert not claims(tmp_path / other)
