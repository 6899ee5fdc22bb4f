"""Draws a simulated robot and serves the page: ``python -m understudy.scripts.viewer_page``, by :mod:`~.viewer`.

Its first line of input says what to show; every further line is how it goes, and when it ends so does this process.
What is pressed on the page is a line of its output. Requests must be for this host and, to do something, carry a header
that other pages cannot send.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import io
import json
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import mujoco as _untyped_mujoco
import numpy as np
from PIL import Image

from ..robots import Disturbances, find_task
from ..robots.rendering import draw_quickly
from ..robots.signals import root
from ..robots.wire import LARGEST, Kind, packed, unpacked

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

_WIDTH, _HEIGHT, _RATE = 640, 480, 30.0
_LONGEST = 10_000  # bytes of what a page asks for
_HEADER = "X-Understudy"


class Shown:
    """What the page shows: the newest picture, and how it goes. ``camera`` is moved by whoever looks."""

    def __init__(self) -> None:
        self.picture, self.state = b"", dict[str, Any]()
        self.camera: Any = mujoco.MjvCamera()


class Page(BaseHTTPRequestHandler):
    """The page, its pictures and its buttons."""

    shown: ClassVar[Shown]
    hosts: ClassVar[tuple[str, ...]]
    content: ClassVar[bytes]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, a picture, or how it goes."""
        path = self.path.partition("?")[0]
        if not self._is_ours():
            return
        if path == "/":
            self._answer(self.content, "text/html; charset=utf-8")
        elif path == "/frame.jpg":
            self._answer(self.shown.picture, "image/jpeg")
        elif path == "/state":
            self._answer(json.dumps(self.shown.state).encode(), "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Move the camera, or hand on what was pressed."""
        length = self.headers.get("Content-Length", "")
        if not self._is_ours() or self.headers.get(_HEADER) != "1" or not length.isdecimal() or int(length) > _LONGEST:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            asked: Any = json.loads(self.rfile.read(int(length)))
            turned = asked.pop("turn", None)
            if turned is not None:
                camera = self.shown.camera
                camera.azimuth -= float(turned[0])
                camera.elevation = float(np.clip(camera.elevation - float(turned[1]), -89, 30))
                camera.distance = float(np.clip(camera.distance * (1 + float(turned[2])), 0.3, 50))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if asked:
            _say(asked)
        self._answer(b"{}", "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the command's."""

    def _is_ours(self) -> bool:
        """Refuse what is addressed to a name that somebody else has given to this address."""
        if self.hosts and self.headers.get("Host") not in self.hosts:
            self.send_error(HTTPStatus.FORBIDDEN)
            return False
        return True

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)


def main() -> int:
    """Serve until the input ends."""
    asked = json.loads(sys.stdin.buffer.readline())
    of = Disturbances.of_values(asked["disturbances"])
    environment: Any = dataclasses.replace(find_task(asked["task"]), disturbances=of).make()
    environment.reset(seed=0)
    shown = Shown()
    camera, model = shown.camera, environment.model
    camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, root(environment)
    camera.distance, camera.azimuth, camera.elevation = 2.5 * max(1.0, float(model.stat.extent) / 3), 90.0, -15.0
    draw_quickly(model)
    try:
        renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
        _draw(renderer, environment, shown)
        server = ThreadingHTTPServer((asked["host"], asked["port"]), Page)
    except (OSError, RuntimeError, AttributeError, ImportError, mujoco.FatalError) as error:
        _say({"error": f"it cannot be drawn or served here ({error}); try MUJOCO_GL=egl or osmesa, or another host="})
        return 2
    host, port = server.server_address[:2]
    local = asked["host"] in ("127.0.0.1", "localhost")
    Page.shown, Page.hosts = shown, (f"127.0.0.1:{port}", f"localhost:{port}") if local else ()
    Page.content = (importlib.resources.files("understudy.assets") / "viewer.html").read_bytes()
    server.daemon_threads = True
    over = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=_hear, args=(shown, over), daemon=True).start()
    _say({"url": f"http://{host if isinstance(host, str) else host.decode()}:{port}/"})
    _watch(asked["robot"], environment, renderer, shown, over)
    server.shutdown()
    return 0


def _watch(port: int, environment: Any, renderer: Any, shown: Shown, over: threading.Event) -> None:
    """Ask the robot where it is, and draw that, again and again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.connect(("127.0.0.1", port))
        ask.settimeout(0.1)
        number = 0
        while not over.wait(1 / _RATE):
            number += 1
            try:
                ask.send(packed(Kind.WATCH, 0, number, time.monotonic()))
                packet = unpacked(ask.recv(LARGEST))
            except OSError:
                continue  # it is gone, or busy
            if packet is None or packet.kind != Kind.POSITIONS or len(packet.numbers()) != environment.model.nq:
                continue
            environment.data.qpos[:] = packet.numbers()
            _draw(renderer, environment, shown)


def _draw(renderer: Any, environment: Any, shown: Shown) -> None:
    mujoco.mj_forward(environment.model, environment.data)
    renderer.update_scene(environment.data, shown.camera)
    image = io.BytesIO()
    Image.fromarray(renderer.render()).save(image, "JPEG", quality=80)
    shown.picture = image.getvalue()


def _hear(shown: Shown, over: threading.Event) -> None:
    for line in sys.stdin.buffer:
        try:
            shown.state = json.loads(line)
        except ValueError:
            continue  # half a line, from a pipe that was full
    over.set()


def _say(values: Any) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main())
