"""What a run leaves behind for people: metrics, evaluations and TensorBoard events."""

from __future__ import annotations

import csv
import functools
import importlib.metadata
import importlib.util
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from ..robots import InputError
from .evaluation import Evaluation
from .files import write_text

# Generated classes come without types.
_events: Any = event_pb2
_summaries: Any = summary_pb2
_PACKAGES = ("understudy", "torch", "gymnasium", "mujoco", "numpy", "stable-baselines3", "hydra-core", "h5py")
_EXTRAS = ("gymnasium-robotics",)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    for package in _EXTRAS:
        if importlib.util.find_spec(package.replace("-", "_")) is not None:
            found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def commit() -> str | None:
    """The commit of the code in use, with `-dirty` where files of its checkout differ; none outside a checkout."""
    here = Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            said = subprocess.run(
                ["git", *arguments], cwd=here.parent, capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return said.stdout.strip() if said.returncode == 0 else None

    # Installed into an environment within somebody's repository, it is not a file of that.
    if git("ls-files", "--error-unmatch", here.name) is None:
        return None
    return git("describe", "--always", "--abbrev=12", "--dirty", "--exclude=*")


def hardware(device: torch.device | str) -> dict[str, Any]:
    """The machine that a result was made on."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else processor()
    return {
        "device": str(device),
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def processor() -> str:
    """The processor's name; the platform module does not know it on Linux."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class RunLog:
    """`metrics.csv`, `evaluations.csv` and TensorBoard events in a run directory.

    ``step`` is that of the training: environment steps of the policy in training, or updates offline. When a
    training is resumed, rows after ``resume_at`` are dropped first: they are about to be made again.
    """

    def __init__(self, directory: Path, *, resume_at: int | None = None) -> None:
        self._metrics = _Table(directory / "metrics.csv", ("step", "run"), resume_at)
        self._evaluations = _Table(
            directory / "evaluations.csv",
            ("step", "run", "episode", "return", "length", "score", "environment_steps", "success"),
            resume_at,
        )
        self._events = _Events(directory / "events", resume_at)

    def metrics(self, step: int, values: Mapping[str, Sequence[float]]) -> None:
        """One row per run of named values, each (R,)."""
        if not values:
            return
        runs = len(next(iter(values.values())))
        rows = [{"step": step, "run": run, **{k: f"{v[run]:.6g}" for k, v in values.items()}} for run in range(runs)]
        self._metrics.write(rows)
        for name, value in values.items():
            for run in range(runs):
                self._events.scalar(f"train/{name}/run-{run}", value[run], step)

    def evaluation(self, step: int, evaluation: Evaluation, scores: np.ndarray | None, steps: np.ndarray) -> None:
        """One row per episode: return, length, score (R, E) and success if known, environment steps so far (R,)."""
        rows: list[dict[str, Any]] = []
        for (run, episode), value in np.ndenumerate(evaluation.returns):
            row: dict[str, Any] = {
                "step": step, "run": run, "episode": episode, "return": f"{value:.6f}",
                "length": int(evaluation.lengths[run, episode]), "environment_steps": int(steps[run]),
            }  # fmt: skip
            if scores is not None:
                row["score"] = f"{scores[run, episode]:.6f}"
            if evaluation.successes is not None:
                row["success"] = int(evaluation.successes[run, episode])
            rows.append(row)
        self._evaluations.write(rows)
        for run, returns in enumerate(evaluation.returns):
            self._events.scalar(f"evaluation/return/run-{run}", float(returns.mean()), step)
            if scores is not None:
                self._events.scalar(f"evaluation/score/run-{run}", float(scores[run].mean()), step)
            if evaluation.successes is not None:
                self._events.scalar(f"evaluation/success/run-{run}", float(evaluation.successes[run].mean()), step)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._events.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._events.close()


class _Events:
    """TensorBoard scalars in one file, in TensorBoard's own format and by its own writer of records.

    Written at once, without the thread that its event writer has: that one reports a full disk by a traceback.
    """

    def __init__(self, directory: Path, resume_at: int | None) -> None:
        # One file per process that writes: TensorBoard reads them in the order of their names.
        self._path = directory / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error
        self._records = RecordWriter(self._file)
        self._write(_events.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if resume_at is not None:  # what came after it is about to be made again
            restart = _events.SessionLog(status=_events.SessionLog.START)
            self._write(_events.Event(wall_time=time.time(), step=resume_at + 1, session_log=restart))

    def scalar(self, tag: str, value: float, step: int) -> None:
        values = [_summaries.Summary.Value(tag=tag, simple_value=value)]
        self._write(_events.Event(wall_time=time.time(), step=step, summary=_summaries.Summary(value=values)))

    def _write(self, event: Any) -> None:
        self._attempt(lambda: self._records.write(event.SerializeToString()))

    def flush(self) -> None:
        self._attempt(self._records.flush)

    def close(self) -> None:
        self._attempt(self._records.close)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error


class _Table:
    """A CSV file that grows; a new column rewrites it, which happens a few times at the start of a run."""

    def __init__(self, path: Path, columns: Iterable[str], resume_at: int | None) -> None:
        self._path = path
        self._columns = list(columns)
        if resume_at is not None and path.exists():
            try:
                with path.open(newline="") as file:
                    reader = csv.DictReader(file)
                    self._columns = list(reader.fieldnames or self._columns)
                    # A full disk may have cut the last row short.
                    whole = [row for row in reader if None not in row.values()]
                    rows = [row for row in whole if int(row["step"]) <= resume_at]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise InputError(f"{path} is damaged ({error}): move it away, and resume again") from error
            self._rewrite(rows)
        else:
            self._rewrite([])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = [name for name in rows[0] if name not in self._columns]
        try:
            if new:
                self._columns += new
                with self._path.open(newline="") as file:
                    self._rewrite(list(csv.DictReader(file)))
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = [",".join(self._columns)]
        lines += [",".join("" if row.get(name) is None else str(row[name]) for name in self._columns) for row in rows]
        write_text(self._path, "\n".join(lines) + "\n")
