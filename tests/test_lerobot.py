"""LeRobot data sets: both layouts, made here by pyarrow alone, are understood; what is written has LeRobot's own.

The layouts are those that lerobot 0.3.3 (2.1) and 0.4.4 (3.0) wrote and that 0.4.4's conversion made of the first.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import assert_same, record

from understudy.datasets import lerobot_writing
from understudy.datasets.lerobot import claims, open_lerobot, read_lerobot, write_lerobot
from understudy.robots import InputError, find_task

Episodes = list[dict[str, np.ndarray]]
LENGTHS, RATE, STATE = (5, 3, 4), 125, "observation.state"
NAMES = [f"q{joint}" for joint in range(11)]
FEATURES: dict[str, Any] = {
    "observation.images.top": {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]},
    "observation.environment_state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
    "observation.state": {"dtype": "float32", "shape": [11], "names": NAMES},
    "observation.button": {"dtype": "int64", "shape": [1], "names": None},
    "action": {"dtype": "float32", "shape": [3], "names": {"motors": ["hip", "knee", "foot"]}},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
    "next.success": {"dtype": "bool", "shape": [1], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
}
FEATURES |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), FEATURES["observation.button"])


def episodes() -> Episodes:
    made: Episodes = []
    generator = np.random.default_rng(3)
    for index, length in enumerate(LENGTHS):
        frame = np.arange(length)
        made.append(
            {
                "observation.environment_state": generator.normal(size=(length, 2)).astype(np.float32),
                "observation.state": generator.normal(size=(length, 11)).astype(np.float32),
                "observation.button": frame % 2,
                "action": generator.uniform(-1, 1, (length, 3)).astype(np.float32),
                "next.reward": generator.normal(size=length).astype(np.float32),
                "next.done": frame == length - 1,
                "next.success": np.full(length, index == 1),
                "timestamp": (frame / RATE).astype(np.float32),
                "frame_index": frame,
                "episode_index": np.full(length, index),
                "index": sum(LENGTHS[:index]) + frame,
                "task_index": np.zeros(length, np.int64),
            }
        )
    return made


def table(rows: Sequence[Mapping[str, np.ndarray]], *, fixed: bool = True) -> pa.Table:
    """Rows of numbers are lists of fixed length, as Hugging Face's datasets writes them, or any, as pandas does."""
    columns: dict[str, Any] = {}
    for name in rows[0]:
        column = np.concatenate([episode[name] for episode in rows])
        kind = pa.from_numpy_dtype(column.dtype)
        lists = pa.list_(kind, column.shape[1] if fixed else -1) if column.ndim == 2 else kind
        columns[name] = pa.array(column.tolist(), lists)
    return pa.table(columns)


def write(path: Path, what: pa.Table | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what) if isinstance(what, str) else pq.write_table(what, path)


