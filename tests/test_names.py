"""Data by any name and of any format: opened, chosen from, joined, and written in another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import assert_same, record

from understudy.datasets import Demonstrations, Parts, load, open_data, sources, stream, write_d4rl
from understudy.datasets.hdf5 import Hdf5File
from understudy.datasets.lerobot_writing import write_lerobot
from understudy.datasets.minari_writing import write_minari
from understudy.datasets.npz import write_npz
from understudy.datasets.robomimic import write_robomimic
from understudy.robots import InputError, find_task
from understudy.scripts.convert import main as convert
from understudy.scripts.inspect_data import main as inspect
from understudy.scripts.record import main as record_command
from understudy.scripts.terminal import fetching
from understudy.scripts.train import main as train

SMALL = ["learner=bc", "steps=20", "loop.hidden=[8]", "evaluation.episodes=1", "runs=1", "threads=1", "quiet=true"]


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    return record("hopper", 5)


@pytest.fixture
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


Written = Callable[[Path, Demonstrations], str]
WRITTEN: dict[str, Written] = {
    "d4rl": lambda folder, data: _to(write_d4rl, folder / "x.hdf5", data),
    "npz": lambda folder, data: _to(write_npz, folder / "x.npz", data),
    "robomimic": lambda folder, data: _to(write_robomimic, folder / "low_dim.hdf5", data),
    "lerobot": lambda folder, data: f"lerobot:{_to(write_lerobot, folder / 'set', data)}",
    "minari": lambda folder, data: f"minari/{_to(write_minari, 'mujoco/hopper/mine-v0', data)}",
}


def _to(write: Callable[..., None], where: Any, data: Demonstrations) -> str:
    write(where, data)
    return str(where)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_name_opens_data_of_any_format(
    kind: str, hopper: Demonstrations, tmp_path: Path, minari_folder: Path
) -> None:
    name = WRITTEN[kind](tmp_path, hopper)
    with open_data(name) as table:
        assert table.format == kind
    assert_same(load(name), hopper, without=("expert_return", "random_return", "environment_keywords"))
    assert load(name, episodes=2).episode_lengths.tolist() == hopper.episode_lengths[:2].tolist()
    if kind in ("lerobot", "minari"):  # the folder without the word before it
        folder = name.removeprefix("lerobot:") if kind == "lerobot" else minari_folder / name.removeprefix("minari/")
        np.testing.assert_array_equal(load(folder).actions, hopper.actions)


@pytest.mark.parametrize("kind", WRITTEN)
def test_commands_take_any_format(
    kind: str, hopper: Demonstrations, tmp_path: Path, minari_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = WRITTEN[kind](tmp_path, hopper)
    assert train([*SMALL, f"data={name}", f"directory={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert inspect([name, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["format"], report["task"], report["episodes"]) == (kind, "hopper", 5)
    assert (report["errors"], report["warnings"]) == (0, 0)


@pytest.mark.parametrize("kind", ["npz", "robomimic", "lerobot", "minari"])
def test_converted_there_and_back(
    kind: str, hopper: Demonstrations, tmp_path: Path, minari_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_d4rl(tmp_path / "x.hdf5", hopper)
    out = "mine-v0" if kind == "minari" else str(tmp_path / f"there.{kind}")
    assert convert([str(tmp_path / "x.hdf5"), f"out={out}", f"format={kind}", "quiet=true"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["episodes"], said["task"]) == (len(hopper), 5, "hopper")
    name = f"minari/{out}" if kind == "minari" else out
    assert convert([name, f"out={tmp_path / 'back.hdf5'}"]) == 0
    assert_same(load(tmp_path / "back.hdf5"), hopper, without=("expert_return", "random_return"))
    assert convert([name, f"out={tmp_path / 'back.hdf5'}"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert convert([name, f"out={tmp_path / 'back.hdf5'}", "--overwrite", "episodes=2"]) == 0
    assert len(load(tmp_path / "back.hdf5").starts) == 2
    assert convert([name, f"out={tmp_path / 'x'}"]) == 2
    assert "its suffix names no format" in capsys.readouterr().err


def test_several_sources(tmp_path: Path, hopper: Demonstrations) -> None:
    assert sources("[a, offline:b ,expert:c.hdf5]") == [("expert", "a"), ("offline", "b"), ("expert", "c.hdf5")]
    assert sources("lerobot:x") == [("expert", "lerobot:x")]
    write_d4rl(tmp_path / "a.hdf5", hopper.episodes(2))
    write_npz(tmp_path / "b.npz", hopper)
    both = [tmp_path / "a.hdf5", tmp_path / "b.npz"]
    joined = load(both)
    assert joined.episode_lengths.tolist() == [*hopper.episode_lengths[:2], *hopper.episode_lengths]
    assert len(load(both, episodes=1).starts) == 2  # of each
    twice = load(both, weights=[1, 2], episodes=1)
    assert twice.starts.tolist() == (np.arange(3) * hopper.episode_lengths[0]).tolist()
    with pytest.raises(InputError, match="1 weight for 2 sources: give one for each"):
        load(both, weights=[2])
    with pytest.raises(InputError, match="whole numbers above 0"):
        load(both, weights=[0, 1])
    with pytest.raises(InputError) as refused:
        load(tmp_path / "a.hdf5", task="reacher", examine=True)
    assert str(refused.value).count("a.hdf5") == 1 and "was recorded on Hopper-v5" in str(refused.value)
    write_d4rl(tmp_path / "c.hdf5", record("reacher", 1))
    with pytest.raises(InputError, match="are of different environments"):
        load([tmp_path / "a.hdf5", tmp_path / "c.hdf5"])


def test_sources_by_options(tmp_path: Path, hopper: Demonstrations, capsys: pytest.CaptureFixture[str]) -> None:
    write_d4rl(tmp_path / "a.hdf5", hopper.episodes(2))
    write_d4rl(tmp_path / "b.hdf5", hopper)
    run = tmp_path / "run"
    two = f"data=[{tmp_path / 'a.hdf5'},{tmp_path / 'b.hdf5'}]"
    assert train([*SMALL, two, "data.weights=[2,1]", f"directory={run}"]) == 0
    assert train([f"resume={run}", "steps=40", "quiet=true"]) == 0
    assert train([*SMALL, two, "data.weights=[2]", f"directory={tmp_path / 'no'}"]) == 2
    assert train([*SMALL, two, "data.weights=[2,x]", f"directory={tmp_path / 'no'}"]) == 2
    tagged = [f"data=[{tmp_path / 'a.hdf5'},offline:{tmp_path / 'b.hdf5'}]", "offline.episodes=3"]
    small = ["learner=guitar", "steps=40", "agent.hidden=[8]", "reward.hidden=[8]", "runs=1", "quiet=true"]
    more = ["resets.roll_in=0.1", "resets.updates=5", "loop.random_steps=10", "loop.select_by=none"]
    more += ["evaluation.episodes=1"]
    assert train([*small, *more, *tagged, f"directory={tmp_path / 'guitar'}"]) == 0
    assert train([*SMALL, f"data={tmp_path / 'a.hdf5'}", "offline.episodes=3", f"directory={tmp_path / 'no'}"]) == 2
    assert "there are no offline data" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_parts_of_a_file(tmp_path: Path, hopper: Demonstrations, capsys: pytest.CaptureFixture[str]) -> None:
    write_robomimic(tmp_path / "low_dim.hdf5", hopper, parts=True)
    name = tmp_path / "low_dim.hdf5"
    other = load(name, parts=Parts(keys=("velocities", "positions")))
    np.testing.assert_array_equal(other.observations, np.roll(hopper.observations, 6, axis=1))
    assert len(load(name, parts=Parts(mask="train")).starts) == 5
    options = ["data.keys=[positions,velocities]", "data.mask=train", "data.done_mode=0"]
    assert train([*SMALL, f"data={name}", *options, f"directory={tmp_path / 'run'}"]) == 0
    write_d4rl(tmp_path / "x.hdf5", hopper)
    for option, word in (("keys=[positions]", "keys"), ("mask=train", "mask"), ("done_mode=0", "done_mode")):
        assert train([*SMALL, f"data={tmp_path / 'x.hdf5'}", f"data.{option}", f"directory={tmp_path / 'no'}"]) == 2
        assert f"has no {word} to choose: leave it out" in capsys.readouterr().err


def test_inspect_and_convert_take_lists_and_parts(
    tmp_path: Path, hopper: Demonstrations, capsys: pytest.CaptureFixture[str]
) -> None:
    write_robomimic(tmp_path / "low_dim.hdf5", hopper, parts=True)
    write_d4rl(tmp_path / "a.hdf5", hopper.episodes(2))
    write_d4rl(tmp_path / "b.hdf5", hopper)
    several = f"[{tmp_path / 'a.hdf5'},offline:{tmp_path / 'b.hdf5'}]"
    assert inspect([several, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [source["episodes"] for source in report["sources"]] == [2, 5]
    assert (report["errors"], report["warnings"]) == (0, 0)
    parts = ["data.keys=[velocities,positions]", "mask=train", "done_mode=0"]
    assert inspect([str(tmp_path / "low_dim.hdf5"), *parts, "--json", "--strict"]) == 1  # the wrong way round
    report = json.loads(capsys.readouterr().out)
    assert "order" in [finding["check"] for finding in report["findings"]]
    assert inspect([str(tmp_path / "a.hdf5"), "mask=train"]) == 2
    assert "has no mask to choose" in capsys.readouterr().err
    assert inspect([str(tmp_path / "low_dim.hdf5"), "mask=nobody"]) == 2
    capsys.readouterr()
    out = tmp_path / "out.hdf5"
    assert convert([several, f"out={out}", "weights=[2,1]", "every=2", "episodes=2"]) == 0
    lengths = hopper.episode_lengths[:2]
    assert load(out).episode_lengths.tolist() == [*lengths, *lengths, *lengths]
    assert len(load(out)) == 3 * int((-(-lengths // 2)).sum())
    low = str(tmp_path / "low_dim.hdf5")
    assert convert([low, f"out={out}", "keys=[positions,velocities]", "mask=train", "--overwrite"]) == 0
    np.testing.assert_array_equal(load(out).observations, hopper.observations)
    write_d4rl(tmp_path / "twice.hdf5", hopper.episodes(2).joined(hopper.episodes(2)))
    assert convert([str(tmp_path / "twice.hdf5"), f"out={tmp_path / 'no.hdf5'}", "--strict"]) == 2
    assert "copies of earlier ones" in capsys.readouterr().err


def test_other_versions_of_one_task_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4RL's Hopper is Hopper-v2, ours Hopper-v5."""
    monkeypatch.setenv("UNDERSTUDY_DATA", str(tmp_path))
    (tmp_path / "d4rl").mkdir()
    theirs, ours = record("hopper", 4, seed=40), record("hopper", 2)
    keys = ("observations", "actions", "rewards", "next_observations")
    with h5py.File(tmp_path / "d4rl" / "hopper_medium-v2.hdf5", "w") as file:
        file.update({key: getattr(theirs, key) for key in keys})
        file["terminals"], file["timeouts"] = theirs.terminated, theirs.truncated
    write_d4rl(tmp_path / "ours.hdf5", ours)
    for task in (None, "hopper"):
        both = load(["d4rl/hopper-medium-v2", tmp_path / "ours.hdf5"], task)
        assert both.episode_lengths.tolist() == [*theirs.episode_lengths, *ours.episode_lengths]
    other = Demonstrations(**{**vars(ours), "environment_keywords": {"healthy_z_range": [0.5, 9.0]}})
    with pytest.raises(InputError, match="are of different environments"):
        ours.joined(other)


