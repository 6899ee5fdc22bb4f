"""Folders of imitation's trajectories: made by plain pyarrow as Hugging Face's library lays them out, and read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import record

from understudy.datasets import Demonstrations
from understudy.datasets.imitation_folder import claims, read_imitation_folder
from understudy.robots import InputError, find_task

arrow = pytest.importorskip("pyarrow")
HOPPER = find_task("hopper")
Columns = dict[str, list[Any]]


@pytest.fixture(scope="module")
def hopper() -> Demonstrations:
    """Five short episodes that end in falls, but for those cut at 15 rows."""
    return record("hopper", 5, limit=15)


def columns_of(demonstrations: Demonstrations, infos: list[str] | None = None) -> Columns:
    """The columns that imitation 1.0.1's trajectories_to_dict makes; infos are {} where it does not keep them."""
    names = ("observations", "next_observations", "actions", "rewards")
    lists = [np.split(getattr(demonstrations, name), demonstrations.starts[1:]) for name in names]
    return {
        "obs": [np.concatenate([rows, after[-1:]]).tolist() for rows, after in zip(lists[0], lists[1], strict=True)],
        "acts": [rows.tolist() for rows in lists[2]],
        "infos": [
            ["{}"] * (len(rows) - 1) + [infos[episode] if infos else "{}"] for episode, rows in enumerate(lists[2])
        ],
        "terminal": [True] * len(lists[0]),
        "rews": [rows.astype(np.float64).tolist() for rows in lists[3]],
    }


def save(path: Path, columns: Columns, shards: int = 1) -> Path:
    """What ``datasets.Dataset.save_to_disk`` writes of it: Arrow streams, and two descriptions."""
    path.mkdir()
    rows = arrow.list_(arrow.list_(arrow.float32()))
    kinds = {"obs": rows, "acts": rows, "rews": arrow.list_(arrow.float64()), "infos": arrow.list_(arrow.string())}
    names: list[str] = []
    for shard in range(shards):
        table = arrow.table(
            {
                name: arrow.array(cells[shard::shards] if shards > 1 else cells, kinds.get(name))
                for name, cells in columns.items()
            }
        )
        names.append(f"data-{shard:05d}-of-{shards:05d}.arrow")
        write(path, table, names[-1])
    (path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_split": None})
    )
    (path / "dataset_info.json").write_text(json.dumps({"features": {name: {} for name in columns}}))
    return path


