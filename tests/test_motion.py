"""What the doctor sees without states and next observations: units, frozen columns, time limits told as falls."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from recordings import record

from understudy.datasets.check_motion import Motion
from understudy.datasets.doctor import diagnose
from understudy.datasets.recorded import World
from understudy.datasets.table import MemoryTable
from understudy.robots import find_task

IDS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "reacher": "Reacher-v5"}


@cache
def columns(task: str, episodes: int) -> dict[str, np.ndarray]:
    """A sound recording, with nothing but what every file has."""
    whole = record(task, episodes)
    return {
        "observations": whole.observations,
        "actions": whole.actions * find_task(task).spaces.action_high.astype(np.float32),
        "rewards": whole.rewards,
        "terminals": whole.terminated,
        "timeouts": whole.truncated,
    }


def alarms(task: str, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    table = MemoryTable(Path("mine.hdf5"), arrays, {"env_id": IDS[task], "env_kwargs": "{}"}, "d4rl")
    return {f.check: f.message for f in diagnose(table, physics=False).findings if f.severity != "note"}


@pytest.mark.parametrize(("task", "episodes"), [("hopper", 8), ("halfcheetah", 3), ("walker2d", 8), ("reacher", 4)])
def test_sound_recordings_are_sound(task: str, episodes: int) -> None:
    assert alarms(task, columns(task, episodes)) == {}


def test_columns_are_known_by_trying() -> None:
    motion = Motion.of(World.of(find_task("hopper")))
    assert motion.speed == {0: 6, 1: 7, 2: 8, 3: 9, 4: 10}  # height and four angles, then six velocities from x's on
    assert motion.names == {0: "rootz", 1: "rooty", 2: "thigh_joint", 3: "leg_joint", 4: "foot_joint"}
    np.testing.assert_allclose(motion.ranges[4], np.deg2rad([-45, 45]), atol=1e-6)  # hopper.xml
    assert motion.moving.all()
    assert not Motion.of(World.of(find_task("pusher"))).moving[17:].any()  # the object and the goal need not move


@pytest.mark.parametrize(("task", "episodes"), [("hopper", 8), ("halfcheetah", 3)])
def test_degrees_for_radians(task: str, episodes: int) -> None:
    sound = columns(task, episodes)
    wrong = sound["observations"].copy()
    wrong[:, 1:5] = np.rad2deg(wrong[:, 1:5])
    assert "(degrees for radians?)" in alarms(task, {**sound, "observations": wrong})["units"]
    both = np.rad2deg(sound["observations"])  # angles and their velocities
    assert "beyond the joints' ranges" in alarms(task, {**sound, "observations": both})["beyond-range"]
    other_order = np.roll(sound["observations"], 4, axis=1)
    assert {"order", "units", "beyond-range"} & alarms(task, {**sound, "observations": other_order}).keys()


def test_angles_seen_as_cosine_and_sine() -> None:
    """Reacher's two joints, whose velocities, or angles before the cosine was taken, may have been in degrees."""
    motion = Motion.of(World.of(find_task("reacher")))
    assert (motion.turns, motion.speed) == ({0: 2, 1: 3}, {0: 6, 1: 7}) and motion.names == {0: "joint0", 1: "joint1"}
    assert motion.moving[[0, 1, 2, 3, 6, 7]].all()
    sound = columns("reacher", 4)
    fast = sound["observations"].copy()
    fast[:, 6:8] = np.rad2deg(fast[:, 6:8])
    assert np.abs(fast[:, 6:8]).max() > 10  # which some tasks cut, but not this one
    assert "(degrees for radians?)" in alarms("reacher", {**sound, "observations": fast})["units"]
    of_degrees = sound["observations"].copy()
    angles = np.rad2deg(np.arctan2(of_degrees[:, 2:4], of_degrees[:, :2]))
    of_degrees[:, :2], of_degrees[:, 2:4] = np.cos(angles), np.sin(angles)
    assert {"units", "order"} & alarms("reacher", {**sound, "observations": of_degrees}).keys()
    plain = sound["observations"].copy()
    plain[:, :2] = np.arctan2(plain[:, 2:4], plain[:, :2])  # the angle in its cosine's place
    assert "no cosine and sine" in alarms("reacher", {**sound, "observations": plain})["units"]


def test_rows_in_another_order() -> None:
    sound = columns("halfcheetah", 3)
    assert "correlation of -0.9" in alarms("halfcheetah", {k: column[::-1] for k, column in sound.items()})["order"]
    shuffled = np.random.default_rng(0).permutation(3000)
    rows = {**sound, "observations": sound["observations"][shuffled], "actions": sound["actions"][shuffled]}
    assert "shuffled" in alarms("halfcheetah", rows)["order"]
    transitions = {**rows, "next_observations": record("halfcheetah", 3).next_observations[shuffled]}
    assert "order" not in alarms("halfcheetah", transitions)  # which are sound one by one


