"""The page of `understudy deploy … viewer=web`, from the controller's side: another process draws and serves it.

The controller has a deadline to keep, so it does no more than to write a line of JSON ten times a second and to look
whether somebody has pressed something.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

from ..robots import Disturbances, InputError
from ..robots.controller import StopButton
from ..robots.robot import Observation
from ..robots.safety import State
from ..robots.simulated_robot import SimulatedRobot
from ..robots.timing import Timing

_STARTS, _EVERY = 60.0, 0.1  # seconds


class Viewer:
    """A page for a robot that is connected. Errors: :class:`InputError` when it cannot be drawn or served."""

    def __init__(self, robot: SimulatedRobot, button: StopButton, host: str = "127.0.0.1", port: int = 0) -> None:
        self._robot, self._button = robot, button
        self._asked: deque[dict[str, Any]] = deque()
        self._told = 0.0
        environment = dict(os.environ)
        if not any(environment.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")):
            environment["MUJOCO_GL"] = "egl"
        command = [sys.executable, "-m", f"{__package__}.viewer_page"]
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None
        of = robot.task.disturbances
        values = {"task": robot.task.name, "disturbances": of.to_values(), "robot": robot.port, "host": host}
        process.stdin.write(json.dumps({**values, "port": port}).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _STARTS)
        line = process.stdout.readline() if ready else b""
        said: dict[str, Any] = json.loads(line) if line else {"error": "its process ended, or is not ready in time"}
        if "error" in said:
            self.close()
            raise InputError(f"viewer=web: {said['error']}")
        self.url = str(said["url"])
        os.set_blocking(process.stdin.fileno(), False)  # a page that does not keep up misses lines, not deadlines
        threading.Thread(target=self._listen, name="viewer", daemon=True).start()

    def observe(self, seen: Observation | None, state: State, timing: Timing) -> None:
        """Do what has been pressed, and now and then tell how it goes."""
        while self._asked:
            self._do(self._asked.popleft())
        now = time.monotonic()
        if now - self._told < _EVERY:
            return
        self._told = now
        told: dict[str, Any] = {"state": state.name.lower(), "missed": timing.missed, **timing.newest}
        if seen is not None:
            told |= {"elapsed": seen.elapsed, "returned": seen.returned, "damped": seen.damped}
        line = json.dumps({name: value for name, value in told.items() if value == value}) + "\n"  # JSON has no NaN
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), line.encode())  # pyright: ignore[reportOptionalMemberAccess]

    def close(self) -> None:
        """Take the page down."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _do(self, asked: dict[str, Any]) -> None:
        try:
            if "stop" in asked:
                self._button.press("stopped by the operator (on the page)")
            if "push" in asked:
                self._robot.push((float(asked["push"]), 0.0))
            if "disturbances" in asked:
                of = Disturbances.of_values({**self._robot.task.disturbances.to_values(), **asked["disturbances"]})
                self._robot.disturb(dataclasses.replace(of, tremble=0.0))
        except (InputError, ValueError, TypeError):
            return  # a page may say anything, and a robot need not do it

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # the stream is closed
            for line in self._process.stdout:
                asked: Any = json.loads(line)
                if isinstance(asked, dict):
                    self._asked.append(asked)  # pyright: ignore[reportUnknownArgumentType]
