"""A table read leniently, for the doctor: whatever can be looked at, and findings for what cannot."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..robots import InputError
from .episodes import rising, rows_within_episodes, starts_of
from .findings import REFUSED, Finding
from .limits import in_words, listed
from .recorded import World
from .table import Table

# What there may be one of for each row: dimensions, and the kinds of NumPy types that it can be.
_COLUMNS = {
    "observations": (2, "f"),
    "actions": (2, "f"),
    "next_observations": (2, "f"),
    "rewards": (1, "f"),
    "terminals": (1, "biuf"),
    "timeouts": (1, "biuf"),
    "infos/qpos": (2, "f"),
    "infos/qvel": (2, "f"),
}
_TYPES = {"f": "floats", "biuf": "booleans"}


@dataclasses.dataclass(frozen=True)
class Examined:
    """What the checks look at: columns as the table has them, of N rows; ``starts`` (E,) by all that is known.

    ``declared`` says that the table itself tells where episodes start, apart from its marks of their ends. ``actions``
    are in the environment's units. ``world`` is the task's, if there is one.
    """

    table: Table
    world: World | None
    columns: dict[str, np.ndarray]
    starts: np.ndarray
    declared: bool
    horizon: int | None

    def __len__(self) -> int:
        return len(self.columns["observations"])

    def get(self, key: str) -> np.ndarray | None:
        """A column, if there is one that can be looked at."""
        return self.columns.get(key)

    @property
    def bounds(self) -> np.ndarray:
        """Where episodes begin, and the end (E + 1,)."""
        return np.append(self.starts, len(self))

    @property
    def last(self) -> np.ndarray:
        """Whether a row is the last of its episode (N,)."""
        last = np.zeros(len(self), bool)
        last[self.bounds[1:] - 1] = True
        return last

    def times_of(self, rows: np.ndarray | np.int64) -> np.ndarray:
        """The numbers of rows within their episodes (K,)."""
        return rows - self.starts[np.searchsorted(self.starts, rows, "right") - 1]

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each episode (E,)."""
        return np.diff(self.bounds)

    @property
    def returns(self) -> np.ndarray | None:
        """Sums of rewards (E,), where there are any."""
        rewards = self.get("rewards")
        return None if rewards is None else np.add.reduceat(rewards, self.starts, dtype=np.float64)

    @property
    def thinned(self) -> bool:
        """Whether rows were left out between these, by the times that the table has of them."""
        if "infos/times" not in self.table:
            return False
        times = self.table.raw("infos/times")
        return times.shape != (len(self),) or not np.array_equal(times, rows_within_episodes(self.starts, len(self)))

    def marked(self, key: str) -> np.ndarray:
        """Where ``terminals`` or ``timeouts`` are set (N,); nowhere without them."""
        column = self.get(key)
        return np.zeros(len(self), bool) if column is None else column.astype(bool)


def examine(table: Table, world: World | None, horizon: int | None) -> tuple[Examined | None, list[Finding]]:
    """Read what can be read; none when there is nothing to look at."""
    findings: list[Finding] = []
    columns: dict[str, np.ndarray] = {}
    for key in _COLUMNS:
        if key in table:
            column = _column(table, key, findings)
            if column is not None:
                columns[key] = column
        elif key in ("observations", "terminals"):
            close = table.like(key)
            there = listed(table.keys()) or "no arrays at all"
            hint = f": is it {in_words(close[0])}?" if close else f"; there are {there}"
            findings.append(Finding("missing", "error", f"'{table.called(key)}' is missing{hint}", REFUSED))
        elif key in ("actions", "rewards"):
            findings.append(_without(table, key))
    if "observations" not in columns:
        return None, findings
    _check_sizes(table, columns, world, findings)
    if findings and any(finding.check == "length" for finding in findings):
        return None, findings
    starts, declared = _starts(table, columns)
    return Examined(table, world, columns, starts, declared, horizon), findings


def _without(table: Table, key: str) -> Finding:
    if close := table.like(key):
        return Finding("missing", "error", f"'{table.called(key)}' is missing: is it {in_words(close[0])}?", REFUSED)
    if key == "actions":
        what = "there are no actions: a recording of states alone"
        return Finding("no-actions", "note", what, "learners that need actions refuse it, those of states take it")
    return Finding("no-rewards", "note", "there are no rewards, so returns are not known", "no learner sees them")


def _column(table: Table, key: str, findings: list[Finding]) -> np.ndarray | None:
    dimensions, kinds = _COLUMNS[key]
    name = table.called(key)
    try:
        kind, shape = table.about(key)
        if kind.kind not in kinds:
            message = f"'{name}' holds {in_words(kind)} where there should be {_TYPES[kinds]}"
            findings.append(Finding("type", "error", message, REFUSED))
            return None
        single = dimensions == 1 and len(shape) == 2 and shape[1] == 1
        if (len(shape) != dimensions and not single) or 0 in shape:
            pictures = "; pictures are not read" if len(shape) > 2 else ""
            should = f"{dimensions} dimension(s) of some rows{pictures}"
            message = f"'{name}' has shape {shape} where there should be {should}"
            findings.append(Finding("shape", "error", message, REFUSED))
            return None
        return table.raw(key).reshape(-1) if dimensions == 1 else table.raw(key)
    except InputError as error:
        findings.append(Finding("unreadable", "error", str(error), REFUSED))
        return None


def _check_sizes(table: Table, columns: dict[str, np.ndarray], world: World | None, findings: list[Finding]) -> None:
    """Compare lengths with each other and widths with the task's; columns that do not fit are dropped."""
    count = len(columns["observations"])
    for key, column in list(columns.items()):
        if len(column) != count:
            message = f"'{table.called(key)}' has {len(column)} rows, and 'observations' {count}"
            findings.append(Finding("length", "error", message, REFUSED, abs(len(column) - count)))
    wanted: dict[str, int] = {"next_observations": columns["observations"].shape[1]}
    if world is not None:
        sizes: Any = world.layout.sizes
        wanted |= {"observations": world.spaces.observation_size, "actions": world.spaces.action_size}
        wanted |= {"next_observations": world.spaces.observation_size}
        wanted |= {f"infos/{name}": sizes[name] for name in ("qpos", "qvel")}
    for key, width in wanted.items():
        if key in columns and columns[key].shape[1] != width:
            whose = "'observations'" if world is None else world.description
            message = f"'{table.called(key)}' has rows of {columns[key].shape[1]} numbers, and {whose} of {width}"
            findings.append(Finding("width", "error", message, REFUSED))
            if key != "observations":
                del columns[key]
    if "next_observations" in columns and columns["next_observations"].shape[1] != columns["observations"].shape[1]:
        del columns["next_observations"]  # of the task's width, where the observations are not


def _starts(table: Table, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, bool]:
    """Where episodes begin (E,), and whether the table says so apart from its marks of their ends."""
    count = len(columns["observations"])
    for key in ("metadata/episode_starts", "metadata/episode_lengths"):
        if key not in table:
            continue
        kind, shape = table.about(key)
        if len(shape) != 1 or kind.kind not in "iu":
            continue
        numbers = table.raw(key).astype(np.int64)
        starts = starts_of(numbers, count) if key == "metadata/episode_lengths" else numbers
        if starts is not None and rising(starts, count):
            return starts, True
    ends = np.zeros(count, bool)
    for key in ("terminals", "timeouts"):
        if key in columns:
            ends |= columns[key].astype(bool)
    return np.append(0, np.flatnonzero(ends[:-1]) + 1), False
