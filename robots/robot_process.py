"""The simulated robot as a process of its own: ``python -m understudy.robots.robot_process`` with JSON on its input.

It answers one controller at a time by datagrams (:mod:`~.wire`), steps MuJoCo by its own clock or, in lockstep, when it
is told to, and damps itself when commands stop coming. When its input ends it ends too: a robot does not outlive who
started it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import signal
import socket
import sys
import time
from typing import Any

import numpy as np

from .disturbances import Disturbances
from .errors import InputError
from .features import features_of
from .simulated_body import Body, LockstepBody, Sensed, SmoothBody
from .tasks import find_task
from .wire import LARGEST, Flag, Kind, Packet, packed, unpacked

_FORGOTTEN = 2.0  # seconds of silence after which another controller may have the robot
_BEHIND = 0.25  # seconds that the clock may fall behind before it is set back


class RobotProcess:
    """A body, a socket and a clock. ``factor`` is how fast its time passes; ``watchdog`` is in its seconds."""

    def __init__(self, body: Body, *, factor: float, watchdog: float, port: int = 0, film: float = 0.0) -> None:
        self.body, self.factor, self.watchdog, self.film = body, factor, watchdog, film
        self.positions: list[np.ndarray] = []  # of the robot, ``film`` times a second, for a video
        self.counts = {"steps": 0, "watchdog": 0, "malformed": 0, "refused": 0, "slipped": 0}
        self.over = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._controller: tuple[Any, int] | None = None  # its address and session
        self._left: tuple[Any, int] | None = None  # the last one who said good-bye
        self._heard, self._commanded, self._last_number = 0.0, 0.0, 0
        self._command: np.ndarray | None = None  # none until the episode's first: it stands on its stand
        self._number, self._tick, self._filmed = 0, time.monotonic(), 0
        self._episode = 0  # the number of the packet that began it
        self._newest = body.reset(0)
        low, high = body.spaces.action_low, body.spaces.action_high
        observed, commanded = features_of(body.task)
        self._welcome = {
            "task": body.task.name,
            "control_rate": body.spaces.control_rate,
            "lockstep": isinstance(body, LockstepBody),
            "factor": factor,
            "observation": [[feature.name, feature.unit] for feature in observed],
            "action": [[feature.name, feature.unit] for feature in commanded],
            "action_low": low.tolist(),
            "action_high": high.tolist(),
        }

    def run(self, until: Any) -> None:
        """Serve until the stream ``until`` ends, or for ever."""
        smooth = isinstance(self.body, SmoothBody)
        while not self.over:
            wait = max(0.0, self._tick - time.monotonic()) if smooth else 1.0
            readable, _, _ = select.select([self._socket, until], [], [], wait)
            if until in readable and not until.readline():
                break
            if self._socket in readable:
                self._receive()
            if smooth and time.monotonic() >= self._tick:
                self._step_smoothly()
        self.body.damp(True)
        self._socket.close()

    def _step_smoothly(self) -> None:
        body, now = self.body, time.monotonic()
        assert isinstance(body, SmoothBody)
        self._tick += body.period / self.factor
        if now - self._tick > _BEHIND:  # this process has been asleep, and time does not come back
            self.counts["slipped"] += 1
            self._tick = now
        if self._command is None:
            self._newest = (now, *self._newest[1:])
            self._tell([self._newest])
            return
        if not body.damped and now - self._commanded > self.watchdog / self.factor:
            body.damp(True)
            self.counts["watchdog"] += 1
        self.counts["steps"] += 1
        self._tell(body.step(self._command))

    def _tell(self, sensed: list[Sensed]) -> None:
        for when, elapsed, returned, flags, values in sensed:
            self._number += 1
            if self.film and elapsed and elapsed * self.film >= self._filmed:
                self._filmed = int(elapsed * self.film) + 1
                self.positions.append(self.body.environment.data.qpos.copy())
            numbers = np.array([elapsed, returned, self._episode, *values], "<f8").tobytes()
            self._send(Kind.OBSERVATION, numbers, flags | Flag.DAMPED * self.body.damped, when)

    def _receive(self) -> None:
        """Everything that has come in."""
        while True:
            try:
                datagram, address = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # a controller that is gone; the watchdog knows what to do
            packet = unpacked(datagram)
            try:
                good = packet is not None and self._follow(packet, address)
            except (ValueError, KeyError, TypeError, InputError):
                good = False
            self.counts["malformed"] += not good

    def _follow(self, packet: Packet, address: Any) -> bool:
        """Do what a packet says, if it is from the one who may; false for what makes no sense."""
        now, owner = time.monotonic(), (address, packet.session)
        if packet.kind == Kind.HELLO:
            if self._controller not in (None, owner) and now - self._heard < _FORGOTTEN:
                self.counts["refused"] += 1
                why = {"why": "another controller has it; only one can"}
                self._socket.sendto(packed(Kind.REFUSED, packet.session, 0, now, why), address)
                return True
            if self._controller != owner:
                self._controller, self._last_number = owner, 0
                self.body.damp(True)
            self._heard = now
            self._send(Kind.WELCOME, self._welcome)
            return True
        if packet.kind == Kind.WATCH:
            positions = np.asarray(self.body.environment.data.qpos, "<f8").tobytes()
            self._socket.sendto(packed(Kind.POSITIONS, packet.session, packet.number, now, positions), address)
            return True
        if packet.kind == Kind.BYE and owner == self._left:  # again: the answer was lost
            self._say_goodbye(owner)
            return True
        if self._controller != owner:
            return True  # somebody who has been refused, or a late word of one who has left
        self._heard = now
        if packet.kind == Kind.ACTION:
            if packet.number <= self._last_number:
                return True  # late, or twice
            self._last_number = packet.number
            return self._act(packet.numbers(), now)
        if packet.kind == Kind.DAMP:
            self._last_number = max(self._last_number, packet.number)
            self.body.damp(True)
            self._answer()
        elif packet.kind == Kind.RESET:
            self._newest = self.body.reset(int(packet.values()["seed"]))
            self._command, self._filmed, self._episode = None, 0, packet.number
            self._last_number = max(self._last_number, packet.number)
            self._tell([self._newest])
        elif packet.kind == Kind.DISTURB:
            values = packet.values()
            if "push" in values:
                self.body.push(np.array(values["push"], np.float64).reshape(2))
            if "disturbances" in values:
                self.body.suffer(Disturbances.of_values(values["disturbances"]))
        elif packet.kind == Kind.BYE:
            self.body.damp(True)
            self._controller, self._left = None, owner
            self._say_goodbye(owner)
        else:
            return False
        return True

    def _say_goodbye(self, owner: tuple[Any, int]) -> None:
        counted = {**self.counts, "damped": self.body.damped}
        with contextlib.suppress(ConnectionError, BlockingIOError):
            self._socket.sendto(packed(Kind.GOODBYE, owner[1], 0, time.monotonic(), counted), owner[0])

    def _act(self, action: np.ndarray, now: float) -> bool:
        low, high = self.body.spaces.action_low, self.body.spaces.action_high
        if action.shape != low.shape or not np.isfinite(action).all():
            return False
        self._command, self._commanded = np.clip(action, low, high), now
        self.body.damp(False)
        if isinstance(self.body, LockstepBody):
            self.counts["steps"] += 1
            self._answer(self._command)
        return True

    def _answer(self, command: np.ndarray | None = None) -> None:
        """In lockstep whatever is said makes a step, and is answered by what is seen then."""
        if isinstance(self.body, LockstepBody):
            if command is not None or self.body.elapsed != 0.0:
                still = np.clip(np.zeros_like(self.body.spaces.action_low), *self._bounds())
                self._newest = next(iter(self.body.step(still if command is None else command)), self._newest)
            self._tell([self._newest])

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.body.spaces.action_low, self.body.spaces.action_high

    def _send(self, kind: Kind, payload: Any, flags: int = 0, when: float | None = None) -> None:
        if self._controller is None:
            return
        address, session = self._controller
        stamp = time.monotonic() if when is None else when
        with contextlib.suppress(ConnectionError, BlockingIOError):  # lost, as any datagram can be
            self._socket.sendto(packed(kind, session, self._number, stamp, payload, flags), address)


def main() -> int:
    """Read what to be from the first line of the input, say on which port, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's stop button, and it needs the robot then
    try:
        values = json.loads(sys.stdin.buffer.readline())
        task = find_task(values["task"])
        of = Disturbances.of_values(values["disturbances"])
        task = dataclasses.replace(task, disturbances=of)
        body = (LockstepBody if values["lockstep"] else SmoothBody)(task, 0)
        film = values.get("film")  # a file for positions, and how many a second
        robot = RobotProcess(
            body,
            factor=values["factor"],
            watchdog=values["watchdog"],
            port=values["port"],
            film=film[1] if film else 0.0,
        )
    except (InputError, OSError) as error:
        _say({"error": str(error)})
        return 2
    _say({"port": robot.port})
    try:
        robot.run(sys.stdin.buffer)
        if film:
            np.save(film[0], np.array(robot.positions))
    finally:
        body.close()
    return 0


def _say(values: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main())
