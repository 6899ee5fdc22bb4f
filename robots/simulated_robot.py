"""The simulated robot from the controller's side: starts the process, or finds one, and talks with it."""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .disturbances import Disturbances
from .features import Feature
from .robot import Observation, RobotError
from .tasks import Task
from .wire import LARGEST, Flag, Kind, Packet, packed, unpacked

_STARTS, _ANSWERS, _LEAVES, _AGAIN = 60.0, 5.0, 2.0, 0.1  # seconds: to start, to answer, to leave, and to ask again


class SimulatedRobot:
    """A robot of a task in a process of its own (:mod:`~.robot_process`), with the members of :class:`~.robot.Robot`.

    ``factor`` is how fast its time passes. In ``lockstep`` it has no clock: an action makes a step, and is answered.
    ``watchdog`` are the seconds of its time without a command after which it damps itself. ``port`` is that of a
    process that runs already, instead of one of its own. ``film`` names a file that a process of its own writes in the
    end, with the robot's positions (T, nq), so many a second.
    """

    def __init__(
        self,
        task: Task,
        *,
        lockstep: bool = False,
        factor: float = 1.0,
        watchdog: float = 0.1,
        port: int | None = None,
        film: tuple[Path, float] | None = None,
    ) -> None:
        self.task, self.lockstep, self.factor, self.watchdog = task, lockstep, factor, watchdog
        self.port, self.film = port, film
        self.process: subprocess.Popen[bytes] | None = None
        self.counts: dict[str, Any] = {}
        self.malformed = 0
        self._own = port is None
        self._socket: socket.socket | None = None
        self._session, self._number = 0, 0
        self._newest: Packet | None = None
        self._about: dict[str, Any] = {}
        self._asked, self._sent = 0, b""

    @property
    def observation_features(self) -> tuple[Feature, ...]:
        """Names and units of an observation's numbers (O,), in order."""
        return tuple(Feature(name, unit) for name, unit in self._about["observation"])

    @property
    def action_features(self) -> tuple[Feature, ...]:
        """Names and units of an action's numbers (A,), in order."""
        return tuple(Feature(name, unit) for name, unit in self._about["action"])

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest action (A,)."""
        return np.array(self._about["action_low"]), np.array(self._about["action_high"])

    @property
    def is_connected(self) -> bool:
        """Whether it is held."""
        return self._socket is not None

    def connect(self) -> None:
        """Start the process, or find it, and take hold of the robot.

        Errors: :class:`RobotError` when there is none, another controller has it, or it is of another kind.
        """
        if self._own:
            self._start()
        assert self.port is not None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", self.port))
        self._socket.setblocking(False)
        self._session, self._number, self._newest = secrets.randbits(32), 0, None
        try:
            answer = self._ask(Kind.HELLO, {}, lambda packet: packet.kind in (Kind.WELCOME, Kind.REFUSED))
            if answer.kind == Kind.REFUSED:
                raise RobotError(f"the robot at port {self.port} refuses: {answer.values()['why']}")
            self._about = answer.values()
            if (self._about["task"], self._about["lockstep"]) != (self.task.name, self.lockstep):
                what = f"{self._about['task']}{' in lockstep' if self._about['lockstep'] else ''}"
                raise RobotError(f"the robot at port {self.port} is {what}")
            self.factor = float(self._about["factor"])
        except RobotError:
            self._socket.close()
            self._socket = None
            self._end()
            raise

    def reset(self, seed: int) -> None:
        """Put the robot where the episode of a seed starts."""
        before = self._number  # what has come until now, or is on its way, is of another episode
        self._newest = self._ask(
            Kind.RESET, {"seed": seed}, lambda packet: packet.kind == Kind.OBSERVATION and packet.numbers()[2] > before
        )

    def get_observation(self, timeout: float = 0.0) -> Observation | None:
        """The newest observation, or none yet; waits for a new one up to ``timeout`` seconds, in lockstep always."""
        before = self._newest
        self._receive()
        if self.lockstep and self._asked:
            self._wait_for_answer()
        elif timeout and self._newest is before:
            select.select([self._open()], [], [], timeout)
            self._receive()
        return None if self._newest is None else _observation(self._newest)

    def send_action(self, action: np.ndarray) -> None:
        """Act (A,)."""
        self._say(Kind.ACTION, np.asarray(action, "<f8").tobytes())
        self._asked = self._number

    def damp(self) -> None:
        """Let no motor push any more."""
        self._say(Kind.DAMP)
        self._asked = self._number

    def push(self, velocity: tuple[float, float]) -> None:
        """Push the robot, so that it would be faster by so many m/s along the floor."""
        self._say(Kind.DISTURB, {"push": list(velocity)})

    def disturb(self, disturbances: Disturbances) -> None:
        """Have its sensors and motors suffer from these from now on."""
        self._say(Kind.DISTURB, {"disturbances": disturbances.to_values()})

    def disconnect(self) -> None:
        """Damp the robot and let go of it; what it counted is in ``counts`` afterwards, if it still answers."""
        if self._socket is not None:
            with contextlib.suppress(RobotError):
                found = self._ask(Kind.BYE, {}, lambda packet: packet.kind == Kind.GOODBYE, patience=_LEAVES)
                self.counts = found.values()
            self._socket.close()
            self._socket = None
        self._end()

    def _start(self) -> None:
        self._end()
        command = [sys.executable, "-m", __name__.rpartition(".")[0] + ".robot_process"]
        # A session of its own: Ctrl-C is for the controller.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.process = process
        assert process.stdin is not None and process.stdout is not None
        values: dict[str, Any] = {"task": self.task.name, "disturbances": self.task.disturbances.to_values(), "port": 0}
        if self.film is not None:
            values["film"] = [str(self.film[0]), self.film[1]]
        values |= {"lockstep": self.lockstep, "factor": self.factor, "watchdog": self.watchdog}
        process.stdin.write(json.dumps(values).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _STARTS)
        line = process.stdout.readline() if ready else b""
        said: dict[str, Any] = (
            json.loads(line) if line else {"error": "it ended at once, or is not ready after a minute"}
        )
        if "error" in said:
            self._end()
            raise RobotError(f"the simulated robot does not start: {said['error']}")
        self.port = int(said["port"])

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # by which it knows
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise RobotError("the robot is not connected")
        return self._socket

    def _check_process(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise RobotError(f"the robot's process has ended, with code {self.process.returncode}")

    def _say(self, kind: Kind, payload: Any = b"") -> None:
        self._number += 1
        self._sent = packed(kind, self._session, self._number, time.monotonic(), payload)
        self._put(self._sent)

    def _put(self, datagram: bytes) -> None:
        try:
            self._open().send(datagram)
        except ConnectionError as error:
            self._check_process()
            raise RobotError(f"nobody is at the robot's port {self.port}") from error
        except BlockingIOError:
            pass  # lost, as any datagram can be: the next one says it anew

    def _receive(self, wanted: Callable[[Packet], bool] | None = None) -> Packet | None:
        """Take in all that has come, or until there is what is wanted."""
        receive, silent = self._open().recv, True
        while True:
            try:
                datagram = receive(LARGEST)
            except BlockingIOError:
                if silent:
                    self._check_process()
                return None
            except ConnectionError as error:
                self._check_process()
                raise RobotError(f"nobody is at the robot's port {self.port}") from error
            silent = False
            packet = unpacked(datagram)
            if packet is None or packet.session != self._session:
                self.malformed += packet is None
                continue
            newer = self._newest is None or packet.number > self._newest.number
            if packet.kind == Kind.OBSERVATION and newer:
                self._newest, self._asked = packet, 0
            if wanted is not None and wanted(packet):
                return packet

    def _ask(
        self, kind: Kind, payload: Any, answers: Callable[[Packet], bool], *, patience: float = _ANSWERS
    ) -> Packet:
        """Say something until it is answered, for datagrams can be lost."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._say(kind, payload)
            again = time.monotonic() + _AGAIN
            while time.monotonic() < again:
                select.select([self._open()], [], [], max(0.0, again - time.monotonic()))
                found = self._receive(answers)
                if found is not None:
                    self._asked = 0
                    return found
        raise RobotError(f"the robot does not answer for {patience:g} seconds")

    def _wait_for_answer(self) -> None:
        end = time.monotonic() + _ANSWERS
        while self._asked:
            if time.monotonic() > end:
                raise RobotError(f"the robot does not answer for {_ANSWERS:g} seconds")
            select.select([self._open()], [], [], _AGAIN)
            self._receive()


def _observation(packet: Packet) -> Observation:
    numbers, flags = packet.numbers(), packet.flags
    return Observation(
        values=numbers[3:].astype(np.float32),
        time=packet.time,
        number=packet.number,
        elapsed=float(numbers[0]),
        returned=float(numbers[1]),
        terminated=bool(flags & _TERMINATED),
        truncated=bool(flags & _TRUNCATED),
        succeeded=bool(flags & _SUCCEEDED),
        damped=bool(flags & _DAMPED),
    )


# As plain numbers: enumerations take microseconds for what is asked in every period.
_TERMINATED, _TRUNCATED, _SUCCEEDED, _DAMPED = (
    int(flag) for flag in (Flag.TERMINATED, Flag.TRUNCATED, Flag.SUCCEEDED, Flag.DAMPED)
)
