"""The in-memory form: what it refuses, what sub-sampling keeps, and names of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.datasets import Demonstrations, bundled, bundles, load, write_d4rl
from understudy.robots import InputError

ROW_COLUMNS = (
    "observations", "actions", "next_observations", "rewards", "terminated", "truncated", "times", "states",
    "qpos", "qvel",
)  # fmt: skip


def make(lengths: tuple[int, ...] = (5, 1, 7), seed: int = 0, **changes: Any) -> Demonstrations:
    """Random episodes of Hopper's sizes; the first ends by falling, the others by time."""
    generator = np.random.default_rng(seed)
    count, starts = sum(lengths), np.cumsum(lengths) - np.array(lengths)
    ends = starts + np.array(lengths) - 1
    columns: dict[str, Any] = {
        "observations": generator.standard_normal((count, 11)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (count, 3)).astype(np.float32),
        "next_observations": generator.standard_normal((count, 11)).astype(np.float32),
        "rewards": generator.standard_normal(count).astype(np.float32),
        "terminated": np.isin(np.arange(count), ends[:1]),
        "truncated": np.isin(np.arange(count), ends[1:]),
        "times": np.concatenate([np.arange(length) for length in lengths]),
        "states": generator.standard_normal((count, 58)),
        "qpos": generator.standard_normal((count, 6)),
        "qvel": generator.standard_normal((count, 6)),
        "starts": starts,
        "episode_seeds": 1000 + np.arange(len(lengths)),
    }
    return Demonstrations(**{**columns, "task_name": "hopper", "environment_id": "Hopper-v5", **changes})


def test_types_and_what_is_computed():
    whole = make()
    assert len(whole) == 13
    for name in ROW_COLUMNS[:4]:
        assert getattr(whole, name).dtype == np.float32
    assert whole.states is not None and whole.states.dtype == np.float64
    assert whole.starts.dtype == whole.times.dtype == whole.episode_lengths.dtype == np.int64
    np.testing.assert_array_equal(whole.episode_lengths, [5, 1, 7])
    np.testing.assert_allclose(whole.episode_returns[2], whole.rewards[6:].astype(np.float64).sum())


def test_wider_numbers_become_the_documented_type():
    whole = make()
    wide = replace(whole, observations=whole.observations.astype(np.float64), times=whole.times.astype(np.int32))
    assert wide.observations.dtype == np.float32 and wide.times.dtype == np.int64


def test_subsampling_never_changes_a_row():
    generator = np.random.default_rng(1)
    for trial in range(60):
        whole = make(tuple(generator.integers(1, 30, size=generator.integers(1, 8))), seed=trial)
        episodes = int(generator.integers(1, len(whole.starts) + 1))
        every = int(generator.integers(1, 9))
        chosen = whole.select(episodes, every)
        if trial % 2:
            chosen = chosen.select(rows=int(generator.integers(1, len(chosen) + 1)))
        for row in range(len(chosen)):
            episode = int(np.searchsorted(chosen.starts, row, side="right")) - 1
            source = whole.starts[episode] + chosen.times[row]
            for name in ROW_COLUMNS:
                np.testing.assert_array_equal(getattr(chosen, name)[row], getattr(whole, name)[source])
            assert chosen.times[row] == every * (row - chosen.starts[episode])


def test_subsampling_keeps_what_is_known_of_the_episodes_as_recorded():
    whole = make((40, 3, 50))
    for few in (whole.episodes(2), whole.select(episodes=2, every=20), whole.select(every=20).rows(3)):
        assert len(few.starts) == 2
        np.testing.assert_array_equal(few.episode_lengths, [40, 3])
        np.testing.assert_array_equal(few.episode_returns, whole.episode_returns[:2])
        np.testing.assert_array_equal(few.episode_terminated, [True, False])
        assert few.episode_seeds is not None
        np.testing.assert_array_equal(few.episode_seeds, [1000, 1001])


def test_every_begins_with_the_first_row_of_each_episode():
    chosen = make((5, 1, 7)).every(3)
    np.testing.assert_array_equal(chosen.times, [0, 3, 0, 0, 3, 6])
    np.testing.assert_array_equal(chosen.starts, [0, 2, 3])
    np.testing.assert_array_equal(make((30,)).every(2).every(5).times, [0, 10, 20])


def test_an_end_stays_marked_only_where_its_row_is_kept():
    whole = make((5, 1, 7))
    np.testing.assert_array_equal(np.flatnonzero(whole.every(4).terminated), [1])
    assert not whole.every(3).terminated.any()


