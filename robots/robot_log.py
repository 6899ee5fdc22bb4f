"""What a controller saw and did, as it happens: a folder that is readable whenever the writing stops.

``log.json`` says what the columns are and where it was; ``rows.bin`` has a row of float64, little-endian, for every
period, and nothing else: ``numpy.fromfile("rows.bin").reshape(-1, columns)``. ``understudy.datasets.load`` reads the
folder as demonstrations. A thread writes, so that the controller never waits for a disk.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .features import Feature

FORMAT, VERSION, ABOUT, ROWS = "understudy-robot-log", 1, "log.json", "rows.bin"
COLUMNS = (
    "episode", "time", "number", "age", "policy_seconds", "state", "return", "terminated", "succeeded",
)  # fmt: skip
_EVERY = 0.1  # seconds between writes


class RobotLog:
    """A log in the making. ``error`` says why it stopped, when it did: control goes on without it."""

    def __init__(
        self, folder: Path, observed: Sequence[Feature], commanded: Sequence[Feature], about: Mapping[str, Any]
    ) -> None:
        """Errors: :class:`InputError` when the folder exists with something in it, or cannot be made."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"log={folder} exists already: choose another name")
        columns = [*COLUMNS, *(f"observation/{f.name}" for f in observed), *(f"action/{f.name}" for f in commanded)]
        units = {f"observation/{f.name}": f.unit for f in observed} | {f"action/{f.name}": f.unit for f in commanded}
        values = {"format": FORMAT, "version": VERSION, **about, "columns": columns, "units": units}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ABOUT).write_text(json.dumps(values, indent=1) + "\n")
            self._file = os.open(folder / ROWS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise InputError(f"cannot write log={folder}: {error.strerror}") from error
        self.folder, self.error = folder, ""
        self._row = np.empty(len(columns), "<f8")
        self._sizes = (len(observed), len(commanded))
        self._waiting: deque[bytes] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="robot log", daemon=True)
        self._thread.start()

    def add(self, facts: Sequence[float], observation: np.ndarray | None, action: np.ndarray | None) -> None:
        """A row: the facts that :data:`COLUMNS` names, what was seen (O,), and what was done (A,)."""
        row, (seen, _) = self._row, self._sizes
        first = len(COLUMNS)
        row[:first] = facts
        row[first : first + seen] = np.nan if observation is None else observation
        row[first + seen :] = np.nan if action is None else action
        self._waiting.append(row.tobytes())

    def close(self) -> None:
        """Write what is left."""
        self._over.set()
        self._thread.join()
        os.close(self._file)

    def _write(self) -> None:
        while not self.error:
            over = self._over.wait(_EVERY)
            content = b"".join(self._waiting.popleft() for _ in range(len(self._waiting)))
            try:
                while content:
                    content = content[os.write(self._file, content) :]
            except OSError as error:
                self.error = f"the log ends early: {error.strerror}"
            if over and not self._waiting:
                return
        self._waiting = deque(maxlen=0)  # nobody will write what comes now
