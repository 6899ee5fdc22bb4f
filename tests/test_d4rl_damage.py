"""D4RL-style files that are wrong: each is one sentence; and writing that fails leaves nothing behind."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import Damage, assert_same, cast, change, record, remove, spoil, write_edited

from understudy.datasets import Demonstrations, read_d4rl, write_d4rl
from understudy.robots import InputError, find_task


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
    with pytest.raises(InputError, match=r"do not mark where all episodes end.*200 rows, but the horizon is 50"):
        read_d4rl(tmp_path / "file.hdf5")


def test_pieces_of_episodes_without_any_mark_are_refused(edited: Callable[[Damage], Path], hopper: Demonstrations):
    """Three pieces in a row that together do not reach the horizon: nothing says where one ends."""

    def damage(file: h5py.File) -> None:
        remove("timeouts", "next_observations")(file)
        file["terminals"][...] = False

    with pytest.raises(InputError, match=rf"row 0 begins an episode of {len(hopper)} rows that neither ends nor lasts"):
        read_d4rl(edited(damage))


def test_a_boundary_that_nothing_marks_shows_in_its_start(edited: Callable[[Damage], Path], hopper: Demonstrations):
    """Pieces that could together be one episode: the jump back to a start gives them away."""

    def damage(file: h5py.File) -> None:
        remove("timeouts", "next_observations")(file)
        file["terminals"][...] = np.arange(len(hopper)) == len(hopper) - 1

    with pytest.raises(InputError, match=rf"row {hopper.starts[1]} looks like the start.*add 'timeouts'"):
        read_d4rl(edited(damage))


def test_unmarked_falls_show_in_the_next_observations(edited: Callable[[Damage], Path], hopper: Demonstrations):
    def damage(file: h5py.File) -> None:
        del file["timeouts"]
        file["terminals"][...] = False

    with pytest.raises(InputError, match=rf"next observation of row {hopper.starts[1] - 1} is not"):
        read_d4rl(edited(damage))


def test_a_few_missing_timeouts_are_reported(tmp_path: Path, reacher: Demonstrations, caplog: pytest.LogCaptureFixture):
    """D4RL issue 162: recorded next observations show where the ends are, without them the file is refused."""
    write_d4rl(tmp_path / "file.hdf5", reacher)
    with h5py.File(tmp_path / "file.hdf5", "a") as file:
        del file["metadata"]
        file["timeouts"][99] = False
    with caplog.at_level(logging.WARNING):
        made = read_d4rl(tmp_path / "file.hdf5")
    assert "1 ends of episodes are not marked" in caplog.text
    np.testing.assert_array_equal(made.next_observations, reacher.next_observations)
    np.testing.assert_array_equal(made.starts, reacher.starts)
    np.testing.assert_array_equal(made.truncated, reacher.truncated)
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


# Bad input.


def as_text(file: h5py.File) -> None:
    change(file, "observations", lambda array: array.astype(str).astype(object))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.move("rewards", "reward"), ("'rewards' is missing", "did you mean reward")),
        (remove("observations"), ("'observations' is missing", "infos/qpos", "actions")),
        (lambda file: file.move("actions", "action"), ("'actions' is missing", "did you mean action")),
        (remove("terminals"), ("'terminals' is missing",)),
        (cast("observations", np.uint8), ("'observations' holds uint8", "float")),
        (cast("actions", np.int64), ("'actions' holds int64",)),
        (cast("rewards", "S8"), ("'rewards' holds strings",)),
        (as_text, ("'observations' holds objects or strings",)),
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
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt, match=r"No space|^$"):
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
