"""The control loop on the simulated robot: what is promised when all is well, and for every fault."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies import make_policy

from understudy.datasets import load
from understudy.imitation import evaluate
from understudy.imitation.driving import Driver
from understudy.imitation.recording import record
from understudy.robots import Disturbances, Task, find_task
from understudy.robots.controller import Controller, ControllerConfig, Episode, StopButton
from understudy.robots.robot import Observation, RobotError
from understudy.robots.robot_log import RobotLog
from understudy.robots.safety import SafetyConfig
from understudy.robots.simulated_robot import SimulatedRobot
from understudy.robots.wire import Kind, packed

HOPPER, CHEETAH = find_task("hopper"), find_task("halfcheetah")
QUICK = SafetyConfig(stale_after=0.1, damp_after=0.2, stop_after=0.4)


class Still:
    """A policy that does nothing, until it does something else in period ``at``."""

    def __init__(self, size: int = 6, at: int = -1, what: Any = None) -> None:
        self.size, self.at, self.what, self.period = size, at, what, 0

    def reset(self, seed: int) -> None:
        self.period = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.period += 1
        if self.period > self.at >= 0:
            found = self.what()
            if found is not None:
                return found
        return np.zeros(self.size)


@contextlib.contextmanager
def connected(task: Task = CHEETAH, **options: Any) -> Generator[SimulatedRobot]:
    robot = SimulatedRobot(task, **options)
    robot.connect()
    try:
        yield robot
    finally:
        robot.disconnect()


def log_of(robot: SimulatedRobot, folder: Path) -> RobotLog:
    about = {"task": robot.task.name, "env_id": robot.task.environment_id, "env_kwargs": "{}"}
    return RobotLog(folder, robot.observation_features, robot.action_features, about)


def drive(robot: Any, policy: Any, seconds: float = 3.0, **more: Any) -> Episode:
    lockstep = bool(getattr(robot, "lockstep", True))
    config = ControllerConfig(more.pop("rate", 20.0), seconds, lockstep=lockstep, safety=more.pop("safety", QUICK))
    return Controller(robot, policy, config, **more).play(5)


@pytest.mark.parametrize(
    "of",
    [{}, {"tremble": 0.1, "noise": 0.02, "bias": 0.01, "observation_delay": 0.016, "dropped": 0.1, "push": 0.3}],
    ids=["plain", "disturbed"],
)
def test_lockstep_is_an_evaluation_to_the_bit(of: dict[str, Any]) -> None:
    task = dataclasses.replace(HOPPER, disturbances=Disturbances.of_values(of))
    policy = make_policy(seed=2)
    with connected(task, lockstep=True) as robot:
        controller = Controller(robot, Driver(policy), ControllerConfig(125.0, 60.0, lockstep=True))
        for seed in (5, 6, 5):
            episode = controller.play(seed)
            expected = evaluate(policy.controller([seed]), task, 1, 1, seed=seed)
            assert episode.returned == expected.returns[0, 0]
            assert episode.periods == expected.lengths[0, 0]
            assert episode.damped
            assert not episode.stopped


def test_real_time_keeps_rate_and_moves_as_the_simulator_does(tmp_path: Path) -> None:
    with connected(factor=4.0) as robot:
        log = log_of(robot, tmp_path / "log")
        patient = SafetyConfig(stale_after=20.0, damp_after=21.0, stop_after=60.0)  # whatever else this machine does
        config = ControllerConfig(20.0, 1.0, factor=4.0, safety=patient)
        controller = Controller(robot, Still(), config, log)
        episode = controller.play(3)
        log.close()
    assert episode.ended == "1 s are over"
    assert episode.damped
    assert 1.0 <= episode.seconds < 4.0
    assert episode.states["run"] == episode.periods
    rows = load(tmp_path / "log")
    assert (rows.task_name, len(rows.starts)) == ("halfcheetah", 1)
    assert np.array_equal(rows.observations[1:], rows.next_observations[:-1])
    assert rows.truncated[-1]
    # A robot that does nothing falls as it falls in a simulator without a clock, wherever it was looked at.
    environment = CHEETAH.make()
    environment.reset(seed=3)
    environment.frame_skip = 1
    fall = np.stack([environment.step(np.zeros(6))[0] for _ in range(450)])
    environment.close()
    gaps = np.abs(fall[None] - rows.observations[1:, None]).max(-1).min(1)
    assert gaps.max() < 1e-5


def test_a_lockstep_log_is_the_episode(tmp_path: Path) -> None:
    policy = make_policy(seed=2)
    with connected(HOPPER, lockstep=True) as robot:
        log = log_of(robot, tmp_path / "log")
        episode = Controller(robot, Driver(policy), ControllerConfig(125.0, 60.0, lockstep=True), log).play(5)
        log.close()
    recorded, read = (
        record(HOPPER, lambda rows: policy.act(rows[:, :1]).expand_as(rows[..., :3]), seed=5, episodes=1),
        load(tmp_path / "log"),
    )
    assert len(read) == episode.periods == len(recorded)
    assert read.episode_returns[0] == pytest.approx(episode.returned, rel=1e-6)
    for name in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_allclose(getattr(read, name), getattr(recorded, name), atol=2e-4)
    assert read.terminated[-1] == recorded.terminated[-1]


def test_a_slower_policy_stands_between_its_questions() -> None:
    asked, told = Still(), []
    with connected(lockstep=True) as robot:
        send = robot.send_action
        robot.send_action = lambda action: (told.append(action), send(action))[1]
        config = ControllerConfig(60.0, 1.0, policy_rate=20.0, lockstep=True)
        episode = Controller(robot, asked, config).play(0)
    assert (asked.period, len(told), episode.periods) == (20, 60, 60)


def test_the_robot_damps_itself_when_nobody_tells_it_anything() -> None:
    with connected(HOPPER, watchdog=0.4) as robot:
        robot.reset(0)
        robot.send_action(np.zeros(3))
        time.sleep(0.03)
        assert not robot.get_observation().damped
        time.sleep(1.0)
        assert robot.get_observation().damped
        robot.send_action(np.zeros(3))
        time.sleep(0.03)
        assert not robot.get_observation().damped
    assert robot.counts["watchdog"] >= 1
    assert robot.counts["damped"]


def test_a_damped_robot_sinks_and_does_not_push() -> None:
    with connected(lockstep=True) as robot:
        robot.reset(0)
        for action in (np.ones(6), None, None, None, None, None):
            robot.damp() if action is None else robot.send_action(action)
            seen = robot.get_observation()
        assert seen.damped
        assert np.abs(seen.values[11:]).max() < 3  # joints hardly move; under full torque they do at 10 rad/s and more


def test_a_killed_robot(tmp_path: Path) -> None:
    with connected() as robot:
        log = log_of(robot, tmp_path / "log")
        assert robot.process is not None
        episode = drive(robot, Still(at=5, what=robot.process.kill), log=log)
        log.close()
    assert episode.stopped
    assert "the robot's process has ended, with code -9" in episode.ended or "nobody is at" in episode.ended
    assert len(load(tmp_path / "log")) >= 4


def test_a_frozen_robot_is_given_up_and_finds_itself_damped(tmp_path: Path) -> None:
    with connected() as robot:
        process = robot.process
        assert process is not None
        episode = drive(robot, Still(at=5, what=lambda: process.send_signal(signal.SIGSTOP)))
        assert episode.ended == "observation older than 0.1 s, for 0.4 s"
        assert episode.states["hold"] > 0
        assert not episode.damped  # nobody knows
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        assert robot.get_observation().damped
    assert robot.counts["damped"]


def test_a_restarted_robot_is_another_and_starts_damped() -> None:
    with connected() as robot:
        assert robot.process is not None
        assert drive(robot, Still(at=3, what=robot.process.kill)).stopped
        robot.disconnect()
        robot.connect()
        robot.reset(0)
        assert robot.get_observation().damped
        assert drive(robot, Still(), 0.3).ended == "0.3 s are over"


class Weather(threading.Thread):
    """Between controller and robot: packets are lost, doubled, late and spoiled."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.inside, self.outside = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.inside.connect(("127.0.0.1", port))
        self.outside.bind(("127.0.0.1", 0))
        self.port, self.over = self.outside.getsockname()[1], False
        self.inside.settimeout(0.001)
        self.outside.settimeout(0.001)

    def _out(self, address: Any, datagram: bytes) -> None:
        self.outside.sendto(datagram, address)

    def run(self) -> None:
        random, address, kept = np.random.default_rng(0), None, []
        while not self.over:
            for source in (self.outside, self.inside):
                try:
                    datagram, where = source.recvfrom(60_000)
                except OSError:
                    continue
                address = where if source is self.outside else address
                send = self.inside.send if source is self.outside else functools.partial(self._out, address)
                fate = random.random()
                if fate < 0.1:
                    continue
                if fate < 0.2:
                    send(datagram)
                if fate < 0.3:
                    kept.append((send, datagram))
                    continue
                if fate < 0.4:
                    spoiled = bytearray(datagram)
                    spoiled[random.integers(len(spoiled))] ^= 255
                    datagram = bytes(spoiled)
                send(datagram)
                while len(kept) > 3:
                    late, old = kept.pop(0)
                    late(old)
        self.inside.close()
        self.outside.close()