def write(path: Path, table: Any, name: str = "data-00000-of-00001.arrow") -> None:
    with arrow.OSFile(str(path / name), "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def test_a_folder_of_trajectories(hopper: Demonstrations, tmp_path: Path):
    made = read_imitation_folder(save(tmp_path / "rollouts", columns_of(hopper)), replace(HOPPER, horizon=15))
    for name in ("observations", "actions", "next_observations", "rewards", "terminated", "starts"):
        np.testing.assert_array_equal(getattr(made, name), getattr(hopper, name), name)
    cut = hopper.episode_lengths == 15
    assert cut.any() and not cut.all()
    np.testing.assert_array_equal(np.logical_or.reduceat(made.truncated, made.starts), cut)


def test_the_last_info_tells_a_time_limit_from_a_fall(hopper: Demonstrations, tmp_path: Path):
    """Written by Stable-Baselines3 and encoded by jsonpickle, of whose objects nothing is made."""
    object_in_it = '{"py/object": "os.system", "TimeLimit.truncated": true}'
    infos = ['{"TimeLimit.truncated": true}', '{"TimeLimit.truncated": false}', "[1]", object_in_it, '{"other": 1}']
    made = read_imitation_folder(save(tmp_path / "rollouts", columns_of(hopper, infos)), HOPPER)
    assert made.episode_terminated.tolist() == [False, True, True, False, True]
    columns = columns_of(hopper, infos)
    del columns["infos"]
    columns["terminal"][1] = False
    made = read_imitation_folder(save(tmp_path / "without", columns), HOPPER)
    assert made.episode_terminated.tolist() == [True, False, True, True, True]


def test_several_files_and_no_rewards(hopper: Demonstrations, tmp_path: Path):
    columns = columns_of(hopper)
    del columns["rews"]
    made = read_imitation_folder(save(tmp_path / "rollouts", columns, shards=2), HOPPER)
    order = [0, 2, 4, 1, 3]
    np.testing.assert_array_equal(made.episode_lengths, hopper.episode_lengths[order])
    np.testing.assert_array_equal(made.actions[: hopper.starts[1]], hopper.actions[: hopper.starts[1]])
    assert not made.rewards.any()


def test_rows_of_other_kinds_of_lists(hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "rollouts", columns_of(hopper))
    with arrow.OSFile(str(path / "data-00000-of-00001.arrow")) as source:
        table = arrow.ipc.open_stream(source).read_all()
    for kind in (arrow.large_list(arrow.large_list(arrow.float64())), arrow.list_(arrow.list_(arrow.float32(), 11))):
        changed = table.set_column(0, "obs", table.column("obs").cast(kind))
        write(path, changed)
        np.testing.assert_array_equal(read_imitation_folder(path, HOPPER).observations, hopper.observations)


def test_the_task_and_pyarrow_are_needed(hopper: Demonstrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "rollouts", columns_of(hopper))
    with pytest.raises(InputError, match="does not say on which environment it was recorded; give the task"):
        read_imitation_folder(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow .*pip install 'understudy\[lerobot\]'"):
        read_imitation_folder(path, HOPPER)


def edit(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Columns], None]:
    return lambda columns: columns.update({name: change(columns[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns.pop("acts"), "'acts' is missing; the data set has obs, infos, terminal, rews, so"),
        (lambda columns: [cells.clear() for cells in columns.values()], "has no episodes, so there is nothing"),
        (
            edit("obs", lambda cells: [cells[0][:-1], *cells[1:]]),
            r"episode 0 has 10 rows of 'obs' for 10 of 'acts', wh",
        ),
        (edit("acts", lambda cells: [*cells[:2], [], *cells[3:]]), "'acts' of episode 2 does not hold rows of numbers"),
        (
            edit("acts", lambda cells: [*cells[:2], None, *cells[3:]]),
            "'acts' of episode 2 does not hold rows of number",
        ),
        (edit("obs", lambda cells: [[*cells[0][:-1], [1.0]], *cells[1:]]), "'obs' of episode 0 has rows of different"),
        (
            edit("obs", lambda cells: [cells[0], [[1.0]] * len(cells[1]), *cells[2:]]),
            "'obs' of episode 1 has rows of d",
        ),
        (edit("obs", lambda cells: [[row[:-1] for row in rows] for rows in cells]), "'obs' has shape .* rows of 11"),
        (edit("rews", lambda cells: [cells[0][:-1], *cells[1:]]), r"'rews' has \d+ rows where there must be"),
        (
            edit("terminal", lambda cells: [None, *cells[1:]]),
            "'terminal' holds objects or strings but must hold boolean",
        ),
        (edit("infos", lambda cells: [["{"], *cells[1:]]), "cannot be read, so it is incomplete or damaged"),
    ],
)
def test_columns_that_do_not_fit(
    change: Callable[[Columns], object], message: str, hopper: Demonstrations, tmp_path: Path
):
    columns = columns_of(hopper)
    change(columns)
    path = save(tmp_path / "rollouts", columns)
    with pytest.raises(InputError, match=message) as raised:
        read_imitation_folder(path, HOPPER)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_images_are_refused(hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "rollouts", {"acts": columns_of(hopper)["acts"], "terminal": [True] * 5})
    images = [np.zeros((len(acts) + 1, 2, 2)).tolist() for acts in columns_of(hopper)["acts"]]
    with arrow.OSFile(str(path / "data-00000-of-00001.arrow")) as source:
        table = arrow.ipc.open_stream(source).read_all().append_column("obs", arrow.array(images))
    write(path, table)
    with pytest.raises(InputError, match=r"'obs' of episode 0 does not hold rows of numbers; only .* leave out images"):
        read_imitation_folder(path, HOPPER)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data-00000-of-00001.arrow", b"no arrow"),
        ("data-00000-of-00001.arrow", b""),
        ("data-00000-of-00001.arrow", None),
        ("state.json", b"{"),
        ("state.json", b"[]"),
        ("state.json", None),
        ("state.json", b'{"_data_files": [{"filename": "missing.arrow"}]}'),
    ],
)
def test_damage_is_one_sentence(name: str, content: bytes | None, hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "rollouts", columns_of(hopper))
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read, so it is incomplete or damaged") as raised:
        read_imitation_folder(path, HOPPER)
    assert "\n" not in str(raised.value)


def test_files_cut_short_or_elsewhere(hopper: Demonstrations, tmp_path: Path):
    path = save(tmp_path / "rollouts", columns_of(hopper))
    whole = (path / "data-00000-of-00001.arrow").read_bytes()
    (path / "data-00000-of-00001.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read, so it is incomplete or damaged"):
        read_imitation_folder(path, HOPPER)
    (path / "state.json").write_text('{"_data_files": [{"filename": "../elsewhere.arrow"}]}')
    with pytest.raises(InputError, match=r"'state.json' lists '\.\./elsewhere.arrow', which is not in the folder"):
        read_imitation_folder(path, HOPPER)


def test_claims(hopper: Demonstrations, tmp_path: Path):
    assert claims(save(tmp_path / "rollouts", columns_of(hopper)))
    assert not claims(save(tmp_path / "other", {"text": ["a"]}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("[")
    for other in ("broken", "missing", ".", "rollouts/state.json"):
        assert not claims(tmp_path / other)