def test_columns_that_stand_still() -> None:
    sound = columns("halfcheetah", 3)
    constant = sound["observations"].copy()
    constant[:, 3] = 0.2
    found = alarms("halfcheetah", {**sound, "observations": constant})
    assert found["constant-observations"].startswith("1 of 17 columns (3) of 'observations' never change")
    for column in (3, 12):  # an angle, a velocity
        frozen = sound["observations"].copy()
        frozen[500:560, column] = frozen[500, column]
        found = alarms("halfcheetah", {**sound, "observations": frozen})
        assert found["frozen"].startswith(f"1 of 17 columns ({column}) of 'observations' stand still")
        assert "60 of 3000 rows (first 500, 501 and 502)" in found["frozen"]
    still = sound["observations"].copy()
    still[500:560] = [*still[500, :8], *np.zeros(9)]  # the whole robot lies where it lies
    assert "frozen" not in alarms("halfcheetah", {**sound, "observations": still})


def test_what_was_hit_moves_and_does_not_jump() -> None:
    """A thing of four columns flies off for some rows; rows from elsewhere come and go in one step."""
    random = np.random.default_rng(0)
    observations = np.cumsum(random.uniform(-0.01, 0.01, (1000, 12)), axis=0).astype(np.float32)
    flies = np.array([0.3, -0.2, 0.3, 0.2], np.float32)
    observations[500:504, 8:] += np.arange(1, 5, dtype=np.float32)[:, None] * flies
    observations[504:, 8:] += 4 * flies
    arrays = {
        "observations": observations,
        "actions": random.uniform(-1, 1, (1000, 2)).astype(np.float32),
        "terminals": np.arange(1000) % 500 == 249,
        "timeouts": np.zeros(1000, bool),
    }
    assert "lost-ends" not in checks(arrays)
    observations[100, 8:] += 2
    assert "by the jumps after 2 of 999 rows (99 and 100)" in checks(arrays)["lost-ends"]


def checks(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Of no task."""
    table = MemoryTable(Path("mine.hdf5"), arrays, {}, "d4rl")
    return {finding.check: finding.message for finding in diagnose(table, physics=False).findings}


def test_states_that_make_no_sense_are_found_and_the_simulator_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write a file
    arrays = columns("hopper", 2)
    seen = arrays["observations"].copy()
    seen[:, 5:] = 10  # at which the task cuts velocities
    where = np.pad(seen[:, :5].astype(np.float64), ((0, 0), (1, 0)))
    arrays |= {"observations": seen, "infos/qpos": where, "infos/qvel": np.full_like(where, 1e12)}
    table = MemoryTable(Path("mine.hdf5"), arrays, {"env_id": "Hopper-v5", "env_kwargs": "{}"}, "d4rl")
    assert "dynamics" in {finding.check for finding in diagnose(table).findings}
    told = capfd.readouterr()
    assert (told.out, told.err, list(tmp_path.iterdir())) == ("", "", [])


def test_time_limits_told_as_falls() -> None:
    sound = columns("hopper", 8)
    whole = record("halfcheetah", 3)
    nothing = np.zeros_like(sound["timeouts"])
    assert alarms("hopper", {**sound, "timeouts": nothing}) == {}  # falls of some length or other
    ends = np.zeros(90, bool)
    ends[29::30] = True  # thrice exactly thirty rows
    short = {name: column[:90] for name, column in sound.items()}
    marked = {**short, "terminals": ends, "timeouts": np.zeros(90, bool)}
    assert "after exactly 30 steps in 3 of 3 episodes" in alarms("hopper", marked)["limits-as-terminals"]
    long = np.zeros(1000, bool)
    long[-1] = True
    rows = {"observations": np.tile(sound["observations"][:20], (50, 1)), "actions": whole.actions[:1000, :3]}
    found = alarms("hopper", {**rows, "rewards": whole.rewards[:1000], "terminals": long})
    assert "after exactly 1000 steps" in found["limits-as-terminals"]


def test_a_reset_within_what_is_usual_is_no_change_of_goal() -> None:
    """A running HalfCheetah's place is not observed, so its start is as near as any of its quick steps."""
    sound = columns("halfcheetah", 3)
    quick = sound["observations"].copy()
    inside = np.setdiff1d(np.arange(3000), [0, 1000, 2000, 999, 1999, 2999])
    quick[inside[::20]] *= 4  # so that what is usual is wide
    assert "goes-on" not in alarms("halfcheetah", {**sound, "observations": quick})
    cut = sound["timeouts"].copy()
    cut[[300, 700, 1500]] = True  # as D4RL's changes of goal
    assert "goes-on" in alarms("halfcheetah", {**sound, "timeouts": cut})