def test_packets_lost_doubled_late_and_malformed() -> None:
    with connected() as host:
        assert host.port is not None
        weather = Weather(host.port)
        weather.start()
        # The one behind the weather takes the robot over from the one who started it, who has said good-bye.
        host._ask(Kind.BYE, {}, lambda packet: packet.kind == Kind.GOODBYE)  # pyright: ignore[reportPrivateUsage]
        with connected(port=weather.port) as robot:
            episode = drive(robot, Still(), 1.0)
            spoiled = robot.malformed
        weather.over = True
        weather.join()
    assert episode.ended == "1 s are over"
    assert episode.damped
    assert spoiled > 0
    assert robot.counts["malformed"] > 0
    assert robot.counts["damped"]


def test_noise_on_the_port_is_counted_and_changes_nothing() -> None:
    with connected(lockstep=True) as robot:
        robot.reset(0)
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for said in (b"", b"hello", packed(Kind.ACTION, 1, 1, 0.0, b"x"), os.urandom(500)):
            stranger.sendto(said, ("127.0.0.1", robot.port or 0))
        stranger.close()
        robot._say(Kind.ACTION, np.full(6, np.nan).tobytes())  # pyright: ignore[reportPrivateUsage]
        robot._say(Kind.ACTION, np.zeros(5).tobytes())  # pyright: ignore[reportPrivateUsage]
        robot._say(Kind.RESET, b"[" * 50)  # pyright: ignore[reportPrivateUsage]
        robot.send_action(np.zeros(6))
        seen = robot.get_observation()
        assert seen is not None
        assert seen.elapsed == pytest.approx(0.05)
    assert robot.counts["malformed"] == 6