def lay_out(
    folder: Path, made: Episodes, version: str = "v3.0", files: Sequence[Sequence[int]] = ((0, 1), (2,)), **info: Any
) -> Path:
    """A data set; in version 3.0 each of ``files`` has the frames of these episodes."""
    old = version < "v3"
    old_path = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    information: dict[str, Any] = {
        "codebase_version": version, "robot_type": "hopper", "total_episodes": len(made), "fps": RATE,
        "total_frames": sum(LENGTHS), "chunks_size": 2 if old else 1000, "features": FEATURES,
        "data_path": old_path if old else "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    }  # fmt: skip
    write(folder / "meta" / "info.json", json.dumps({**information, **info}))
    told: list[dict[str, Any]] = [{"episode_index": i, "tasks": ["hop"], "length": n} for i, n in enumerate(LENGTHS)]
    if old:
        write(folder / "meta" / "episodes.jsonl", "\n".join(map(json.dumps, told)))
        write(folder / "meta" / "tasks.jsonl", '{"task_index": 0, "task": "hop"}\n')
        for index, episode in enumerate(made):
            write(folder / f"data/chunk-{index // 2:03d}/episode_{index:06d}.parquet", table([episode]))
        return folder
    for number, chosen in enumerate(files):
        write(folder / f"data/chunk-000/file-{number:03d}.parquet", table([made[i] for i in chosen], fixed=number == 0))
        for index in chosen:
            told[index] |= {"data/chunk_index": 0, "data/file_index": number, "stats/action/min": [0.0]}
            told[index] |= {"dataset_from_index": sum(LENGTHS[:index])}
    write(folder / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(told))
    write(folder / "meta/tasks.parquet", pa.table({"task_index": [0], "__index_level_0__": ["hop"]}))
    return folder


def edit_told(folder: Path, row: int, **changes: Any) -> None:
    """Change what version 3.0 knows of an episode; ``__`` stands for a slash, and ``gone`` removes the row."""
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    told = pq.read_table(path).to_pylist()
    told[row] |= {name.replace("__", "/"): value for name, value in changes.items()}
    pq.write_table(pa.Table.from_pylist([line for line in told if not line.get("gone")]), path)


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_both_layouts(version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = episodes()
    folder = lay_out(tmp_path / "set", made, version)
    with caplog.at_level(logging.INFO):
        opened = open_lerobot(folder)
    assert "left alone are observation.images.top, observation.button" in caplog.text
    assert "'next.done' is taken for the task's own end" in caplog.text and "WARNING" not in caplog.text
    whole = {name: np.concatenate([episode[name] for episode in made]) for name in made[0]}
    seen = np.concatenate([whole["observation.state"], whole["observation.environment_state"]], axis=1)
    np.testing.assert_array_equal(opened.raw("observations"), seen)
    assert opened.raw("metadata/episode_starts").tolist() == [0, 5, 8]
    said = opened.attributes()
    assert said["observation_parts"] == '{"observation.state": 11, "observation.environment_state": 2}'
    assert json.loads(said["observation_names"])["observation.state"] == NAMES
    assert json.loads(said["action_names"]) == {"motors": ["hip", "knee", "foot"]}
    assert (said["control_rate"], said["tasks"], said["episodes_succeeded"]) == (125, ["hop"], 1)
    read = read_lerobot(folder, find_task("hopper"), observations=["observation.state"])
    kept = np.setdiff1d(np.arange(12), [4, 7, 11])  # nothing is known to follow the last frames
    np.testing.assert_array_equal(read.observations, whole["observation.state"][kept])
    np.testing.assert_array_equal(read.next_observations, whole["observation.state"][kept + 1])
    np.testing.assert_array_equal(read.actions, whole["action"][kept])
    np.testing.assert_array_equal(read.rewards, whole["next.reward"][kept])
    assert read.starts.tolist() == [0, 4, 6] and read.episode_terminated.all()
    assert claims(folder) and claims(folder / "meta" / "info.json")
    assert not any(map(claims, (tmp_path, folder / "meta", tmp_path / "none", folder / "meta/episodes.jsonl")))


def test_which_task(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = lay_out(tmp_path / "set", episodes())
    with pytest.raises(InputError, match="names no Gymnasium environment; give the task it was recorded on"):
        read_lerobot(folder)
    with pytest.raises(InputError, match=r"are 13 numbers, but task hopper has 11; say which .*\(observations=\["):
        read_lerobot(folder, find_task("hopper"))
    with pytest.raises(
        InputError, match=r"has no observation 'observation.stat' of floats: did you mean observation.s"
    ):
        read_lerobot(folder, find_task("hopper"), observations=["observation.stat"])
    with pytest.raises(InputError, match=r"'observation.state' has shape \(12, 11\) but must have rows of 10 numbers"):
        read_lerobot(folder, find_task("reacher"), observations=["observation.state"])
    assert "has 125 frames a second, but task reacher acts 50 times a second" in caplog.text


def test_truncated_frames_are_no_end_of_the_task(tmp_path: Path):
    made = episodes()
    for episode, truncated in zip(made, (False, True, False), strict=True):
        episode["next.truncated"] = episode["next.done"] & truncated
    features = {**FEATURES, "next.truncated": FEATURES["next.done"]}
    opened = open_lerobot(lay_out(tmp_path, made, features=features))
    assert opened.raw("terminals").tolist() == [row in (4, 11) for row in range(12)]
    assert opened.raw("timeouts")[:, 0].tolist() == [row == 7 for row in range(12)]


def test_several_tasks_are_read_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = lay_out(tmp_path, episodes(), "v2.1")
    write(folder / "meta/tasks.jsonl", '{"task_index": 0, "task": "hop"}\n{"task_index": 1, "task": "stop"}')
    assert open_lerobot(folder).attributes()["tasks"] == ["hop", "stop"]
    assert "holds 2 tasks (hop; stop), which are read as one" in caplog.text
    write(folder / "meta/tasks.jsonl", "{")
    with pytest.raises(InputError, match="meta/tasks cannot be read"):
        open_lerobot(folder)


def test_harmless_faults_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The second is what lerobot 0.4.4's conversion does at the end of a file (its issue 2401)."""
    sound = open_lerobot(lay_out(tmp_path / "sound", episodes()))
    assert not [line for line in caplog.records if line.levelno > logging.INFO]
    scrambled = lay_out(tmp_path / "scrambled", episodes(), files=((2, 0), (1,)))
    edit_told(scrambled, 1, data__file_index=0)
    edit_told(scrambled, 2, dataset_from_index=5)
    opened = open_lerobot(scrambled)
    for key in sound.keys():  # noqa: SIM118 (a table's)
        np.testing.assert_array_equal(opened.raw(key), sound.raw(key))
    assert "episodes do not lie in the order of their indices; they are read in that order" in caplog.text
    assert "names another file for 1 of 3 episodes (episode 1: data/chunk-000/file-000.parquet, but it" in caplog.text
    assert "'dataset_from_index' in 'meta' is wrong" in caplog.text and "'index' does not count" not in caplog.text
    made = episodes()
    made[1]["index"] += 1
    open_lerobot(lay_out(tmp_path / "index", made, "v2.1"))
    assert "'index' does not count the frames from 0" in caplog.text


def put(index: int, name: str, row: Any, value: Any) -> Callable[[Episodes], None]:
    def damage(made: Episodes) -> None:
        made[index][name][row] = value

    return damage


def drop_a_frame(made: Episodes) -> None:
    made[0] = {name: np.delete(column, 2, axis=0) for name, column in made[0].items()}


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_a_frame, "'frame_index' of episode 0 is 3 where it must be 2: frames are missing or doubled"),
        (put(1, "frame_index", 0, 1), "'frame_index' of episode 1 is 1 where it must be 0"),
        (put(1, "episode_index", ..., 0), "'frame_index' of episode 0 is 0 where it must be 5: .* or two episodes"),
        (put(2, "episode_index", ..., 0), r"episode 0 is in pieces \(data/.* and data/.*: data sets were merged"),
        (put(0, "timestamp", ..., 0.001), r"'timestamp' of frame 0 of episode 0 is 0.001 s, .* \(5 of 12 are off\)"),
        (put(2, "timestamp", 3, np.nan), "'timestamp' of frame 3 of episode 2 is nan s, .* it must be 0.024 s"),
        (put(2, "next.done", 1, True), "'next.done' ends episode 2 in frame 1, but it goes on; divide it there"),
        (put(2, "episode_index", ..., 7), "episode 2 is not in 'data' .*(has no frames of it|is missing)"),
        (lambda made: [rows.pop("action") for rows in made], r"000.parquet: 'action' is missing, which is one of"),
    ],
)
def test_faulty_frames(damage: Callable[[Episodes], object], message: str, version: str, tmp_path: Path):
    made = episodes()
    damage(made)
    with pytest.raises(InputError, match=message):
        open_lerobot(lay_out(tmp_path, made, version))