def test_robots_without_some_joints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gone.yaml").write_text("removed: [right_back_leg]\nbodies: {torso: {mass: 1.5}}")
    data, more = tmp_path / "gone.hdf5", ["task=ant", f"disturbances={tmp_path / 'gone.yaml'}", "quiet=true"]
    assert record_command(["random", *more, "episodes=2", f"out={data}"]) == 0
    capsys.readouterr()
    assert inspect([str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == []  # its states and steps were tried, on that robot
    assert convert([str(data), f"out={tmp_path / 'gone.npz'}"]) == 0
    assert_same(load(tmp_path / "gone.npz"), load(data))
    assert inspect([str(data), "task=ant"]) == 1  # for the whole robot
    assert "rows of 23 numbers" in " ".join(capsys.readouterr().out.split())
    with h5py.File(data, "a") as file:
        file.attrs["disturbances"] = '{"removed": ["wing"]}'
    assert inspect([str(data)]) == 0
    assert "no body 'wing'" in " ".join(capsys.readouterr().out.split())
    assert convert([str(data), f"out={tmp_path / 'no.npz'}"]) == 2


@pytest.mark.parametrize("kind", ["d4rl", "npz", "robomimic", "lerobot"])
def test_missing_rewards_stay_unknown(kind: str, hopper: Demonstrations, tmp_path: Path) -> None:
    blind = Demonstrations(**{**vars(hopper), "rewarded": False, "episode_returns": np.full(5, np.nan)})
    name = WRITTEN[kind](tmp_path, blind)
    again = load(name)
    assert not again.rewarded
    assert np.isnan(again.episode_returns).all()
    assert "return_mean" not in again.metadata
    with pytest.raises(InputError, match="has no rewards"):
        load(name, min_return=0)
    with pytest.raises(InputError, match="has no rewards, which a Minari data set has to"):
        write_minari("mujoco/hopper/mine-v0", again)


def test_what_cannot_be_opened(tmp_path: Path, minari_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_DATA", str(tmp_path))
    (tmp_path / "note.txt").write_text("not data")
    with pytest.raises(InputError, match="not an HDF5 file"):
        load(tmp_path / "note.txt")
    with pytest.raises(InputError, match=r"unknown D4RL data set.*did you mean hopper-expert-v2"):
        load("d4rl/hopper-exprt-v2")
    with pytest.raises(InputError, match="is a directory"):
        load(tmp_path)
    (tmp_path / "d4rl").mkdir()
    expert = record("hopper", 3)
    write_d4rl(tmp_path / "d4rl" / "hopper_expert-v2.hdf5", expert)
    np.testing.assert_array_equal(load("d4rl/hopper-expert-v2").actions, expert.actions)  # one that is there


def test_a_file_in_parts_is_the_whole(tmp_path: Path, hopper: Demonstrations) -> None:
    for compact in (False, True):
        path = tmp_path / f"{compact}.hdf5"
        write_d4rl(path, hopper, compact=compact)
        rows = int(hopper.episode_lengths[:2].sum())
        parts = list(stream(path, rows=rows))
        assert len(parts[0].starts) == 2
        assert len(parts) > 1
        for name in ("observations", "actions", "next_observations", "states", "terminated", "times", "episode_seeds"):
            whole = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(whole, getattr(hopper, name))
    assert [len(part) for part in stream(path, find_task("hopper"), rows=1)] == hopper.episode_lengths.tolist()


@pytest.mark.parametrize("kind", WRITTEN)
def test_any_format_in_parts_or_a_sentence(
    kind: str, hopper: Demonstrations, tmp_path: Path, minari_folder: Path
) -> None:
    name, rows = WRITTEN[kind](tmp_path, hopper), int(hopper.episode_lengths[:2].sum())
    if kind in ("npz", "lerobot"):
        with pytest.raises(InputError, match="are read whole, not by episode"):
            list(stream(name, rows=rows))
        return
    parts = list(stream(name, rows=rows))
    assert len(parts) > 1 and len(parts[0].starts) == 2
    without = ("expert_return", "random_return", "environment_keywords")
    assert_same(parts[0].joined(*parts[1:]), hopper, without=without)


def test_a_selection_from_a_large_file_reads_no_more_than_it_takes(
    tmp_path: Path, hopper: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.hdf5"
    write_d4rl(path, hopper)
    median = float(np.median(hopper.episode_returns))
    selections: list[dict[str, Any]] = [
        {"episodes": 3}, {"every": 4}, {"episodes": 2, "every": 3, "rows": 4}, {"rows": 20}, {"min_return": median},
        {"min_return": median, "episodes": 1},
    ]  # fmt: skip
    whole = [load(path, **selection) for selection in selections]
    monkeypatch.setattr("understudy.datasets.streaming._memory", lambda: 1)  # so that any file is large
    monkeypatch.setattr("understudy.datasets.streaming.ROWS", 1)
    read: list[int] = []
    rows, raw = Hdf5File.rows, Hdf5File.raw
    monkeypatch.setattr(Hdf5File, "raw", lambda file, key: raw(file, key) if "metadata/" in key else pytest.fail(key))
    monkeypatch.setattr(Hdf5File, "rows", lambda *a: (read.append(a[3]), rows(*a))[1])
    for selection, expected in zip(selections, whole, strict=True):
        read.clear()
        assert_same(load(path, **selection, examine=True), expected)
        if selection == {"episodes": 3}:
            assert max(read) == hopper.episode_lengths[:3].sum()
    with pytest.raises(InputError, match="asked for the first 9 episodes, but it has 5"):
        load(path, episodes=9)
    with pytest.raises(InputError, match="no episode returns 1e"):
        load(path, min_return=1e9)


def test_a_download_shows_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show, silent = fetching(quiet=False), fetching(quiet=True)
    for done in range(0, 20_000_001, 1_000_000):
        show(done, 20_000_000)
        silent(done, 20_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert (lines[0], lines[-1]) == ("fetched 0.0 of 20.0 MB", "fetched 20.0 of 20.0 MB")
    assert len(lines) == 11
    show(30_000_000, None)
    assert capsys.readouterr().err == "fetched 30.0 MB\n"