class Spoiled:
    """A robot whose sensors fail from some number on."""

    def __init__(self, robot: SimulatedRobot, after: int, for_: int) -> None:
        self._robot, self._after, self._for = robot, after, for_
        self._seen = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._robot, name)

    def get_observation(self, timeout: float = 0.0) -> Observation | None:
        seen = self._robot.get_observation(timeout)
        self._seen += 1
        if seen is not None and self._after < self._seen <= self._after + self._for:
            return dataclasses.replace(seen, values=np.full_like(seen.values, np.nan))
        return seen


def test_nan_observations_are_held_and_if_they_stay_the_robot_is_stopped(tmp_path: Path) -> None:
    with connected(lockstep=True) as robot:
        log = log_of(robot, tmp_path / "log")
        episode = drive(Spoiled(robot, 20, 10**9), Still(), log=log)
        log.close()
        assert episode.ended == "observation with NaN or infinite numbers, for 0.4 s"
        assert (episode.states["hold"], episode.states["damp"]) == (4, 4)  # at 20 Hz until 0.2 s, and until 0.4 s
        assert episode.damped
        passing = drive(Spoiled(robot, 20, 4), Still(), 1.0)
        assert passing.ended == "1 s are over"
        assert 0 < passing.states["hold"] <= 4
    assert len(load(tmp_path / "log")) > 5


