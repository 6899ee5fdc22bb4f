"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

from ...robots import InputError


class HeldError(InputError):
    """Another process holds the lock."""

    code = 75  # sysexits.h: try again later


@contextlib.contextmanager
def lock(path: Path, what: str) -> Generator[None]:
    """Hold the lock file ``path`` for as long as the block runs.

    Errors: :class:`HeldError` that says ``what`` another process is doing; :class:`InputError` when its folder cannot
    be made or written to.
    """
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise HeldError(f"{what} (process {holder}): wait for it, or end it") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path.parent} is a file or lies in one: name a folder") from None
    except OSError as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror}: name one that can be written to") from error


def is_held(path: Path) -> bool:
    """Whether some process holds the lock file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
