"""The page of `understudy deploy … viewer=web` in a browser without a screen, where there is one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from browser import a_browser, call, until

from understudy.scripts.deploy import main as deploy


@pytest.fixture
def deployment(tmp_path: Path) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A deployment with a page, and the page's address."""
    command = [
        sys.executable,
        "-m",
        "understudy.scripts.deploy",
        "hopper-hype",
        "viewer=web",
        "seconds=60",
        "episodes=2",
    ]
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read()
        process.wait()
        pytest.skip(f"nothing can be drawn here: {said}")
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None
    yield process, found[0]
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def test_strangers_are_refused_and_the_page_pushes_and_stops(deployment: tuple[subprocess.Popen[str], str]) -> None:
    process, url = deployment
    until(lambda: call(f"{url}/state").get("elapsed", 0) > 0.5)
    for headers in ({}, {"X-Understudy": "1", "Host": "elsewhere"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            call(f"{url}/do", {"stop": True}, **headers)
    assert call(f"{url}/frame.jpg")[:2] == b"\xff\xd8"
    for nonsense in ({"push": "x"}, {"disturbances": {"noise": -1}}, {"turn": [1]}, [1]):
        with contextlib.suppress(urllib.error.HTTPError):
            call(f"{url}/do", nonsense, **{"X-Understudy": "1"})
    assert call(f"{url}/state")["state"] == "run"  # and it hops on
    with a_browser() as session:
        visit(session, url)
    said = json.loads(process.communicate(timeout=20)[0].splitlines()[-1])
    pushed, stopped = said["episodes"]
    assert pushed["ended"].startswith("the robot fell")
    assert stopped["ended"] == "stopped by the operator (on the page)"
    assert pushed["damped"]
    assert stopped["damped"]


def visit(session: str, url: str) -> None:
    """Open the page, look, move a slider, push, and stop."""

    def run(script: str) -> Any:
        return call(f"{session}/execute/sync", {"script": f"return {script}", "args": []})["value"]

    def elapsed() -> float:
        return run("Number(document.getElementById('elapsed').textContent)")

    call(f"{session}/url", {"url": url})
    until(lambda: run("document.getElementById('robot').naturalWidth") == 640)
    first = run("document.getElementById('robot').src")
    until(lambda: run("document.getElementById('robot').src") != first)
    until(lambda: run("document.getElementById('state').textContent") == "run")
    before = elapsed()
    until(lambda: elapsed() > before)  # it moves
    run("(document.getElementById('noise').value = 0.005, document.getElementById('noise').oninput())")
    run("(document.getElementById('strength').value = 3, document.getElementById('push').click())")
    before = elapsed()
    until(lambda: elapsed() < before)  # it fell, and begins anew
    run("document.getElementById('stop').click()")
    until(lambda: run("document.getElementById('state').textContent") == "over")


def test_lockstep_has_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(["hopper-hype", "viewer=web", "lockstep=true"]) == 2
    assert "leave out lockstep=true" in capsys.readouterr().err