@pytest.mark.parametrize(
    ("what", "ended"),
    [
        (lambda: 1 / 0, "the policy failed: ZeroDivisionError: division by zero"),
        (lambda: np.full(6, np.nan), "action with NaN or infinite numbers, for 0.4 s"),
        (lambda: np.zeros(5), "the policy failed: it gives an action of shape (5,)"),
    ],
    ids=["raises", "NaN", "shape"],
)
def test_a_policy_that_fails(what: Any, ended: str, lockstep_robot: SimulatedRobot, tmp_path: Path) -> None:
    log = log_of(lockstep_robot, tmp_path / "log")
    episode = drive(lockstep_robot, Still(at=5, what=what), log=log)
    log.close()
    assert (episode.ended, episode.stopped, episode.damped) == (ended, True, True)
    assert len(load(tmp_path / "log")) >= 5


@pytest.fixture(scope="module")
def lockstep_robot() -> Iterator[SimulatedRobot]:
    with connected(lockstep=True) as robot:
        yield robot


def test_a_policy_that_takes_too_long_is_given_up() -> None:
    with connected() as robot:
        begun = time.monotonic()
        episode = drive(robot, Still(at=5, what=lambda: time.sleep(60)))
        assert time.monotonic() - begun < 10
        assert episode.ended == "the policy has not answered for 0.4 s"
        assert episode.damped
    assert robot.counts["watchdog"] == 1  # the robot did not wait for that


def test_a_policy_that_is_late_misses_deadlines_and_they_are_counted() -> None:
    with connected() as robot:
        episode = drive(robot, Still(at=5, what=lambda: time.sleep(0.12)), 1.0)
    assert episode.ended == "1 s are over"
    assert episode.missed >= 10  # two of three periods


def test_a_full_disk_ends_the_log_and_not_the_control(tmp_path: Path) -> None:
    with connected(lockstep=True) as robot:
        log = log_of(robot, tmp_path / "log")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        try:
            episode = drive(robot, Still(), 3.0)
            for _ in range(2):
                episode = drive(robot, Still(), 3.0, log=log)
            log.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert episode.ended == "3 s are over"
    assert episode.damped
    assert log.error == "the log ends early: File too large"
    assert (tmp_path / "log" / "rows.bin").stat().st_size == 5000
    assert len(load(tmp_path / "log")) == 5000 // (8 * (9 + 17 + 6)) - 1


def test_two_controllers_at_once() -> None:
    with connected(lockstep=True) as robot:
        robot.reset(0)
        second = SimulatedRobot(CHEETAH, lockstep=True, port=robot.port)
        with pytest.raises(RobotError, match="refuses: another controller has it; only one can"):
            second.connect()
        assert not second.is_connected
        robot.send_action(np.zeros(6))
        seen = robot.get_observation()
        assert seen is not None
        assert seen.elapsed == pytest.approx(0.05)
    assert robot.counts["refused"] >= 1


def test_a_controller_of_another_robot() -> None:
    with connected(lockstep=True) as robot:
        robot._ask(Kind.BYE, {}, lambda packet: packet.kind == Kind.GOODBYE)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(RobotError, match="is halfcheetah in lockstep"):
            SimulatedRobot(HOPPER, lockstep=True, port=robot.port).connect()
    with pytest.raises(RobotError, match="nobody is at the robot's port"):
        SimulatedRobot(HOPPER, port=robot.port).connect()


def test_the_button_stops_and_ctrl_c_is_one() -> None:
    with connected() as robot:
        button = StopButton()
        episode = drive(robot, Still(at=3, what=lambda: button.press("stopped by a test")), button=button)
        assert (episode.ended, episode.damped) == ("stopped by a test", True)
        episode = drive(robot, Still(at=3, what=lambda: os.kill(os.getpid(), signal.SIGINT)))
        assert (episode.ended, episode.damped) == ("stopped by the operator (SIGINT)", True)
        assert robot.process is not None
        assert robot.process.poll() is None


def test_a_robot_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, os; from understudy.robots import find_task; "
        "from understudy.robots.simulated_robot import SimulatedRobot; "
        "r = SimulatedRobot(find_task('hopper')); r.connect(); print(r.process.pid, flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{done.stdout.strip()}").exists():
        time.sleep(0.05)
    assert done.stdout.strip().isdecimal()
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
