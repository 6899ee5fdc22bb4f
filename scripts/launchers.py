"""Where the cells of a comparison are trained: processes of this machine, Slurm jobs, or a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..robots import InputError
from .build import available_threads


class Job(Protocol):
    """A cell at work."""

    def code(self) -> int | None:
        """Its exit code, or none while it has not ended."""
        ...

    def cancel(self) -> None:
        """Take it back if it has not begun, so that it never does; a stop file asks one that has."""
        ...


class Launcher(Protocol):
    """Starts cells; ``slots`` is how many may be at work at once."""

    slots: int

    def start(self, command: Sequence[str], log: Path) -> Job:
        """Run a command whose output goes to ``log``."""
        ...

    def close(self) -> None:
        """Let go of whatever is held."""
        ...


class LocalLauncher:
    """Processes of this machine, as many as there are cores for their threads."""

    def __init__(self, threads: int, processes: int | None = None) -> None:
        self.slots = max(1, available_threads() // threads) if processes is None else processes

    def start(self, command: Sequence[str], log: Path) -> Job:
        """In a session of its own, so that Ctrl-C in the terminal reaches the comparison alone."""
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        return _Process(process)

    def close(self) -> None:
        """Nothing is held."""


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def code(self) -> int | None:
        return self._process.poll()

    def cancel(self) -> None:
        pass  # it has begun


class SlurmLauncher:
    """Slurm jobs by submitit. ``settings`` are those of its executor (`slurm_partition=gpu,timeout_min=600`).

    ``cluster`` is `slurm`, or `local` for processes that submitit starts here, to try it out.
    """

    def __init__(
        self, folder: Path, threads: int, slots: int, settings: Mapping[str, Any], cluster: str = "slurm"
    ) -> None:
        submitit = _needed("submitit")
        self.slots = slots
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**{"cpus_per_task": threads, "timeout_min": 24 * 60, **settings})
        except (TypeError, ValueError, RuntimeError, NameError) as error:
            raise InputError(f"launcher=slurm: {str(error).splitlines()[0]}") from error

    def start(self, command: Sequence[str], log: Path) -> Job:
        """A job that writes to ``log``."""
        return _SlurmJob(self._executor.submit(_run, list(command), str(log)))

    def close(self) -> None:
        """Jobs go on by themselves."""


class _SlurmJob:
    def __init__(self, job: Any) -> None:
        self._job = job

    def code(self) -> int | None:
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception:  # submitit's of many kinds: the job ended without a result, for a reason that its log has
            return 1

    def cancel(self) -> None:
        if self._job.state in ("PENDING", "UNKNOWN"):
            self._job.cancel(check=False)


class RayLauncher:
    """A Ray cluster: that at ``address``, or one of this machine, started for the comparison."""

    def __init__(self, threads: int, slots: int | None, address: str | None) -> None:
        self._ray = _needed("ray")
        try:
            about: Mapping[str, Any] = {"address": address} if address else {"include_dashboard": False}
            self._ray.init(log_to_driver=False, ignore_reinit_error=True, **about)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"launcher=ray: {str(error).splitlines()[0]}") from error
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.slots = max(1, cores // threads) if slots is None else slots
        self._run = self._ray.remote(num_cpus=threads, max_retries=0)(_run)

    def start(self, command: Sequence[str], log: Path) -> Job:
        """A task of the cluster; its machines share the comparison's disk."""
        return _RayJob(self._ray, self._run.remote(list(command), str(log)))

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


class _RayJob:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def code(self) -> int | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError:
            return 1

    def cancel(self) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(self._reference, force=False, recursive=False)


def _run(command: list[str], log: str) -> int:
    """On the machine that was given the cell: the command's exit code."""
    with Path(log).open("ab") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def make_launcher(
    kind: str, folder: Path, *, threads: int, processes: int | None, settings: Mapping[str, Any]
) -> Launcher:
    """The launcher of a name. Errors: :class:`InputError` when its package is missing or it refuses the settings."""
    if kind == "slurm":
        known = dict(settings)
        cluster = str(known.pop("cluster", "slurm"))
        if cluster not in ("slurm", "local"):
            raise InputError(f"settings=cluster={cluster}: slurm, or local for processes that submitit starts here")
        return SlurmLauncher(folder, threads, 100 if processes is None else processes, known, cluster)
    if kind == "ray":
        known = dict(settings)
        address = known.pop("address", None)
        if known:
            raise InputError(f"settings={next(iter(known))}: launcher=ray knows address= alone")
        if address is not None and not isinstance(address, str):
            raise InputError(f"settings=address={address}: a text like auto or ray://host:10001 is expected")
        return RayLauncher(threads, processes, address)
    if settings:
        raise InputError("settings= are for launcher=slurm and launcher=ray: leave them out")
    return LocalLauncher(threads, processes)


def _needed(package: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"this launcher needs the package {package}: pip install 'understudy[sweep]'")
    return importlib.import_module(package)


def cell_command(directory: Path, options: Sequence[str]) -> list[str]:
    """The command that trains a cell."""
    return [sys.executable, "-m", "understudy.scripts.cell", str(directory), *options]