def test_select_without_choice_is_everything():
    whole = make()
    assert whole.select() is whole
    np.testing.assert_array_equal(whole.select(3, 1, 13).observations, whole.observations)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"episodes": 4}, ("4 episodes", "has 3")),
        ({"episodes": 0}, ("0 episodes", "1 to 3")),
        ({"rows": 14}, ("14 rows", "has 13")),
        ({"rows": 0}, ("0 rows",)),
        ({"every": 0}, ("every 0-th",)),
        ({"every": 7, "rows": 9}, ("9 rows", "has 3")),
    ],
)
def test_more_than_there_is(choice: dict[str, int], words: tuple[str, ...]):
    with pytest.raises(InputError) as error:
        make(source="some.hdf5").select(**choice)
    assert all(word in str(error.value) for word in ("some.hdf5", *words))


def spoiled(name: str, row: int, value: float) -> np.ndarray:
    array = np.array(getattr(make(), name))
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": spoiled("observations", 4, np.nan)}, ("'observations'", "row 4", "11 of 143")),
        ({"rewards": spoiled("rewards", 2, np.inf)}, ("'rewards'", "row 2")),
        ({"states": spoiled("states", 12, -np.inf)}, ("'states'", "row 12")),
        ({"observations": np.full((13, 11), 1e39)}, ("'observations'", "row 0")),
        ({"actions": spoiled("actions", 3, 1.01)}, ("'actions'", "[-1, 1]", "row 3")),
        ({"actions": np.zeros((13, 3), np.uint8)}, ("'actions'", "uint8", "float32")),
        ({"actions": np.zeros(13, np.float32)}, ("'actions'", "(13,)")),
        ({"qpos": np.zeros((12, 6))}, ("'qpos'", "12 rows", "13")),
        ({"next_observations": np.zeros((13, 9), np.float32)}, ("'next_observations'", "9", "11")),
        ({"terminated": np.zeros(13, np.float32)}, ("'terminated'", "bool")),
        ({"terminated": np.arange(13) == 2}, ("'terminated'", "row 2")),
        ({"truncated": np.arange(13) == 4}, ("'truncated'", "row 4", "'terminated'")),
        ({"times": np.zeros(13, np.int64)}, ("'times'", "row 1")),
        ({"times": make().times - 1}, ("'times'", "row 0")),
        ({"starts": np.array([1, 5, 6])}, ("'starts'",)),
        ({"starts": np.array([0, 5, 13])}, ("'starts'",)),
        ({"starts": np.array([], np.int64)}, ("'starts'",)),
        ({"episode_returns": np.zeros(2)}, ("'episode_returns'", "3 episodes")),
        ({"episode_seeds": np.array([1000, 1001, 1002], np.int64).astype(np.uint8)}, ("'episode_seeds'", "int64")),
    ],
)
def test_bad_columns_are_named(changes: dict[str, Any], words: tuple[str, ...]):
    with pytest.raises(InputError) as error:
        make(source="some.hdf5", **changes)
    assert all(word in str(error.value) for word in ("some.hdf5", *words)), error.value


def test_no_rows():
    empty = {name: getattr(make(), name)[:0] for name in ROW_COLUMNS}
    with pytest.raises(InputError, match="no rows"):
        make(**empty, starts=np.array([0]), episode_seeds=None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the bundled demonstrations, with hopper-expert in it."""
    plain = make((20, 30), states=None, expert_return=3000.0)
    write_d4rl(tmp_path / "hopper-expert.hdf5", plain)
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(bundles.importlib.resources, "files", lambda _: tmp_path)
    return tmp_path


def test_a_name_is_a_bundled_file(folder: Path):
    assert bundled() == {"hopper-expert": folder / "hopper-expert.hdf5"}
    few = load("hopper-expert", episodes=2, every=10, rows=4)
    np.testing.assert_array_equal(few.times, [0, 10, 0, 10])
    assert few.expert_return == 3000.0


def test_a_path_is_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert len(load(folder / "hopper-expert.hdf5")) == len(load(str(folder / "hopper-expert.hdf5"))) == 50
    (folder / "mine").write_bytes((folder / "hopper-expert.hdf5").read_bytes())
    monkeypatch.chdir(folder)
    assert len(load("mine")) == 50


def test_an_unknown_name_brings_the_nearest(folder: Path):
    with pytest.raises(InputError, match=r"hoper-exprt.*did you mean hopper-expert"):
        load("hoper-exprt")
    with pytest.raises(InputError, match=r"elsewhere.hdf5: there is no such file"):
        load("elsewhere.hdf5")


def test_what_is_bundled_loads():
    """The demonstrations that really come with the suite, as far as there are any."""
    for name in bundled():
        assert load(name).expert_return is not None
