"""One cell of a comparison, in a process of its own: begun, gone on with, or found finished. Not a command of its own.

    python -m understudy.scripts.cell <run directory> <options of train …>

A lock beside the directory makes sure that it is trained once at a time, whoever asks; a file `<run directory>.stop`
asks it to stop, which works across machines that share a disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..imitation.comparison.locks import lock
from ..robots import InputError

_LOOKS_EVERY = 0.5  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Train the cell to its end; returns the exit code of `train`, or 75 when another process is at it."""
    first, *options = sys.argv[1:] if argv is None else argv
    directory = Path(first)
    threading.Thread(target=_stop_when_asked, args=(beside(directory, ".stop"),), daemon=True).start()
    try:
        with lock(beside(directory, ".lock"), f"{directory} is being trained"):
            return _train(directory, options)
    except InputError as error:  # held by another process, or not to be written
        print(f"understudy: {error}", file=sys.stderr)
        return error.code


def beside(directory: Path, suffix: str) -> Path:
    """The file beside a run directory that has its name and a suffix."""
    return directory.with_name(directory.name + suffix)


def _train(directory: Path, options: Sequence[str]) -> int:
    from .train import main as train  # loads torch, which takes seconds

    if (directory / "result.json").is_file():
        return 0
    checkpoints = directory / "checkpoints"
    if checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir()):
        machine = [option for option in options if option.partition("=")[0] in ("threads", "device", "quiet")]
        options = [f"resume={directory}", *machine]
    elif directory.is_dir():  # ended before its first checkpoint: there is nothing to go on with
        shutil.rmtree(directory)
    sys.argv = ["understudy", "train", *options]  # the command that run.json remembers, for whoever repeats it
    return train(sys.argv[2:])


def _stop_when_asked(path: Path) -> None:
    while not path.exists():
        time.sleep(_LOOKS_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
