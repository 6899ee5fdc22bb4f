"""Loading: a name to checked demonstrations."""

from __future__ import annotations

import logging
from pathlib import Path

from ..robots import InputError, Task, find_task
from .corruption import spoiled
from .demonstrations import Demonstrations
from .doctor import diagnose
from .names import open_data
from .reading import read_table
from .table import Table

_log = logging.getLogger(__name__)


def load(
    name_or_path: str | Path,
    task: Task | str | None = None,
    episodes: int | None = None,
    every: int | None = None,
    rows: int | None = None,
    *,
    min_return: float | None = None,
    corruption: str | None = None,
    seed: int = 0,
    examine: bool = False,
    strict: bool = False,
) -> Demonstrations:
    """Bundled demonstrations by name, or a file by path; all of them or a selection.

    ``task``, a task or its name, defaults to the one that the file names. Of the rows, the first ``episodes`` are
    taken, of these every ``every``-th row, of these the first ``rows``, as :meth:`Demonstrations.select` does. Episodes
    that return less than ``min_return`` are left out before. ``corruption`` spoils the data by ``seed``, to see what a
    learner makes of it: ``actions``, or with a share of rows and how hard, ``actions:0.3:1``.
    ``examine`` makes the quick ones of the doctor's checks as well (:func:`~.doctor.diagnose`), as training does: what
    would poison it is refused, and what it warns of is logged, or, when ``strict``, refused.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for whatever is wrong with the
    file (see :func:`~.reading.read_table`), and for more episodes or rows than there are.
    """
    if isinstance(task, str):
        task = find_task(task)
    with open_data(name_or_path) as table:
        if examine:
            _examine(table, task, str(name_or_path), strict=strict)
        if corruption is not None:
            table = spoiled(table, corruption, seed)
        demonstrations = read_table(table, task)
    if min_return is not None:
        demonstrations = demonstrations.returning(min_return)
    return demonstrations.select(episodes, every, rows)


def _examine(table: Table, task: Task | None, name: str, *, strict: bool) -> None:
    """The quick part of the doctor's checks. Errors: :class:`InputError` for errors, and warnings if ``strict``."""
    report = diagnose(table, task, name=name, physics=False)
    for finding in (*report.of("error"), *report.of("warning")):
        message = f"{table.path}: {finding.message}"
        if strict or finding.severity == "error":
            raise InputError(f"{message}; understudy inspect says more")
        _log.warning("%s; %s", message, finding.training)
