"""Stopping in good order: a signal asks, a second one ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """While it is open, SIGINT and SIGTERM only ask for a stop after the piece of work in hand."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def received(self) -> str | None:
        """The name of the first, if one came."""
        return self._name

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._name = signal.Signals(number).name
        # A second one ends the process at once: the checkpoint may be what hangs.
        signal.signal(number, self._before[signal.Signals(number)])

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may handle signals: whoever runs us elsewhere handles them
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
