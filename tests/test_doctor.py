"""The doctor: each documented fault is found, nothing is found where nothing is wrong, and training heeds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import Damage, change, record, write_edited

from understudy.datasets import Demonstrations, bundled, load, write_d4rl
from understudy.datasets.corruption import FAULTS, NOISES, corrupt
from understudy.datasets.doctor import diagnose
from understudy.datasets.findings import Report
from understudy.datasets.hdf5 import Hdf5File
from understudy.datasets.table import MemoryTable
from understudy.imitation.recording import record as record_episodes
from understudy.robots import InputError, find_task
from understudy.scripts.cli import main as understudy
from understudy.scripts.train import main as train

SHARED = Path(__file__).parents[2] / "shared" / "demos"


def found(report: Report) -> dict[str, str]:
    return {finding.check: finding.severity for finding in report.findings}


def alarms(report: Report) -> dict[str, str]:
    return {check: severity for check, severity in found(report).items() if severity != "note"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> MemoryTable:
    """Eight falls of a Hopper, with next observations and states, and nothing in it but what D4RL's files have."""
    path = tmp_path_factory.mktemp("data") / "hopper-random.hdf5"
    write_d4rl(path, record("hopper", 8))
    with Hdf5File(path) as file:
        arrays = {key: file.raw(key) for key in file.keys() if not key.startswith("metadata/")}  # noqa: SIM118
        return MemoryTable(path, arrays, {"env_id": "Hopper-v5", "env_kwargs": "{}"}, "d4rl")


def without(table: MemoryTable, *keys: str) -> MemoryTable:
    arrays = {key: table.raw(key) for key in table.keys() if key not in keys}  # noqa: SIM118
    return MemoryTable(table.path, arrays, table.attributes(), table.format)


def test_a_sound_recording_is_found_sound(table: MemoryTable) -> None:
    report = diagnose(table, every_row=True)
    assert found(report) == {}
    assert (report.facts["rows"], report.facts["episodes"]) == (len(table.raw("rewards")), 8)
    assert report.facts["terminal_episodes"] == 8
    assert report.schema["actions"] == f"float32 ({len(table.raw('rewards'))}, 3)"
    assert report.facts["units"]["actions"].endswith(", in the environment's own units, -1 to 1")
    assert report.facts["units"]["observations"] == "positions 0:5 (m, rad), velocities 5:11 (m/s, rad/s)"
    assert report.facts["units"]["time"] == "125 steps a second"
    assert found(diagnose(without(table, "next_observations"))) == {}


@pytest.mark.parametrize("name", sorted(bundled()))
def test_no_false_alarm_on_the_bundled_sets(name: str) -> None:
    with Hdf5File(bundled()[name]) as file:
        assert alarms(diagnose(file, name=name)) == {}


