"""Loading: names to checked demonstrations."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from ..robots import InputError, Task, find_task
from .corruption import spoiled
from .demonstrations import Demonstrations
from .doctor import diagnose
from .download import Progress
from .names import Parts, open_data
from .reading import read_table
from .table import Table

_log = logging.getLogger(__name__)
_TAGS = ("expert", "offline")


def sources(text: str) -> list[tuple[str, str]]:
    """The names in ``a`` or ``[a, expert:b, offline:c]``, each with its tag; without one they are the expert's."""
    listed = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    found: list[tuple[str, str]] = []
    for item in (item.strip() for item in listed):
        tag, colon, name = item.partition(":")
        found.append((tag, name) if colon and tag in _TAGS else ("expert", item))
    return found


def load(
    name: str | Path | Sequence[str | Path],
    task: Task | str | None = None,
    episodes: int | None = None,
    every: int | None = None,
    rows: int | None = None,
    *,
    weights: Sequence[int] = (),
    min_return: float | None = None,
    corruption: str | None = None,
    seed: int = 0,
    parts: Parts | None = None,
    examine: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Demonstrations:
    """Demonstrations by name or path (:func:`~.names.open_data`), of one source or several; all of them or a selection.

    ``task``, a task or its name, defaults to the one that the source names. Of the rows of each source, the first
    ``episodes`` are taken, of these every ``every``-th row, of these the first ``rows``, as
    :meth:`Demonstrations.select` does. Episodes that return less than ``min_return`` are left out before.
    ``weights`` are whole numbers, one for each source: a source with 2 is there twice. ``corruption`` spoils the data
    by ``seed``, to see what a learner makes of it: ``actions``, or with a share of rows and how hard,
    ``actions:0.3:1``. ``parts`` says which parts of a file of several are meant. ``examine`` makes the quick ones of
    the doctor's checks as well (:func:`~.doctor.diagnose`), as training does: what would poison it is refused, and
    what it warns of is logged, or, when ``strict``, refused. ``progress`` is told how far a download is.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for whatever is wrong with the
    source (see :func:`~.reading.read_table`), for sources of different environments, and for more episodes or rows than
    there are.
    """
    if isinstance(task, str):
        task = find_task(task)
    names = [name] if isinstance(name, (str, Path)) else list(name)
    if weights and len(weights) != len(names):
        raise InputError(f"there are {len(weights)} weights for {len(names)} sources: give one for each")
    if any(weight < 1 or weight != int(weight) for weight in weights):
        raise InputError(f"weights {list(weights)}: whole numbers above 0 are expected, how often each source is there")
    found: list[Demonstrations] = []
    for one, weight in zip(names, weights or [1] * len(names), strict=True):
        with open_data(one, task, parts, progress=progress) as table:
            if examine:
                _examine(table, task, str(one), strict=strict)
            whole = read_table(table, task)
            if corruption is not None:
                # Episodes are those of the sound data: noise in what follows would pass for ends that are not marked.
                known = whole.starts if "next_observations" in table else None
                whole = read_table(spoiled(table, corruption, seed, known), task)
        good = whole if min_return is None else whole.returning(min_return)
        found += [good.select(episodes, every, rows)] * int(weight)
    return functools.reduce(Demonstrations.joined, found)


def _examine(table: Table, task: Task | None, name: str, *, strict: bool) -> None:
    """The quick part of the doctor's checks. Errors: :class:`InputError` for errors, and warnings if ``strict``."""
    report = diagnose(table, task, name=name, physics=False)
    for finding in (*report.of("error"), *report.of("warning")):
        message = f"{table.path}: {finding.message}"
        if strict or finding.severity == "error":
            raise InputError(f"{message}; understudy inspect says more")
        _log.warning("%s; %s", message, finding.training)
