"""A browser without a screen, by the WebDriver protocol; tests that need one are skipped where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Generator
from typing import Any

import pytest


def call(url: str, value: Any = None, **headers: str) -> Any:
    data = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
        content = answer.read()
    return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def until(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("it does not happen")


@contextlib.contextmanager
def a_browser() -> Generator[str]:
    """Headless Chromium by the WebDriver protocol: the address of its session."""
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or browser is None:
        pytest.skip("no Chromium here")
    wire = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert wire.stdout is not None
    session = ""
    try:
        port = until(lambda: re.search(r"successfully on port (\d+)", wire.stdout.readline()))[1]  # pyright: ignore
        options = {"binary": browser, "args": ["--headless=new", "--no-sandbox", "--disable-gpu"]}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        begun = call(f"http://127.0.0.1:{port}/session", asked)
        session = f"http://127.0.0.1:{port}/session/{begun['value']['sessionId']}"
        yield session
    finally:
        if session:
            urllib.request.urlopen(urllib.request.Request(session, method="DELETE"), timeout=20).close()
        os.killpg(wire.pid, signal.SIGTERM)
        wire.wait()
        wire.stdout.close()