@pytest.mark.parametrize(
    "name",
    ["halfcheetah", "ant", "humanoid", "pusher", "gap-maze", "slalom", "adroit-door", "quadruped", "arm-reach",
     "arm-push", "fetch-push"],
)  # fmt: skip
def test_no_false_alarm_on_recordings_of_any_task(name: str, tmp_path: Path) -> None:
    """With all that we record, and with as little as others do."""
    task = find_task(name)
    scripts = [script(task) for script in task.scripts.values()]
    for number, by in enumerate([None, *scripts]):
        path = tmp_path / f"{number}.hdf5"
        # With some noise: a script holds what it does not need, which is told as a constant action.
        write_d4rl(path, record_episodes(task, by, seed=3, episodes=3, noise=0.05))
        with Hdf5File(path) as file:
            assert alarms(diagnose(file)) == {}
            few = ("observations", "actions", "rewards", "terminals", "timeouts")
            said = {name: file.attributes()[name] for name in ("env_id", "env_kwargs")}
            barest = MemoryTable(path, {key: file.raw(key) for key in few}, said, "d4rl")
            assert alarms(diagnose(barest)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.hdf5")), ids=lambda path: path.stem)
def test_no_false_alarm_on_recordings_of_others(path: Path) -> None:
    with Hdf5File(path) as file:
        assert alarms(diagnose(file, every_row=len(file.raw("rewards")) < 10_000)) == {}


# The fault, what it is found as, and how grave it is.
EXPECTED = {
    "observations": ("not-following", "error"),
    "actions": ("dynamics", "warning"),
    "rewards": ("rewards", "warning"),
    "dynamics": ("not-following", "error"),
    "no-terminals": ("no-terminals", "error"),
    "off-by-one": ("off-by-one", "error"),
    "goal-changes": ("goes-on", "warning"),
    "from-next-episode": ("from-next-episode", "error"),
    "last-repeated": ("last-repeated", "note"),
    "lengths-differ": ("length", "error"),
    "other-states": ("states", "warning"),
    "duplicated": ("duplicated", "warning"),
    "another-unit": ("out-of-bounds", "error"),
    "not-finite": ("not-finite", "error"),
    "jump": ("jump", "error"),
    "cut": ("cut", "note"),
    "boundaries": ("lost-ends", "warning"),
    "no-timeouts": ("lost-ends", "error"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_found(kind: str, table: MemoryTable) -> None:
    if kind == "no-timeouts":  # falls mark themselves: here they are time limits
        fallen = without(table)
        arrays = {key: fallen.raw(key) for key in fallen.keys()}  # noqa: SIM118
        arrays |= {"timeouts": arrays["terminals"], "terminals": np.zeros_like(arrays["terminals"])}
        table = MemoryTable(table.path, arrays, table.attributes(), "d4rl")
    check, severity = EXPECTED[kind]
    spoiled = corrupt(table, kind)
    assert found(diagnose(spoiled))[check] == severity
    again = corrupt(table, kind)
    for key in spoiled.keys():  # noqa: SIM118
        np.testing.assert_array_equal(spoiled.raw(key), again.raw(key))
    if kind in NOISES:  # by the seed
        others = [corrupt(table, kind, seed=seed) for seed in (1, 2, 3)]
        keys = ("observations", "actions", "rewards", "next_observations", "terminals")
        assert any(not np.array_equal(other.raw(key), spoiled.raw(key)) for other in others for key in keys)


def test_findings_say_where_and_what_training_does(table: MemoryTable) -> None:
    arrays = {key: table.raw(key).copy() for key in table.keys()}  # noqa: SIM118
    arrays["observations"][[4, 17, 30, 40], 2] = np.nan
    arrays["actions"][5] = 1.5
    report = diagnose(MemoryTable(table.path, arrays, table.attributes(), "d4rl"))
    rows = len(arrays["rewards"])
    first, second = report.of("error")[:2]
    assert first.message == f"'observations' holds NaN or infinity in 4 of {rows} rows (first 4, 17 and 30)"
    assert (first.count, first.places, first.training) == (4, (4, 17, 30, 40), "training refuses it")
    assert second.message.endswith(f"leave the bounds [-1, 1] of task hopper (Hopper-v5) in 1 of {rows} rows (5)")
    assert report.to_json()["errors"] == len(report.of("error"))


def test_names_that_promise_other_returns(table: MemoryTable) -> None:
    assert alarms(diagnose(table, name="hopper-random-v2")) == {}
    report = diagnose(table, name="hopper-expert-v2")
    assert alarms(report) == {"swapped": "warning"}
    assert "are files swapped?" in report.findings[0].message
    with Hdf5File(bundled()["hopper-expert"]) as file:
        assert alarms(diagnose(file, name="hopper-random-v2")) == {"swapped": "warning"}
        assert alarms(diagnose(file, name="d4rl/hopper-medium-replay-v2")) == {}
        arrays = {key: file.raw(key).copy() for key in file.keys()}  # noqa: SIM118
        arrays["rewards"][8000:] = 0  # the last two episodes are failures (D4RL #19)
        mixed = MemoryTable(file.path, arrays, file.attributes(), "d4rl")
    assert alarms(diagnose(mixed, name="hopper-medium-expert-v0", physics=False)) == {"mixed": "warning"}


@pytest.mark.parametrize(
    ("damage", "check", "severity"),
    [
        (lambda file: file.move("terminals", "terminal"), "missing", "error"),
        (lambda file: file.move("actions", "action"), "missing", "error"),
        (lambda file: file.__delitem__("actions"), "no-actions", "note"),
        (lambda file: file.__delitem__("rewards"), "no-rewards", "note"),
        (lambda file: change(file, "actions", lambda a: a[:, :2]), "width", "error"),
        (lambda file: change(file, "observations", lambda a: a.astype(int)), "type", "error"),
        (lambda file: change(file, "observations", lambda a: np.zeros((len(a), 8, 8), np.float32)), "shape", "error"),
        (lambda file: change(file, "terminals", lambda a: a * 2), "not-boolean", "error"),
        (lambda file: change(file, "rewards", lambda a: np.ones_like(a)), "constant-rewards", "warning"),
        (lambda file: change(file, "actions", lambda a: np.zeros_like(a)), "constant-actions", "warning"),
        (lambda file: change(file, "actions", np.sign), "saturated", "warning"),
        (lambda file: change(file, "timeouts", lambda a: file["terminals"][()]), "both-ends", "note"),
        (lambda file: file.attrs.__setitem__("env_id", "Nothing-v0"), "task", "note"),
        (lambda file: [file.attrs.__delitem__(name) for name in ("env_id", "task")], "no-task", "note"),
    ],
)
def test_what_single_columns_show(damage: Damage, check: str, severity: str, tmp_path: Path) -> None:
    path = write_edited(tmp_path / "x.hdf5", record("hopper", 8), damage)
    with Hdf5File(path) as file:
        assert found(diagnose(file)).get(check) == severity


def test_ends_that_the_task_does_not_have(tmp_path: Path) -> None:
    def ends(file: h5py.File) -> None:
        change(file, "terminals", lambda a: file["timeouts"][()])
        change(file, "timeouts", np.zeros_like)

    path = write_edited(tmp_path / "x.hdf5", record("reacher", 4), ends)
    with Hdf5File(path) as file:
        report = found(diagnose(file))
    assert report["unexpected-terminals"] == "warning"
    long = write_edited(tmp_path / "y.hdf5", record("reacher", 4), lambda file: change(file, "timeouts", np.zeros_like))
    with Hdf5File(long) as file:
        assert found(diagnose(file))["too-long"] == "error"


def test_rewards_and_physics_of_another_task(tmp_path: Path) -> None:
    whole = record("hopper", 8)
    path = write_edited(tmp_path / "x.hdf5", whole, lambda file: change(file, "rewards", lambda a: a - 0.5))
    with Hdf5File(path) as file:
        assert alarms(diagnose(file)) == {"rewards": "warning"}
    heavier = find_task("walker2d")
    with pytest.raises(InputError, match="recorded on Hopper-v5"), Hdf5File(path) as file:
        report = diagnose(file, heavier)
        raise InputError(report.of("error")[0].message)


# The command, and what training does.


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """A spoiled file."""

    def write(kind: str) -> Path:
        def damage(file: h5py.File) -> None:
            table = MemoryTable(tmp_path, {key: file[key][()] for key in _arrays(file)}, dict(file.attrs), "d4rl")
            spoiled = corrupt(table, kind)
            for key in _arrays(file):
                del file[key]
            for key in spoiled.keys():  # noqa: SIM118
                file[key] = spoiled.raw(key)

        return write_edited(tmp_path / f"{kind}.hdf5", record("hopper", 8), damage)

    return write


def _arrays(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def test_the_command_prints_findings_and_exits_by_the_gravest(
    written: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert understudy(["inspect", "hopper-expert"]) == 0
    assert "nothing was found" in capsys.readouterr().out
    path = written("goal-changes")
    assert understudy(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "WARNING goes-on: an end is marked where the episode goes on" in out
    assert "0 errors, " in out
    assert understudy(["inspect", str(path), "--strict"]) == 1
    capsys.readouterr()
    assert understudy(["inspect", str(written("off-by-one")), "json=true", "--all"]) == 1
    report: Any = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert report["findings"][0]["check"] == "off-by-one"
    assert understudy(["inspect", "nothing.hdf5"]) == 2
    assert understudy(["inspect", "hoper-expert"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_training_refuses_what_would_poison_it_and_warns_of_the_rest(
    written: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    small = ["learner=bc", "steps=20", "loop.hidden=[8]", "evaluation.episodes=1", "runs=1", "threads=1", "quiet=true"]
    poisoned = [f"data={written('from-next-episode')}", f"directory={tmp_path / 'one'}"]
    assert train([*small, *poisoned]) == 2
    assert "the first of the next episode" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    doubtful = [f"data={written('duplicated')}", f"directory={tmp_path / 'two'}"]
    assert train([*small, *doubtful, "--strict"]) == 2
    assert "are copies of earlier ones; understudy inspect says more" in capsys.readouterr().err
    assert train([*small, *doubtful, "data.corrupt=boundaries:0.5"]) == 0
    assert "copies of earlier ones; training counts them twice" in caplog.text


def test_selections_and_noise_by_options(tmp_path: Path) -> None:
    whole = record("hopper", 8)
    write_d4rl(tmp_path / "x.hdf5", whole)
    path = tmp_path / "x.hdf5"
    half = float(np.median(whole.episode_returns))
    best = load(path, min_return=half)
    assert len(best.starts) == int((whole.episode_returns >= half).sum())
    assert best.episode_returns.min() >= half
    assert best.states is not None
    index = int(np.flatnonzero(whole.episode_returns >= half)[-1])
    np.testing.assert_array_equal(best.observations[best.starts[-1]], whole.observations[whole.starts[index]])
    np.testing.assert_array_equal(best.states[best.starts[-1]], whole.states[whole.starts[index]])  # pyright: ignore
    with pytest.raises(InputError, match="no episode returns"):
        load(path, min_return=1e9)
    noisy = load(path, corruption="actions:0.5:2", seed=3)
    moved = (noisy.actions != whole.actions).any(1)
    assert moved.mean() == pytest.approx(0.5, abs=0.02)
    assert "actions, rate 0.5, scale 2, seed 3" in str(noisy.metadata["corruption"])
    np.testing.assert_array_equal(noisy.observations, whole.observations)
    for text, words in (
        ("action", "there is no noise"),
        ("actions:x", "write it like"),
        ("actions:2", "share of rows"),
    ):
        with pytest.raises(InputError, match=words):
            load(path, corruption=text)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.attrs.__setitem__("random_return", np.nan),
        lambda file: file.attrs.__setitem__("understudy_format", 99),
        lambda file: file.create_dataset("metadata/episode_starts", data=[0, 5, 3]),
    ],
)
def test_what_training_refuses_is_an_error_here(damage: Damage, tmp_path: Path) -> None:
    path = write_edited(tmp_path / "x.hdf5", record("hopper", 8), damage)
    with pytest.raises(InputError) as refused:
        load(path)
    with Hdf5File(path) as file:
        assert str(refused.value) in [finding.message for finding in diagnose(file).of("error")]


def test_files_of_some_rows_are_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours, of which rows were left out: their rows do not follow each other, and nothing is wrong with that."""
    write_d4rl(tmp_path / "few.hdf5", record("hopper", 4).every(3))
    with Hdf5File(tmp_path / "few.hdf5") as file:
        assert found(diagnose(file, name="hopper-expert")) == {"thinned": "note"}
    small = ["learner=bc", "steps=20", "loop.hidden=[8]", "evaluation.episodes=1", "runs=1", "threads=1", "quiet=true"]
    assert train([*small, f"data={tmp_path / 'few.hdf5'}", f"directory={tmp_path / 'run'}", "strict=true"]) == 0
    assert capsys.readouterr().out


def test_noise_in_what_follows_leaves_the_episodes(tmp_path: Path) -> None:
    whole = record("hopper", 6)
    path = write_edited(tmp_path / "x.hdf5", whole, lambda file: None)
    for kind in ("observations:0.02", "dynamics:0.02", "dynamics"):
        np.testing.assert_array_equal(load(path, corruption=kind).starts, whole.starts)


def test_lost_boundaries_are_two_episodes_told_as_one(tmp_path: Path) -> None:
    whole = record("hopper", 6)
    path = write_edited(tmp_path / "x.hdf5", whole, lambda file: None)
    spoiled = load(path, corruption="boundaries:0.4", seed=1)
    assert len(spoiled.starts) == 4  # of five ends between episodes two are lost
    assert set(spoiled.starts) < set(whole.starts)
    rows = np.setdiff1d(whole.starts, spoiled.starts) - 1
    assert whole.terminated[rows].all() and not spoiled.terminated[rows].any()
    np.testing.assert_array_equal(spoiled.next_observations[rows], whole.observations[rows + 1])
    others = np.setdiff1d(np.arange(len(whole)), rows)
    np.testing.assert_array_equal(spoiled.next_observations[others], whole.next_observations[others])
    np.testing.assert_array_equal(spoiled.terminated[others], whole.terminated[others])
    assert spoiled.episode_lengths.tolist() == np.diff(np.append(spoiled.starts, len(whole))).tolist()
    assert spoiled.episode_returns.sum() == pytest.approx(whole.rewards.sum())
    for begin, end in zip(spoiled.starts, np.append(spoiled.starts[1:], len(whole)), strict=True):
        assert spoiled.times[begin:end].tolist() == list(range(end - begin))
    assert spoiled.episode_seeds is None and spoiled.states is not None
    assert load(path, corruption="boundaries:0.4", seed=1).starts.tolist() == spoiled.starts.tolist()
    with pytest.raises(InputError, match="an end is lost or not"):
        load(path, corruption="boundaries:0.4:1")
    with pytest.raises(InputError, match="has one episode"):
        load(write_edited(tmp_path / "y.hdf5", record("hopper", 1), lambda file: None), corruption="boundaries")


def test_noise_is_as_wide_as_it_says() -> None:
    whole: Demonstrations = load("halfcheetah-expert", episodes=2)
    noisy = load("halfcheetah-expert", corruption="observations:1:0.5")
    gaps = (noisy.observations[: len(whole)] - whole.observations) / load("halfcheetah-expert").observations.std(0)
    assert np.abs(gaps).max() <= 0.5 + 1e-3
    np.testing.assert_allclose(gaps.std(0), 0.5 / np.sqrt(3), rtol=0.1)  # uniform
