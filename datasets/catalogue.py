"""A name to demonstrations: those that come with the suite, or any file."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from ..robots import InputError, Task, find_task, nearest
from .d4rl import read_d4rl
from .demonstrations import Demonstrations

_SUFFIX = ".hdf5"


def bundled() -> dict[str, Path]:
    """The demonstrations that come with the suite: name (``hopper-expert``) to file."""
    folder = importlib.resources.files("understudy.assets.demonstrations")
    files = sorted((Path(str(item)) for item in folder.iterdir() if item.name.endswith(_SUFFIX)), key=str)
    return {file.stem: file for file in files}


def load(
    name_or_path: str | Path,
    task: Task | str | None = None,
    episodes: int | None = None,
    every: int | None = None,
    rows: int | None = None,
) -> Demonstrations:
    """Bundled demonstrations by name, or a D4RL-style file by path; all of them or a selection.

    ``task``, a task or its name, defaults to the one that the file names. Of the rows, the first ``episodes`` are
    taken, of these every ``every``-th row, of these the first ``rows``, as :meth:`Demonstrations.select` does.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for whatever is wrong with the
    file (see :func:`read_d4rl`), and for more episodes or rows than there are.
    """
    if isinstance(task, str):
        task = find_task(task)
    path = Path(name_or_path)
    known = bundled()
    if str(name_or_path) in known:
        path = known[str(name_or_path)]
    elif path.name == str(name_or_path) and not path.suffix and not path.exists():
        hint = nearest(path.name, known) if known else "none are installed"
        raise InputError(f"unknown demonstrations {path.name!r}: {hint.rstrip('?')}, or give the path of an .hdf5 file")
    return read_d4rl(path, task).select(episodes, every, rows)
