"""Runs the cells of a comparison until none is left: starts, watches, stops and takes note of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from ..imitation.comparison.locks import HeldError, is_held
from ..imitation.comparison.matrix import Cell, Matrix
from ..robots import InputError
from .cell import beside
from .launchers import Job, Launcher, cell_command
from .signals import Signals

_POLL = 0.3  # seconds between looks at the processes
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT)


class StoppedError(InputError):
    """A signal ended the comparison; every cell has written a checkpoint."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(f"stopped by {name}: go on with the same command, or directory={directory}")
        self.code = 128 + signal.Signals[name].value


def run_cells(matrix: Matrix, launcher: Launcher, show: Callable[[], None]) -> None:
    """Train every cell that is not finished, and those that results ask for on the way.

    A cell that fails is noted in the matrix, and the others go on. ``show`` is called after every look.
    Errors: :class:`StoppedError` after SIGINT or SIGTERM; a second one ends at once and leaves the cells to themselves.
    """
    scheduler = _Scheduler(matrix, launcher)
    with Signals() as signals:
        while scheduler.step(signals.received()):
            show()
            time.sleep(_POLL)
    show()
    name = signals.received()
    if name is not None:
        raise StoppedError(name, matrix.directory)


class _Scheduler:
    def __init__(self, matrix: Matrix, launcher: Launcher) -> None:
        self.matrix, self.launcher = matrix, launcher
        self.jobs: dict[str, Job] = {}
        self.done: set[str] = set()
        self.asked_to_stop = False
        self.asked: list[Cell] = []  # of those that are no jobs of ours
        for notes in matrix.notes.values():
            notes["error"] = None  # what failed before is tried again
        matrix.extend()
        matrix.write()

    def step(self, stopping: str | None) -> bool:
        """Look at every job, start what can be; whether there is anything left to wait for."""
        changed = self._collect()
        if stopping is not None:
            self._stop()
            return bool(self.jobs) or any(map(self._held, self.asked))
        # What a comparison that was killed has left at work ends without being a job of ours.
        elsewhere = {cell.name for cell in self._waiting() if self.matrix.state(cell) == "finished"}
        self.done |= elsewhere
        if (changed or elsewhere) and self.matrix.extend():
            self.matrix.write()
        waiting = self._waiting()  # one that has just finished is looked at again: results may ask for more
        for cell in waiting:
            if self.matrix.state(cell) != "finished" and not self._held(cell) and len(self.jobs) < self.launcher.slots:
                self._start(cell)
        return bool(waiting or self.jobs)

    def _waiting(self) -> list[Cell]:
        """Cells that are neither over nor jobs."""
        return [cell for cell in self.matrix.cells.values() if cell.name not in self.done | self.jobs.keys()]

    def _held(self, cell: Cell) -> bool:
        return is_held(self.matrix.path(cell, ".lock"))

    def _start(self, cell: Cell) -> None:
        directory, notes = self.matrix.path(cell), self.matrix.notes[cell.name]
        directory.parent.mkdir(parents=True, exist_ok=True)
        beside(directory, ".stop").unlink(missing_ok=True)
        notes["attempts"] += 1
        self.matrix.write()
        command = cell_command(directory, self.matrix.arguments(cell))
        self.jobs[cell.name] = self.launcher.start(command, self.matrix.path(cell, ".log"))

    def _collect(self) -> bool:
        """Take note of the jobs that have ended; whether there were any."""
        ended = {name: code for name, job in self.jobs.items() if (code := job.code()) is not None}
        for name, code in ended.items():
            del self.jobs[name]
            cell = self.matrix.cells[name]
            if code == HeldError.code:
                continue  # another process was faster: it is waited for
            finished = self.matrix.state(cell) == "finished"
            if not finished and not (self.asked_to_stop and code in _STOPPED):
                self.matrix.notes[name]["error"] = _last_words(self.matrix.path(cell, ".log"), code)
            self.done.add(name)
        if ended:
            self.matrix.write()
        return bool(ended)

    def _stop(self) -> None:
        """Ask every cell that is at work to stop, whoever started it."""
        if self.asked_to_stop:
            return
        self.asked_to_stop = True
        self.asked = [cell for cell in self._waiting() if self._held(cell)]
        for cell in self.asked:
            beside(self.matrix.path(cell), ".stop").touch()
        for name, job in self.jobs.items():
            beside(self.matrix.path(self.matrix.cells[name]), ".stop").touch()
            job.cancel()


def _last_words(log: Path, code: int) -> str:
    """What a process said at its end."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    said = lines[-1].removeprefix("understudy: ") if lines else "it said nothing"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}: {said}"
