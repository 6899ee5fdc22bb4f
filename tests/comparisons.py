"""Small comparisons, and what they came to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from conftest import last_of_each

from understudy.imitation.comparison.matrix import Matrix
from understudy.imitation.files import read_json
from understudy.scripts import cell
from understudy.scripts.launchers import Job

TINY = (
    "precision=float32", "device=cpu", "evaluation.every=100", "evaluation.episodes=2", "checkpoint.every=50",
    "log_every=50", "threads=1", "quiet=true",
)  # fmt: skip
SMALL = "small:bc+steps=200+loop.hidden=[16,16]+loop.batch_size=16"
WIDE = "wide:bc+steps=200+loop.hidden=[16,16]+loop.batch_size=32"


def arguments(directory: Path, data: Path, *more: str) -> list[str]:
    given = ("tasks=hopper", f"learners=[{SMALL},{WIDE}]", "runs=2", f"data={data}", f"directory={directory}", *TINY)
    return last_of_each(*given, *more)


def outcome(directory: Path) -> dict[str, object]:
    """All that a comparison came to, but for times and places."""
    matrix = Matrix.read(directory)
    found: dict[str, object] = {}
    for each in matrix.cells.values():
        path = matrix.path(each)
        result = read_json(path / "result.json")
        found[each.name] = (
            {key: result[key] for key in ("score", "return", "steps")},
            (path / "evaluations.csv").read_text(),
            (path / "metrics.csv").read_text(),
        )
    return found


def attempts(directory: Path) -> list[int]:
    return [notes["attempts"] for notes in Matrix.read(directory).notes.values()]


class HereLauncher:
    """Trains cells in this process, one after the other: processes of their own load torch for seconds each."""

    slots = 1

    def start(self, command: Sequence[str], log: Path) -> Job:
        """The cell's own entry, with its output in the log as a process would have it."""
        where = command.index("understudy.scripts.cell") + 1
        with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            return Ended(cell.main(command[where:]))

    def close(self) -> None:
        """Nothing is held."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """A job that is over."""

    found: int

    def code(self) -> int:
        return self.found

    def cancel(self) -> None:
        """Too late."""