def acting(kind: str, size: int) -> dict[str, Any]:
    return {"features": {**FEATURES, "action": {"dtype": kind, "shape": [size]}}}


def without(*names: str) -> dict[str, Any]:
    return {"features": {name: feature for name, feature in FEATURES.items() if name not in names}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 100}, "'timestamp' of frame 1 of episode 0 is 0.008 s, but at 100 frames a second it must be 0.01 s"),
        ({"total_episodes": 4}, "'total_episodes' in meta/info.json is 4, but there are 3: files are missing"),
        ({"total_frames": 11}, "'total_frames' in meta/info.json is 11, but there are 12"),
        ({"codebase_version": "v1.6"}, r"is of LeRobot's version v1.6, but v2.0, v2.1, v3.0 can be read; convert it"),
        ({"fps": 0}, r"info.json: its 'fps', 'features' or 'understudy' are damaged"),
        ({"fps": None}, r"info.json: cannot be read \(TypeError.*; download or record the data set again"),
        ({"features": []}, r"info.json: cannot be read \(AttributeError"),
        ({"data_path": "{other}"}, r"file-000.parquet: cannot be read \(KeyError\('other'\)\)"),
        ({"understudy": {"episodes": {"seeds": [1]}}}, "tells of 1 episodes, but there are 3; remove it if you have"),
        (without(STATE, "observation.environment_state"), r"images or videos \(observation.images.top, observation.b"),
        (acting("int64", 3), r"'action' is int64 \[3\], but must be a row of floats"),
        (acting("float32", 2), "'action' holds .*, but by 'features' in meta/info.json rows of 2 numbers; correct the"),
        (without("frame_index"), r"'features' in meta/info.json lack 'frame_index'"),
    ],
)
def test_faulty_information(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        open_lerobot(lay_out(tmp_path, episodes(), **changes))


def test_faulty_metadata(tmp_path: Path):
    folder = lay_out(tmp_path, episodes())
    edit_told(folder, 1, length=4)
    with pytest.raises(InputError, match=r"episode 1 has 3 frames in data/.*000.parquet, but 4 by 'meta' \(1 of 3"):
        open_lerobot(folder)
    edit_told(folder, 1, length=3, episode_index=0)
    with pytest.raises(InputError, match="tells of episode 0 twice"):
        open_lerobot(folder)
    edit_told(folder, 1, gone=True)
    with pytest.raises(InputError, match=r"'meta' knows nothing of episode 1 in data/.*: the recording was not"):
        open_lerobot(folder)
    (folder / "meta/episodes/chunk-000/file-000.parquet").unlink()
    with pytest.raises(InputError, match=r"meta/episodes/\*/\*.parquet is missing, which tells of its episodes"):
        open_lerobot(folder)


def test_files_that_are_missing_or_damaged(tmp_path: Path):
    folder = lay_out(tmp_path, episodes())
    last = folder / "data/chunk-000/file-001.parquet"
    last.write_bytes(last.read_bytes()[:-8])  # what a recording that was not finalized looks like
    with pytest.raises(InputError, match=r"file-001.parquet: cannot be read \(.*not finalized, record it again"):
        open_lerobot(folder)
    last.unlink()
    with pytest.raises(InputError, match=r"episode 2 is not in 'data' \(1 of 3 .*001.parquet, .* is missing; down"):
        open_lerobot(folder)
    (folder / "data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(InputError, match=r"'data' has no .parquet files; download the data set again"):
        open_lerobot(folder)
    with pytest.raises(InputError, match=r"there is no LeRobot data set \(no meta/info.json\); give its folder"):
        open_lerobot(tmp_path / "none")
    empty = table(episodes()).set_column(3, "action", pa.array([None] * 12, pa.list_(pa.float32())))
    write(folder / "data/chunk-000/file-000.parquet", empty)
    with pytest.raises(InputError, match="'action' is empty in 12 of 12 rows; record it again"):
        open_lerobot(folder)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = lay_out(tmp_path, episodes())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"not installed .*pip install 'understudy\[lerobot\]'"):
        open_lerobot(folder)
    assert claims(folder)


@pytest.mark.parametrize("task", ["hopper", "reacher", "inverted-double-pendulum", "humanoid"])
def test_written_and_read_back(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = record(task, 3, limit=25)
    monkeypatch.setattr(lerobot_writing, "_DATA_MEGABYTES", 0.003)  # so that there are several files and chunks
    monkeypatch.setattr(lerobot_writing, "_CHUNK_FILES", 2)
    for name, selected in {"whole": whole, "some": whole.every(4), "few": whole.rows(9)}.items():
        write_lerobot(tmp_path / name, selected, command="a command")
        again = read_lerobot(tmp_path / name)
        assert_same(selected, again)
        assert again.metadata["algorithm"] == "smooth noise" and again.metadata["command"] == "a command"
        assert again.qpos is not None and again.states is not None
    assert (tmp_path / "whole/data/chunk-001/file-000.parquet").exists() == (task != "inverted-double-pendulum")
    alone = replace(whole, acted=False, actions=np.zeros_like(whole.actions))
    write_lerobot(tmp_path / "alone", alone)
    assert_same(alone, read_lerobot(tmp_path / "alone"))


def test_the_layout_is_lerobots(tmp_path: Path):
    """Names, order and types as in what lerobot 0.4.4's own writer made of such features."""
    whole = record("reacher", 2)
    write_lerobot(tmp_path / "set", whole)
    information = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert list(information) == [
        "codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "chunks_size",
        "data_files_size_in_mb", "video_files_size_in_mb", "fps", "splits", "data_path", "video_path", "features",
        "understudy",
    ]  # fmt: skip
    assert (information["fps"], information["splits"], information["video_path"]) == (50, {"train": "0:2"}, None)
    assert information["features"]["action"] == {"dtype": "float32", "shape": [2], "names": None}
    data = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert data.column_names == list(information["features"])
    assert data.column_names[-5:] == ["timestamp", "frame_index", "episode_index", "index", "task_index"]
    types = {field.name: str(field.type) for field in data.schema}
    assert types["observation.state"] == "fixed_size_list<element: float>[10]"
    assert (types["next.reward"], types["next.done"], types["index"]) == ("float", "bool", "int64")
    told = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    plain = [name for name in told.column_names if not name.startswith("stats/")]
    assert plain == [
        "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
        "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index",
    ]  # fmt: skip
    statistics = json.loads((tmp_path / "set/meta/stats.json").read_text())
    assert list(statistics["action"]) == ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]
    np.testing.assert_allclose(statistics["action"]["q90"], np.quantile(whole.actions, 0.9, axis=0), rtol=1e-6)
    assert told["stats/action/count"].to_pylist() == [[50], [50]] and statistics["action"]["count"] == [100]
    pandas = json.loads(pq.read_schema(tmp_path / "set/meta/tasks.parquet").metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"] and pandas["columns"][0]["name"] == "task_index"


def test_what_lerobots_tools_leave_of_it(tmp_path: Path):
    """They write info.json anew, without what they do not know, and keep all features."""
    whole = record("hopper", 3)
    write_lerobot(tmp_path / "set", whole)
    path = tmp_path / "set/meta/info.json"
    information = json.loads(path.read_text())
    path.write_text(json.dumps({name: of for name, of in information.items() if name != "understudy"}))
    again = read_lerobot(tmp_path / "set", find_task("hopper"))
    assert_same(whole, again, ("states", "episode_seeds", "random_return", "expert_return"))
    assert again.qpos is not None and again.qpos.shape == (len(whole), 6)


def test_writing_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = record("hopper", 2)
    write_lerobot(tmp_path / "kept", whole)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for name, message in {
        "kept": "exists already; choose another name or allow overwriting",
        "file": "is a file; a LeRobot data set is a folder",
        "full": "is a folder with other things in it; choose another name",
        "none/set": "the folder .*none does not exist; make it first",
    }.items():
        with pytest.raises(InputError, match=message):
            write_lerobot(tmp_path / name, whole, overwrite=name != "kept")
    with pytest.raises(InputError, match="the metadata cannot be stored as JSON"):
        write_lerobot(tmp_path / "kept", replace(whole, metadata={"odd": {1}}), overwrite=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patched,
        pytest.raises(InputError, match=r"kept: cannot be written \(.*No space left"),
    ):
        patched.setattr(lerobot_writing, "_write_episodes", full)
        write_lerobot(tmp_path / "kept", whole, overwrite=True)
    assert_same(whole, read_lerobot(tmp_path / "kept"))
    write_lerobot(tmp_path / "kept", whole.episodes(1), overwrite=True)
    assert len(read_lerobot(tmp_path / "kept").starts) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "file", "full"}
