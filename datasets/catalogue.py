"""Loading: names to checked demonstrations."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..robots import InputError, Task, find_task
from . import streaming
from .corruption import corrupted
from .demonstrations import Demonstrations
from .doctor import diagnose
from .download import Progress
from .names import Parts, open_data
from .reading import read_table
from .table import ReadOnce, Table

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
    :meth:`Demonstrations.select` does. Episodes that return less than ``min_return`` are left out before. A selection
    from a file as large as a quarter of the machine's memory is made part by part (:func:`~.streaming.stream`).
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
        given = f"{len(weights)} weight{'s' if len(weights) != 1 else ''}"
        of = f"{len(names)} source{'s' if len(names) != 1 else ''}"
        raise InputError(f"{given} for {of}: give one for each, and none for offline data")
    if any(weight < 1 or weight != int(weight) for weight in weights):
        raise InputError(f"weights {list(weights)}: whole numbers above 0 are expected, how often each source is there")
    selection = _Selection(episodes, every, rows, min_return)
    found: list[Demonstrations] = []
    for one, weight in zip(names, weights or [1] * len(names), strict=True):
        look = _Examination(task, str(one), strict) if examine else None
        if selection.some and corruption is None and streaming.is_large(one, parts or Parts()):
            tables = streaming.stream_tables(one, task, rows=streaming.ROWS, parts=parts, progress=progress)
            good = selection.of_parts(_read(table, task, look) for table in tables)
        else:
            with open_data(one, task, parts, progress=progress) as opened:
                table = ReadOnce(opened)
                whole = _read(table, task, look, again=corruption is not None)
                if corruption is not None:
                    whole = corrupted(table, task, whole, corruption, seed)
            good = selection.of(whole)
        found += [good] * int(weight)
    return found[0].joined(*found[1:])


@dataclasses.dataclass(frozen=True)
class _Selection:
    """Which rows of a source are wanted."""

    episodes: int | None
    every: int | None
    rows: int | None
    least: float | None

    @property
    def some(self) -> bool:
        """Whether not all are."""
        return any(value is not None for value in dataclasses.astuple(self))

    def of(self, whole: Demonstrations) -> Demonstrations:
        """What is wanted of a source."""
        good = whole if self.least is None else whole.returning(self.least)
        return good.select(self.episodes, self.every, self.rows)

    def of_parts(self, parts: Iterable[Demonstrations]) -> Demonstrations:
        """The same of a source in parts, of which no more are read than it takes."""
        kept: list[Demonstrations] = []
        best, episodes, rows = -math.inf, 0, 0
        for part in parts:
            best = max(best, float(np.nanmax(part.episode_returns, initial=-math.inf)))
            good = part.episode_returns >= self.least if self.least is not None else np.ones(len(part.starts), bool)
            if not good.any():
                continue
            kept.append(part.only(good).select(every=self.every))
            episodes, rows = episodes + int(good.sum()), rows + len(kept[-1])
            if episodes >= (self.episodes or math.inf) or (self.episodes is None and rows >= (self.rows or math.inf)):
                break
        if not kept:
            raise InputError(f"no episode returns {self.least:g} or more, the best {best:g}: ask for less")
        return kept[0].joined(*kept[1:]).select(self.episodes, None, self.rows)


@dataclasses.dataclass(frozen=True)
class _Examination:
    """The quick part of the doctor's checks on a source."""

    task: Task | None
    name: str
    strict: bool

    def check(self, table: Table) -> None:
        """Errors: :class:`InputError` for errors, and warnings if ``strict``."""
        report = diagnose(table, self.task, name=self.name, physics=False)
        for finding in (*report.of("error"), *report.of("warning")):
            path = f"{table.path}: "
            message = path + finding.message.removeprefix(path)  # which what a reader refused has already
            if self.strict or finding.severity == "error":
                raise InputError(f"{message}; understudy inspect says more")
            _log.warning("%s; %s", message, finding.training)


def _read(table: Table, task: Task | None, look: _Examination | None, *, again: bool = True) -> Demonstrations:
    """Demonstrations of a table, which is looked at before, and, if not ``again``, not needed any more."""
    if look is not None:
        look.check(table)
    if isinstance(table, ReadOnce) and not again:
        table.release()
    return read_table(table, task)
