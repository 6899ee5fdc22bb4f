"""What people call their data: a bundled name, a data set of D4RL's or a path, opened as a table whatever it is."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from ..robots import InputError, nearest
from .bundles import bundled
from .d4rl_adapting import adapted, of_file
from .d4rl_names import PREFIX, find_d4rl, resolve_d4rl
from .download import Progress
from .hdf5 import Hdf5File
from .table import Table


@contextlib.contextmanager
def open_data(name: str | Path, *, progress: Progress | None = None) -> Generator[Table]:
    """Open data by their name or path; ``progress`` is told how far a download is.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for a download that fails, and for whatever
    is wrong with the file.
    """
    path = resolve(name, progress=progress)
    with Hdf5File(path) as file:
        found = find_d4rl(str(name)) if str(name).startswith(PREFIX) else of_file(path.name)
        # D4RL's files say nothing of themselves; one of that name which does is somebody else's.
        yield file if found is None or "env_id" in file.attributes() else adapted(file, found)


def resolve(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The path of data by their name, downloaded if need be.

    Errors: :class:`InputError` for an unknown name, with the nearest ones, and for a download that fails.
    """
    path = Path(name)
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if str(name).startswith(PREFIX) and not path.exists():
        return resolve_d4rl(str(name), progress=progress)
    if path.name == str(name) and not path.suffix and not path.exists():
        hint = nearest(path.name, known) if known else "none are installed"
        raise InputError(f"unknown demonstrations {path.name!r}: {hint.rstrip('?')}, or give the path of an .hdf5 file")
    return path
